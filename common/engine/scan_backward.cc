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

// What both tasks of a head have in common. Of features that are divided by
// their sums z (SoftmaxMap), queries' q' = phi(q) / z and w = q' dphi(q), the
// gradient of the sums' logarithms, go from one task to the other: dphi(k)_j
// lacks the sum of w_i over the queries i that see it.
template <class T, class Map>
class BackwardTask {
 public:
  BackwardTask(const ScanSpec& spec, const ScanTimeline& line,
               const ScanBackwardCall& call, int64_t head, float* ratios)
      : spec_(spec),
        line_(line),
        call_(call),
        b_(head / spec.kv_heads),
        kv_(head % spec.kv_heads),
        group_(ScanGroup(spec)),
        ratios_(ratios) {}

 protected:
  int64_t Head(int64_t g) const { return kv_ * group_ + g; }
  Tokens Keys(const ScanStretch& s, bool reverse) const {
    return {s.begin, s.count, reverse};
  }
  Tokens Queries(const ScanStretch& s, bool reverse) const {
    return {s.begin - line_.offset, s.count, reverse};
  }
  // q' of a query's row, then w.
  float* Ratio(int64_t g, int64_t row) const {
    const int64_t width = ScanRoundUp(ScanFeatures(spec_), kScanPad);
    return ratios_ +
           ((b_ * spec_.q_heads + Head(g)) * call_.forward.q.len + row) * 2 *
               width;
  }

  // Whether the scans of a stretch work on the caller's own rows.
  bool InPlace(const ScanStretch& s) const {
    return s.keys && s.queries && !IsNormalised(spec_) &&
           IsOwn<Map>(call_.forward.q) && IsOwn<Map>(call_.forward.k) &&
           IsOwn<IdentityMap>(call_.forward.v) &&
           IsOwn<IdentityMap>(call_.dout);
  }

  // All that a stretch has but keys' features.
  void Load(const ScanStretch& s, bool reverse,
            const ScanBackwardTask& at) const {
    const bool last = IsNormalised(spec_);
    if (s.keys) {
      LoadRows<IdentityMap, T>(call_.forward.v, b_, kv_, Keys(s, reverse),
                               at.value, 0);
      for (int64_t t = 0; t < s.count && last; ++t) {
        float* const row = at.value.At(0, t);
        std::fill(row + spec_.v_dim, row + at.value.stride, 0.0f);
        row[spec_.v_dim] = 1;
      }
    }
    if (!s.queries) return;
    for (int64_t g = 0; g < group_; ++g) LoadGradients(s, reverse, g, at);
  }

  // What scans multiply onto what they write; states hold plain gradients.
  float Scale() const { return IsNormalised(spec_) ? 1.0f : spec_.scale; }

  // Of factor dout, with the denominator's column.
  void LoadGradients(const ScanStretch& s, bool reverse, int64_t g,
                     const ScanBackwardTask& at) const {
    const bool last = IsNormalised(spec_);
    const Tokens queries = Queries(s, reverse);
    const float most = ClampedFactor(spec_);
    const int64_t h = Head(g);
    const float* const factor =
        last ? call_.forward.factor +
                   (b_ * spec_.q_heads + h) * call_.forward.q.len
             : nullptr;
    for (int64_t t = 0; t < s.count; ++t) {
      const int64_t row = queries.Row(t);
      LoadGradient(call_.dout.Row<T>(b_, h, row), call_.out.Row<T>(b_, h, row),
                   spec_.v_dim, factor ? factor[row] : 1, last,
                   at.gradient.At(g, t));
      // A clamped denominator is a constant.
      if (IsClamped(spec_) && factor[row] >= most)
        at.gradient.At(g, t)[spec_.v_dim] = 0;
    }
  }

  void LoadQueries(const ScanStretch& s, bool reverse,
                   const ScanBackwardTask& at) const {
    for (int64_t g = 0; s.queries && g < group_; ++g)
      LoadFeatures<Map, T>(spec_, call_.forward.q, b_, Head(g),
                           Queries(s, reverse), line_.query_position, at.query,
                           g, {at.random, at.scratch});
  }

