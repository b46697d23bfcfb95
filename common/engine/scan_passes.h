// What the passes of the scan engine share: which tokens exist when, how work
// is shared out, and the buffers of a task.
#ifndef SACCADE_COMMON_ENGINE_SCAN_PASSES_H_
#define SACCADE_COMMON_ENGINE_SCAN_PASSES_H_

#include <algorithm>
#include <cstdint>
#include <limits>

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
      const int64_t runs = (to - from + longest - 1) / longest;
      for (int64_t p = from + (runs - 1) * longest; p >= from; p -= longest)
        emit(p, std::min(to, p + longest));
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

/// Where an element's gradient needs all features, a share has all or none.
inline bool IsWhole(const ScanSpec& spec) {
  return spec.feature == FeatureMap::kSoftmax ||
         spec.feature == FeatureMap::kRandom ||
         spec.feature == FeatureMap::kTaylor;
}
inline int64_t QueryShares(const ScanSpec& spec) {
  return IsWhole(spec) ? 1 : ScanShares(spec, ScanFeatures(spec));
}
/// Of keys' and values' gradients; where a share has all features, it has no
/// values when there are others to take them.
inline int64_t KeyShares(const ScanSpec& spec) {
  if (!IsWhole(spec))
    return ScanShares(spec, std::max(ScanFeatures(spec), spec.v_dim));
  const int64_t shares = ScanShares(spec, spec.v_dim);
  return shares == 1 ? 1 : shares + 1;
}
inline Interval KeyPanels(const ScanSpec& spec, int64_t share) {
  if (!IsWhole(spec))
    return ScanShare(ScanFeatures(spec), share, KeyShares(spec));
  return {0, share == 0 ? ScanPanels(ScanFeatures(spec)) : 0};
}
inline Interval ValuePanels(const ScanSpec& spec, int64_t share) {
  const int64_t shares = KeyShares(spec);
  if (!IsWhole(spec) || shares == 1)
    return ScanShare(spec.v_dim, share, shares);
  return share == 0 ? Interval{0, 0}
                    : ScanShare(spec.v_dim, share - 1, shares - 1);
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

/// Whether features are divided by their own sums.
inline bool HasSums(const ScanSpec& spec) {
  return spec.feature == FeatureMap::kSoftmax;
}

/// Floats of a frame: one a feature, or none.
inline int64_t ScanFrameWidth(const ScanSpec& spec) {
  if (spec.feature == FeatureMap::kRandom) return kScanPad;  // all alike
  return spec.feature == FeatureMap::kSoftmax
             ? ScanRoundUp(ScanFeatures(spec), kScanPad)
             : 0;
}

/// Floats of what a frame's move multiplies features by.
inline int64_t ScanFadeFloats(const ScanSpec& spec) {
  return ScanFrameWidth(spec) > 0 ? ScanRoundUp(ScanFeatures(spec), kScanPanel)
                                  : 0;
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

/// Frames of a head that forward keeps for backward: what each stretch of keys
/// begins with.
inline int64_t ScanFrames(const ScanSpec& spec, int64_t keys) {
  return keys / ScanRunLength(spec) + 2;
}

/// The floats of all of them before that of the stretch from `begin` on.
inline int64_t ScanFrameAt(const ScanSpec& spec, const ScanTimeline& line,
                           int64_t b, int64_t kv, int64_t begin,
                           int64_t kv_len) {
  const int64_t cut = std::min(std::max<int64_t>(0, line.offset), line.keys);
  const int64_t slot =
      begin / ScanRunLength(spec) + static_cast<int64_t>(begin >= cut);
  return ((b * spec.kv_heads + kv) * ScanFrames(spec, kv_len) + slot) *
         ScanFrameWidth(spec);
}

/// Rows of a task's buffers, of the current run.
inline ScanRows<float> TakeRows(Arena& arena, int64_t heads, int64_t tokens,
                                int64_t width) {
  const int64_t padded = ScanRoundUp(width, kScanPad);
  return {arena.Take<float>(heads * tokens * padded), padded, tokens * padded};
}

inline ScanRows<const float> ReadOnly(const ScanRows<float>& rows) {
  return {rows.data, rows.stride, rows.head};
}

/// What random features are made of: a run's elements, and its largest
/// exponents, each kScanPad times. Nothing for other features.
struct ScanRandomRows {
  ScanRandomRows(Arena& arena, const ScanSpec& spec)
      : elements(TakeRows(arena, 1, Tokens(spec), spec.qk_dim)),
        most(TakeRows(arena, 1, Tokens(spec), kScanPad)) {}
  static int64_t Tokens(const ScanSpec& spec) {
    return spec.feature == FeatureMap::kRandom ? ScanRunLength(spec) : 0;
  }
  ScanRows<float> elements, most;
};

struct ScanForwardTask {
  ScanForwardTask(Arena& arena, const ScanSpec& spec)
      : query(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec),
                       ScanFeatures(spec))),
        key(TakeRows(arena, 1, ScanRunLength(spec), ScanFeatures(spec))),
        value(TakeRows(arena, 1, ScanRunLength(spec), spec.v_dim)),
        out(TakeRows(arena, ScanGroup(spec), ScanRunLength(spec), spec.v_dim)),
        factor(arena.Take<float>(ScanGroup(spec) * kScanRun)),
        decay(arena.Take<float>(kScanRun)),
        fade(arena.Take<float>(ScanFadeFloats(spec))),
        random(arena, spec),
        scratch(arena, ScanFeatures(spec), ScanGroup(spec)) {}
  ScanRows<float> query, key, value, out;
  float* factor;
  float* decay;
  float* fade;  // what a move of the frame multiplies features by
  ScanRandomRows random;
  ScanScratch scratch;
};

