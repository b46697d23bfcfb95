// lowrank.nystrom: softmax attention through landmarks, Nystromformer.
//
//   o = F Z B v,  F = softmax(scale q k~^T), B = softmax(scale q~ k^T)
//   Z = Z_steps,  Z_0 = A^T / (largest column sum of A),
//   Z <- Z (13 - A Z (15 - A Z (7 - A Z))) / 4,  A = softmax(scale q~ k~^T)
//
// so that Z comes near A's pseudo-inverse. q~ and k~ are means of m segments of
// queries and of keys: segment s holds tokens floor(s N / m) up to
// floor((s + 1) N / m), and where there are fewer tokens than landmarks each is
// its own, m = N, which is softmax attention as far as Z is A's inverse.
//
// Knobs: landmarks; steps of the iteration.
//
// Source: Xiong et al. 2021, arXiv:2102.03902, section 4.
//
// Ours differs: the authors' code takes the largest sum over all heads and
// sequences of a batch, so that they change each other; here each matrix has
// its own. Segments need not divide N. The depth-wise convolution of v that
// their code adds to the output is left out. What is between landmarks is
// computed in double.
//
// A landmark's mean is of tokens before and after it: there is no causal form,
// and no Extend. Segments of q and of k belong together: q and k are as long.
//
// Shapes: q [B, Hq, N, d], k [B, Hkv, N, d], v [B, Hkv, N, e]. Time
// 2 N m (d + e) + 4 steps m^3 a head.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/landmark.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

Result<std::unique_ptr<Plan>> MakeNystrom(const Problem &p) {
  return MakeLandmarkPlan(p, p.knobs.Int("landmarks"), p.knobs.Int("steps"));
}

// Both softmaxes with tokens, means, A, Z (four products a step), Z B.
// Backward scores are made again, as is Z, whose step has eight products more.
Cost NystromCost(const Problem &p) {
  const auto n = static_cast<double>(p.q_len);
  const auto d = static_cast<double>(p.qk_dim),
             e = static_cast<double>(p.v_dim);
  const double m =
      static_cast<double>(std::min(p.knobs.Int("landmarks"), p.q_len));
  const double cube = 2 * m * m * m * static_cast<double>(p.knobs.Int("steps"));
  const auto heads = static_cast<double>(p.batch * p.q_heads);
  const auto kv_heads = static_cast<double>(p.batch * p.kv_heads);
  const double means = (heads + kv_heads) * n * d;
  Cost cost;
  cost.forward_flops =
      heads * (4 * n * m * (d + e) + 2 * m * m * (d + e) + 4 * cube) + means;
  cost.backward_flops = heads * (4 * n * m * (3 * d + 2 * e) +
                                 2 * m * m * (3 * d + 2 * e) + 12 * cube) +
                        2 * means;
  cost.forward_bytes =
      static_cast<double>(SizeOf(p.dtype)) * n * (d + e) * (heads + kv_heads);
  return cost;
}

using Matrix = std::vector<double>;

// a [rows, inner] b [inner, columns].
Matrix Product(const Matrix &a, const Matrix &b, int64_t rows, int64_t inner,
               int64_t columns) {
  Matrix c(static_cast<size_t>(rows * columns), 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t p = 0; p < inner; ++p)
      for (int64_t j = 0; j < columns; ++j)
        c[i * columns + j] += a[i * inner + p] * b[p * columns + j];
  return c;
}

Matrix Absolute(Matrix x) {
  for (double &y : x) y = std::abs(y);
  return x;
}

Matrix Means(const double *x, int64_t m, int64_t n, int64_t width) {
  Matrix means(static_cast<size_t>(m * width), 0);
  for (int64_t s = 0; s < m; ++s) {
    const int64_t first = s * n / m, end = (s + 1) * n / m;
    for (int64_t t = first; t < end; ++t)
      for (int64_t c = 0; c < width; ++c)
        means[s * width + c] +=
            x[t * width + c] / static_cast<double>(end - first);
  }
  return means;
}

