// What the scan engine's tasks have in common: rows of a stretch of tokens, in
// and out of a task's buffers, features on the way.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_SCAN_TASK_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_SCAN_TASK_INL_H_
#undef SACCADE_COMMON_ENGINE_SCAN_TASK_INL_H_
#else
#define SACCADE_COMMON_ENGINE_SCAN_TASK_INL_H_
#endif

#include <cmath>
#include <type_traits>

#include "engine/scan_frame-inl.h"
#include "engine/scan_passes.h"
#include "engine/scan_random-inl.h"
#include "engine/scan_rows-inl.h"
#include "engine/scan_run-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

// One head's rows of a view, the tokens of a stretch in the order of the scan.
struct Tokens {
  int64_t first = 0, count = 0;
  bool reverse = false;
  int64_t Row(int64_t t) const {
    return reverse ? first + count - 1 - t : first + t;
  }
};

template <class Map, class T>
void LoadRows(const ConstView& view, int64_t b, int64_t h, const Tokens& tokens,
              const ScanRows<float>& to, int64_t to_head) {
  if (view.dim % kScanPad == 0 && tokens.count > 0)
    return LoadWholeRows<Map>(
        view.Row<T>(b, h, tokens.Row(0)),
        tokens.reverse ? -view.row_stride : view.row_stride, tokens.count,
        view.dim / kScanLanes, to.At(to_head, 0), to.stride);
  for (int64_t t = 0; t < tokens.count; ++t)
    LoadRow<Map>(view.Row<T>(b, h, tokens.Row(t)), view.dim, to.At(to_head, t));
}

template <class Map, class T>
void StoreRows(const ScanRows<float>& from, const ScanRows<float>& feature,
               int64_t from_head, const Tokens& tokens, Interval columns,
               const View& view, int64_t b, int64_t h) {
  if (columns.empty()) return;
  if (columns.size() % kScanPad == 0 && tokens.count > 0)
    return StoreWholeRows<Map>(
        from.At(from_head, 0) + columns.begin, from.stride,
        feature.At(from_head, 0) + columns.begin, feature.stride, tokens.count,
        columns.size(), view.Row<T>(b, h, tokens.Row(0)) + columns.begin,
        tokens.reverse ? -view.row_stride : view.row_stride);
  for (int64_t t = 0; t < tokens.count; ++t)
    StoreRow<Map>(from.At(from_head, t) + columns.begin,
                  feature.At(from_head, t) + columns.begin, columns.size(),
                  view.Row<T>(b, h, tokens.Row(t)) + columns.begin);
}

// Rows of zeros, of the view's own type.
inline void ZeroRows(const View& view, int64_t b, int64_t h, Interval rows) {
  for (int64_t t = rows.begin; t < rows.end; ++t)
    if (view.dtype == DType::kF32)
      std::fill_n(view.Row<float>(b, h, t), view.dim, 0.0f);
    else
      std::fill_n(view.Row<BF16>(b, h, t), view.dim, BF16{});
}

// Has the next run's rows of a head, in the scan's order, fetched in this one.
inline void AddAhead(const ConstView& view, int64_t b, int64_t h,
                     const Tokens& now, RowsAhead& ahead) {
  ahead.Add(view, b, h, now.reverse ? now.first - 1 : now.first + now.count,
            now.reverse, kScanRun);
}

// Rows of zeros, for a state that fades, or stays, while nothing is written.
inline void ZeroRun(const ScanRows<float>& rows, int64_t first, int64_t end) {
  for (int64_t t = first; t < end; ++t)
    std::fill_n(rows.At(0, t), rows.stride, 0.0f);
}

inline Interval ColumnsOf(Interval panels, int64_t columns) {
  return {panels.begin * kScanPanel,
          std::min(columns, panels.end * kScanPanel)};
}

// Kernels can work on the caller's own rows of whole vectors.
inline bool IsPlainRow(const ConstView& view) {
  return view.dtype == DType::kF32 && view.dim % kScanPad == 0;
}

// Whether rows are their own features, one behind the other.
template <class Map>
bool IsOwn(const ConstView& view) {
  return std::is_same_v<Map, IdentityMap> && IsPlainRow(view) &&
         view.row_stride == view.dim;
}

template <class T>
ScanRows<T> OwnRows(
    const BasicView<std::conditional_t<std::is_const_v<T>, const void, void>>&
        view,
    int64_t b, int64_t h, int64_t first) {
  return {view.template Row<float>(b, h, first), view.row_stride,
          view.head_stride};
}