/// What features that are powers of e are relative to, and the sums of features
/// where each is divided by its own; see scan_frame-inl.h. All zero bytes are
/// those of an empty sequence.
struct ScanFrame {
  ScanFrame(Arena& arena, const ScanSpec& spec)
      : width(ScanFrameWidth(spec)),
        sums(HasSums(spec) ? ScanRoundUp(ScanFeatures(spec), kScanPad) : 0),
        started(arena.Take<int64_t>(width > 0 ? 1 : 0)),
        at(arena.Take<float>(width)),
        sum(arena.Take<float>(sums)),
        lost(arena.Take<float>(sums)) {}

  void Clear() const {
    if (width > 0) *started = 0;
    std::fill_n(sum, sums, 0.0f);
    std::fill_n(lost, sums, 0.0f);
  }
  void Start() const {
    if (*started != 0) return;
    *started = 1;
    std::fill_n(at, width, -std::numeric_limits<float>::infinity());
  }

  int64_t width, sums;
  int64_t* started;
  float *at, *sum, *lost;
};

/// What a share of a head carries along the sequence: a state [features,
/// panels of v_dim] and a frame.
struct ScanCarry {
  ScanCarry(Arena& arena, const ScanSpec& spec, int64_t share)
      : state(arena, ScanFeatures(spec),
              ScanShare(spec.v_dim, share, ScanShares(spec, spec.v_dim)).size(),
              IsNormalised(spec)),
        frame(arena, spec) {}

  void Clear() const {
    state.Clear();
    frame.Clear();
  }

  ScanState state;
  ScanFrame frame;
};

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
        fade(arena.Take<float>(ScanFadeFloats(spec))),
        random(arena, spec),
        moves(TakeRows(arena, 1, dq_panels > 0 ? 0 : ScanRunLength(spec),
                       ScanFadeFloats(spec))),
        frame(arena, spec),
        scratch(arena, std::max(ScanFeatures(spec), width), ScanGroup(spec)),
        dq(arena, width, dq_panels, false),
        dk(arena, width, dk_panels, false),
        dv(arena, ScanFeatures(spec), dv_panels, false) {}
  int64_t width;  // of v and dout, with that column
  ScanRows<float> query, key;
  ScanRows<float> value, gradient;
  ScanRows<float> out;
  float* decay;
  float* fade;  // what a move of the frame multiplies features by
  ScanRandomRows random;
  ScanRows<float> moves;  // the same, of each move in a run
  ScanFrame frame;
  ScanScratch scratch;
  ScanState dq, dk, dv;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCAN_PASSES_H_