// Weights, and their sizes.
struct Softmaxed {
  Matrix p, size;
};
Softmaxed Softmax(const Problem &p, const double *q, int64_t rows,
                  const double *k, int64_t keys) {
  Softmaxed out;
  std::vector<oracle::Score> s(keys);
  for (int64_t i = 0; i < rows; ++i) {
    double top = -INFINITY, sum = 0, mean = 0;
    for (int64_t j = 0; j < keys; ++j) {
      s[j] = oracle::DotScore(p, q + i * p.qk_dim, k + j * p.qk_dim);
      if (!(s[j].value <= top)) top = s[j].value;
    }
    for (int64_t j = 0; j < keys; ++j) {
      sum += std::exp(s[j].value - top);
      mean += std::exp(s[j].value - top) * s[j].size;
    }
    for (int64_t j = 0; j < keys; ++j) {
      const double w = std::exp(s[j].value - top) / sum;
      out.p.push_back(w);
      out.size.push_back(w * (1 + s[j].size + mean / sum));
    }
  }
  return out;
}

Matrix Inverse(const Matrix &a, int64_t m, int64_t steps) {
  Matrix z(a.size());
  double most = 0;
  for (int64_t c = 0; c < m; ++c) {
    double sum = 0;
    for (int64_t r = 0; r < m; ++r) sum += a[r * m + c];
    if (!(sum <= most)) most = sum;
  }
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < m; ++c) z[c * m + r] = a[r * m + c] / most;
  for (int64_t step = 0; step < steps; ++step) {
    const Matrix az = Product(a, z, m, m, m);
    Matrix t(a.size(), 0);
    for (int64_t i = 0; i < m; ++i) t[i * m + i] = 1;
    for (const double number : {7.0, 15.0, 13.0}) {
      if (number == 7)
        t = az;
      else
        t = Product(az, t, m, m, m);
      for (double &x : t) x = -x;
      for (int64_t i = 0; i < m; ++i) t[i * m + i] += number;
    }
    z = Product(z, t, m, m, m);
    for (double &x : z) x /= 4;
  }
  return z;
}

// size: of each weight of the three softmaxes as softmax's; Z moves by
// -Z dA Z where A does.
void NystromOracle(const Problem &p, const OracleInputs &in,
                   const OracleOutputs &out) {
  const int64_t n = p.q_len, e = p.v_dim, group = p.q_heads / p.kv_heads;
  const int64_t m = std::min(p.knobs.Int("landmarks"), n);
  for (int64_t head = 0; head < p.batch * p.q_heads && n > 0; ++head) {
    const int64_t kv = head / p.q_heads * p.kv_heads + head % p.q_heads / group;
    const double *const q = in.q + head * n * p.qk_dim;
    const double *const k = in.k + kv * n * p.qk_dim;
    const Matrix v(in.v + kv * n * e, in.v + (kv + 1) * n * e);
    const Matrix q_mean = Means(q, m, n, p.qk_dim),
                 k_mean = Means(k, m, n, p.qk_dim);
    const Softmaxed f = Softmax(p, q, n, k_mean.data(), m),
                    a = Softmax(p, q_mean.data(), m, k_mean.data(), m),
                    b = Softmax(p, q_mean.data(), m, k, n);
    const Matrix z = Inverse(a.p, m, p.knobs.Int("steps"));
    const Matrix w = Product(z, Product(b.p, v, m, n, e), m, m, e);
    Matrix inner = Product(b.size, Absolute(v), m, n, e);
    const Matrix moved = Product(a.size, Absolute(w), m, m, e);
    for (size_t i = 0; i < inner.size(); ++i) inner[i] += moved[i];
    const Matrix w_size = Product(Absolute(z), inner, m, m, e);
    const Matrix o = Product(f.p, w, n, m, e),
                 o_size = Product(f.size, Absolute(w), n, m, e),
                 more = Product(f.p, w_size, n, m, e);
    for (int64_t i = 0; i < n * e; ++i) {
      out.out[head * n * e + i] = o[i];
      out.size[head * n * e + i] = o_size[i] + more[i];
    }
  }
}

}  // namespace

const Variant &lowrank_nystrom() {
  static const Variant variant = {
      .name = "lowrank.nystrom",
      .title = "Nystromformer: softmax attention through landmarks",
      .source = "Xiong et al. 2021, arXiv:2102.03902, section 4",
      .traits = {.causal = false, .cross = false, .extend = false},
      .knobs = {{.name = "landmarks",
                 .doc = "segments whose means stand for tokens",
                 .initial = 64,
                 .low = 1,
                 .high = 512,
                 .integer = true},
                {.name = "steps",
                 .doc = "of the iteration to the pseudo-inverse",
                 .initial = 6,
                 .low = 1,
                 .high = 12,
                 .integer = true}},
      .cost = NystromCost,
      .plan = MakeNystrom,
      .oracle = NystromOracle,
  };
  return variant;
}

}  // namespace saccade::variants
