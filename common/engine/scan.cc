// The scan engine's passes. Forward is one scan. With f the factor that a row
// of out was multiplied by, backward is three, of the same kernel:
//
//   dphi(q)_i = sum_j [f_i dout_i, c_i].[v_j, 1] phi(k_j)        forward
//   dphi(k)_j = sum_i [v_j, 1].[f_i dout_i, c_i] phi(q_i)        from the end
//   dv_j      = sum_i phi(k_j).phi(q_i) f_i dout_i               from the end
//
// over visible (i, j), with c_i = -f_i dout_i.out_i the gradient of the
// denominator, and no such column in a plain read-out.
#include "engine/scan.h"

#include "engine/scan_passes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/scan.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

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

template <class T>
void ZeroRows(const View& view, int64_t b, int64_t h, Interval rows) {
  for (int64_t t = rows.begin; t < rows.end; ++t)
    std::fill_n(view.Row<T>(b, h, t), view.dim, T{});
}

// Has the next run's rows of a head, in the scan's order, fetched in this one.
template <class T, class AnyView>
void AddAhead(const AnyView& view, int64_t b, int64_t h, const Tokens& now,
              ScanAhead& ahead) {
  const int64_t row = now.reverse ? now.first - 1 : now.first + now.count;
  const int64_t rows = now.reverse ? row + 1 : view.len - row;
  if (row < 0 || rows <= 0) return;
  constexpr auto kBytes = static_cast<int64_t>(sizeof(T));
  ahead.Add(reinterpret_cast<const char*>(view.template Row<T>(b, h, row)),
            (now.reverse ? -1 : 1) * view.row_stride * kBytes,
            view.dim * kBytes, std::min(rows, kScanRun));
}

// A run of zeros, for a state that fades while nothing is written.
void ZeroRun(const ScanRows<float>& rows, int64_t count) {
  for (int64_t t = 0; t < count; ++t)
    std::fill_n(rows.At(0, t), rows.stride, 0.0f);
}

Interval ColumnsOf(Interval panels, int64_t columns) {
  return {panels.begin * kScanPanel,
          std::min(columns, panels.end * kScanPanel)};
}

