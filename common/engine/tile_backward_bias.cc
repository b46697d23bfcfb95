// Gradients of a bias by distance. Pairs of one distance share a bias: each
// block of keys sums dS by distance, turns the sums into derivatives by the
// scheme's parameters, and keeps those. They are added up in the order of the
// blocks, whatever thread had them.
#include <algorithm>

#include "engine/tile_backward.h"

namespace saccade::backward {

namespace {

int64_t ParametersOf(const TileSpec& spec) {
  return spec.bias == nullptr ? 0 : spec.bias->parameters();
}

}  // namespace

BiasGradient::BiasGradient(Arena& arena, const TileSpec& spec,
                           int64_t key_blocks)
    : size_(spec.q_heads / std::max<int64_t>(spec.kv_heads, 1) *
            ParametersOf(spec)),
      blocks_(arena.Take<double>(key_blocks * size_)),
      pairs_(arena.Take<double>(spec.batch * spec.kv_heads * size_)) {}

int64_t BiasGradient::MostDistances(const TileSpec& spec, int64_t q_len,
                                    int64_t kv_len) {
  if (ParametersOf(spec) == 0) return 0;
  return 2 * std::max(q_len, kv_len) + 2 * BiasRanges::kMargin + 2;
}

void BiasGradient::Start(const TileSpec& spec) const {
  std::fill_n(pairs_, spec.batch * spec.kv_heads * size_, 0.0);
}

double* BiasGradient::Block(int64_t n) const {
  double* const at = blocks_ + n * size_;
  std::fill_n(at, size_, 0.0);
  return at;
}

void BiasGradient::AddBlock(int64_t n, int64_t pair) const {
  for (int64_t x = 0; x < size_; ++x)
    pairs_[pair * size_ + x] += blocks_[n * size_ + x];
}

void BiasGradient::Store(const TileSpec& spec, const View& to) const {
  // Heads of a pair lie side by side, and so do those of a sequence.
  const int64_t heads = spec.kv_heads * size_, n = ParametersOf(spec);
  for (int64_t x = 0; x < heads; ++x) {
    double sum = 0;
    for (int64_t b = 0; b < spec.batch; ++b) sum += pairs_[b * heads + x];
    to.Row<float>(0, x / n, 0)[x % n] = static_cast<float>(sum);
  }
}

}  // namespace saccade::backward
