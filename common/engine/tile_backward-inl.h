// The register tiles of the backward pass: five products and what hides in
// their first and last steps.
//
// Keys lie in the lanes of scores, so that P and dS, stored once, serve as the
// broadcast factor of three products, along either axis, and never need to be
// transposed; only K and V do, once a block of keys:
//
//   product       scalars from   vectors from
//   S = q K^T     q              K^T (times scale log2 e)
//   dP = dO V^T   dO             V^T (times scale)
//   dV += P^T dO  P              dO
//   dK += dS^T q  dS             q
//   dQ += dS K    dS             K
//
// S starts at -lse log2 e and dP at -D scale: then P = exp2(S), dS = P dP.
// Where a softcap or the caller's mask act, S starts at 0 and all is added at
// its end.
//
// Products come in two arithmetics, a template argument A: f32
// (tile_backward_block.cc) and the CPU's bf16 dot product
// (tile_backward_pairs.cc), which takes the elements of both factors in pairs:
//
//   In              what rows of q, dO and K hold
//   kTogether       elements a step multiplies, 1 or 2
//   kFolds          K^T and V^T carry their factors; else S and dP are
//                   multiplied as they end, and start at 0
//   kDSRow          from one row of `ds_rows` to the next, in floats
//   MulAdd, Broadcast(row, step)
//   Read, Steps     the caller's rows, and these as steps of rows
//   Transpose       K^T and V^T
//   SetScores, Round   where the last three products find P and dS, and P and
//                   dS to there
//   Rounded         one of them as they read it
#if defined(SACCADE_COMMON_ENGINE_TILE_BACKWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_BACKWARD_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_BACKWARD_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_BACKWARD_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/tile_backward.h"
#include "engine/tile_fetch.h"
#include "simd/bf16-inl.h"
#include "simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::backward {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = saccade::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));

// A register tile is 4 rows by kVecs vectors: 16 accumulators of 32 registers,
// 12 of 16; without FMA a product needs a register of its own.
constexpr int kTile = 4;
#if HWY_TARGET <= HWY_AVX3
constexpr int kVecs = 4;
#elif HWY_TARGET == HWY_AVX2
constexpr int kVecs = 3;
#else
constexpr int kVecs = 2;
#endif

// Calls part(kVectors constant, first) for pieces of at most kVecs of `n`
// vectors, as equal as can be.
template <class F>
HWY_INLINE void ForVectors(int n, F part) {
  for (int first = 0; first < n;) {
    const int pieces = (n - first + kVecs - 1) / kVecs;
    const int size = (n - first + pieces - 1) / pieces;
    switch (size) {
      case 1:
        part(std::integral_constant<int, 1>(), first);
        break;
      case 2:
        part(std::integral_constant<int, 2>(), first);
        break;
#if HWY_TARGET <= HWY_AVX2
      case 3:
        part(std::integral_constant<int, 3>(), first);
        break;
#endif
#if HWY_TARGET <= HWY_AVX3
      case 4:
        part(std::integral_constant<int, 4>(), first);
        break;
#endif
    }
    first += size;
  }
}

// Factors to broadcast: from rows, of which those past `last` repeat it, or
// from a block of scores along either axis.
template <class A>
struct FromRows {
  using In = typename A::In;
  HWY_INLINE FromRows(Rows<const In> rows, int first, int last) {
    for (int r = 0; r < kTile; ++r) row[r] = rows[std::min(first + r, last)];
  }
  HWY_INLINE V operator()(int r, ptrdiff_t k) const {
    return A::Broadcast(row[r], k);
  }
  const In* row[kTile];
};
template <ptrdiff_t kRow, ptrdiff_t kStep>
struct FromScores {
  HWY_INLINE V operator()(int r, ptrdiff_t k) const {
    return hn::Set(d, at[r * kRow + k * kStep]);
  }
  const float* at;
};

// acc[r][.] += sum_k a(r, k) b[k][.]
template <class A, int kV, class From>
HWY_INLINE void Multiply(V (&acc)[kTile][kV], const From& a,
                         const float* HWY_RESTRICT b, ptrdiff_t b_row,
                         ptrdiff_t n) {
  HWY_UNROLL(1)
  for (ptrdiff_t k = 0; k < n; ++k) {
    V x[kV];
    HWY_UNROLL(4)
    for (int j = 0; j < kV; ++j)
      x[j] = hn::LoadU(d, b + k * b_row + j * kLanes);
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) {
      const V y = a(r, k);
      HWY_UNROLL(4)
      for (int j = 0; j < kV; ++j) acc[r][j] = A::MulAdd(y, x[j], acc[r][j]);
    }
  }
}

