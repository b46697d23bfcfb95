// Positions that act on q and k, in float64 and from their equations.
#include "oracle.h"

#include <algorithm>
#include <numbers>

namespace saccade {
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
  if (p.positions.empty()) return variant.oracle(p, in, out);
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
