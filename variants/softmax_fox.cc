// softmax.fox: the forgetting transformer, softmax attention whose keys fade as
// the tokens after them say.
//
//   o_i = sum_j softmax_j(scale q_i.k_j + c_i - c_j) v_j
//   c_i = x_0 + .. + x_i,   x = ln sigmoid(.)
//
// so that key j's weight is multiplied by the forget gates of tokens j + 1 to
// i. In a layer x is the logarithm of a sigmoid of a projection, one number a
// key head.
//
// Source: Lin et al. 2025, arXiv:2503.02130, equations 3-6.
//
// Ours differs: no norms of q and k, no gate and no shift of keys, which the
// paper's "Pro" layer adds.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], forget x
// [B, Hkv, Tk, 1]. Cost as softmax.flash at width d + 4, on whose engine it
// rides: c_i and -c_j are elements of q and k, beside ones. In pieces, each
// exact and first in its row: the large ones cancel before anything small is
// added, so that c may grow with the sequence. A query behind the last key
// forgets no more.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "engine/tile.h"
#include "mapped.h"
#include "oracle.h"
#include "simd/bf16.h"

namespace saccade::variants {
namespace {

inline float Get(float x) { return x; }
inline float Get(BF16 x) { return ToFloat(x); }
inline void Put(float x, float* y) { *y = x; }
inline void Put(float x, BF16* y) { *y = ToBF16(x); }

// What pieces of c are multiples of, but for the last, which is the rest: all
// of them are exact up to 2^28, and in bf16 up to 2^23.
template <class T>
constexpr double kGrains[] = {16, 0};
template <>
constexpr double kGrains<BF16>[] = {65536, 256, 1, 0};

// Rows (c's pieces, each beside a one, then q or k).
template <class T>
class ForgettingRows final : public RowMap {
 public:
  explicit ForgettingRows(const Problem& p)
      : p_(p), scale_(p.scale * std::numbers::log2e) {}

  std::string Describe() const override { return "forgetting rows"; }
  bool maps_keys() const override { return true; }
  int64_t width(int64_t dim) const override { return dim + kBeside; }
  size_t TableBytes(const Stretch& at) const override {
    return static_cast<size_t>(Heads() * at.keys.size()) * sizeof(double);
  }
  size_t StateBytes() const override {
    return static_cast<size_t>(Heads()) * sizeof(double);
  }

  void Apply(const Stretch& at, Bytes table, const Inputs& in, Bytes state,
             const View& q, const View& k, Exec& exec) const override {
    exec.For(Heads(), [&](int64_t head, int) {
      const int64_t b = head / p_.kv_heads, kv = head % p_.kv_heads;
      double* const sums = Sums(at, table, head);
      double c = state.empty() ? 0 : As(state)[head];
      for (int64_t t = 0; t < at.keys.size(); ++t) {
        c += double{Get(*in.extra[0].Row<T>(b, kv, t))} * std::numbers::log2e;
        sums[t] = c;
        T* const to = k.Row<T>(b, kv, t);
        Pieces(c, [&](int64_t n, float piece) {
          Put(1, to + 2 * n);
          Put(-piece, to + 2 * n + 1);
        });
        std::copy_n(in.k.Row<T>(b, kv, t), p_.qk_dim, to + kBeside);
      }
    });
    exec.For(p_.batch * p_.q_heads, [&](int64_t head, int) {
      const int64_t b = head / p_.q_heads, h = head % p_.q_heads;
      const double* const sums =
          Sums(at, table, b * p_.kv_heads + h * p_.kv_heads / p_.q_heads);
      for (int64_t t = 0; t < at.queries.size(); ++t) {
        const int64_t key = std::min(at.queries.begin + t, at.keys.end - 1);
        const double c = key < at.keys.begin ? 0 : sums[key - at.keys.begin];
        T* const to = q.Row<T>(b, h, t);
        Pieces(c, [&](int64_t n, float piece) {
          Put(piece, to + 2 * n);
          Put(1, to + 2 * n + 1);
        });
        const T* const from = in.q.Row<T>(b, h, t);
        for (int64_t i = 0; i < p_.qk_dim; ++i)
          Put(static_cast<float>(scale_ * double{Get(from[i])}),
              to + kBeside + i);
      }
    });
  }