// Kernels can work on the caller's own rows of whole vectors.
bool IsPlainRow(const ConstView& view) {
  return view.dtype == DType::kF32 && view.dim % kScanPad == 0;
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
const float* FillDecay(const ScanSpec& spec, int64_t kv, float* to) {
  if (spec.decay.empty()) return nullptr;
  std::fill_n(to, kScanRun, spec.decay[kv]);
  return to;
}

// One share of a head: out, from and to its state.
template <class T, class Map>
void ForwardTask(const ScanSpec& spec, const ScanTimeline& line,
                 const ScanCall& call, int64_t task, const ScanState& state,
                 Bytes memory) {
  Arena arena(memory);
  const ScanForwardTask at(arena, spec);
  const int64_t shares = ScanShares(spec, spec.v_dim);
  const int64_t share = task % shares, head = task / shares;
  const int64_t b = head / spec.kv_heads, kv = head % spec.kv_heads;
  const int64_t group = ScanGroup(spec), first_head = kv * group;

  if (share == 0)
    for (int64_t g = 0; g < group; ++g)
      ZeroRows<T>(call.out, b, first_head + g, {0, line.FirstQuery()});

  const Interval panels = ScanShare(spec.v_dim, share, shares);
  const Interval columns = ColumnsOf(panels, spec.v_dim);
  ScanAhead ahead;
  ScanRun run;
  run.ahead = &ahead;
  run.rows = spec.qk_dim;
  run.columns = spec.v_dim;
  run.panel_begin = panels.begin;
  run.panel_end = panels.end;
  run.query = ReadOnly(at.query);
  run.key = ReadOnly(at.key);
  run.decay = FillDecay(spec, kv, at.decay);
  if (IsNormalised(spec)) {
    run.factor = at.factor;
    run.epsilon = spec.epsilon / spec.scale;
  } else {
    run.scale = spec.scale;
  }
  ForStretches(line, ScanRunLength(spec), false, [&](const ScanStretch& s) {
    const Tokens keys{s.begin, s.count},
        queries{s.begin - line.offset, s.count};
    run.count = s.count;
    run.readers = s.queries ? static_cast<int>(group) : 0;
    run.writers = s.keys || run.decay != nullptr ? 1 : 0;
    if (s.keys) {
      LoadRows<Map, T>(call.k, b, kv, keys, at.key, 0);
      if (IsPlainRow(call.v)) {
        run.value = OwnRows<const float>(call.v, b, kv, s.begin);
      } else {
        LoadRows<IdentityMap, T>(call.v, b, kv, keys, at.value, 0);
        run.value = ReadOnly(at.value);
      }
    } else if (run.writers > 0) {
      ZeroRun(at.key, s.count);
      ZeroRun(at.value, s.count);
      run.value = ReadOnly(at.value);
    }
    const bool own = IsPlainRow(call.out);
    if (s.queries) {
      for (int64_t g = 0; g < group; ++g)
        LoadRows<Map, T>(call.q, b, first_head + g, queries, at.query, g);
      run.out =
          own ? OwnRows<float>(call.out, b, first_head, queries.first) : at.out;
    }
    ahead.Clear();
    AddAhead<T>(call.k, b, kv, keys, ahead);
    AddAhead<T>(call.v, b, kv, keys, ahead);
    for (int64_t g = 0; g < group; ++g) {
      AddAhead<T>(call.q, b, first_head + g, queries, ahead);
      AddAhead<T>(call.out, b, first_head + g, queries, ahead);
    }
    ahead.Share(TileCalls(run));
    ScanOneRun(run, at.scratch, state);
    for (int64_t g = 0; g < run.readers; ++g) {
      if (!own)
        StoreRows<IdentityMap, T>(at.out, at.out, g, queries, columns, call.out,
                                  b, first_head + g);
      if (call.factor != nullptr && share == 0 && run.factor != nullptr)
        std::copy_n(run.factor + g * kScanRun, s.count,
                    call.factor +
                        (b * spec.q_heads + first_head + g) * call.q.len +
                        queries.first);
    }
  });
}

// What both backward tasks load of a stretch.
template <class T, class Map>
void LoadBackward(const ScanSpec& spec, const ScanBackwardCall& call, int64_t b,
                  int64_t kv, const ScanStretch& s, const Tokens& keys,
                  const Tokens& queries, const ScanBackwardTask& at) {
  const ScanCall& forward = call.forward;
  const bool last = IsNormalised(spec);
  const int64_t group = ScanGroup(spec);
  if (s.keys) {
    LoadRows<Map, T>(forward.k, b, kv, keys, at.key, 0);
    LoadRows<IdentityMap, T>(forward.v, b, kv, keys, at.value, 0);
    for (int64_t t = 0; t < s.count && last; ++t) {
      float* const row = at.value.At(0, t);
      std::fill(row + spec.v_dim, row + at.value.stride, 0.0f);
      row[spec.v_dim] = 1;
    }
  }
  if (!s.queries) return;
  for (int64_t g = 0; g < group; ++g) {
    const int64_t h = kv * group + g;
    LoadRows<Map, T>(forward.q, b, h, queries, at.query, g);
    const float* const factor =
        last ? forward.factor + (b * spec.q_heads + h) * forward.q.len
             : nullptr;
    for (int64_t t = 0; t < s.count; ++t) {
      const int64_t row = queries.Row(t);
      LoadGradient(call.dout.Row<T>(b, h, row), call.out.Row<T>(b, h, row),
                   spec.v_dim, factor ? factor[row] : spec.scale, last,
                   at.gradient.At(g, t));
    }
  }
}

// The next run's rows of all that backward reads.
template <class T>
void AddBackwardAhead(const ScanSpec& spec, const ScanBackwardCall& call,
                      int64_t b, int64_t kv, const Tokens& keys,
                      const Tokens& queries, ScanAhead& ahead) {
  const int64_t group = ScanGroup(spec);
  ahead.Clear();
  AddAhead<T>(call.forward.k, b, kv, keys, ahead);
  AddAhead<T>(call.forward.v, b, kv, keys, ahead);
  for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
    AddAhead<T>(call.forward.q, b, h, queries, ahead);
    AddAhead<T>(call.dout, b, h, queries, ahead);
    if (IsNormalised(spec)) AddAhead<T>(call.out, b, h, queries, ahead);
  }
}

