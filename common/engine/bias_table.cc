#include "engine/bias_table.h"

#include <algorithm>
#include <utility>

namespace saccade {

BiasRanges::BiasRanges(const Pattern& pattern, Interval queries,
                       int64_t kv_end) {
  for (const Part& part : pattern) {
    const int64_t step = part.step;
    // Of i - j, which is a multiple of the step; then what the part sees.
    const int64_t least = std::max(
        part.low,
        FloorDiv(queries.begin - std::max<int64_t>(kv_end - 1, 0), step));
    const int64_t most = std::min(part.high, -FloorDiv(1 - queries.end, step));
    const int64_t first = std::min(least, most) - kMargin;
    const int64_t count = std::max<int64_t>(most - least, 0) + 1 + 2 * kMargin;
    parts_.push_back({first * step, step, count});
    at_.push_back(total_);
    total_ += count;
    most_ = std::max(most_, count);
  }
}

void BiasTable::Fill(const DistanceBias& bias, const ConstView& parameters,
                     float factor, Exec& exec) const {
  const int64_t parts = ranges_->parts();
  exec.For(parameters.heads * parts, [&](int64_t task, int) {
    const int64_t head = task / parts, p = task % parts;
    const Distances at = ranges_->Of(p);
    float* const to = values_ + head * ranges_->total() + ranges_->At(p);
    bias.Fill(head, parameters.Row<float>(0, head, 0), at, to);
    for (int64_t n = 0; n < at.count; ++n) to[n] *= factor;
  });
}

PlannedBias::PlannedBias(std::shared_ptr<const DistanceBias> bias,
                         const Pattern& pattern, const Problem& p, float factor)
    : bias_(std::move(bias)), heads_(p.q_heads), factor_(factor) {
  if (bias_ == nullptr) return;
  ranges_ = BiasRanges(pattern, AllPositions(p), p.kv_len);
  start_ = BiasStart(p);
  values_.resize(heads_ * ranges_.total());
  table_ = BiasTable(ranges_, values_.data());
  table_.Fill(*bias_, ParametersOf({}), factor_, Serial());
}

ConstView PlannedBias::ParametersOf(const Inputs& in) const {
  if (in.bias.data != nullptr) return in.bias;
  return Contiguous<const void>(start_.data(), DType::kF32, 1, heads_, 1,
                                bias_->parameters());
}

float* PlannedBias::Room(Arena& arena) const {
  const bool learned = bias_ != nullptr && bias_->parameters() > 0;
  return arena.Take<float>(learned ? heads_ * ranges_.total() : 0);
}

const BiasTable* PlannedBias::TableOf(const Inputs& in, float* room,
                                      BiasTable* own, Exec& exec) const {
  if (bias_ == nullptr) return nullptr;
  if (in.bias.data == nullptr || bias_->parameters() == 0) return &table_;
  *own = BiasTable(ranges_, room);
  own->Fill(*bias_, in.bias, factor_, exec);
  return own;
}

}  // namespace saccade