  // c_i adds as much to all scores of a row, which softmax does not see: only
  // -c_j has a gradient, and x_t those of all c from t on.
  void Return(const Stretch& at, Bytes, const Inputs&, const View& dq,
              const View& dk, const Gradients& grad,
              Exec& exec) const override {
    exec.For(Heads(), [&](int64_t head, int) {
      const int64_t b = head / p_.kv_heads, kv = head % p_.kv_heads;
      double sum = 0;
      for (int64_t t = at.keys.size(); t-- > 0;) {
        const T* const from = dk.Row<T>(b, kv, t);
        sum -= double{Get(from[1])} * std::numbers::log2e;
        Put(static_cast<float>(sum), grad.dextra[0].Row<T>(b, kv, t));
        std::copy_n(from + kBeside, p_.qk_dim, grad.dk.Row<T>(b, kv, t));
      }
    });
    exec.For(p_.batch * p_.q_heads, [&](int64_t head, int) {
      const int64_t b = head / p_.q_heads, h = head % p_.q_heads;
      for (int64_t t = 0; t < at.queries.size(); ++t) {
        const T* const from = dq.Row<T>(b, h, t) + kBeside;
        T* const to = grad.dq.Row<T>(b, h, t);
        for (int64_t i = 0; i < p_.qk_dim; ++i)
          Put(static_cast<float>(scale_ * double{Get(from[i])}), to + i);
      }
    });
  }

  void Carry(const Stretch& at, Bytes table, Bytes state) const override {
    for (int64_t head = 0; head < Heads() && !at.keys.empty(); ++head)
      As(state)[head] = Sums(at, table, head)[at.keys.size() - 1];
  }

 private:
  static constexpr int64_t kBeside = 2 * std::size(kGrains<T>);

  static double* As(Bytes x) { return reinterpret_cast<double*>(x.data()); }
  int64_t Heads() const { return p_.batch * p_.kv_heads; }
  static double* Sums(const Stretch& at, Bytes table, int64_t head) {
    return As(table) + head * at.keys.size();
  }
  template <class F>
  static void Pieces(double c, F visit) {
    int64_t n = 0;
    for (const double grain : kGrains<T>) {
      const double piece = grain > 0 ? grain * std::nearbyint(c / grain) : c;
      visit(n++, static_cast<float>(piece));
      c -= piece;
    }
  }

  const Problem p_;
  const double scale_;
};

// The engine counts in powers of 2: with ln 2 for its scale it multiplies by
// nothing, and pieces stay exact.
Problem Wide(const Problem& p) {
  Problem wide = p;
  wide.qk_dim += 2 * static_cast<int64_t>(p.dtype == DType::kF32
                                              ? std::size(kGrains<float>)
                                              : std::size(kGrains<BF16>));
  wide.scale = std::numbers::ln2_v<float>;
  return wide;
}

Result<std::unique_ptr<Plan>> MakeFox(const Problem& p) {
  const Problem wide = Wide(p);
  auto inner = MakeTilePlan(wide, MakeTileSpec(wide));
  if (p.dtype == DType::kF32)
    return MakeMappedPlan(p, std::make_unique<ForgettingRows<float>>(p),
                          std::move(inner));
  return MakeMappedPlan(p, std::make_unique<ForgettingRows<BF16>>(p),
                        std::move(inner));
}

Cost FoxCost(const Problem& p) { return TileCost(p, MakeTileSpec(p)); }

void FoxOracle(const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  const int64_t group = p.q_heads / p.kv_heads;
  std::vector<double> c(p.batch * p.kv_heads * p.kv_len);
  for (int64_t n = 0; n < std::ssize(c); ++n)
    c[n] = in.extra[0][n] + (n % p.kv_len > 0 ? c[n - 1] : 0);
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row& x, int64_t j) {
        const double* const own =
            c.data() + (x.batch * p.kv_heads + x.head / group) * p.kv_len;
        const double from = own[std::min(x.i, p.kv_len - 1)];
        const oracle::Score s = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
        return oracle::Score{s.value + from - own[j],
                             s.size + std::abs(from) + std::abs(own[j])};
      });
}

}  // namespace

const Variant& softmax_fox() {
  static const Variant variant = {
      .name = "softmax.fox",
      .title = "forgetting transformer: keys fade as the tokens after them say",
      .source = "Lin et al. 2025, arXiv:2503.02130, equations 3-6",
      // Whatever a window or a caller's mask hides, its gate still counts: so
      // there are none.
      .traits = {.bidirectional = false,
                 .lse = true,
                 .rounds_weights = true,
                 .rounds_copies = true},
      .inputs = {{.name = "forget",
                  .doc = "x, logarithms of the forget gates",
                  .per_query = false,
                  .value_width = false,
                  .activation = Activation::kLogSigmoid}},
      .cost = FoxCost,
      .plan = MakeFox,
      .oracle = FoxOracle,
  };
  return variant;
}

}  // namespace saccade::variants
