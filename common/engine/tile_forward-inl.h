// One tile of the tile engine's forward pass: queries in, batches of keys
// through, one state (maximum, sum, sums of values) updated, rows of out.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_FORWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_FORWARD_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_FORWARD_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_FORWARD_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "engine/tile_floats-inl.h"
#include "engine/tile_forward.h"
#include "engine/tile_mask-inl.h"
#include "engine/tile_policies-inl.h"
#include "engine/tile_products-inl.h"
#include "engine/tile_split-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

// Where the rows of out stand in f32, `stride` from one query to the next.
struct Sums {
  float* at;
  int64_t stride;
};

// The tile at hand, of a Policy (tile_policies-inl.h) and an Arithmetic
// (tile_floats-inl.h).
template <class Policy, class Arithmetic = Floats>
class Tile {
 public:
  Tile(const TileWork& work, const TileScratch& scratch)
      : w_(work),
        spec_(*work.spec),
        call_(*work.call),
        s_(scratch),
        policy_(work),
        arithmetic_(work, scratch),
        queries_(static_cast<int>(work.queries.size())),
        vecs_(kShape.VecsOf(queries_)),
        lanes_(vecs_ * kLanes),
        bf16_(spec_.dtype == DType::kBF16) {}

  void Run();
  // Public for the cutter of strips.
  void operator()(const Batch& batch);

 private:
  void LoadState();
  Sums SumsOf() const;
  void ForEachKey();
  Sight SightOf(const Batch& batch, const Strip& strip) const {
    return {batch.seen_begin + strip.start, batch.seen_end + strip.start,
            strip.first_vec};
  }
  bool LoadMask(const Strip& strip);
  void Rescale();
  bool Finite() const;
  void Finish();
  void StoreRows();

  template <int kVecs>
  void Scores(const Batch& batch, const Strip& strip);
  template <int kVecs>
  void Weights(const Strip& strip);
  template <int kVecs>
  void Values(const Batch& batch, const Strip& strip, const float* rescale);

  const TileWork& w_;
  const TileSpec& spec_;
  const TileCall& call_;
  const TileScratch& s_;
  const Policy policy_;
  const Arithmetic arithmetic_;
  const int queries_, vecs_, lanes_;
  const bool bf16_;
  bool empty_ = false;  // nothing has been added to `out` yet
  // The weights of what is hidden are 0, which hides all values but NaN and
  // infinity. To look whether these came through, and then to mask products as
  // well, costs less than to mask them always; the other bits are the same.
  bool masks_ = Policy::kMask, careful_ = false;
};

template <class Policy, class Arithmetic>
Sums Tile<Policy, Arithmetic>::SumsOf() const {
  if (w_.carry.out != nullptr)
    return {w_.carry.out, w_.part->step * spec_.v_dim};
  return {call_.out.Row<float>(w_.batch, w_.head, w_.q_row),
          w_.part->step * call_.out.row_stride};
}

template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::LoadState() {
  empty_ = w_.first;
  if (w_.first) {
    for (int64_t c = 0; c < spec_.v_dim; ++c)
      for (int j = 0; j < lanes_; j += kLanes)
        hn::Store(hn::Zero(d), d, s_.out + c * kTile + j);
  } else {
    const Sums sums = SumsOf();
    LoadColumns({sums.at, sums.stride}, queries_, spec_.v_dim, 1.0f, s_.out);
  }
  if constexpr (!Policy::kRunning) return;
  // A sink is a key that all see, of value 0.
  const bool sink = w_.first && spec_.sinks;
  std::fill_n(s_.max, kTile,
              sink ? *call_.sinks.Row<float>(0, w_.head, 0) * kLog2E : kLowest);
  std::fill_n(s_.sum, kTile, sink ? 1.0f : 0.0f);
  if (w_.first) return;
  for (int i = 0; i < queries_; ++i) {
    s_.max[i] = w_.carry.max[i * w_.part->step];
    s_.sum[i] = w_.carry.sum[i * w_.part->step];
  }
}