// What one query block against one key block needs, beside its cells and its
// operands.
struct Block {
  int n_queries, n_keys;
  int qk_dim, v_dim;
  float *p, *ds;          // [query][kScoreRow]
  const float* start;     // of S: -lse log2 e, or 0
  const float* start_dp;  // of dP: -D scale, or 0
  const float* inverse;   // 1 / norm, relu squared
  float slope;            // ALiBi's, times log2 e (softmax) and step
  float distance;         // from key 0 to query 0 of the block
  ptrdiff_t apart;        // the same
  const float* bias;      // of a table, at distance 0
  float softcap;          // times log2 e, or 0
  bool masked;            // p holds the caller's mask, times log2 e
  float* dbias;           // where dS is summed by distance, at 0; or null
  Rows<float> dq, dk, dv;
  Fetches* fetches;  // to be asked for meanwhile
};

// Steps of n elements.
template <class A>
HWY_INLINE int StepsOf(int n) {
  return (n + A::kTogether - 1) / A::kTogether;
}

// And with operands. A step is kTogether elements, as many bits as a float.
template <class A>
struct BlockOf : Block {
  Rows<const typename A::In> q, dout, k;  // whole steps may be read
  const float *kt, *vt;                   // [panel][steps][kPanel]
  float factor, factor_dp;                // of S and dP, where not folded in
  // Of the last three products: steps of queries or keys, whole vectors of
  // columns.
  Rows<const float> q_steps, dout_steps, k_steps;
  float *p_steps, *ds_steps;  // [step of queries][kScoreRow]
  float* ds_rows;             // [query][A::kDSRow], steps of keys
};

// kAny: either, and a softcap and the caller's mask, as the block says.
enum class Bias : uint8_t { kNone, kSlope, kTable, kAny };

// By its weight.
HWY_INLINE hn::Mask<D> Visible(V weight) {
  const hn::RebindToUnsigned<D> du;
  return hn::RebindMask(
      d, hn::Ne(hn::BitCast(du, weight), hn::Set(du, 0x80000000u)));
}
inline bool Visible(float weight) {
  return weight != 0 || !std::signbit(weight);
}

struct Softmax {
  static HWY_INLINE void Finish(V s, const Block&, int, float* p, float*) {
    hn::Store(saccade::HWY_NAMESPACE::Exp2(d, s), d, p);
  }
};
// F = relu(s) / norm waits in ds: ds = scale 2 F dA, p = relu(s) F. A NaN stays
// one.
struct ReluSquared {
  static HWY_INLINE void Finish(V s, const Block& b, int row, float* p,
                                float* ds) {
    const V w = hn::IfThenZeroElse(hn::Lt(s, hn::Zero(d)), s);
    const V f = hn::Mul(w, hn::Set(d, b.inverse[row]));
    hn::Store(f, d, ds);
    hn::Store(hn::Mul(w, f), d, p);
  }
};

// What a table adds to the scores of a row against a vector of keys.
HWY_INLINE V TableBias(const Block& b, int row, int key) {
  // Keys lie in the lanes, the nearest last.
  const ptrdiff_t nearest = b.apart + row - key - kLanes + 1;
  return hn::Reverse(d, hn::LoadU(d, b.bias + nearest));
}

// And ALiBi.
HWY_INLINE V AddSlope(V s, const Block& b, int row, int key) {
  const V apart = hn::Sub(hn::Set(d, b.distance + static_cast<float>(row)),
                          hn::Iota(d, static_cast<float>(key)));
  return hn::NegMulAdd(hn::Set(d, b.slope), hn::Abs(apart), s);
}