  // The next run's rows of all that backward reads.
  void AddAll(const ScanStretch& s, bool reverse, RowsAhead& ahead) const {
    const Tokens queries = Queries(s, reverse), keys = Keys(s, reverse);
    ahead.Clear();
    AddAhead(call_.forward.k, b_, kv_, keys, ahead);
    AddAhead(call_.forward.v, b_, kv_, keys, ahead);
    for (int64_t g = 0; g < group_; ++g) {
      AddAhead(call_.forward.q, b_, Head(g), queries, ahead);
      AddAhead(call_.dout, b_, Head(g), queries, ahead);
      if (IsNormalised(spec_)) AddAhead(call_.out, b_, Head(g), queries, ahead);
    }
  }

  const ScanSpec& spec_;
  const ScanTimeline& line_;
  const ScanBackwardCall& call_;
  const int64_t b_, kv_, group_;
  float* const ratios_;
};

// dq of a share of the features.
template <class T, class Map>
class QueryTask : BackwardTask<T, Map> {
  using Base = BackwardTask<T, Map>;
  using Base::b_, Base::kv_, Base::group_, Base::spec_, Base::line_,
      Base::call_, Base::Head, Base::Keys, Base::Queries, Base::Ratio;

 public:
  QueryTask(const ScanSpec& spec, const ScanTimeline& line,
            const ScanBackwardCall& call, int64_t task, Bytes memory,
            float* ratios)
      : Base(spec, line, call, task / QueryShares(spec), ratios),
        share_(task % QueryShares(spec)),
        panels_(ScanShare(ScanFeatures(spec), share_, QueryShares(spec))),
        arena_(memory),
        at_(arena_, spec, panels_.size(), 0, 0) {
    run_.ahead = &ahead_;
    run_.rows = at_.width;
    run_.columns = ScanFeatures(spec);
    run_.panel_begin = panels_.begin;
    run_.panel_end = panels_.end;
    run_.scale = Base::Scale();
    run_.decay = FillDecay(spec, kv_, at_.decay);
  }

  void Run() {
    at_.dq.Clear();
    if (share_ == 0)
      for (int64_t g = 0; g < group_; ++g)
        ZeroRows(call_.dq, b_, Head(g), {0, line_.FirstQuery()});
    at_.frame.Clear();
    if constexpr (Map::kFramed) at_.frame.Start();
    ForStretches(line_, ScanRunLength(spec_), false, [&](const ScanStretch& s) {
      if constexpr (Map::kFramed)
        InFrames(s);
      else
        OneRun(s);
    });
  }

 private:
  void InFrames(ScanStretch s) {
    while (s.count > 0) {
      ScanStretch piece = s;
      if (s.keys) {
        const KeyFrames<T, Map> keys(spec_, at_.frame, at_.key, room_);
        keys.Load(call_.forward.k, b_, kv_, Keys(s, false));
        if (keys.Move(0, at_.fade)) {
          FadeColumns(at_.fade, run_.rows, panels_.size(), at_.dq);
          FadeSums(at_.fade, at_.frame);
        }
        piece.count = keys.Held(0, s.count);
        keys.ToFeatures(0, piece.count);
      }
      OneRun(piece);
      s.begin += piece.count;
      s.count -= piece.count;
    }
  }

  void OneRun(const ScanStretch& s) {
    const Tokens queries = Queries(s, false);
    const bool in_place = Base::InPlace(s) && IsPlainRow(call_.dq);
    in_place ? SetInPlace(s) : LoadRun(s);
    run_.count = s.count;
    run_.readers = s.queries ? static_cast<int>(group_) : 0;
    run_.writers = s.keys || run_.decay != nullptr ? 1 : 0;
    if (!s.keys && run_.writers > 0) {
      ZeroRun(at_.value, 0, s.count);
      ZeroRun(at_.key, 0, s.count);
    }
    Base::AddAll(s, false, ahead_);
    AddAhead(call_.dq, b_, Head(0), queries, ahead_);
    ahead_.Share(TileCalls(run_));
    ScanOneRun(run_, at_.scratch, at_.dq);
    if constexpr (Map::kSums) DivideGradients(s);
    for (int64_t g = 0; g < run_.readers && !in_place; ++g)
      StoreFeatures<Map, T>(spec_, at_.out, at_.query, g, queries,
                            line_.query_position, panels_, call_.forward.q,
                            call_.dq, b_, Head(g), room_);
  }

