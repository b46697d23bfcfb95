// A bias by distance as the tile engine reads it: written out once a pass, in
// rows that a vector of scores lies along.
#ifndef SACCADE_COMMON_ENGINE_BIAS_TABLE_H_
#define SACCADE_COMMON_ENGINE_BIAS_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "arena.h"
#include "distance_bias.h"
#include "engine/pattern.h"
#include "saccade/exec.h"
#include "saccade/variant.h"

namespace saccade {

/// Which distances kernels may ask for, part by part of a pattern, in its
/// coordinates: those of visible pairs, and a margin of pairs beside them that
/// are computed and not read.
class BiasRanges {
 public:
  static constexpr int64_t kMargin = 128;  // the largest block of a kernel

  BiasRanges() = default;
  /// Queries at positions `queries`, keys at 0 .. kv_end - 1.
  BiasRanges(const Pattern& pattern, Interval queries, int64_t kv_end);

  int64_t parts() const { return static_cast<int64_t>(parts_.size()); }
  /// i' - j' of part p.
  Distances Of(int64_t p) const { return parts_[p]; }
  /// Distances of all parts together, and of the part that has most.
  int64_t total() const { return total_; }
  int64_t most() const { return most_; }
  /// Where part p's begin when they lie one after the other.
  int64_t At(int64_t p) const { return at_[p]; }

 private:
  std::vector<Distances> parts_;
  std::vector<int64_t> at_;
  int64_t total_ = 0, most_ = 0;
};

/// The bias of every head at those distances.
class BiasTable {
 public:
  BiasTable() = default;
  /// values: [heads][ranges.total()].
  BiasTable(const BiasRanges& ranges, float* values)
      : ranges_(&ranges), values_(values) {}

  /// Writes bias times `factor`. parameters: f32 [1, heads, 1, n].
  void Fill(const DistanceBias& bias, const ConstView& parameters, float factor,
            Exec& exec) const;

  const BiasRanges& ranges() const { return *ranges_; }

  /// Where part p's value for `head` at distance 0 stands, or would stand.
  const float* Zero(int64_t p, int64_t head) const {
    return values_ + head * ranges_->total() + ranges_->At(p) -
           FloorDiv(ranges_->Of(p).first, ranges_->Of(p).step);
  }

 private:
  const BiasRanges* ranges_ = nullptr;
  float* values_ = nullptr;  // [heads][part][distance]
};

/// A plan's bias: the table of its parameters before training, made once, and
/// tables of those that callers give.
class PlannedBias {
 public:
  /// `bias` may be null. Tables hold it times `factor`.
  PlannedBias(std::shared_ptr<const DistanceBias> bias, const Pattern& pattern,
              const Problem& problem, float factor);
  PlannedBias(const PlannedBias&) = delete;
  PlannedBias& operator=(const PlannedBias&) = delete;

  const DistanceBias* bias() const { return bias_.get(); }
  const BiasRanges& ranges() const { return ranges_; }
  /// The caller's, f32 [1, heads, 1, n], or those before training.
  ConstView ParametersOf(const Inputs& in) const;

  /// Room for a pass's own table: none where the bias is fixed.
  float* Room(Arena& arena) const;
  /// The table of a pass, in `room` if need be; null when there is no bias.
  const BiasTable* TableOf(const Inputs& in, float* room, BiasTable* own,
                           Exec& exec) const;

 private:
  std::shared_ptr<const DistanceBias> bias_;
  int64_t heads_;
  float factor_;
  BiasRanges ranges_;
  std::vector<float> start_;   // [heads][parameters]
  std::vector<float> values_;  // of table_
  BiasTable table_;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_BIAS_TABLE_H_
