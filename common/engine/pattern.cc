#include "engine/pattern.h"

namespace saccade {
namespace {

int64_t Plus(int64_t a, int64_t b) { return b >= kFar ? kFar : a + b; }
int64_t Minus(int64_t a, int64_t b) { return b >= kFar ? -kFar : a - b; }

}  // namespace

Interval Part::Queries(int64_t j, Interval queries) const {
  Interval seen{low <= -kFar ? -kFar : j + low, Plus(j + 1, high)};
  switch (kind) {
    case Kind::kBand:
      if (j >= sinks) seen = seen.Cut({Minus(j, reach), Plus(j + 1, reach)});
      break;
    case Kind::kFixed:
      if (j % block < block - columns)
        seen = seen.Cut({j / block * block, (j / block + 1) * block});
      break;
    case Kind::kBlocks: {
      const int64_t row = FloorDiv(queries.begin, block);
      const bool listed =
          row >= 0 && row + 1 < static_cast<int64_t>(blocks->offsets.size()) &&
          std::binary_search(blocks->columns.data() + blocks->offsets[row],
                             blocks->columns.data() + blocks->offsets[row + 1],
                             j / block);
      if (!listed) return {};
      break;
    }
  }
  return seen.Cut(queries);
}

Seen Part::See(Interval queries, Interval keys) const {
  if (queries.empty() || keys.empty()) return Seen::kNone;
  // Extremes of i - j over the block.
  const int64_t least = queries.begin - (keys.end - 1);
  const int64_t most = queries.end - 1 - keys.begin;
  if (most < low || least > high) return Seen::kNone;
  bool all = least >= low && most <= high;
  switch (kind) {
    case Kind::kBand: {
      const bool outside = most < -reach || least > reach;
      if (outside && keys.begin >= sinks) return Seen::kNone;
      const bool inside = least >= -reach && most <= reach;
      all = all && (inside || keys.end <= sinks);
      break;
    }
    case Kind::kFixed: {
      const bool one_block =
          FloorDiv(queries.begin, block) == (keys.end - 1) / block &&
          FloorDiv(queries.end - 1, block) == keys.begin / block;
      const bool summary = keys.begin / block == (keys.end - 1) / block &&
                           keys.begin % block >= block - columns;
      all = all && (one_block || summary);
      break;
    }
    case Kind::kBlocks:
      if (Queries(keys.begin, queries).empty() &&
          Queries(keys.end - 1, queries).empty())
        return Seen::kNone;
      break;
  }
  return all ? Seen::kAll : Seen::kPart;
}

int64_t QueryOffset(const Problem& problem) {
  return problem.mask == Mask::kCausalTopLeft ? 0
                                              : problem.kv_len - problem.q_len;
}

Interval AllPositions(const Problem& p) {
  const int64_t first = QueryOffset(p);
  return {std::min<int64_t>(first, 0), std::max(first + p.q_len, p.kv_len)};
}

Part MaskPart(const Problem& problem) {
  Part part;
  if (problem.mask != Mask::kNone) part.low = 0;
  if (problem.window > 0) {
    part.high = problem.window - 1;
    part.low = std::max(part.low, -(problem.window - 1));
  }
  part.low = std::max(part.low, problem.least_distance);
  part.high = std::min(part.high, problem.most_distance);
  return part;
}

double VisiblePairs(const Pattern& pattern, int64_t q_position, int64_t q_len,
                    int64_t kv_len) {
  double pairs = 0;
  const Interval all{q_position, q_position + q_len};
  for (const Part& part : pattern) {
    for (int64_t c = 0; c < std::min(part.step, kv_len); ++c) {
      // Class c: positions c, c + step, ...; counted in its own coordinates.
      const auto up = [&](int64_t x) {  // ceil((x - c) / step)
        const int64_t n = x - c;
        return n >= 0 ? (n + part.step - 1) / part.step : -(-n / part.step);
      };
      const Interval queries{up(all.begin), up(all.end)};
      const int64_t keys = up(kv_len);
      if (queries.empty() || keys <= 0) continue;
      const int64_t grain = part.Grain();
      if (grain == kFar) {
        for (int64_t j = 0; j < keys; ++j)
          pairs += static_cast<double>(part.Queries(j, queries).size());
        continue;
      }
      for (int64_t i = queries.begin; i < queries.end;) {
        const int64_t next = std::min(
            queries.end, (std::max<int64_t>(i, 0) / grain + 1) * grain);
        const Interval row{i, i < 0 ? std::min<int64_t>(0, queries.end) : next};
        i = row.end;
        if (row.begin < 0) continue;  // no block holds it: it sees nothing
        part.ForKeys(row, keys, [&](Interval run) {
          for (int64_t j = run.begin; j < run.end; ++j)
            pairs += static_cast<double>(part.Queries(j, row).size());
        });
      }
    }
  }
  return pairs;
}

int64_t VisibleKeys(const Pattern& pattern, int64_t i, int64_t kv_len) {
  int64_t keys = 0;
  for (const Part& part : pattern) {
    // In the coordinates of the query's class. Runs are exact for one query.
    const int64_t at = FloorDiv(i, part.step), residue = i - at * part.step;
    const int64_t len = -FloorDiv(residue - kv_len, part.step);
    part.ForKeys({at, at + 1}, len, [&](Interval run) { keys += run.size(); });
  }
  return keys;
}

}  // namespace saccade
