// How much worse a diff may be: the language of --fail-on.
#ifndef SACCADE_BENCH_DIFF_LIMITS_H_
#define SACCADE_BENCH_DIFF_LIMITS_H_

#include <string_view>
#include <vector>

#include "reports/diff.h"
#include "saccade/status.h"

namespace saccade::bench {

/// "slower>3%,bigger>1%,worse>0.02,broken"; without > any is too much.
/// kInvalid names the part.
Result<std::vector<reports::DiffLimit>> ParseLimits(std::string_view text);

/// A share above zero, with its sign: .03 of "3%". kInvalid.
Result<double> ParsePercent(std::string_view text);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_DIFF_LIMITS_H_