// Weights from products times scale log2 e; with a softcap its slope times the
// weight waits in ds.
HWY_INLINE void FinishAny(V s, const Block& b, int row, int key, float* p,
                          float* ds) {
  V slope = hn::Set(d, 1.0f);
  if (b.softcap > 0) {
    const V share = hn::Mul(s, hn::Set(d, 1 / b.softcap));
    const saccade::HWY_NAMESPACE::TanhAndSlope<D> t(d, share);
    s = hn::Mul(hn::Set(d, b.softcap), t.value);
    slope = t.slope;
  }
  s = hn::Add(s, hn::Set(d, b.start[row]));
  if (b.bias != nullptr) s = hn::Add(s, TableBias(b, row, key));
  if (b.slope != 0) s = AddSlope(s, b, row, key);
  auto seen = hn::FirstN(d, kLanes);
  if (b.masked) {
    const V mask = hn::Load(d, p);
    seen = hn::Ne(mask, hn::Set(d, -HUGE_VALF));
    s = hn::Add(s, mask);
  }
  const V weight = hn::IfThenElse(seen, saccade::HWY_NAMESPACE::Exp2(d, s),
                                  hn::Set(d, kHiddenWeight));
  hn::Store(weight, d, p);
  if (b.softcap > 0) hn::Store(hn::Mul(slope, weight), d, ds);
}

// Weights of queries begin .. end - 1 against kV vectors of keys, the first at
// `key`.
template <class A, class Kind, Bias kBias, int kV>
HWY_NOINLINE void Scores(const BlockOf<A>& b, int key, int begin, int end) {
  const int steps = StepsOf<A>(b.qk_dim);
  const float* kt = b.kt + key / kPanel * steps * kPanel + key % kPanel;
  // Where the score of row r against vector j starts.
  const auto begins = [&](int r, int j) HWY_ATTR {
    if constexpr (kBias == Bias::kAny) return hn::Zero(d);
    const V start = hn::Set(d, b.start[r]);
    if constexpr (kBias == Bias::kTable)
      return hn::Add(start, TableBias(b, r, key + j * kLanes));
    if constexpr (kBias == Bias::kSlope)
      return AddSlope(start, b, r, key + j * kLanes);
    return start;
  };
  for (int r0 = begin; r0 < end; r0 += kTile) {
    b.fetches->Next();
    V acc[kTile][kV];
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) HWY_UNROLL(4)
    for (int j = 0; j < kV; ++j)
      acc[r][j] = A::kFolds ? begins(r0 + r, j) : hn::Zero(d);
    Multiply<A>(acc, FromRows<A>(b.q, r0, end - 1), kt, kPanel, steps);
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) {
      const ptrdiff_t at = (r0 + r) * kScoreRow + key;
      HWY_UNROLL(4)
      for (int j = 0; j < kV; ++j) {
        float* const p = b.p + at + j * kLanes;
        float* const ds = b.ds + at + j * kLanes;
        V s = acc[r][j];
        if constexpr (!A::kFolds)
          s = hn::MulAdd(s, hn::Set(d, b.factor), begins(r0 + r, j));
        if constexpr (kBias == Bias::kAny)
          FinishAny(s, b, r0 + r, key + j * kLanes, p, ds);
        else
          Kind::Finish(s, b, r0 + r, p, ds);
      }
    }
  }
}

// dS = factor dP; `factor` is P, or what waits in dS.
template <class A, int kV>
HWY_NOINLINE void ScoreGradients(const BlockOf<A>& b, const float* factor,
                                 int key, int begin, int end) {
  const int steps = StepsOf<A>(b.v_dim);
  const float* vt = b.vt + key / kPanel * steps * kPanel + key % kPanel;
  for (int r0 = begin; r0 < end; r0 += kTile) {
    b.fetches->Next();
    V acc[kTile][kV];
    const auto start = [&](int r)
                           HWY_ATTR { return hn::Set(d, b.start_dp[r0 + r]); };
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) HWY_UNROLL(4)
    for (int j = 0; j < kV; ++j) acc[r][j] = A::kFolds ? start(r) : hn::Zero(d);
    Multiply<A>(acc, FromRows<A>(b.dout, r0, end - 1), vt, kPanel, steps);
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) {
      const ptrdiff_t at = (r0 + r) * kScoreRow + key;
      HWY_UNROLL(4)
      for (int j = 0; j < kV; ++j) {
        V dp = acc[r][j];
        if constexpr (!A::kFolds)
          dp = hn::MulAdd(dp, hn::Set(d, b.factor_dp), start(r));
        hn::Store(hn::Mul(dp, hn::Load(d, factor + at + j * kLanes)), d,
                  b.ds + at + j * kLanes);
      }
    }
  }
}

// to[0 .. n - 1] += v; no element beyond is touched.
HWY_INLINE void AddSome(V v, float* to, int n) {
  if (n >= kLanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, to), v), d, to);
    return;
  }
