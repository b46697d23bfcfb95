// Noise robustness: what becomes of the output when every score is off by
// t N(0, 1), independently by key.
//
// For normalised exponentials of scores the error of the output, values of
// variance 1, is sqrt((e^(t^2) - 1) / n_eff): it averages out as more keys
// count, slope -1/2. Squared relu without a normaliser keeps a bias: scores of
// variance 1 + t^2 in place of 1 make it 1 + t^2 times as large.
//
// All queries have 1 for their first element, so that what is added to the
// first of a key is added to its score with each of them.
#include <cmath>

#include "bench/learn/random.h"
#include "bench/lenses/lens.h"

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kLen = 512, kFirst = 32;
constexpr double kNoise = 0.5;

struct Case {
  const Spec& spec;
  Drawn drawn;
  std::vector<float> noisy;  // keys

  Result<std::vector<float>> Run(const std::vector<float>& v, bool noise,
                                 Exec& exec) const {
    Inputs in = drawn.inputs(*spec.variant);
    if (noise) in.k.data = noisy.data();
    return RunOn(*spec.variant, drawn.problem, in, v, exec);
  }
};

Result<Case> MakeCase(const Subject& s) {
  Spec spec = s.spec;
  spec.positions = {};  // so that no key is turned away from its noise
  Case c = {s.spec, DrawInputs(spec, kLen, 0, s.seed), {}};
  const Result<Problem> resolved = Resolve(*spec.variant, c.drawn.problem);
  if (!resolved.ok()) return resolved.status();
  const int64_t dim = resolved->qk_dim;
  c.noisy = c.drawn.k;
  Random random(s.seed, "noise");
  for (size_t row = 0; row < c.noisy.size(); row += dim) {
    c.drawn.q[row] = 1;
    c.noisy[row] +=
        static_cast<float>(kNoise * random.Normal() / resolved->scale);
  }
  return c;
}

// Mean squared error of the rows [begin, end) of all heads, over the square of
// what the row's weights come to: its output where all v are 1.
double SquaredError(const Problem& p, const std::vector<float>& got,
                    const std::vector<float>& want,
                    const std::vector<float>& even, int64_t begin,
                    int64_t end) {
  double sum = 0;
  for (int64_t head = 0; head < p.batch * p.q_heads; ++head) {
    for (int64_t i = begin * p.v_dim; i < end * p.v_dim; ++i) {
      const int64_t at = head * p.q_len * p.v_dim + i;
      const double error = (static_cast<double>(got[at]) - want[at]) / even[at];
      sum += error * error;
    }
  }
  return sum /
         static_cast<double>(p.batch * p.q_heads * (end - begin) * p.v_dim);
}

// By what share the sum of rows [len/2, len) grows.
double Bias(const Problem& p, const std::vector<float>& got,
            const std::vector<float>& want) {
  double change = 0, sum = 0;
  const int64_t rows = p.q_len * p.v_dim;
  for (int64_t head = 0; head < p.batch * p.q_heads; ++head) {
    for (int64_t i = rows / 2; i < rows; ++i) {
      change +=
          static_cast<double>(got[head * rows + i]) - want[head * rows + i];
      sum += want[head * rows + i];
    }
  }
  // Below this it is what float sums round to.
  return std::abs(change / sum) < 1e-6 ? 0 : change / sum;
}

Result<std::vector<Reading>> Look(const Subject& s, Exec& exec) {
  const Result<Case> made = MakeCase(s);
  if (!made.ok()) return made.status();
  const Problem& p = made->drawn.problem;
  std::vector<float> v(p.batch * p.kv_heads * kLen * p.v_dim, 1.f);
  const auto even = made->Run(v, false, exec);
  const auto even_noisy = made->Run(v, true, exec);
  Random random(s.seed, "v");
  for (float& x : v) x = static_cast<float>(random.Normal());
  const auto quiet = made->Run(v, false, exec);
  const auto noisy = made->Run(v, true, exec);
  for (const auto* out : {&even, &even_noisy, &quiet, &noisy}) {
    if (!out->ok()) return out->status();
  }
  std::vector<Reading> readings = {{"noise bias", Bias(p, *even_noisy, *even)}};
  const auto weights =
      WeightsOf(*s.spec.variant, p, made->drawn.inputs(*s.spec.variant), exec);
  if (!weights.ok()) return readings;
  // By octaves of rows: how many keys count, and how large the error is.
  std::vector<double> n_eff, error;
  double excess = 0;
  for (int64_t begin = kFirst; begin < kLen; begin *= 2) {
    const double inverse = MeanOverRows(*weights, {begin, 2 * begin},
                                        [](int64_t, std::span<const double> q) {
                                          double sum = 0;
                                          for (const double x : q) sum += x * x;
                                          return sum;
                                        });
    const double squares =
        SquaredError(p, *noisy, *quiet, *even, begin, 2 * begin);
    n_eff.push_back(-std::log(inverse));
    error.push_back(std::log(squares) / 2);
    excess = std::sqrt(squares / (std::expm1(kNoise * kNoise) * inverse));
  }
  readings.push_back({"noise error", excess});
  // Where the number of keys that count does not grow there is no slope.
  if (n_eff.back() - n_eff.front() > std::log(2.0)) {
    readings.push_back({"noise slope", Slope(n_eff, error)});
  }
  return readings;
}

}  // namespace

const Lens& noise() {
  static const Lens lens = {
      .name = "noise",
      .source = "Su 2023, kexue.fm/archives/9593",
      .sees = Sees::kInputs,
      .quantities =
          {{"noise slope",
            "scores off by .5 N(0, 1), independently by key: slope of the "
            "output's rms error, over the row's sum of weights, against n_eff, "
            "both "
            "logarithms, rows 33 to 512",
            "-.5 +- .1 for softmax"},
           {"noise error",
            "that error, rows 257 to 512, over sd(v) sqrt((e^(t^2) - 1) / "
            "n_eff)",
            "1 for softmax"},
           {"noise bias", "by what share the output grows where all v are 1",
            "0 for normalised weights, t^2 = .25 for squared relu over n"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