  void SetInPlace(const ScanStretch& s) {
    const int64_t row = Queries(s, false).first, head = Head(0);
    run_.query = OwnRows<const float>(call_.dout, b_, head, row);
    run_.key = OwnRows<const float>(call_.forward.v, b_, kv_, s.begin);
    run_.value = OwnRows<const float>(call_.forward.k, b_, kv_, s.begin);
    run_.out = OwnRows<float>(call_.dq, b_, head, row);
  }

  void LoadRun(const ScanStretch& s) {
    if constexpr (!Map::kFramed)
      if (s.keys)
        LoadFeatures<Map, T>(spec_, call_.forward.k, b_, kv_, Keys(s, false), 0,
                             at_.key, 0, room_);
    Base::Load(s, false, at_);
    Base::LoadQueries(s, false, at_);
    run_.query = ReadOnly(at_.gradient);
    run_.key = ReadOnly(at_.value);
    run_.value = ReadOnly(at_.key);
    run_.out = at_.out;
  }

  // Of gradients by features over their sums, those by the features.
  void DivideGradients(const ScanStretch& s) {
    const int64_t n = ScanFeatures(spec_), width = ScanRoundUp(n, kScanPad);
    for (int64_t t = 0; t < s.count; ++t) {
      if (s.keys) AddToSums(at_.key.At(0, t), at_.frame);
      for (int64_t g = 0; g < run_.readers; ++g) {
        float* const out = at_.out.At(g, t);
        float* const ratio = Ratio(g, Queries(s, false).Row(t));
        DivideBySums(out, n, at_.frame, out);
        DivideBySums(at_.query.At(g, t), n, at_.frame, ratio);
        Multiply(ratio, out, width, ratio + width);
      }
    }
  }

  const int64_t share_;
  const Interval panels_;
  Arena arena_;
  const ScanBackwardTask at_;
  const FeatureRoom room_{at_.random, at_.scratch};
  RowsAhead ahead_;
  ScanRun run_;
};

// dk and dv of a share of the features and of the values' columns.
template <class T, class Map>
class KeyTask : BackwardTask<T, Map> {
  using Base = BackwardTask<T, Map>;
  using Base::b_, Base::kv_, Base::group_, Base::spec_, Base::line_,
      Base::call_, Base::Keys, Base::Queries, Base::Ratio;

 public:
  KeyTask(const ScanSpec& spec, const ScanTimeline& line,
          const ScanBackwardCall& call, int64_t task, Bytes memory,
          float* ratios)
      : Base(spec, line, call, task / KeyShares(spec), ratios),
        share_(task % KeyShares(spec)),
        k_panels_(KeyPanels(spec, share_)),
        v_panels_(ValuePanels(spec, share_)),
        arena_(memory),
        at_(arena_, spec, 0, k_panels_.size(), v_panels_.size()) {
    dk_.ahead = &ahead_;
    dk_.rows = at_.width;
    dk_.columns = ScanFeatures(spec);
    dk_.panel_begin = k_panels_.begin;
    dk_.panel_end = k_panels_.end;
    dk_.scale = Base::Scale();
    dk_.decay = FillDecay(spec, kv_, at_.decay);
    dv_ = dk_;
    dv_.rows = ScanFeatures(spec);
    dv_.columns = spec.v_dim;
    dv_.panel_begin = v_panels_.begin;
    dv_.panel_end = v_panels_.end;
  }

  void Run() {
    at_.dk.Clear();
    at_.dv.Clear();
    at_.frame.Clear();
    if (share_ == 0) {
      ZeroRows(call_.dk, b_, kv_, {line_.keys, call_.dk.len});
      ZeroRows(call_.dv, b_, kv_, {line_.keys, call_.dv.len});
    }
    ForStretches(line_, ScanRunLength(spec_), true, [&](const ScanStretch& s) {
      if constexpr (Map::kFramed) {
        if (s.keys) return InFrames(s);
      }
      OneRun(s, at_.key);
    });
  }