template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::Run() {
  arithmetic_.LoadQueries(policy_.Factor());
  LoadState();
  ForEachKey();
  if (masks_ && !Finite()) {
    careful_ = true;
    LoadState();
    ForEachKey();
  }
  Finish();
}

template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::ForEachKey() {
  const int64_t step = w_.part->step;
  // Keys of this class, and the first of them behind the gap of a cache.
  const auto up = [&](int64_t position) {
    return -FloorDiv(w_.residue - position, step);
  };
  const int64_t keys = std::max<int64_t>(0, up(call_.kv_end));
  const int64_t split =
      call_.k_split >= call_.kv_end ? keys : up(call_.k_split);
  TileShape shape = kShape;
  shape.splits &= !Policy::kMask && arithmetic_.Splits();
  StripCutter cutter(*w_.part, w_.queries, shape, *s_.strips, *this);
  const auto add = [&](Interval run) {
    if (run.empty()) return;
    const int64_t row = call_.KeyRow(w_.residue + step * run.begin);
    cutter.Add(run, row, step);
  };
  w_.part->ForKeys(w_.queries, keys, [&](Interval run) {
    while (call_.pages != nullptr && !run.empty()) {
      const int64_t end = call_.RowsEnd(run.begin, run.end);
      add({run.begin, end});
      run.begin = end;
    }
    add({run.begin, std::min(run.end, split)});
    add({std::max(run.begin, split), run.end});
  });
  cutter.Flush();
}

template <class Policy, class Arithmetic>
template <int kVecs>
void Tile<Policy, Arithmetic>::Scores(const Batch& batch, const Strip& strip) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Scores<kVecs - 1>(batch, strip);
  if constexpr (kVecs == kShape.vecs)
    if (strip.split)
      return ScoreSplit(policy_, arithmetic_, spec_.qk_dim, s_, batch, strip,
                        w_.queries.begin - strip.key, *w_.fetches);
  const int at = strip.first_vec * kLanes;
  masks_ |= strip.masked;
  using Keys = typename Arithmetic::Keys;
  const auto kernel = strip.masked ? ScoreStrip<Policy, kVecs, true, Keys>
                                   : ScoreStrip<Policy, kVecs, false, Keys>;
  kernel(policy_, arithmetic_.KeysOf(strip), spec_.qk_dim, s_.queries + at,
         s_.scores + strip.start * kTile + at, s_.max + at, strip.keys,
         SightOf(batch, strip), w_.queries.begin + at - strip.key, *w_.fetches);
}

template <class Policy, class Arithmetic>
template <int kVecs>
void Tile<Policy, Arithmetic>::Weights(const Strip& strip) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Weights<kVecs - 1>(strip);
  const int at = strip.first_vec * kLanes;
  using Scores = decltype(policy_.Weights());
  const auto kernel =
      careful_
          ? Arithmetic::template Weigh<Policy::kRunning, kVecs, true, Scores>
          : Arithmetic::template Weigh<Policy::kRunning, kVecs, false, Scores>;
  kernel(policy_.Weights(), s_.scores + strip.start * kTile + at, s_.max + at,
         s_.sum + at, strip.keys);
}

template <class Policy, class Arithmetic>
template <int kVecs>
void Tile<Policy, Arithmetic>::Values(const Batch& batch, const Strip& strip,
                                      const float* rescale) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Values<kVecs - 1>(batch, strip, rescale);
  if constexpr (kVecs == kShape.vecs)
    if (strip.split)
      return AddSplitValues(arithmetic_, spec_.v_dim, s_, batch, strip,
                            rescale);
  const int at = strip.first_vec * kLanes;
  using Values = typename Arithmetic::Values;
  const auto kernel = (strip.masked || Policy::kMask) && careful_
                          ? ValueStrip<kVecs, true, Values>
                          : ValueStrip<kVecs, false, Values>;
  kernel(arithmetic_.ValuesOf(strip), spec_.v_dim,
         s_.scores + strip.start * kTile + at, rescale ? rescale + at : nullptr,
         s_.out + at, Arithmetic::Steps(strip.keys));
}

