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

#include "engine/tile_forward.h"
#include "engine/tile_products-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kInf = std::numeric_limits<float>::infinity();

// A Policy says what becomes of a score, and how weights are normalised:
//   kRunning  weights are 2^(score - running maximum), divided by their sum;
//             otherwise Score returns the weight itself
//   kHidden   the score of a pair that is not visible: its weight is 0
//   Policy(work), Factor()  what queries are multiplied by beforehand
//   Score(s, ahead)         ahead: i - j of lane 0, in class coordinates
//   Norm(query)             without kRunning: what out is multiplied by

// Where the rows of out stand in f32, `stride` from one query to the next.
struct Sums {
  float* at;
  int64_t stride;
};

// The tile at hand.
template <class Policy>
class Tile {
 public:
  Tile(const TileWork& work, const TileScratch& scratch)
      : w_(work),
        spec_(*work.spec),
        call_(*work.call),
        s_(scratch),
        policy_(work),
        queries_(static_cast<int>(work.queries.size())),
        vecs_((queries_ + kLanes - 1) / kLanes),
        kv_head_(work.head / (spec_.q_heads / spec_.kv_heads)),
        bf16_(spec_.dtype == DType::kBF16) {}

  void Run();
  // Public for the cutter of strips.
  void operator()(const Batch& batch);

 private:
  void LoadQueries();
  void LoadState();
  Sums SumsOf() const;
  void ForEachKey();
  Rows Pack(const ConstView& from, const Batch& batch, float* to);
  Rows RowsOf(const ConstView& from, const Strip& strip, const float* packed);
  Sight SightOf(const Batch& batch, const Strip& strip) const {
    return {batch.seen_begin + strip.start, batch.seen_end + strip.start,
            strip.first_vec};
  }
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
  const int queries_, vecs_;
  const int64_t kv_head_;
  const bool bf16_;
  // The weights of what is hidden are 0, which hides all values but NaN and
  // infinity. To look whether these came through, and then to mask products as
  // well, costs less than to mask them always; the other bits are the same.
  bool masks_ = false, careful_ = false;
};

// Rows `step` apart of a tensor, as floats in `to`, [rows][dim].
template <class T>
HWY_INLINE void GatherRows(const T* from, int64_t step, int64_t rows,
                           int64_t dim, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    ConvertRow(from + r * step, static_cast<size_t>(dim), to + r * dim);
}

// columns = factor * rows, transposed.
HWY_INLINE void LoadColumns(Rows rows, int queries, int64_t dim, float factor,
                            float* columns) {
  for (int g = 0; g < queries; g += kLanes)
    RowsToColumns(d, rows.at + g * rows.stride, rows.stride, queries - 1 - g,
                  dim, factor, columns + g, kTile);
}

template <class Policy>
void Tile<Policy>::LoadQueries() {
  const ConstView& q = call_.q;
  const int64_t step = w_.part->step * q.row_stride;
  Rows rows;
  if (bf16_) {
    GatherRows(q.Row<BF16>(w_.batch, w_.head, w_.q_row), step, queries_, q.dim,
               s_.scores);
    rows = {s_.scores, q.dim};
  } else {
    rows = {q.Row<float>(w_.batch, w_.head, w_.q_row), step};
  }
  LoadColumns(rows, queries_, q.dim, policy_.Factor(), s_.queries);
}

template <class Policy>
Sums Tile<Policy>::SumsOf() const {
  if (w_.carry.out != nullptr)
    return {w_.carry.out, w_.part->step * spec_.v_dim};
  return {call_.out.Row<float>(w_.batch, w_.head, w_.q_row),
          w_.part->step * call_.out.row_stride};
}

template <class Policy>
void Tile<Policy>::LoadState() {
  if (w_.first) {
    std::fill_n(s_.out, spec_.v_dim * kTile, 0.0f);
  } else {
    const Sums sums = SumsOf();
    LoadColumns({sums.at, sums.stride}, queries_, spec_.v_dim, 1.0f, s_.out);
  }
  if constexpr (!Policy::kRunning) return;
  std::fill_n(s_.max, kTile, kLowest);
  std::fill_n(s_.sum, kTile, 0.0f);
  if (w_.first) return;
  for (int i = 0; i < queries_; ++i) {
    s_.max[i] = w_.carry.max[i * w_.part->step];
    s_.sum[i] = w_.carry.sum[i * w_.part->step];
  }
}

template <class Policy>
void Tile<Policy>::Run() {
  LoadQueries();
  LoadState();
  ForEachKey();
  if (masks_ && !Finite()) {
    careful_ = true;
    LoadState();
    ForEachKey();
  }
  Finish();
}

template <class Policy>
void Tile<Policy>::ForEachKey() {
  const int64_t step = w_.part->step;
  // Keys of this class, and the first of them behind the gap of a cache.
  const auto up = [&](int64_t position) {
    return -FloorDiv(w_.residue - position, step);
  };
  const int64_t keys = std::max<int64_t>(0, up(call_.kv_end));
  const int64_t split =
      call_.k_split >= call_.kv_end ? keys : up(call_.k_split);
  StripCutter cutter(*w_.part, w_.queries, kShape, *s_.strips, *this);
  const auto add = [&](Interval run) {
    if (run.empty()) return;
    const int64_t row = call_.KeyRow(w_.residue + step * run.begin);
    cutter.Add(run, row, step);
  };
  w_.part->ForKeys(w_.queries, keys, [&](Interval run) {
    add({run.begin, std::min(run.end, split)});
    add({std::max(run.begin, split), run.end});
  });
  cutter.Flush();
}

