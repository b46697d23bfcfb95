// The scan engine's backward pass. With f the factor that a row of out was
// multiplied by, it is three scans of forward's kernel:
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
#define HWY_TARGET_INCLUDE "engine/scan_backward.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "engine/scan_task-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

// What both backward tasks load of a stretch.
template <class T, class Map>
void LoadBackward(const ScanSpec& spec, const ScanTimeline& line,
                  const ScanBackwardCall& call, int64_t b, int64_t kv,
                  const ScanStretch& s, const Tokens& keys,
                  const Tokens& queries, const ScanBackwardTask& at) {
  const ScanCall& forward = call.forward;
  const bool last = IsNormalised(spec);
  const int64_t group = ScanGroup(spec);
  if (s.keys) {
    LoadFeatures<Map, T>(spec, forward.k, b, kv, keys, 0, at.key, 0);
    LoadRows<IdentityMap, T>(forward.v, b, kv, keys, at.value, 0);
    for (int64_t t = 0; t < s.count && last; ++t) {
      float* const row = at.value.At(0, t);
      std::fill(row + spec.v_dim, row + at.value.stride, 0.0f);
      row[spec.v_dim] = 1;
    }
  }
  if (!s.queries) return;
  const float most = ClampedFactor(spec);
  for (int64_t g = 0; g < group; ++g) {
    const int64_t h = kv * group + g;
    LoadFeatures<Map, T>(spec, forward.q, b, h, queries, line.query_position,
                         at.query, g);
    const float* const factor =
        last ? forward.factor + (b * spec.q_heads + h) * forward.q.len
             : nullptr;
    for (int64_t t = 0; t < s.count; ++t) {
      const int64_t row = queries.Row(t);
      LoadGradient(call.dout.Row<T>(b, h, row), call.out.Row<T>(b, h, row),
                   spec.v_dim, factor ? factor[row] : spec.scale, last,
                   at.gradient.At(g, t));
      // A clamped denominator is a constant.
      if (IsClamped(spec) && factor[row] >= most)
        at.gradient.At(g, t)[spec.v_dim] = 0;
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
  const int64_t shares = ScanShares(spec, ScanFeatures(spec));
  const int64_t share = task % shares, head = task / shares;
  const int64_t b = head / spec.kv_heads, kv = head % spec.kv_heads;
  const int64_t group = ScanGroup(spec), first_head = kv * group;
  const Interval panels = ScanShare(ScanFeatures(spec), share, shares);
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
  run.columns = ScanFeatures(spec);
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
    LoadBackward<T, Map>(spec, line, call, b, kv, s, keys, queries, at);
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
      StoreFeatures<Map, T>(spec, at.out, at.query, g, queries,
                            line.query_position, panels, call.dq, b,
                            first_head + g);
  });
}

template <class T, class Map>
void KeyTask(const ScanSpec& spec, const ScanTimeline& line,
             const ScanBackwardCall& call, int64_t task, Bytes memory) {
  const int64_t shares =
      ScanShares(spec, std::max(ScanFeatures(spec), spec.v_dim));
  const int64_t share = task % shares, head = task / shares;
  const int64_t b = head / spec.kv_heads, kv = head % spec.kv_heads;
  const Interval k_panels = ScanShare(ScanFeatures(spec), share, shares);
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
  dk.columns = ScanFeatures(spec);
  dk.panel_begin = k_panels.begin;
  dk.panel_end = k_panels.end;
  dk.query = ReadOnly(at.value);
  dk.key = ReadOnly(at.gradient);
  dk.value = ReadOnly(at.query);
  dk.out = at.out;
  dk.decay = FillDecay(spec, kv, at.decay);
  ScanRun dv = dk;
  dv.rows = ScanFeatures(spec);
  dv.columns = spec.v_dim;
  dv.panel_begin = v_panels.begin;
  dv.panel_end = v_panels.end;
  dv.query = ReadOnly(at.key);
  dv.key = ReadOnly(at.query);
  dv.value = ReadOnly(at.gradient);
  ForStretches(line, ScanRunLength(spec), true, [&](const ScanStretch& s) {
    const Tokens keys{s.begin, s.count, true};
    const Tokens queries{s.begin - line.offset, s.count, true};
    LoadBackward<T, Map>(spec, line, call, b, kv, s, keys, queries, at);
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
        StoreFeatures<Map, T>(spec, at.out, at.key, 0, keys, 0, k_panels,
                              call.dk, b, kv);
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

HWY_EXPORT(AnyBackwardTask);

size_t BackwardTaskBytes(const ScanSpec& spec) {
  const int64_t k = ScanPanels(ScanFeatures(spec)), v = ScanPanels(spec.v_dim);
  return std::max(
      ScanBytes([&](Arena& a) { ScanBackwardTask(a, spec, k, 0, 0); }),
      ScanBytes([&](Arena& a) { ScanBackwardTask(a, spec, 0, k, v); }));
}

}  // namespace

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
      heads * ScanShares(spec, std::max(ScanFeatures(spec), spec.v_dim));
  const int64_t query_tasks = heads * ScanShares(spec, ScanFeatures(spec));
  exec.For(key_tasks + query_tasks, [&](int64_t task, int slot) {
    const bool keys = task < key_tasks;
    HWY_DYNAMIC_DISPATCH(AnyBackwardTask)
    (spec, line, call, keys, keys ? task : task - key_tasks,
     scratch.subspan(static_cast<size_t>(slot) * slot_bytes, slot_bytes));
  });
}

}  // namespace saccade
#endif  // HWY_ONCE