// The caller's mask of a strip, to where its scores are to go. Returns whether
// any pair attends.
template <class Policy, class Arithmetic>
bool Tile<Policy, Arithmetic>::LoadMask(const Strip& strip) {
  const MaskView& mask = call_.attn_mask;
  const int64_t step = w_.part->step;
  const int64_t row_step = step * mask.row_stride * SizeOf(mask.element);
  bool any = false;
  for (int v = strip.first_vec; v < strip.first_vec + strip.vecs; ++v) {
    const int at = v * kLanes;
    any |= LoadMaskColumns(
        mask, MaskAt(mask, w_.batch, w_.head, w_.q_row + at * step, strip.row),
        row_step, queries_ - 1 - at, step, strip.keys,
        s_.scores + strip.start * kTile + at, kTile);
  }
  return any;
}

// out *= factor
template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::Rescale() {
  for (int64_t c = 0; c < spec_.v_dim; ++c)
    for (int j = 0; j < lanes_; j += kLanes) {
      float* const o = s_.out + c * kTile + j;
      hn::Store(hn::Mul(hn::Load(d, s_.factor + j), hn::Load(d, o)), d, o);
    }
}

template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::operator()(const Batch& batch) {
  const Strip* const end = batch.strip + batch.strips;
  if constexpr (Policy::kMask) {
    bool any = false;
    for (const Strip* s = batch.strip; s < end; ++s) any |= LoadMask(*s);
    if (!any) return;
  }
  for (const Strip* s = batch.strip; s < end; ++s) arithmetic_.Pack(*s);
  FetchFollowing(w_, EndOf(end[-1]), *w_.fetches);
  if constexpr (Policy::kRunning) std::copy_n(s_.max, kTile, s_.factor);
  const auto held = policy_.Weights();
  if constexpr (held.kRaw) std::fill_n(s_.max, kTile, kLowest);
  for (const Strip* s = batch.strip; s < end; ++s)
    Scores<kShape.vecs>(batch, *s);

  const Strip* carrier = nullptr;  // the strip that rescales out on its way
  if constexpr (Policy::kRunning) {
    for (int j = 0; j < lanes_; j += kLanes) {
      const V before = hn::Load(d, s_.factor + j);
      V top = hn::Load(d, s_.max + j);
      if constexpr (held.kRaw) {
        top = hn::Max(before, held.Scaled(top));
        hn::Store(top, d, s_.max + j);
      }
      const V factor = Exp2(d, hn::Sub(before, top));
      hn::Store(factor, d, s_.factor + j);
      hn::Store(hn::Mul(factor, hn::Load(d, s_.sum + j)), d, s_.sum + j);
    }
  }
  for (const Strip* s = batch.strip; s < end; ++s) {
    Weights<kShape.vecs>(*s);
    if (Policy::kRunning && s->vecs == vecs_ && carrier == nullptr) carrier = s;
  }
  if (Policy::kRunning && carrier == nullptr && !empty_) Rescale();
  empty_ = false;
  if (carrier != nullptr) Values<kShape.vecs>(batch, *carrier, s_.factor);
  for (const Strip* s = batch.strip; s < end; ++s)
    if (s != carrier) Values<kShape.vecs>(batch, *s, nullptr);
}