#if HWY_TARGET <= HWY_AVX2
  const auto some = hn::FirstN(d, static_cast<size_t>(n));
  hn::BlendedStore(hn::Add(hn::MaskedLoad(some, d, to), v), some, d, to);
#else
  HWY_ALIGN float all[kLanes];
  hn::Store(v, d, all);
  for (int c = 0; c < n; ++c) to[c] += all[c];
#endif
}

// to[r][first ..] += sum_k a(r, k) b[k][first ..] for kV vectors of columns, of
// which `columns` exist; rows 0 .. rows - 1. What is there is added last: the
// next tile need not wait until it comes from a far cache.
template <class A, int kV, ptrdiff_t kRow, ptrdiff_t kStep>
HWY_NOINLINE void AddProduct(const float* a, Rows<const float> b, int n,
                             Rows<float> to, int rows, int first, int columns,
                             Fetches& fetches) {
  const int last = columns - (kV - 1) * kLanes;
  for (int r0 = 0; r0 < rows; r0 += kTile) {
    fetches.Next();
    V acc[kTile][kV];
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) HWY_UNROLL(4)
    for (int j = 0; j < kV; ++j) acc[r][j] = hn::Zero(d);
    Multiply<A>(acc, FromScores<kRow, kStep>{a + r0 * kRow}, b.data + first,
                b.stride, n);
    // Unrolled, or the tile would go through memory.
    HWY_UNROLL(4)
    for (int r = 0; r < kTile; ++r) {
      if (r0 + r >= rows) continue;
      float* into = to[r0 + r] + first;
      HWY_UNROLL(4)
      for (int j = 0; j + 1 < kV; ++j) {
        float* at = into + j * kLanes;
        hn::StoreU(hn::Add(hn::LoadU(d, at), acc[r][j]), d, at);
      }
      AddSome(acc[r][kV - 1], into + (kV - 1) * kLanes, last);
    }
  }
}

// dbias[i - j] += dS_ij for queries begin .. end - 1 of the block and keys from
// `key`, `n` of them.
HWY_INLINE void AddByDistance(const Block& b, int begin, int end, int key,
                              int n) {
  const auto seen =
      hn::Not(hn::FirstN(d, static_cast<size_t>(std::max(0, kLanes - n))));
  for (int r = begin; r < end; ++r) {
    float* const at = b.dbias + b.apart + r - key - kLanes + 1;
    const V ds = hn::Reverse(d, hn::Load(d, b.ds + r * kScoreRow + key));
    hn::StoreU(hn::Add(hn::LoadU(d, at), hn::IfThenElseZero(seen, ds)), d, at);
  }
}

// Sets what is not visible in a cell to 0, whatever it holds.
HWY_INLINE void ClearUnseen(const Cells& cells, int query, int key, int end,
                            float* p, float* ds) {
  const hn::RebindToSigned<D> di;
  for (int v = 0; v < kStrip; v += kLanes) {
    const auto low = hn::Load(di, cells.low.data() + key + v);
    const auto high = hn::Load(di, cells.high.data() + key + v);
    for (int r = query; r < end; ++r) {
      const auto row = hn::Set(di, r);
      const auto seen =
          hn::RebindMask(d, hn::AndNot(hn::Lt(row, low), hn::Lt(row, high)));
      const ptrdiff_t at = r * kScoreRow + key + v;
      const V weight = hn::Load(d, p + at);
      hn::Store(hn::IfThenElseZero(seen, weight), d, p + at);
      // What the caller's mask hides stays kHiddenWeight in p.
      const auto visible = cells.hides ? hn::And(seen, Visible(weight)) : seen;
      hn::Store(hn::IfThenElseZero(visible, hn::Load(d, ds + at)), d, ds + at);
    }
  }
}

// y += x a
template <class T>
HWY_INLINE void AddScaled(float x, const T* a, int n, float* y) {
  const auto add = [&](auto tag, int c) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(tag, x), simd::LoadAs(tag, a + c),
                          hn::LoadU(tag, y + c)),
               tag, y + c);
  };
  int c = 0;
  for (; c + kLanes <= n; c += kLanes) add(d, c);
  for (; c < n; ++c) add(hn::CappedTag<float, 1>(), c);
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace saccade::backward
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_BACKWARD_INL_H_
