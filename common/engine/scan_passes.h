// What the passes of the scan engine share: which tokens exist when, how work
// is shared out, and the buffers of a task.
#ifndef SACCADE_COMMON_ENGINE_SCAN_PASSES_H_
#define SACCADE_COMMON_ENGINE_SCAN_PASSES_H_

#include <algorithm>
#include <cstdint>

#include "engine/pattern.h"
#include "engine/scan.h"
#include "engine/scan_state.h"

namespace saccade {

/// Keys and queries on one axis: a query reads the keys up to its position.
/// Key j stands at j, query i at i + offset; without a mask, after all keys.
struct ScanTimeline {
  int64_t offset = 0;
  int64_t queries = 0;
  int64_t keys = 0;  // that some query sees; later ones are never touched
  int64_t query_position = 0;  // of query 0, key 0 at 0, as QueryOffset() says

  /// First query that sees a key.
  int64_t FirstQuery() const {
    return keys == 0 ? queries
                     : std::min(queries, std::max<int64_t>(0, -offset));
  }
};

ScanTimeline MakeScanTimeline(Mask mask, int64_t q_len, int64_t kv_len);

/// Positions on which the same of keys and queries exist.
struct ScanStretch {
  int64_t begin = 0, count = 0;
  bool keys = false, queries = false;
};

/// Calls visit(ScanStretch) for stretches of at most `longest` positions that
/// cover the timeline, in order, or from its end.
template <class F>
void ForStretches(const ScanTimeline& line, int64_t longest, bool reverse,
                  F visit) {
  if (line.keys == 0) return;
  const int64_t begin = std::max<int64_t>(0, line.offset);
  const int64_t end = line.offset + line.queries;
  // Where keys or queries begin or end.
  const int64_t cuts[] = {0, std::min(begin, line.keys),
                          std::max(begin, std::min(end, line.keys)), end};
  const auto emit = [&](int64_t first, int64_t last) {
    visit(ScanStretch{first, last - first, first < line.keys,
                      first >= line.offset && first < end});
  };
  for (int c = 0; c < 3; ++c) {
    const int64_t from = cuts[reverse ? 2 - c : c];
    const int64_t to = cuts[reverse ? 3 - c : c + 1];
    if (reverse) {
      for (int64_t p = to; p > from; p -= longest)
        emit(std::max(from, p - longest), p);
    } else {
      for (int64_t p = from; p < to; p += longest)
        emit(p, std::min(to, p + longest));
    }
  }
}

/// Panels of a state of that many columns.
inline int64_t ScanPanels(int64_t columns) {
  return (columns + kScanPanel - 1) / kScanPanel;
}

/// Into how many tasks a head is split, by panels of columns, which do not
/// depend on each other. With four heads or more, not at all: features and
/// scores would be computed again in each task. Depends on the problem alone.
inline int64_t ScanShares(const ScanSpec& spec, int64_t columns) {
  const int64_t heads = std::max<int64_t>(1, spec.batch * spec.kv_heads);
  return std::clamp<int64_t>((4 + heads - 1) / heads, 1,
                             std::max<int64_t>(1, ScanPanels(columns)));
}

/// Panels begin .. end - 1 of a share.
inline Interval ScanShare(int64_t columns, int64_t share, int64_t shares) {
  const int64_t panels = ScanPanels(columns);
  return {panels * share / shares, panels * (share + 1) / shares};
}

inline int64_t ScanGroup(const ScanSpec& spec) {
  return spec.q_heads / spec.kv_heads;
}

inline bool IsNormalised(const ScanSpec& spec) {
  return spec.read_out != ReadOut::kPlain;
}

inline bool IsClamped(const ScanSpec& spec) {
  return spec.read_out == ReadOut::kClamped;
}

/// What a clamped read-out multiplies by where its denominator is the least.
inline float ClampedFactor(const ScanSpec& spec) {
  return 1 / (spec.epsilon / spec.scale);
}

/// Bytes of what `layout` takes from an arena.
template <class F>
size_t ScanBytes(F layout) {
  Arena count;
  layout(count);
  return count.used();
}

/// Tokens of a run: shorter when many query heads share a key head, so that
/// what it holds stays in the second-level cache.
int64_t ScanRunLength(const ScanSpec& spec);

/// Rows of a task's buffers, of the current run.
inline ScanRows<float> TakeRows(Arena& arena, int64_t heads, int64_t tokens,
                                int64_t width) {
  const int64_t padded = ScanRoundUp(width, kScanPad);
  return {arena.Take<float>(heads * tokens * padded), padded, tokens * padded};
}

inline ScanRows<const float> ReadOnly(const ScanRows<float>& rows) {
  return {rows.data, rows.stride, rows.head};
}

struct ScanForwardTask {
  ScanForwardTask(Arena& arena, const ScanSpec& spec)
      : query(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec),
                       ScanFeatures(spec))),
        key(TakeRows(arena, 1, ScanRunLength(spec), ScanFeatures(spec))),
        value(TakeRows(arena, 1, ScanRunLength(spec), spec.v_dim)),
        out(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec), spec.v_dim)),
        factor(arena.Take<float>(ScanGroup(spec) * kScanRun)),
        decay(arena.Take<float>(kScanRun)),
        scratch(arena, ScanFeatures(spec), ScanGroup(spec)) {}
  ScanRows<float> query, key, value, out;
  float* factor;
  float* decay;
  ScanScratch scratch;
};

/// The state [features, v_dim] of a share of a head.
inline ScanState TakeForwardState(Arena& arena, const ScanSpec& spec,
                                  int64_t share) {
  const Interval panels =
      ScanShare(spec.v_dim, share, ScanShares(spec, spec.v_dim));
  return {arena, ScanFeatures(spec), panels.size(), IsNormalised(spec)};
}

/// Backward's scans. A normalised read-out's denominator is one more column of
/// values, all 1, whose gradient is -factor dout.out: v and dout get that
/// column when they are queries and keys of a scan.
struct ScanBackwardTask {
  ScanBackwardTask(Arena& arena, const ScanSpec& spec, int64_t dq_panels,
                   int64_t dk_panels, int64_t dv_panels)
      : width(spec.v_dim + (IsNormalised(spec) ? 1 : 0)),
        query(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec),
                       ScanFeatures(spec))),
        key(TakeRows(arena, 1, ScanRunLength(spec), ScanFeatures(spec))),
        value(TakeRows(arena, 1, ScanRunLength(spec), width)),
        gradient(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec), width)),
        out(TakeRows(arena, dq_panels > 0 ? ScanGroup(spec) : 1,
                     ScanRunLength(spec),
                     std::max(ScanFeatures(spec), spec.v_dim))),
        decay(arena.Take<float>(kScanRun)),
        scratch(arena, std::max(ScanFeatures(spec), width), ScanGroup(spec)),
        dq(arena, width, dq_panels, false),
        dk(arena, width, dk_panels, false),
        dv(arena, ScanFeatures(spec), dv_panels, false) {}
  int64_t width;  // of v and dout, with that column
  ScanRows<float> query, key;
  ScanRows<float> value, gradient;
  ScanRows<float> out;
  float* decay;
  ScanScratch scratch;
  ScanState dq, dk, dv;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCAN_PASSES_H_