// The decay of a head over a run: null when it has none.
inline const float* FillDecay(const ScanSpec& spec, int64_t kv, float* to) {
  if (spec.decay.empty()) return nullptr;
  std::fill_n(to, kScanRun, spec.decay[kv]);
  return to;
}
// cos and sin of a run's angles, by the sum of two angles: of its first token,
// and of the tokens from there on, which the spec has a table of.
struct RunTurns {
  RunTurns(const ScanSpec& spec, const Tokens& tokens, int64_t position) {
    const double start =
        spec.turn * static_cast<double>(position + tokens.first);
    const double c = std::cos(start), s = std::sin(start);
    const double* const by_cos = spec.turns.data();
    const double* const by_sin = by_cos + kScanRun;
    for (int64_t t = 0; t < tokens.count; ++t) {
      cos[t] = static_cast<float>(c * by_cos[t] - s * by_sin[t]);
      sin[t] = static_cast<float>(s * by_cos[t] + c * by_sin[t]);
    }
  }
  // Of tokens in the order of rows, not of the scan.
  float cos[kScanRun], sin[kScanRun];
};

/// Buffers of a task for features that are no map of elements.
struct FeatureRoom {
  const ScanRandomRows& random;
  const ScanScratch& scratch;
};

/// phi of a head's rows of a stretch; row 0 of the view stands at `position`.
template <class Map, class T>
void LoadFeatures(const ScanSpec& spec, const ConstView& view, int64_t b,
                  int64_t h, const Tokens& tokens, int64_t position,
                  const ScanRows<float>& to, int64_t to_head,
                  const FeatureRoom& room) {
  if constexpr (std::is_same_v<Map, RandomKeyMap> ||
                std::is_same_v<Map, RandomMap>) {
    LoadRows<IdentityMap, T>(view, b, h, tokens, room.random.elements, 0);
    const ScanRows<float> rows{to.At(to_head, 0), to.stride, to.head};
    RandomExponents(spec, room.random, tokens.count, rows, room.scratch);
    if constexpr (std::is_same_v<Map, RandomMap>)
      for (int64_t t = 0; t < tokens.count; ++t) {
        const float most = *room.random.most.At(0, t);
        RandomPowers(spec, most, most, rows.At(0, t));
      }
  } else if constexpr (std::is_same_v<Map, TurnedReluMap>) {
    const RunTurns turns(spec, tokens, position);
    for (int64_t t = 0; t < tokens.count; ++t) {
      const int64_t row = tokens.Row(t), at = row - tokens.first;
      LoadTurnedRow(view.Row<T>(b, h, row), view.dim, turns.cos[at],
                    turns.sin[at], to.At(to_head, t));
    }
  } else if constexpr (std::is_same_v<Map, TaylorMap>) {
    for (int64_t t = 0; t < tokens.count; ++t)
      LoadTaylorRow(view.Row<T>(b, h, tokens.Row(t)), spec.elements, spec.root,
                    to.At(to_head, t));
  } else if constexpr (std::is_same_v<Map, SoftmaxMap>) {
    for (int64_t t = 0; t < tokens.count; ++t)
      LoadSoftmaxRow(view.Row<T>(b, h, tokens.Row(t)), view.dim,
                     to.At(to_head, t));
  } else {
    LoadRows<Map, T>(view, b, h, tokens, to, to_head);
  }
}

