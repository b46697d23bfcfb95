// The scan engine's forward pass and decoding: one scan, from and to a state.
#include "engine/scan.h"

#include "engine/scan_passes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/scan.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "engine/scan_task-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

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
  run.rows = ScanFeatures(spec);
  run.columns = spec.v_dim;
  run.panel_begin = panels.begin;
  run.panel_end = panels.end;
  run.query = ReadOnly(at.query);
  run.key = ReadOnly(at.key);
  run.decay = FillDecay(spec, kv, at.decay);
  if (IsNormalised(spec)) {
    run.factor = at.factor;
    (IsClamped(spec) ? run.least : run.epsilon) = spec.epsilon / spec.scale;
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
      LoadFeatures<Map, T>(spec, call.k, b, kv, keys, call.first, at.key, 0);
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
        LoadFeatures<Map, T>(spec, call.q, b, first_head + g, queries,
                             call.first + line.query_position, at.query, g);
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
void AnyForwardTask(const ScanSpec& spec, const ScanTimeline& line,
                    const ScanCall& call, int64_t task, const ScanState& state,
                    Bytes memory) {
  Specialise(spec, [&](auto element, auto map) {
    ForwardTask<decltype(element), decltype(map)>(spec, line, call, task, state,
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

size_t ForwardTaskBytes(const ScanSpec& spec) {
  return ScanBytes([&](Arena& a) { ScanForwardTask(a, spec); });
}

size_t StateBytes(const ScanSpec& spec, int64_t share) {
  return ScanBytes([&](Arena& a) { TakeForwardState(a, spec, share); });
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
    line.query_position = kv_len - q_len;
  } else {
    line.offset = mask == Mask::kCausal ? kv_len - q_len : 0;
    line.keys = q_len > 0 ? std::min(kv_len, line.offset + q_len) : 0;
    line.query_position = line.offset;
  }
  return line;
}

int64_t ScanRunLength(const ScanSpec& spec) {
  constexpr int64_t kFloats = int64_t{96} << 10;
  const int64_t row =
      (ScanGroup(spec) + 1) * (ScanRoundUp(ScanFeatures(spec), kScanPad) +
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

}  // namespace saccade
#endif  // HWY_ONCE
