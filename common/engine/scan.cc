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
class ForwardTask {
 public:
  ForwardTask(const ScanSpec& spec, const ScanTimeline& line,
              const ScanCall& call, int64_t task, const ScanCarry& carry,
              Bytes memory)
      : spec_(spec),
        line_(line),
        call_(call),
        shares_(ScanShares(spec, spec.v_dim)),
        share_(task % shares_),
        b_(task / shares_ / spec.kv_heads),
        kv_(task / shares_ % spec.kv_heads),
        group_(ScanGroup(spec)),
        panels_(ScanShare(spec.v_dim, share_, shares_)),
        arena_(memory),
        at_(arena_, spec),
        state_(carry.state),
        frame_(carry.frame) {
    run_.ahead = &ahead_;
    run_.rows = ScanFeatures(spec);
    run_.columns = spec.v_dim;
    run_.panel_begin = panels_.begin;
    run_.panel_end = panels_.end;
    run_.query = ReadOnly(at_.query);
    run_.key = ReadOnly(at_.key);
    run_.decay = FillDecay(spec, kv_, at_.decay);
    if (IsNormalised(spec)) {
      run_.factor = at_.factor;
      (IsClamped(spec) ? run_.least : run_.epsilon) = spec.epsilon / spec.scale;
    } else {
      run_.scale = spec.scale;
    }
  }

  void Run() {
    if (share_ == 0)
      for (int64_t g = 0; g < group_; ++g)
        ZeroRows(call_.out, b_, Head(g), {0, line_.FirstQuery()});
    if constexpr (Map::kFramed) frame_.Start();
    ForStretches(line_, ScanRunLength(spec_), false, [&](const ScanStretch& s) {
      if constexpr (Map::kFramed)
        InFrames(s);
      else
        OneRun(s, s.count);
    });
  }

 private:
  int64_t Head(int64_t g) const { return kv_ * group_ + g; }
  Tokens Queries(const ScanStretch& s) const {
    return {s.begin - line_.offset, s.count};
  }

  // A stretch in pieces, at whose beginnings the frame moves.
  void InFrames(ScanStretch s) {
    if (call_.frames != nullptr && share_ == 0 && s.keys)
      std::copy_n(frame_.at, frame_.width,
                  call_.frames +
                      ScanFrameAt(spec_, line_, b_, kv_, s.begin, call_.k.len));
    while (s.count > 0) {
      ScanStretch piece = s;
      int64_t tokens = s.count;
      if (s.keys) {
        const KeyFrames<T, Map> keys(spec_, frame_, at_.key, room_);
        keys.Load(call_.k, b_, kv_, {s.begin, s.count});
        if (keys.Move(0, at_.fade)) {
          FadeRows(at_.fade, run_.rows, panels_.size(), state_);
          FadeSums(at_.fade, frame_);
        }
        piece.count = keys.Held(0, s.count);
        keys.ToFeatures(0, piece.count);
        // What a later token does to the frame must not show: a tile that it
        // cuts stays a tile.
        tokens = std::min(ScanRoundUp(piece.count, kScanTile), s.count);
      }
      run_.stretch = s.count;
      OneRun(piece, tokens);
      s.begin += piece.count;
      s.count -= piece.count;
    }
  }

  // The tokens of s; `tokens` with those added that say nothing.
  void OneRun(const ScanStretch& s, int64_t tokens) {
    run_.count = tokens;
    run_.readers = s.queries ? static_cast<int>(group_) : 0;
    run_.writers = s.keys || run_.decay != nullptr ? 1 : 0;
    LoadKeys(s, tokens);
    const bool own = IsPlainRow(call_.out) && tokens == s.count;
    const Tokens queries = Queries(s);
    if (s.queries) {
      if (IsOwn<Map>(call_.q) && tokens == s.count) {
        run_.query = OwnRows<const float>(call_.q, b_, Head(0), queries.first);
      } else {
        run_.query = ReadOnly(at_.query);
        for (int64_t g = 0; g < group_; ++g)
          LoadFeatures<Map, T>(spec_, call_.q, b_, Head(g), queries,
                               call_.first + line_.query_position, at_.query, g,
                               room_);
      }
      run_.out =
          own ? OwnRows<float>(call_.out, b_, Head(0), queries.first) : at_.out;
    }
    if constexpr (Map::kSums) DivideQueries(s);
    FetchNext(s);
    ScanOneRun(run_, at_.scratch, state_);
    for (int64_t g = 0; g < run_.readers; ++g) {
      if (!own)
        StoreRows<IdentityMap, T>(at_.out, at_.out, g, queries,
                                  ColumnsOf(panels_, spec_.v_dim), call_.out,
                                  b_, Head(g));
      if (call_.factor != nullptr && share_ == 0 && run_.factor != nullptr)
        std::copy_n(run_.factor + g * kScanRun, s.count,
                    call_.factor +
                        (b_ * spec_.q_heads + Head(g)) * call_.q.len +
                        queries.first);
    }
  }