// Where the rows of a strip's keys stand, once packed if need be.
template <class Policy>
Rows Tile<Policy>::RowsOf(const ConstView& from, const Strip& strip,
                          const float* packed) {
  if (bf16_) return {packed + strip.start * from.dim, from.dim};
  return {from.Row<float>(w_.batch, kv_head_, strip.row),
          w_.part->step * from.row_stride};
}

template <class Policy>
template <int kVecs>
void Tile<Policy>::Scores(const Batch& batch, const Strip& strip) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Scores<kVecs - 1>(batch, strip);
  const int at = strip.first_vec * kLanes;
  masks_ |= strip.masked;
  const auto kernel = strip.masked ? ScoreStrip<Policy, kVecs, true>
                                   : ScoreStrip<Policy, kVecs, false>;
  kernel(policy_, RowsOf(call_.k, strip, s_.keys), spec_.qk_dim,
         s_.queries + at, s_.scores + strip.start * kTile + at, s_.max + at,
         strip.keys, SightOf(batch, strip), w_.queries.begin + at - strip.key,
         *w_.fetches);
}

template <class Policy>
template <int kVecs>
void Tile<Policy>::Weights(const Strip& strip) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Weights<kVecs - 1>(strip);
  const int at = strip.first_vec * kLanes;
  Weigh<kVecs>(s_.scores + strip.start * kTile + at, s_.max + at, s_.sum + at,
               strip.keys);
}

template <class Policy>
template <int kVecs>
void Tile<Policy>::Values(const Batch& batch, const Strip& strip,
                          const float* rescale) {
  if constexpr (kVecs > 1)
    if (strip.vecs < kVecs) return Values<kVecs - 1>(batch, strip, rescale);
  const int at = strip.first_vec * kLanes;
  const Rows values = RowsOf(call_.v, strip, s_.values);
  const bool plain = !strip.masked || !careful_;
  const auto kernel =
      plain ? ValueStrip<kVecs, false> : ValueStrip<kVecs, true>;
  kernel(values, spec_.v_dim, s_.scores + strip.start * kTile + at,
         rescale ? rescale + at : nullptr, s_.out + at, strip.keys,
         SightOf(batch, strip));
}

// out *= factor
template <class Policy>
void Tile<Policy>::Rescale() {
  for (int64_t c = 0; c < spec_.v_dim; ++c)
    for (int j = 0; j < kTile; j += kLanes) {
      float* const o = s_.out + c * kTile + j;
      hn::Store(hn::Mul(hn::Load(d, s_.factor + j), hn::Load(d, o)), d, o);
    }
}

template <class Policy>
void Tile<Policy>::operator()(const Batch& batch) {
  const Strip* const end = batch.strip + batch.strips;
  for (const Strip* s = batch.strip; bf16_ && s < end; ++s) {
    const auto pack = [&](const ConstView& from, float* to) {
      GatherRows(from.Row<BF16>(w_.batch, kv_head_, s->row),
                 w_.part->step * from.row_stride, s->keys, from.dim,
                 to + s->start * from.dim);
    };
    pack(call_.k, s_.keys);
    pack(call_.v, s_.values);
  }
  if constexpr (Policy::kRunning) std::copy_n(s_.max, kTile, s_.factor);
  for (const Strip* s = batch.strip; s < end; ++s)
    Scores<kShape.vecs>(batch, *s);

  const Strip* carrier = nullptr;  // the strip that rescales out on its way
  if constexpr (Policy::kRunning) {
    for (int j = 0; j < kTile; j += kLanes) {
      const V factor =
          Exp2(d, hn::Sub(hn::Load(d, s_.factor + j), hn::Load(d, s_.max + j)));
      hn::Store(factor, d, s_.factor + j);
      hn::Store(hn::Mul(factor, hn::Load(d, s_.sum + j)), d, s_.sum + j);
    }
    for (const Strip* s = batch.strip; s < end; ++s) {
      Weights<kShape.vecs>(*s);
      if (!s->masked && carrier == nullptr) carrier = s;
    }
    if (carrier == nullptr) Rescale();
  }
  if (carrier != nullptr) Values<kShape.vecs>(batch, *carrier, s_.factor);
  for (const Strip* s = batch.strip; s < end; ++s)
    if (s != carrier) Values<kShape.vecs>(batch, *s, nullptr);
}

// Whether no sum is NaN or infinite.
template <class Policy>
bool Tile<Policy>::Finite() const {
  V zeros = hn::Zero(d);  // or NaN
  for (int64_t i = 0; i < spec_.v_dim * kTile; i += kLanes)
    zeros = hn::MulAdd(hn::Zero(d), hn::Load(d, s_.out + i), zeros);
  return hn::GetLane(hn::SumOfLanes(d, zeros)) == 0;
}

// What each query's sums are to be multiplied by; keeps or writes what belongs
// to the sums.
template <class Policy>
void Tile<Policy>::Finish() {
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
        call_.lse[(w_.batch * spec_.q_heads + w_.head) * call_.q.len +
                  w_.q_row + i * step] =
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

template <class Policy>
void Tile<Policy>::StoreRows() {
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