 private:
  // Features as forward made them, then the pieces from the last to the first.
  void InFrames(const ScanStretch& s) {
    std::copy_n(
        call_.forward.frames +
            ScanFrameAt(spec_, line_, b_, kv_, s.begin, call_.forward.k.len),
        at_.frame.width, at_.frame.at);
    const KeyFrames<T, Map> keys(spec_, at_.frame, at_.key, room_);
    keys.Load(call_.forward.k, b_, kv_, Keys(s, false));
    int64_t begins[kScanRun + 1];
    int pieces = 0;
    for (int64_t t = 0; t < s.count; ++pieces) {
      begins[pieces] = t;
      keys.Move(t, at_.moves.At(0, pieces));
      const int64_t held = keys.Held(t, s.count - t);
      keys.ToFeatures(t, held);
      t += held;
    }
    begins[pieces] = s.count;
    while (pieces-- > 0) {
      ScanStretch piece = s;
      piece.begin += begins[pieces];
      piece.count = begins[pieces + 1] - begins[pieces];
      OneRun(piece, {at_.key.At(0, begins[pieces + 1] - 1), -at_.key.stride,
                     at_.key.head});
      const float* const fade = at_.moves.At(0, pieces);
      FadeColumns(fade + k_panels_.begin * kScanPanel, dk_.rows,
                  k_panels_.size(), at_.dk);
      FadeRows(fade, dv_.rows, v_panels_.size(), at_.dv);
      FadeSums(fade, at_.frame);
    }
  }

  // `key`: features in the order of the scan.
  void OneRun(const ScanStretch& s, const ScanRows<float>& key) {
    const bool in_place = Base::InPlace(s) && IsPlainRow(call_.dk);
    in_place ? SetInPlace(s) : LoadRun(s, key);
    dk_.count = dv_.count = s.count;
    dk_.readers = dv_.readers = s.keys ? 1 : 0;
    dk_.writers = dv_.writers = s.queries   ? static_cast<int>(group_)
                                : dk_.decay ? 1
                                            : 0;
    if (!s.queries && dk_.writers > 0) {
      ZeroRun(at_.gradient, 0, s.count);
      ZeroRun(at_.query, 0, s.count);
    }
    Base::AddAll(s, true, ahead_);
    AddAhead(call_.dk, b_, kv_, Keys(s, true), ahead_);
    AddAhead(call_.dv, b_, kv_, Keys(s, true), ahead_);
    ahead_.Share(TileCalls(dk_) + TileCalls(dv_));
    if (!k_panels_.empty()) {
      ScanOneRun(dk_, at_.scratch, at_.dk);
      if constexpr (Map::kSums) TakeSums(s);
      if (s.keys && !in_place)
        StoreFeatures<typename Map::Key, T>(
            spec_, at_.out, key, 0, Keys(s, true), 0, k_panels_,
            call_.forward.k, call_.dk, b_, kv_, room_);
    }
    if (!v_panels_.empty()) Values(s);
  }

  void SetInPlace(const ScanStretch& s) {
    const int64_t key = s.begin + s.count - 1, query = Queries(s, true).Row(0);
    const int64_t head = kv_ * group_;
    const auto gradient =
        OwnRows<const float>(call_.dout, b_, head, query).Reversed();
    const auto queries =
        OwnRows<const float>(call_.forward.q, b_, head, query).Reversed();
    dk_.query = OwnRows<const float>(call_.forward.v, b_, kv_, key).Reversed();
    dk_.key = dv_.value = gradient;
    dk_.value = dv_.key = queries;
    dk_.out = OwnRows<float>(call_.dk, b_, kv_, key).Reversed();
    dv_.query = OwnRows<const float>(call_.forward.k, b_, kv_, key).Reversed();
  }

  // `key`: features in the order of the scan.
  void LoadRun(const ScanStretch& s, const ScanRows<float>& key) {
    if constexpr (!Map::kFramed)
      if (s.keys)
        LoadFeatures<Map, T>(spec_, call_.forward.k, b_, kv_, Keys(s, true), 0,
                             at_.key, 0, room_);
    Base::Load(s, true, at_);
    if constexpr (Map::kSums)
      LoadRatios(s);
    else
      Base::LoadQueries(s, true, at_);
    dk_.query = ReadOnly(at_.value);
    dk_.key = dv_.value = ReadOnly(at_.gradient);
    dk_.value = dv_.key = ReadOnly(at_.query);
    dk_.out = at_.out;
    dv_.query = ReadOnly(key);
  }