  void LoadKeys(const ScanStretch& s, int64_t tokens) {
    run_.key = ReadOnly(at_.key);
    if (s.keys) {
      const Tokens keys{s.begin, s.count};
      if (IsOwn<Map>(call_.k) && tokens == s.count)
        run_.key = OwnRows<const float>(call_.k, b_, kv_, s.begin);
      else if constexpr (!Map::kFramed)
        LoadFeatures<Map, T>(spec_, call_.k, b_, kv_, keys, call_.first,
                             at_.key, 0, room_);
      if (IsPlainRow(call_.v) && tokens == s.count) {
        run_.value = OwnRows<const float>(call_.v, b_, kv_, s.begin);
        return;
      }
      LoadRows<IdentityMap, T>(call_.v, b_, kv_, keys, at_.value, 0);
      ZeroRun(at_.key, s.count, tokens);
      ZeroRun(at_.value, s.count, tokens);
    } else if (run_.writers > 0) {
      ZeroRun(at_.key, 0, tokens);
      ZeroRun(at_.value, 0, tokens);
    }
    run_.value = ReadOnly(at_.value);
  }

  // Features of queries over the sums of those of keys, one by one.
  void DivideQueries(const ScanStretch& s) {
    for (int64_t t = 0; t < s.count; ++t) {
      if (s.keys) AddToSums(at_.key.At(0, t), frame_);
      for (int64_t g = 0; g < run_.readers; ++g)
        DivideBySums(at_.query.At(g, t), run_.rows, frame_, at_.query.At(g, t));
    }
  }

  void FetchNext(const ScanStretch& s) {
    const Tokens keys{s.begin, s.count}, queries = Queries(s);
    ahead_.Clear();
    AddAhead(call_.k, b_, kv_, keys, ahead_);
    AddAhead(call_.v, b_, kv_, keys, ahead_);
    for (int64_t g = 0; g < group_; ++g) {
      AddAhead(call_.q, b_, Head(g), queries, ahead_);
      AddAhead(call_.out, b_, Head(g), queries, ahead_);
    }
    ahead_.Share(TileCalls(run_));
  }

  const ScanSpec& spec_;
  const ScanTimeline& line_;
  const ScanCall& call_;
  const int64_t shares_, share_, b_, kv_, group_;
  const Interval panels_;
  Arena arena_;
  const ScanForwardTask at_;
  const FeatureRoom room_{at_.random, at_.scratch};
  const ScanState& state_;
  const ScanFrame& frame_;
  RowsAhead ahead_;
  ScanRun run_;
};

void AnyForwardTask(const ScanSpec& spec, const ScanTimeline& line,
                    const ScanCall& call, int64_t task, const ScanCarry& carry,
                    Bytes memory) {
  Specialise(spec, [&](auto element, auto map) {
    ForwardTask<decltype(element), decltype(map)>(spec, line, call, task, carry,
                                                  memory)
        .Run();
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
  return ScanBytes([&](Arena& a) { ScanCarry(a, spec, share); });
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

int64_t ScanFrameFloats(const ScanSpec& spec, int64_t kv_len) {
  return spec.batch * spec.kv_heads * ScanFrames(spec, kv_len) *
         ScanFrameWidth(spec);
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
    const ScanCarry carry(arena, spec, task % ScanShares(spec, spec.v_dim));
    carry.Clear();
    HWY_DYNAMIC_DISPATCH(AnyForwardTask)
    (spec, line, call, task, carry, memory);
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
    const ScanCarry own(arena, spec, task % shares);
    HWY_DYNAMIC_DISPATCH(AnyForwardTask)
    (spec, line, call, task, own,
     scratch.subspan(static_cast<size_t>(slot) * slot_bytes, slot_bytes));
  });
}

}  // namespace saccade
#endif  // HWY_ONCE
