// Positions, in float64 and from their equations.
#include "oracle.h"

#include <algorithm>
#include <numbers>

#include "position.h"

namespace saccade {
namespace oracle {
namespace {

// ALiBi's slopes from the paper's words: for a power of two heads a geometric
// series that starts at its own ratio 2^(-8/heads); otherwise the series of the
// power below, then every other one of the series of twice that power.
std::vector<double> Slopes(int64_t heads) {
  const auto series = [](int64_t n) {
    std::vector<double> s;
    for (int64_t k = 1; k <= n; ++k)
      s.push_back(std::pow(
          2.0, -8.0 / static_cast<double>(n) * static_cast<double>(k)));
    return s;
  };
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<double> slopes = series(power);
  const std::vector<double> finer = series(2 * power);
  for (size_t k = 0; static_cast<int64_t>(slopes.size()) < heads; k += 2)
    slopes.push_back(finer[k]);
  return slopes;
}

// T5's bucket of a distance, by counting: bucket b of those that grow begins at
// exact (most / exact)^((b - exact) / (n - exact)).
int64_t Bucket(int64_t distance, int64_t n, int64_t most, bool causal) {
  if (!causal) {
    const int64_t half = n / 2;
    return Bucket(std::abs(distance), half, most, true) +
           (distance < 0 ? half : 0);
  }
  const int64_t exact = n / 2;
  if (distance < exact) return std::max<int64_t>(distance, 0);
  int64_t b = exact;
  while (b + 1 < n) {
    const double begins =
        static_cast<double>(exact) *
        std::pow(static_cast<double>(most) / static_cast<double>(exact),
                 static_cast<double>(b + 1 - exact) /
                     static_cast<double>(n - exact));
    if (static_cast<double>(distance) < begins * (1 - 1e-12)) break;
    ++b;
  }
  return b;
}

}  // namespace

Clipped::Clipped(const Problem& p) : half_(p.qk_dim / 2) {
  for (const Position& position : p.positions) {
    if (position.name != "rerope") continue;
    const int64_t farthest = std::max(p.q_len, p.kv_len) + 1;
    window_ = std::min(position.knobs.Int("window"), farthest);
    for (int64_t r = 0; r <= window_; ++r)
      for (int64_t m = 0; m < half_; ++m) {
        const double angle = static_cast<double>(r) *
                             std::pow(position.knobs.Number("base"),
                                      -static_cast<double>(2 * m) /
                                          static_cast<double>(p.qk_dim));
        cos_.push_back(std::cos(angle));
        sin_.push_back(std::sin(angle));
      }
  }
}

Score Clipped::operator()(const Problem& p, const double* q, const double* k,
                          int64_t distance) const {
  const int64_t r = std::min(std::abs(distance), window_);
  Score s{0, 0};
  for (int64_t m = 0; m < half_; ++m) {
    const double c = cos_[r * half_ + m];
    const double sine = sin_[r * half_ + m] * (distance < 0 ? -1 : 1);
    const double a = q[m], b = q[m + half_], x = k[m], y = k[m + half_];
    s.value += c * (a * x + b * y) + sine * (a * y - b * x);
    s.size += std::abs(c) * (std::abs(a * x) + std::abs(b * y)) +
              std::abs(sine) * (std::abs(a * y) + std::abs(b * x));
  }
  if (p.qk_dim % 2) {
    const double last = q[p.qk_dim - 1] * k[p.qk_dim - 1];
    s.value += last;
    s.size += std::abs(last);
  }
  return {p.scale * s.value, std::abs(p.scale) * s.size};
}

template <class F>
void Bias::Tabulate(const Problem& p, F of) {
  const int64_t far = std::max(p.q_len, p.kv_len);
  width_ = 2 * far + 1;
  for (int64_t h = 0; h < p.q_heads; ++h)
    for (int64_t r = -far; r <= far; ++r)
      values_.push_back(of(h, r, std::abs(static_cast<double>(r))));
}

Bias Bias::Alibi(const Problem& p) {
  Bias bias;
  bias.Tabulate(p, [slopes = Slopes(p.q_heads)](int64_t h, int64_t, double r) {
    return -slopes[h] * r;
  });
  return bias;
}

Bias::Bias(const Problem& p, const OracleInputs& in) {
  for (const Position& position : p.positions) {
    const Knobs& knobs = position.knobs;
    if (position.name == "alibi") *this = Alibi(p);
    if (position.name == "t5") {
      const int64_t n = knobs.Int("buckets");
      Tabulate(p, [&](int64_t h, int64_t r, double) {
        if (in.bias == nullptr) return 0.0;
        return in.bias[h * n + Bucket(r, n, knobs.Int("distance"),
                                      p.mask != Mask::kNone)];
      });
    }
    if (position.name == "kerple")
      Tabulate(p, [&](int64_t h, int64_t, double r) {
        const double to_start =
            2 * (static_cast<double>(h) + 0.5) / static_cast<double>(p.q_heads);
        const double power = in.bias ? std::exp(in.bias[2 * h]) : to_start;
        const double a = in.bias ? std::exp(in.bias[2 * h + 1]) : 0.5;
        return -power * std::log(1 + a * r);
      });
    if (position.name == "sandwich") {
      const int64_t width = knobs.Int("width");
      Tabulate(p, [&](int64_t h, int64_t, double r) {
        double product = 0;
        for (int64_t m = 1; m <= width / 2; ++m)
          product +=
              std::cos(r / std::pow(1e4, 2 * static_cast<double>(m - 1) /
                                             static_cast<double>(width)));
        return product / (8 * static_cast<double>(h + 1)) *
               static_cast<double>(p.q_heads);
      });
    }
  }
}

}  // namespace oracle

namespace {

// One position's share of what becomes of pair m at position n.
struct Pair {
  double angle = 0, gain = 1;
};

// Su et al. 2021, equation 34, and what scalings make of it; see position.h.
double RopeFrequency(const Knobs& knobs, int64_t m, int64_t dim) {
  const auto d = static_cast<double>(dim);
  const double theta = std::exp(-2 * static_cast<double>(m) / d *
                                std::log(knobs.Number("base")));
  const std::string& scaling = knobs.Text("scaling");
  const double s = knobs.Number("factor");
  if (scaling == "pi") return theta / s;
  // The base's own power -2m/d is also that of factor^(d/(d-2)).
  if (scaling == "ntk" && dim > 2)
    return theta *
           std::exp(-2 * static_cast<double>(m) / (d - 2) * std::log(s));
  if (scaling == "yarn") {
    const double wave = 2 * std::numbers::pi / theta;
    const double r = knobs.Number("length") / wave;
    const double alpha = knobs.Number("slow"), beta = knobs.Number("fast");
    const double gamma = r < alpha  ? 0
                         : r > beta ? 1
                                    : (r - alpha) / (beta - alpha);
    return (1 - gamma) * theta / s + gamma * theta;
  }
  return theta;
}

Pair PairOf(const Position& position, int64_t m, int64_t dim, double n,
            bool query) {
  const Knobs& knobs = position.knobs;
  const auto d = static_cast<double>(dim);
  if (position.name == "rope") {
    const bool yarn = knobs.Text("scaling") == "yarn";
    return {n * RopeFrequency(knobs, m, dim),
            yarn ? 1 + std::log(knobs.Number("factor")) / 10 : 1};
  }
  if (position.name == "xpos") {
    const double zeta = (2 * static_cast<double>(m) + 0.4 * d) / (1.4 * d);
    const double power = (query ? n : -n) / knobs.Number("scale");
    return {n / std::pow(knobs.Number("base"), 2 * static_cast<double>(m) / d),
            std::pow(zeta, power)};
  }
  if (position.name == "logn" && query && n > 0)
    return {0,
            std::max(1.0, std::log(n + 1) / std::log(knobs.Number("length")))};
  return {};
}

// An odd last element has no partner: it is multiplied only, by what does not
// depend on the pair.
double LastGain(const Position& position, double n, bool query) {
  if (position.name == "xpos") return 1;
  return PairOf(position, 0, 2, n, query).gain;
}

// x [heads of all sequences, len, qk_dim], its rows at positions from `first`.
std::vector<double> Turned(const Problem& p, const double* x, int64_t heads,
                           int64_t len, int64_t first, bool query) {
  const int64_t d = p.qk_dim, half = d / 2;
  std::vector<double> y(x, x + p.batch * heads * len * d);
  for (int64_t row = 0; row < p.batch * heads * len; ++row) {
    const auto n = static_cast<double>(first + row % len);
    double* const at = y.data() + row * d;
    for (const Position& position : p.positions) {
      for (int64_t m = 0; m < half; ++m) {
        const Pair pair = PairOf(position, m, d, n, query);
        const double c = pair.gain * std::cos(pair.angle);
        const double s = pair.gain * std::sin(pair.angle);
        const double a = at[m], b = at[m + half];
        at[m] = a * c - b * s;
        at[m + half] = a * s + b * c;
      }
      if (d % 2) at[d - 1] *= LastGain(position, n, query);
    }
  }
  return y;
}

}  // namespace

void RunOracle(const Variant& variant, const Problem& p, const OracleInputs& in,
               const OracleOutputs& out) {
  const bool turned = FindIn(p.positions, "rope") ||
                      FindIn(p.positions, "xpos") ||
                      FindIn(p.positions, "logn");
  if (!turned) return variant.oracle(p, in, out);
  const int64_t first = oracle::QueryPosition(p, 0);
  const std::vector<double> q =
      Turned(p, in.q, p.q_heads, p.q_len, first, true);
  const std::vector<double> k = Turned(p, in.k, p.kv_heads, p.kv_len, 0, false);
  OracleInputs positioned = in;
  positioned.q = q.data();
  positioned.k = k.data();
  variant.oracle(p, positioned, out);
}

}  // namespace saccade