  void Values(const ScanStretch& s) {
    const bool own = IsPlainRow(call_.dv);
    dv_.out = own && s.keys
                  ? OwnRows<float>(call_.dv, b_, kv_, s.begin + s.count - 1)
                        .Reversed()
                  : at_.out;
    ScanOneRun(dv_, at_.scratch, at_.dv);
    if (s.keys && !own)
      StoreRows<IdentityMap, T>(at_.out, at_.out, 0, Keys(s, true),
                                ColumnsOf(v_panels_, spec_.v_dim), call_.dv, b_,
                                kv_);
  }

  void LoadRatios(const ScanStretch& s) {
    const Tokens queries = Queries(s, true);
    for (int64_t g = 0; s.queries && g < group_; ++g)
      for (int64_t t = 0; t < s.count; ++t)
        std::copy_n(Ratio(g, queries.Row(t)), at_.query.stride,
                    at_.query.At(g, t));
  }

  // Adds w of queries to the frame's sums, and takes the sums from dphi(k).
  void TakeSums(const ScanStretch& s) {
    for (int64_t t = 0; t < s.count; ++t) {
      for (int64_t g = 0; s.queries && g < group_; ++g)
        AddToSums(Ratio(g, Queries(s, true).Row(t)) + at_.query.stride,
                  at_.frame);
      if (s.keys) SubtractSums(at_.frame, at_.out.At(0, t));
    }
  }

  const int64_t share_;
  const Interval k_panels_, v_panels_;
  Arena arena_;
  const ScanBackwardTask at_;
  const FeatureRoom room_{at_.random, at_.scratch};
  RowsAhead ahead_;
  ScanRun dk_, dv_;
};

void AnyBackwardTask(const ScanSpec& spec, const ScanTimeline& line,
                     const ScanBackwardCall& call, bool keys, int64_t task,
                     Bytes memory, float* ratios) {
  Specialise(spec, [&](auto element, auto map) {
    using T = decltype(element);
    using Map = decltype(map);
    if (keys)
      KeyTask<T, Map>(spec, line, call, task, memory, ratios).Run();
    else
      QueryTask<T, Map>(spec, line, call, task, memory, ratios).Run();
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

// What a task of queries leaves for those of keys.
size_t RatioBytes(const ScanSpec& spec, int64_t q_len) {
  if (!HasSums(spec)) return 0;
  return ScanBytes([&](Arena& a) {
    a.Take<float>(spec.batch * spec.q_heads * q_len * 2 *
                  ScanRoundUp(ScanFeatures(spec), kScanPad));
  });
}

}  // namespace

size_t ScanBackwardScratch(const ScanSpec& spec, int slots, int64_t q_len) {
  return static_cast<size_t>(slots) * BackwardTaskBytes(spec) +
         RatioBytes(spec, q_len);
}

void ScanBackward(const ScanSpec& spec, const ScanBackwardCall& call,
                  Bytes scratch, Exec& exec) {
  const ScanTimeline line =
      MakeScanTimeline(spec.mask, call.forward.q.len, call.forward.k.len);
  const size_t ratio_bytes = RatioBytes(spec, call.forward.q.len);
  float* const ratios = reinterpret_cast<float*>(scratch.data());
  const size_t slot_bytes = BackwardTaskBytes(spec);
  const int64_t heads = spec.batch * spec.kv_heads;
  const int64_t key_tasks = heads * KeyShares(spec);
  const int64_t query_tasks = heads * QueryShares(spec);
  const auto run = [&](bool keys, int64_t task, int slot) {
    HWY_DYNAMIC_DISPATCH(AnyBackwardTask)
    (spec, line, call, keys, task,
     scratch.subspan(ratio_bytes + static_cast<size_t>(slot) * slot_bytes,
                     slot_bytes),
     ratios);
  };
  if (HasSums(spec)) {
    exec.For(query_tasks,
             [&](int64_t task, int slot) { run(false, task, slot); });
    exec.For(key_tasks, [&](int64_t task, int slot) { run(true, task, slot); });
    return;
  }
  // The longer tasks first.
  exec.For(key_tasks + query_tasks, [&](int64_t task, int slot) {
    const bool keys = task < key_tasks;
    run(keys, keys ? task : task - key_tasks, slot);
  });
}

}  // namespace saccade
#endif  // HWY_ONCE