/// Of gradients by features, at the columns of some panels, the gradients by
/// what the features were made of, which `source` has. May overwrite `from`.
template <class Map, class T>
void StoreFeatures(const ScanSpec& spec, const ScanRows<float>& from,
                   const ScanRows<float>& feature, int64_t from_head,
                   const Tokens& tokens, int64_t position, Interval panels,
                   const ConstView& source, const View& view, int64_t b,
                   int64_t h, const FeatureRoom& room) {
  if constexpr (std::is_same_v<Map, RandomKeyMap> ||
                std::is_same_v<Map, RandomMap>) {
    const ScanRows<float> rows{from.At(from_head, 0), from.stride, from.head};
    float sums[kScanRun];
    for (int64_t t = 0; t < tokens.count; ++t)
      sums[t] = RandomSlopes(spec, feature.At(from_head, t), rows.At(0, t));
    ReadTable(spec.random->to_elements, ScanFeatures(spec), view.dim, rows,
              tokens.count, room.random.elements, room.scratch);
    for (int64_t t = 0; t < tokens.count; ++t) {
      const int64_t row = tokens.Row(t);
      StoreMinus(room.random.elements.At(0, t), source.Row<T>(b, h, row),
                 spec.random->scale * sums[t], view.dim,
                 view.Row<T>(b, h, row));
    }
  } else if constexpr (std::is_same_v<Map, TurnedReluMap>) {
    if (panels.empty()) return;
    const RunTurns turns(spec, tokens, position);
    const int64_t column = panels.begin * kScanPanel, first = column / 2;
    const int64_t n = std::min(view.dim, panels.end * kScanPanel / 2) - first;
    for (int64_t t = 0; t < tokens.count; ++t) {
      const int64_t row = tokens.Row(t), at = row - tokens.first;
      StoreTurnedRow(from.At(from_head, t) + column,
                     feature.At(from_head, t) + column, n, turns.cos[at],
                     turns.sin[at], view.Row<T>(b, h, row) + first);
    }
  } else if constexpr (std::is_same_v<Map, TaylorMap>) {
    for (int64_t t = 0; t < tokens.count; ++t) {
      T* const to = view.Row<T>(b, h, tokens.Row(t));
      StoreTaylorRow(from.At(from_head, t), feature.At(from_head, t),
                     spec.elements, spec.root, to);
      std::fill(to + spec.elements, to + view.dim, T{});
    }
  } else if constexpr (std::is_same_v<Map, SoftmaxMap>) {
    for (int64_t t = 0; t < tokens.count; ++t)
      StoreSoftmaxRow(from.At(from_head, t), feature.At(from_head, t), view.dim,
                      view.Row<T>(b, h, tokens.Row(t)));
  } else {
    StoreRows<Map, T>(from, feature, from_head, tokens,
                      ColumnsOf(panels, view.dim), view, b, h);
  }
}

// The keys of a stretch as features in a frame: exponents first, then piece by
// piece their powers, the frame moved where a piece begins.
template <class T, class Map>
class KeyFrames {
 public:
  KeyFrames(const ScanSpec& spec, const ScanFrame& frame,
            const ScanRows<float>& rows, const FeatureRoom& room)
      : spec_(spec), frame_(frame), rows_(rows), room_(room) {}

  void Load(const ConstView& view, int64_t b, int64_t kv,
            const Tokens& tokens) const {
    LoadFeatures<typename Map::Key, T>(spec_, view, b, kv, tokens, 0, rows_, 0,
                                       room_);
  }
  /// Moves the frame to token t; `factor` is what sums are to be multiplied by,
  /// feature by feature.
  bool Move(int64_t t, float* factor) const {
    const bool moved = MoveFrame(Exponents().At(0, t), frame_, factor);
    if constexpr (kRandom) std::fill_n(factor, ScanFadeFloats(spec_), *factor);
    return moved;
  }
  /// How many of `count` tokens from t on the frame holds.
  int64_t Held(int64_t t, int64_t count) const {
    return RowsInFrame(Exponents(), t, count, frame_);
  }
  void ToFeatures(int64_t t, int64_t count) const {
    for (int64_t end = t + count; t < end; ++t)
      if constexpr (kRandom)
        RandomPowers(spec_, *room_.random.most.At(0, t), *frame_.at,
                     rows_.At(0, t));
      else
        PowersInFrame(spec_.qk_dim, frame_, rows_.At(0, t));
  }

 private:
  static constexpr bool kRandom = std::is_same_v<Map, RandomMap>;
  // What the frame is held against.
  const ScanRows<float>& Exponents() const {
    return kRandom ? room_.random.most : rows_;
  }

  const ScanSpec& spec_;
  const ScanFrame& frame_;
  const ScanRows<float>& rows_;
  const FeatureRoom& room_;
};

// Calls task with the element type and the feature map of a spec.
template <class F>
void Specialise(const ScanSpec& spec, F task) {
  const auto with_map = [&](auto element) {
    switch (spec.feature) {
      case FeatureMap::kIdentity:
        return task(element, IdentityMap());
      case FeatureMap::kEluPlusOne:
        return task(element, EluPlusOneMap());
      case FeatureMap::kRelu:
        return task(element, ReluMap());
      case FeatureMap::kTurnedRelu:
        return task(element, TurnedReluMap());
      case FeatureMap::kSoftmax:
        return task(element, SoftmaxMap());
      case FeatureMap::kRandom:
        return task(element, RandomMap());
      case FeatureMap::kTaylor:
        return task(element, TaylorMap());
    }
  };
  if (spec.dtype == DType::kF32)
    with_map(float());
  else
    with_map(BF16());
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_SCAN_TASK_INL_H_