template <class T, class Map>
void QueryTask(const ScanSpec& spec, const ScanTimeline& line,
               const ScanBackwardCall& call, int64_t task, Bytes memory) {
  const int64_t shares = ScanShares(spec, spec.qk_dim);
  const int64_t share = task % shares, head = task / shares;
  const int64_t b = head / spec.kv_heads, kv = head % spec.kv_heads;
  const int64_t group = ScanGroup(spec), first_head = kv * group;
  const Interval panels = ScanShare(spec.qk_dim, share, shares);
  Arena arena(memory);
  const ScanBackwardTask at(arena, spec, panels.size(), 0, 0);
  at.dq.Clear();
  if (share == 0)
    for (int64_t g = 0; g < group; ++g)
      ZeroRows<T>(call.dq, b, first_head + g, {0, line.FirstQuery()});

  ScanAhead ahead;
  ScanRun run;
  run.ahead = &ahead;
  run.rows = at.width;
  run.columns = spec.qk_dim;
  run.panel_begin = panels.begin;
  run.panel_end = panels.end;
  run.query = ReadOnly(at.gradient);
  run.key = ReadOnly(at.value);
  run.value = ReadOnly(at.key);
  run.out = at.out;
  run.decay = FillDecay(spec, kv, at.decay);
  ForStretches(line, ScanRunLength(spec), false, [&](const ScanStretch& s) {
    const Tokens keys{s.begin, s.count},
        queries{s.begin - line.offset, s.count};
    LoadBackward<T, Map>(spec, call, b, kv, s, keys, queries, at);
    run.count = s.count;
    run.readers = s.queries ? static_cast<int>(group) : 0;
    run.writers = s.keys || run.decay != nullptr ? 1 : 0;
    if (!s.keys && run.writers > 0) {
      ZeroRun(at.value, s.count);
      ZeroRun(at.key, s.count);
    }
    AddBackwardAhead<T>(spec, call, b, kv, keys, queries, ahead);
    AddAhead<T>(call.dq, b, first_head, queries, ahead);
    ahead.Share(TileCalls(run));
    ScanOneRun(run, at.scratch, at.dq);
    for (int64_t g = 0; g < run.readers; ++g)
      StoreRows<Map, T>(at.out, at.query, g, queries,
                        ColumnsOf(panels, spec.qk_dim), call.dq, b,
                        first_head + g);
  });
}

template <class T, class Map>
void KeyTask(const ScanSpec& spec, const ScanTimeline& line,
             const ScanBackwardCall& call, int64_t task, Bytes memory) {
  const int64_t shares = ScanShares(spec, std::max(spec.qk_dim, spec.v_dim));
  const int64_t share = task % shares, head = task / shares;
  const int64_t b = head / spec.kv_heads, kv = head % spec.kv_heads;
  const Interval k_panels = ScanShare(spec.qk_dim, share, shares);
  const Interval v_panels = ScanShare(spec.v_dim, share, shares);
  Arena arena(memory);
  const ScanBackwardTask at(arena, spec, 0, k_panels.size(), v_panels.size());
  at.dk.Clear();
  at.dv.Clear();
  if (share == 0) {
    ZeroRows<T>(call.dk, b, kv, {line.keys, call.dk.len});
    ZeroRows<T>(call.dv, b, kv, {line.keys, call.dv.len});
  }

  ScanAhead ahead;
  ScanRun dk;
  dk.ahead = &ahead;
  dk.rows = at.width;
  dk.columns = spec.qk_dim;
  dk.panel_begin = k_panels.begin;
  dk.panel_end = k_panels.end;
  dk.query = ReadOnly(at.value);
  dk.key = ReadOnly(at.gradient);
  dk.value = ReadOnly(at.query);
  dk.out = at.out;
  dk.decay = FillDecay(spec, kv, at.decay);
  ScanRun dv = dk;
  dv.rows = spec.qk_dim;
  dv.columns = spec.v_dim;
  dv.panel_begin = v_panels.begin;
  dv.panel_end = v_panels.end;
  dv.query = ReadOnly(at.key);
  dv.key = ReadOnly(at.query);
  dv.value = ReadOnly(at.gradient);
  ForStretches(line, ScanRunLength(spec), true, [&](const ScanStretch& s) {
    const Tokens keys{s.begin, s.count, true};
    const Tokens queries{s.begin - line.offset, s.count, true};
    LoadBackward<T, Map>(spec, call, b, kv, s, keys, queries, at);
    dk.count = dv.count = s.count;
    dk.readers = dv.readers = s.keys ? 1 : 0;
    dk.writers = dv.writers = s.queries  ? static_cast<int>(ScanGroup(spec))
                              : dk.decay ? 1
                                         : 0;
    if (!s.queries && dk.writers > 0) {
      ZeroRun(at.gradient, s.count);
      ZeroRun(at.query, s.count);
    }
    AddBackwardAhead<T>(spec, call, b, kv, keys, queries, ahead);
    AddAhead<T>(call.dk, b, kv, keys, ahead);
    AddAhead<T>(call.dv, b, kv, keys, ahead);
    ahead.Share(TileCalls(dk) + TileCalls(dv));
    if (!k_panels.empty()) {
      ScanOneRun(dk, at.scratch, at.dk);
      if (s.keys)
        StoreRows<Map, T>(at.out, at.key, 0, keys,
                          ColumnsOf(k_panels, spec.qk_dim), call.dk, b, kv);
    }
    if (v_panels.empty()) return;
    const bool own = IsPlainRow(call.dv);
    dv.out =
        own && s.keys
            ? OwnRows<float>(call.dv, b, kv, s.begin + s.count - 1).Reversed()
            : at.out;
    ScanOneRun(dv, at.scratch, at.dv);
    if (s.keys && !own)
      StoreRows<IdentityMap, T>(at.out, at.out, 0, keys,
                                ColumnsOf(v_panels, spec.v_dim), call.dv, b,
                                kv);
  });
}

