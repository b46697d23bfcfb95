// Plans whose weights do not depend on q and k: the tile engine with scores of
// 0 and a bias.
#ifndef SACCADE_COMMON_CONTENT_FREE_H_
#define SACCADE_COMMON_CONTENT_FREE_H_

#include <algorithm>
#include <cstdint>
#include <memory>

#include "engine/tile.h"

namespace saccade {

constexpr int64_t kRowRun = 256;  // rows of a task

/// Calls rows(b, h, first, end) for runs of up to kRowRun rows of every head.
template <class View, class F>
void ForRowRuns(const View& x, Exec& exec, F rows) {
  const int64_t runs = (x.len + kRowRun - 1) / kRowRun;
  exec.For(x.batch * x.heads * runs, [&](int64_t task, int) {
    const int64_t head = task / runs, first = task % runs * kRowRun;
    rows(head / x.heads, head % x.heads, first,
         std::min(x.len, first + kRowRun));
  });
}

/// Gradients of what is not read.
void ZeroRows(const View& x, Exec& exec);

/// MakeTileSpec, with q and k of width 1.
TileSpec ContentFreeSpec(const Problem& problem);

/// A plan of a spec that was a ContentFreeSpec: q and k are not read, their
/// gradients are 0, and decoding holds values.
std::unique_ptr<Plan> MakeContentFreePlan(const Problem& problem,
                                          TileSpec spec);

/// TileCost without the products of q and k.
Cost ContentFreeCost(const Problem& problem, const TileSpec& spec);

}  // namespace saccade

#endif  // SACCADE_COMMON_CONTENT_FREE_H_
