// The softmax between a peer's two matrix products.
#ifndef SACCADE_BENCH_PEER_SOFTMAX_H_
#define SACCADE_BENCH_PEER_SOFTMAX_H_

#include <cstdint>

namespace saccade::bench {

/// Replaces the first `visible` scores s by exp(scale (s - max)), the others up
/// to `n` by 0, and returns 1 / their sum; 0 when nothing is visible.
float SoftmaxRow(float* scores, int64_t visible, int64_t n, float scale);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PEER_SOFTMAX_H_
