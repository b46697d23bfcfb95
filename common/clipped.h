// ReRoPE: rotary positions whose distances are clipped.
#ifndef SACCADE_COMMON_CLIPPED_H_
#define SACCADE_COMMON_CLIPPED_H_

#include <memory>

#include "saccade/variant.h"

namespace saccade {

/// s_ij = q_i R(clip(i - j, -w, w)) k_j, w the window of the resolved problem's
/// rerope. Su 2023, kexue.fm/archives/9708, who computes two matrices of scores
/// and picks; ours are two plans of the variant (three when keys may lie ahead)
/// that see a part of the keys each: the near ones with q and k turned by their
/// positions, and the far ones with q turned by w alone, merged by their
/// log-sum-exps. Costs what one plan of all keys costs, and a pass over out.
///
/// Needs a variant that writes lse, heeds Problem::least_ and most_distance,
/// and has no inputs of its own.
Result<std::unique_ptr<Plan>> MakeClippedPlan(const Variant& variant,
                                              const Problem& problem);

}  // namespace saccade

#endif  // SACCADE_COMMON_CLIPPED_H_
