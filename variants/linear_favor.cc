// linear.favor: softmax attention by random features, the Performer.
//
//   o_i = sum_j w_ij v_j / sum_j w_ij over visible j,  w_ij = phi(q_i).phi(k_j)
//   phi(x)_r = e^(l_r) + 1e-4 e^(max_r l_r),  l_r = w_r.x' - |x'|^2 / 2
//   x' = x sqrt(scale), scale d^(-1/2)
//
// of m rows w_r: Gaussian, made orthogonal in blocks of d, each again as long
// as a Gaussian row. Without the 1e-4 the mean of w_ij / m over draws is
// e^(scale q_i.k_j).
//
// Knobs: features m, 0 for floor(d ln d), at least 1; seed, of the rows, which
// all heads share.
//
// Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 1 (positive
// features), section 2.4 and theorem 2 (orthogonal rows); the 1e-4 is the
// authors' code's.
//
// Ours differs: the code takes the largest l of the whole sequence from every
// key's exponents, so that later keys change earlier results. Here the 1e-4
// stands beside each key's own largest feature, and powers are held in a frame
// that moves up as keys do (engine/scan_frame-inl.h), which the denominator
// undoes. Rows are fixed, not redrawn in training.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e], the sum [m,
// e] a key head. Cost a token and head: 4 m (d + e) flops forward, 8 m d + 12 m
// e backward, 4 m (d + e) for a decoding step of any context, whose state is 2
// m (e + 1) floats.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "engine/scan.h"
#include "normal.h"
#include "oracle_linear.h"

namespace saccade::variants {
namespace {

constexpr double kBeside = 1e-4;

int64_t Features(const Problem &p) {
  const int64_t wish = p.knobs.Int("features");
  if (wish > 0) return wish;
  const auto d = static_cast<double>(p.qk_dim);
  return std::max<int64_t>(1, static_cast<int64_t>(d * std::log(d)));
}

// w [m, d]. Gram-Schmidt in blocks of d rows, twice, so that rounding leaves
// nothing.
std::vector<float> Rows(int64_t m, int64_t d, uint64_t seed) {
  Normal normal(seed);
  std::vector<double> w(static_cast<size_t>(m * d));
  for (double &x : w) x = normal();
  const auto dot = [&](const double *a, const double *b) {
    double sum = 0;
    for (int64_t c = 0; c < d; ++c) sum += a[c] * b[c];
    return sum;
  };
  std::vector<double> length(static_cast<size_t>(m));
  for (int64_t r = 0; r < m; ++r) {
    double *const row = w.data() + r * d;
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t s = r / d * d; s < r; ++s) {
        const double *const other = w.data() + s * d;
        const double along = dot(row, other);
        for (int64_t c = 0; c < d; ++c) row[c] -= along * other[c];
      }
    const double norm = std::sqrt(dot(row, row));
    for (int64_t c = 0; c < d; ++c) row[c] /= norm;
    double square = 0;
    for (int64_t c = 0; c < d; ++c) {
      const double x = normal();
      square += x * x;
    }
    length[r] = std::sqrt(square);
  }
  std::vector<float> rows;
  for (int64_t n = 0; n < m * d; ++n)
    rows.push_back(static_cast<float>(w[n] * length[n / d]));
  return rows;
}

ScanSpec FavorSpec(const Problem &p) {
  ScanSpec spec = MakeScanSpec(p);
  spec.scale = 1;
  spec.feature = FeatureMap::kRandom;
  spec.features = Features(p);
  spec.read_out = ReadOut::kNormalised;
  return spec;
}

std::vector<float> RowsOf(const Problem &p) {
  return Rows(Features(p), p.qk_dim,
              static_cast<uint64_t>(p.knobs.Int("seed")));
}

Result<std::unique_ptr<Plan>> MakeFavor(const Problem &p) {
  if (p.scale < 0)
    return Unsupported(
        "linear.favor needs a scale above 0, whose root features take");
  ScanSpec spec = FavorSpec(p);
  SetRandomFeatures(RowsOf(p), p.scale, kBeside, &spec);
  return MakeScanPlan(p, std::move(spec));
}

Cost FavorCost(const Problem &p) {
  const ScanSpec spec = FavorSpec(p);
  Cost cost = ScanCost(p, spec);
  const auto batch = static_cast<double>(p.batch);
  const double a_row = 2 * static_cast<double>(spec.features * p.qk_dim);
  const double rows =
      batch * static_cast<double>(p.q_heads * p.q_len + p.kv_heads * p.kv_len);
  cost.forward_flops += a_row * rows;
  cost.backward_flops += 2 * a_row * rows;
  if (cost.decode_flops > 0)
    cost.decode_flops +=
        a_row * batch * static_cast<double>(p.q_heads + p.kv_heads);
  return cost;
}

// Features of rows x [n, d], each over e^top of its row: phi and the sizes of
// their errors. An exponent is rounded as the sum that makes it.
struct Table {
  std::vector<double> phi, size, top;

