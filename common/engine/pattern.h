// Which keys a query sees, as data: a union of parts, in each of which every
// key is seen by one interval of queries. That is all that kernels need to
// touch nothing invisible and to mask the rest with two comparisons.
//
// i is a query's position, j a key's, both absolute (0 is the first token).
// A part with step s works on the residue classes of positions modulo s: in
// class c, i = c + s i', j = c + s j', and everything below is said of i', j'.
#ifndef SACCADE_COMMON_ENGINE_PATTERN_H_
#define SACCADE_COMMON_ENGINE_PATTERN_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "saccade/variant.h"

namespace saccade {

constexpr int64_t kFar = int64_t{1} << 60;  // farther than any position

/// Positions begin .. end - 1.
struct Interval {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
  int64_t size() const { return empty() ? 0 : end - begin; }
  Interval Cut(Interval by) const {
    return {std::max(begin, by.begin), std::min(end, by.end)};
  }
};

/// a / b rounded down; b > 0. Positions before the first token are negative.
constexpr int64_t FloorDiv(int64_t a, int64_t b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/// How much of a block of scores is visible.
enum class Seen : uint8_t { kNone, kPart, kAll };

/// visible(i, j) = low <= i - j <= high                   (the mask)
///                 and, by kind,
///   kBand:  i - j <= reach and i - j >= -reach, or j < sinks
///   kFixed: i / block == j / block, or j % block >= block - columns
///   kBlocks: block j / block is in row i / block of `blocks`
struct Part {
  enum class Kind : uint8_t { kBand, kFixed, kBlocks };
  Kind kind = Kind::kBand;
  int64_t step = 1;
  int64_t low = -kFar, high = kFar;
  int64_t reach = kFar;
  int64_t sinks = 0;
  int64_t block = 0, columns = 0;
  std::shared_ptr<const BlockMask> blocks = nullptr;

  /// The queries that see key j, of those in `queries`. For kBlocks, `queries`
  /// must lie within one block of queries.
  Interval Queries(int64_t j, Interval queries) const;

  /// How much of keys x queries is visible. For kBlocks, both must lie within
  /// one block. Exact for kNone and kAll; kPart when in doubt.
  Seen See(Interval queries, Interval keys) const;

  /// Calls visit(Interval keys) for ascending, disjoint runs of keys that
  /// cover all that any of `queries` sees among keys 0 .. kv_len - 1. A run
  /// does not cross `sinks`, nor blocks when kBlocks. For kBlocks, `queries`
  /// must lie within one block.
  template <class F>
  void ForKeys(Interval queries, int64_t kv_len, F visit) const;

  /// Likewise the queries that see any of `keys`, among `all`.
  template <class F>
  void ForQueries(Interval keys, Interval all, F visit) const;

  /// Queries and keys of a run must not cross multiples of this; kFar: free.
  int64_t Grain() const { return kind == Kind::kBlocks ? block : kFar; }
};

/// A union of parts that see no key twice.
using Pattern = std::vector<Part>;

/// The plain mask of a problem, cut by its window: one band.
Part MaskPart(const Problem& problem);

/// Position of query 0 when key 0 has position 0: kv_len - q_len for kCausal
/// and kNone, 0 for kCausalTopLeft.
int64_t QueryOffset(const Problem& problem);

/// From the first query's position, or 0, to the last's.
Interval AllPositions(const Problem& problem);

/// How many (query, key) pairs are visible, summed over one head.
double VisiblePairs(const Pattern& pattern, int64_t q_position, int64_t q_len,
                    int64_t kv_len);

/// How many keys query i sees among 0 .. kv_len - 1.
int64_t VisibleKeys(const Pattern& pattern, int64_t i, int64_t kv_len);

template <class F>
void Part::ForKeys(Interval queries, int64_t kv_len, F visit) const {
  if (queries.empty()) return;
  // The hull that mask and queries leave.
  const Interval hull =
      Interval{queries.begin - high, queries.end - low}.Cut({0, kv_len});
  if (hull.empty()) return;
  const auto emit = [&](int64_t begin, int64_t end) {
    const Interval run = Interval{begin, end}.Cut(hull);
    if (!run.empty()) visit(run);
  };
  switch (kind) {
    case Kind::kBand: {
      const int64_t first = std::max(sinks, queries.begin - reach);
      emit(0, sinks);
      emit(first, queries.end + reach);
      break;
    }
    case Kind::kFixed: {
      const int64_t own_begin = FloorDiv(queries.begin, block) * block;
      const int64_t own_end = (FloorDiv(queries.end - 1, block) + 1) * block;
      for (int64_t b = hull.begin / block * block; b < hull.end; b += block) {
        if (b >= own_begin && b < own_end) {
          emit(b, own_end);
          b = own_end - block;
        } else {
          emit(b + block - columns, b + block);
        }
      }
      break;
    }
    case Kind::kBlocks: {
      if (queries.begin < 0) return;
      const int64_t row = queries.begin / block;
      if (row + 1 >= static_cast<int64_t>(blocks->offsets.size())) return;
      for (int64_t n = blocks->offsets[row]; n < blocks->offsets[row + 1]; ++n)
        emit(blocks->columns[n] * block, (blocks->columns[n] + 1) * block);
      break;
    }
  }
}

template <class F>
void Part::ForQueries(Interval keys, Interval all, F visit) const {
  if (keys.empty()) return;
  const auto hi = [](int64_t a, int64_t b) { return a >= kFar ? kFar : a + b; };
  const Interval hull =
      Interval{low <= -kFar ? -kFar : keys.begin + low, hi(high, keys.end)}.Cut(
          all);
  if (hull.empty()) return;
  const auto emit = [&](int64_t begin, int64_t end) {
    const Interval run = Interval{begin, end}.Cut(hull);
    if (!run.empty()) visit(run);
  };
  switch (kind) {
    case Kind::kBand:
      if (keys.begin < sinks)
        emit(-kFar, kFar);
      else
        emit(keys.begin - reach, hi(reach, keys.end));
      break;
    case Kind::kFixed: {
      // Runs stay whole blocks: summary columns are seen by all, the others
      // by their own block only.
      bool summary = false;
      for (int64_t j = keys.begin; j < keys.end && !summary; ++j)
        summary = j % block >= block - columns;
      if (summary)
        emit(-kFar, kFar);
      else
        emit(keys.begin / block * block, ((keys.end - 1) / block + 1) * block);
      break;
    }
    case Kind::kBlocks: {
      const int64_t column = keys.begin / block;
      const int64_t rows = static_cast<int64_t>(blocks->offsets.size()) - 1;
      const int64_t last = std::min(rows, (hull.end - 1) / block + 1);
      for (int64_t row = std::max<int64_t>(hull.begin, 0) / block; row < last;
           ++row) {
        const auto* begin = blocks->columns.data() + blocks->offsets[row];
        const auto* end = blocks->columns.data() + blocks->offsets[row + 1];
        if (std::binary_search(begin, end, column))
          emit(row * block, (row + 1) * block);
      }
      break;
    }
  }
}

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_PATTERN_H_