// Calls task with the element type and the feature map of a spec.
template <class F>
void Specialise(const ScanSpec& spec, F task) {
  const auto with_map = [&](auto element) {
    if (spec.feature == FeatureMap::kEluPlusOne)
      task(element, EluPlusOneMap());
    else
      task(element, IdentityMap());
  };
  if (spec.dtype == DType::kF32)
    with_map(float());
  else
    with_map(BF16());
}

void AnyForwardTask(const ScanSpec& spec, const ScanTimeline& line,
                    const ScanCall& call, int64_t task, const ScanState& state,
                    Bytes memory) {
  Specialise(spec, [&](auto element, auto map) {
    ForwardTask<decltype(element), decltype(map)>(spec, line, call, task, state,
                                                  memory);
  });
}

void AnyBackwardTask(const ScanSpec& spec, const ScanTimeline& line,
                     const ScanBackwardCall& call, bool keys, int64_t task,
                     Bytes memory) {
  Specialise(spec, [&](auto element, auto map) {
    if (keys)
      KeyTask<decltype(element), decltype(map)>(spec, line, call, task, memory);
    else
      QueryTask<decltype(element), decltype(map)>(spec, line, call, task,
                                                  memory);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(AnyForwardTask);
HWY_EXPORT(AnyBackwardTask);

// Bytes of what `layout` takes from an arena.
template <class F>
size_t CountBytes(F layout) {
  Arena count;
  layout(count);
  return count.used();
}

size_t ForwardTaskBytes(const ScanSpec& spec) {
  return CountBytes([&](Arena& a) { ScanForwardTask(a, spec); });
}

size_t StateBytes(const ScanSpec& spec, int64_t share) {
  return CountBytes([&](Arena& a) { TakeForwardState(a, spec, share); });
}

// Of the shares before one.
size_t StateOffset(const ScanSpec& spec, int64_t share) {
  size_t bytes = 0;
  for (int64_t s = 0; s < share; ++s) bytes += StateBytes(spec, s);
  return bytes;
}

size_t LargestState(const ScanSpec& spec) {
  size_t bytes = 0;
  for (int64_t s = 0; s < ScanShares(spec, spec.v_dim); ++s)
    bytes = std::max(bytes, StateBytes(spec, s));
  return bytes;
}

size_t BackwardTaskBytes(const ScanSpec& spec) {
  const int64_t k = ScanPanels(spec.qk_dim), v = ScanPanels(spec.v_dim);
  return std::max(
      CountBytes([&](Arena& a) { ScanBackwardTask(a, spec, k, 0, 0); }),
      CountBytes([&](Arena& a) { ScanBackwardTask(a, spec, 0, k, v); }));
}

int64_t ForwardTasks(const ScanSpec& spec) {
  return spec.batch * spec.kv_heads * ScanShares(spec, spec.v_dim);
}

}  // namespace

ScanTimeline MakeScanTimeline(Mask mask, int64_t q_len, int64_t kv_len) {
  ScanTimeline line;
  line.queries = q_len;
  if (mask == Mask::kNone) {
    line.offset = kv_len;
    line.keys = q_len > 0 ? kv_len : 0;
  } else {
    line.offset = mask == Mask::kCausal ? kv_len - q_len : 0;
    line.keys = q_len > 0 ? std::min(kv_len, line.offset + q_len) : 0;
  }
  return line;
}

int64_t ScanRunLength(const ScanSpec& spec) {
  constexpr int64_t kFloats = int64_t{96} << 10;
  const int64_t row =
      (ScanGroup(spec) + 1) * (ScanRoundUp(spec.qk_dim, kScanPad) +
                               ScanRoundUp(spec.v_dim + 1, kScanPad));
  int64_t tokens = kScanRun;
  while (tokens * row > kFloats && tokens % (2 * kScanTile) == 0) tokens /= 2;
  return tokens;
}

size_t ScanForwardScratch(const ScanSpec& spec, int slots) {
  return static_cast<size_t>(slots) *
         (ForwardTaskBytes(spec) + LargestState(spec));
}

void ScanForward(const ScanSpec& spec, const ScanCall& call, Bytes scratch,
                 Exec& exec) {
  const ScanTimeline line = MakeScanTimeline(spec.mask, call.q.len, call.k.len);
  const size_t task_bytes = ForwardTaskBytes(spec);
  const size_t slot_bytes = task_bytes + LargestState(spec);
  exec.For(ForwardTasks(spec), [&](int64_t task, int slot) {
    const Bytes memory =
        scratch.subspan(static_cast<size_t>(slot) * slot_bytes, slot_bytes);
    Arena arena(memory.subspan(task_bytes));
    const ScanState state =
        TakeForwardState(arena, spec, task % ScanShares(spec, spec.v_dim));
    state.Clear();
    HWY_DYNAMIC_DISPATCH(AnyForwardTask)
    (spec, line, call, task, state, memory);
  });
}

size_t ScanStateBytes(const ScanSpec& spec) {
  return static_cast<size_t>(spec.batch * spec.kv_heads) *
         StateOffset(spec, ScanShares(spec, spec.v_dim));
}

size_t ScanExtendScratch(const ScanSpec& spec, int slots) {
  return static_cast<size_t>(slots) * ForwardTaskBytes(spec);
}

void ScanExtend(const ScanSpec& spec, const ScanCall& call, Bytes state,
                Bytes scratch, Exec& exec) {
  const ScanTimeline line =
      MakeScanTimeline(Mask::kCausal, call.q.len, call.k.len);
  const size_t slot_bytes = ForwardTaskBytes(spec);
  const int64_t shares = ScanShares(spec, spec.v_dim);
  const size_t head_bytes = StateOffset(spec, shares);
  exec.For(ForwardTasks(spec), [&](int64_t task, int slot) {
    Arena arena(state.subspan(static_cast<size_t>(task / shares) * head_bytes +
                              StateOffset(spec, task % shares)));
    const ScanState own = TakeForwardState(arena, spec, task % shares);
    HWY_DYNAMIC_DISPATCH(AnyForwardTask)
    (spec, line, call, task, own,
     scratch.subspan(static_cast<size_t>(slot) * slot_bytes, slot_bytes));
  });
}

size_t ScanBackwardScratch(const ScanSpec& spec, int slots) {
  return static_cast<size_t>(slots) * BackwardTaskBytes(spec);
}

void ScanBackward(const ScanSpec& spec, const ScanBackwardCall& call,
                  Bytes scratch, Exec& exec) {
  const ScanTimeline line =
      MakeScanTimeline(spec.mask, call.forward.q.len, call.forward.k.len);
  const size_t slot_bytes = BackwardTaskBytes(spec);
  const int64_t heads = spec.batch * spec.kv_heads;
  // The longer tasks first.
  const int64_t key_tasks =
      heads * ScanShares(spec, std::max(spec.qk_dim, spec.v_dim));
  const int64_t query_tasks = heads * ScanShares(spec, spec.qk_dim);
  exec.For(key_tasks + query_tasks, [&](int64_t task, int slot) {
    const bool keys = task < key_tasks;
    HWY_DYNAMIC_DISPATCH(AnyBackwardTask)
    (spec, line, call, keys, keys ? task : task - key_tasks,
     scratch.subspan(static_cast<size_t>(slot) * slot_bytes, slot_bytes));
  });
}

}  // namespace saccade
#endif  // HWY_ONCE