  Table(const Problem &p, const std::vector<float> &w, const double *x,
        int64_t n)
      : top(static_cast<size_t>(n)) {
    const int64_t d = p.qk_dim, m = Features(p);
    const double root = std::sqrt(static_cast<double>(p.scale));
    std::vector<double> l(m), l_size(m);
    for (int64_t t = 0; t < n; ++t, x += d) {
      double half = 0;
      for (int64_t c = 0; c < d; ++c) half += p.scale * x[c] * x[c] / 2;
      for (int64_t r = 0; r < m; ++r) {
        l[r] = -half;
        l_size[r] = 2 + 2 * half;
        for (int64_t c = 0; c < d; ++c) {
          const double product = root * w[r * d + c] * x[c];
          l[r] += product;
          l_size[r] += 2 * std::abs(product);
        }
      }
      const int64_t most = std::max_element(l.begin(), l.end()) - l.begin();
      top[t] = l[most];
      for (int64_t r = 0; r < m; ++r) {
        const double power = std::exp(l[r] - top[t]);
        phi.push_back(power + kBeside);
        size.push_back(power * (l_size[r] + top[t] - l[r]) +
                       kBeside * l_size[most]);
      }
    }
  }
};

// A table of random rows costs more than small cases' sums: each thread keeps
// the last one, which depends on nothing but its three numbers.
const std::vector<float> &CachedRows(const Problem &p) {
  struct Last {
    int64_t m = 0, d = 0, seed = 0;
    std::vector<float> rows;
  };
  thread_local Last last;
  const int64_t m = Features(p), seed = p.knobs.Int("seed");
  if (last.m != m || last.d != p.qk_dim || last.seed != seed)
    last = {m, p.qk_dim, seed, RowsOf(p)};
  return last.rows;
}

// The explicit form: weights phi(q_i).phi(k_j) over their sum, both over
// e^top of the keys that are seen.
void FavorOracle(const Problem &p, const OracleInputs &in,
                 const OracleOutputs &out) {
  const int64_t m = Features(p);
  const std::vector<float> &w = CachedRows(p);
  const Table q(p, w, in.q, p.batch * p.q_heads * p.q_len);
  const Table k(p, w, in.k, p.batch * p.kv_heads * p.kv_len);
  // The largest top of a head's keys up to each.
  std::vector<double> top = k.top;
  for (int64_t n = 0; n < std::ssize(top); ++n)
    if (n % p.kv_len > 0) top[n] = std::max(top[n], top[n - 1]);
  oracle::Linear(
      p, in, out, oracle::kNoLeast, 0, [&](const oracle::Row &x, int64_t j) {
        const int64_t head = (x.k - in.k) / p.qk_dim;
        const int64_t row = (x.q - in.q) / p.qk_dim;
        const int64_t last =
            p.mask == Mask::kNone ? p.kv_len - 1 : std::min(x.i, p.kv_len - 1);
        const double *const a = q.phi.data() + row * m;
        const double *const b = k.phi.data() + (head + j) * m;
        const double *const a_size = q.size.data() + row * m;
        const double *const b_size = k.size.data() + (head + j) * m;
        oracle::Score s{0, 0};
        for (int64_t r = 0; r < m; ++r) {
          s.value += a[r] * b[r];
          s.size += a[r] * b[r] + a_size[r] * b[r] + a[r] * b_size[r];
        }
        const double power = std::exp(k.top[head + j] - top[head + last]);
        return oracle::Score{s.value * power, s.size * power};
      });
}

}  // namespace

const Variant &linear_favor() {
  static const Variant variant = {
      .name = "linear.favor",
      .title = "Performer: softmax attention by positive random features",
      .source =
          "Choromanski et al. 2020, arXiv:2009.14794, lemma 1, section 2.4",
      // Weights are products of features: no score is there to multiply.
      .traits = {.scores = false},
      .knobs = {{"features", "random features m; 0: floor(d ln d)", 0, 0, 1e5},
                {"seed", "of the random rows", 1, 0, 1e9}},
      .cost = FavorCost,
      .plan = MakeFavor,
      .oracle = FavorOracle,
  };
  return variant;
}

}  // namespace saccade::variants