// Whether no sum is NaN or infinite.
template <class Policy, class Arithmetic>
bool Tile<Policy, Arithmetic>::Finite() const {
  constexpr int kChains = 4;
  // Zeros, or NaN.
  V zeros[kChains] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  const auto add = [&](int64_t c, int j, V& sum) HWY_ATTR {
    sum = hn::MulAdd(hn::Zero(d), hn::Load(d, s_.out + c * kTile + j), sum);
  };
  for (int j = 0; j < lanes_; j += kLanes) {
    int64_t c = 0;
    for (; c + kChains <= spec_.v_dim; c += kChains) HWY_UNROLL(kChains)
    for (int i = 0; i < kChains; ++i) add(c + i, j, zeros[i]);
    for (; c < spec_.v_dim; ++c) add(c, j, zeros[0]);
  }
  const V sum =
      hn::Add(hn::Add(zeros[0], zeros[1]), hn::Add(zeros[2], zeros[3]));
  return hn::GetLane(hn::SumOfLanes(d, sum)) == 0;
}

// What each query's sums are to be multiplied by; keeps or writes what belongs
// to the sums.
template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::Finish() {
  const int64_t step = w_.part->step;
  std::fill_n(s_.factor, kTile, 1.0f);
  if (!w_.last) {
    for (int i = 0; Policy::kRunning && i < queries_; ++i) {
      w_.carry.max[i * step] = s_.max[i];
      w_.carry.sum[i * step] = s_.sum[i];
    }
    return StoreRows();
  }
  for (int i = 0; i < queries_; ++i) {
    if constexpr (Policy::kRunning) {
      const float sum = s_.sum[i];
      // Nothing seen: out 0, log-sum-exp -infinity.
      s_.factor[i] = sum == 0 ? 0.0f : 1 / sum;
      if (call_.lse != nullptr)
        call_.Lse(spec_, w_.batch, w_.head)[w_.q_row + i * step] =
            sum == 0 ? -kInf : s_.max[i] * kLn2 + std::log(sum);
    } else {
      s_.factor[i] = policy_.Norm(w_, w_.queries.begin + i);
    }
  }
  StoreRows();
}

// One finished row: the gate, and the dtype of out.
template <class T>
HWY_INLINE void StoreRow(const float* row, int64_t dim, const T* gate,
                         float* ungated, T* out) {
  if (ungated != nullptr) ConvertRow(row, static_cast<size_t>(dim), ungated);
  if (gate == nullptr) return ConvertRow(row, static_cast<size_t>(dim), out);
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes)
    StoreAs(d, hn::Mul(hn::LoadU(d, row + c), LoadAs(d, gate + c)), out + c);
  const hn::CappedTag<float, 1> d1;
  for (; c < dim; ++c)
    StoreAs(d1, hn::Mul(hn::LoadU(d1, row + c), LoadAs(d1, gate + c)), out + c);
}

template <class Policy, class Arithmetic>
void Tile<Policy, Arithmetic>::StoreRows() {
  const int64_t step = w_.part->step, dim = spec_.v_dim;
  const bool direct = !w_.last || (!bf16_ && !spec_.gated);
  // The scores are done with: their place holds the rows.
  Sums rows{s_.scores, dim};
  if (direct) rows = SumsOf();
  for (int g = 0; g < queries_; g += kLanes)
    ColumnsToRows(d, s_.out + g, kTile, s_.factor + g, dim,
                  rows.at + g * rows.stride, rows.stride, queries_ - 1 - g);
  if (direct) return;
  const auto finish = [&](auto type, int64_t row, const float* from) {
    using T = decltype(type);
    const bool keep = spec_.gated && call_.ungated.data != nullptr;
    StoreRow<T>(
        from, dim,
        spec_.gated ? call_.gate.Row<T>(w_.batch, w_.head, row) : nullptr,
        keep ? call_.ungated.Row<float>(w_.batch, w_.head, row) : nullptr,
        call_.out.Row<T>(w_.batch, w_.head, row));
  };
  for (int i = 0; i < queries_; ++i) {
    const int64_t row = w_.q_row + i * step;
    if (bf16_)
      finish(BF16(), row, rows.at + i * dim);
    else
      finish(float(), row, rows.at + i * dim);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_FORWARD_INL_H_
