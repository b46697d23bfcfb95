// Positions against their formulas, written here once more and in another form:
// scores by distance, where the library turns q and k one by one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <functional>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "distance_bias.h"
#include "position.h"
#include "saccade/attention.h"
#include "saccade/variant.h"

namespace saccade {
namespace {

constexpr int64_t kHeads = 3, kLen = 70, kDim = 12;

Problem Causal(int64_t len = kLen, int64_t dim = kDim) {
  return {.q_heads = kHeads,
          .kv_heads = kHeads,
          .q_len = len,
          .kv_len = len,
          .qk_dim = dim,
          .v_dim = len,
          .mask = Mask::kCausal};
}

struct Tensors {
  explicit Tensors(const Problem& p)
      : q(p.q_heads * p.q_len * p.qk_dim), k(q.size()) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random);
    for (float& x : k) x = normal(random);
  }
  std::vector<float> q, k;
};

// What a spec makes of values that are the identity: weights [H, T, T].
std::vector<float> Weights(const std::string& spec, const Problem& p,
                           const Tensors& x,
                           const std::vector<float>& bias = {}) {
  std::vector<float> v(p.kv_heads * p.kv_len * p.v_dim),
      out(p.q_heads * p.q_len * p.v_dim);
  for (size_t n = 0; n < v.size(); ++n)
    v[n] = static_cast<int64_t>(n) % p.v_dim ==
           static_cast<int64_t>(n) / p.v_dim % p.kv_len;
  auto attention = Attention::Make(spec, p);
  REQUIRE_MESSAGE(attention.ok(), attention.status().message());
  const auto view = [&](auto* data, int64_t heads, int64_t len, int64_t dim) {
    return Contiguous<const void>(data, DType::kF32, 1, heads, len, dim);
  };
  const Status status = attention->Forward(
      {.q = view(x.q.data(), p.q_heads, p.q_len, p.qk_dim),
       .k = view(x.k.data(), p.kv_heads, p.kv_len, p.qk_dim),
       .v = view(v.data(), p.kv_heads, p.kv_len, p.v_dim),
       .bias = view(bias.empty() ? nullptr : bias.data(), p.q_heads, 1,
                    std::ssize(bias) / p.q_heads)},
      {Contiguous<void>(out.data(), DType::kF32, 1, p.q_heads, p.q_len,
                        p.v_dim)});
  REQUIRE_MESSAGE(status.ok(), status.message());
  return out;
}

// score(h, i, j) -> weights of causal softmax.
std::vector<double> Softmax(
    const Problem& p,
    const std::function<double(int64_t, int64_t, int64_t)>& score) {
  std::vector<double> w(p.q_heads * p.q_len * p.kv_len);
  for (int64_t h = 0; h < p.q_heads; ++h)
    for (int64_t i = 0; i < p.q_len; ++i) {
      double* const row = w.data() + (h * p.q_len + i) * p.kv_len;
      double sum = 0;
      for (int64_t j = 0; j <= i; ++j) sum += row[j] = std::exp(score(h, i, j));
      for (int64_t j = 0; j <= i; ++j) row[j] /= sum;
    }
  return w;
}

// sum over pairs of Re(q conj(k) turn(i, j, m)), over sqrt(d): the score of
// anything that turns pairs (m, m + d/2).
double PairScore(
    const Problem& p, const Tensors& x, int64_t h, int64_t i, int64_t j,
    const std::function<std::complex<double>(int64_t pair)>& turn) {
  const float* q = x.q.data() + (h * p.q_len + i) * p.qk_dim;
  const float* k = x.k.data() + (h * p.kv_len + j) * p.qk_dim;
  const int64_t half = p.qk_dim / 2;
  double sum = 0;
  for (int64_t m = 0; m < half; ++m) {
    const std::complex<double> a(q[m], q[m + half]), b(k[m], k[m + half]);
    sum += (a * std::conj(b) * turn(m)).real();
  }
  return sum / std::sqrt(static_cast<double>(p.qk_dim));
}

void CheckNear(const std::string& spec, const std::vector<float>& got,
               const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  double worst = 0;
  for (size_t n = 0; n < got.size(); ++n)
    worst = std::max(worst, std::abs(got[n] - want[n]));
  CHECK_MESSAGE(worst < 3e-6, spec, " is off by ", worst);
}

using std::numbers::pi;

// Theta of pair m, for each scaling, from the papers.
double Theta(double base, int64_t m) {
  return std::pow(base, -2.0 * static_cast<double>(m) / kDim);
}

TEST_CASE("positions that turn q and k follow their formulas") {
  struct Case {
    std::string spec;
    std::function<double(int64_t)> theta;
    double gain = 1;  // of a score
  };
  const double yarn_gain = std::pow(0.1 * std::log(8.0) + 1, 2);
  const std::vector<Case> cases = {
      {"rope", [](int64_t m) { return Theta(1e4, m); }},
      {"rope:base=77", [](int64_t m) { return Theta(77, m); }},
      {"rope:scaling=pi,factor=5", [](int64_t m) { return Theta(1e4, m) / 5; }},
      {"rope:scaling=ntk,factor=5",
       [](int64_t m) {
         return Theta(1e4 * std::pow(5, kDim / (kDim - 2.0)), m);
       }},
      // Of 64 tokens at base 100, pairs make 10.2, 4.7, 2.2, 1.02, .47 and .22
      // turns: the first is kept, the last three are slowed down 8 times.
      {"rope:scaling=yarn,factor=8,length=64,base=100,fast=5,slow=1.5",
       [](int64_t m) {
         const double theta = Theta(100, m), turns = 64 * theta / (2 * pi);
         if (turns > 5) return theta;
         if (turns < 1.5) return theta / 8;
         const double kept = (turns - 1.5) / 3.5;
         return kept * theta + (1 - kept) * theta / 8;
       },
       yarn_gain}};
  const Problem p = Causal();
  const Tensors x(p);
  for (const Case& c : cases) {
    const std::vector<double> want = Softmax(p, [&](int64_t h, int64_t i,
                                                    int64_t j) {
      return c.gain * PairScore(p, x, h, i, j, [&](int64_t m) {
               return std::polar(1.0, static_cast<double>(i - j) * c.theta(m));
             });
    });
    for (const std::string variant : {"softmax.flash", "softmax.naive"})
      CheckNear(variant + "+" + c.spec, Weights(variant + "+" + c.spec, p, x),
                want);
  }
}

TEST_CASE("xpos fades scores by zeta to the distance") {
  const Problem p = Causal();
  const Tensors x(p);
  const std::vector<double> want =
      Softmax(p, [&](int64_t h, int64_t i, int64_t j) {
        return PairScore(p, x, h, i, j, [&](int64_t m) {
          const double zeta = (static_cast<double>(m) / (kDim / 2) + .4) / 1.4;
          const auto distance = static_cast<double>(i - j);
          return std::polar(std::pow(zeta, distance / 40),
                            distance * Theta(1e4, m));
        });
      });
  CheckNear("xpos", Weights("softmax.flash+xpos:scale=40", p, x), want);
}

TEST_CASE("logn multiplies the scores of late queries, with or without rope") {
  const Problem p = Causal();
  const Tensors x(p);
  for (const double base : {0.0, 1e4}) {
    const std::vector<double> want =
        Softmax(p, [&](int64_t h, int64_t i, int64_t j) {
          const double gain = i < 16 ? 1 : std::log(i + 1) / std::log(16.0);
          return gain * PairScore(p, x, h, i, j, [&](int64_t m) {
                   const double turn =
                       base > 0 ? static_cast<double>(i - j) * Theta(base, m)
                                : 0;
                   return std::polar(1.0, turn);
                 });
        });
    const std::string spec = base > 0 ? "softmax.flash+rope+logn:length=16"
                                      : "softmax.flash+logn:length=16";
    CheckNear(spec, Weights(spec, p, x), want);
  }
}

// Frequencies of a spec's rope for heads `dim` wide.
std::vector<double> Frequencies(const std::string& text, int64_t dim) {
  const auto positions = ParsePositions(*Variants().front(), text);
  REQUIRE_MESSAGE(positions.ok(), positions.status().message());
  return RotaryFrequencies(positions->front(), dim);
}

TEST_CASE("scalings have their published corners") {
  // Llama 2: d 128, trained at 4096. Peng et al.'s own code finds that pairs
  // up to 20 turn 32 times or more and are kept, and that those from 46 on turn
  // less than once and are interpolated.
  const std::vector<double> plain = Frequencies("rope", 128);
  const std::vector<double> yarn =
      Frequencies("rope:scaling=yarn,factor=16,length=4096", 128);
  for (int64_t m = 0; m < 64; ++m) {
    CAPTURE(m);
    if (m <= 20) CHECK(yarn[m] == plain[m]);
    if (m >= 46) CHECK(yarn[m] == doctest::Approx(plain[m] / 16));
    if (m > 20 && m < 46)
      CHECK((yarn[m] < plain[m] && yarn[m] > plain[m] / 16));
  }
  // sqrt(1/t) = 0.1 ln 16 + 1.
  const auto position =
      ParsePositions(*Variants().front(), "rope:scaling=yarn,factor=16");
  CHECK(RotaryGain(position->front()) == doctest::Approx(1.2772589));
  // NTK-aware: the fastest pair is kept, the slowest interpolated in full.
  const std::vector<double> ntk = Frequencies("rope:scaling=ntk,factor=8", 128);
  CHECK(ntk[0] == 1);
  CHECK(ntk[63] == doctest::Approx(plain[63] / 8));
  CHECK(Frequencies("rope:scaling=ntk,factor=8", 2)[0] == 1);
}

// Softmax weights with a bias added to the plain score.
std::vector<double> BiasedWeights(
    const Problem& p, const Tensors& x,
    const std::function<double(int64_t head, int64_t distance)>& bias) {
  return Softmax(p, [&](int64_t h, int64_t i, int64_t j) {
    return bias(h, i - j) + PairScore(p, x, h, i, j, [](int64_t) {
             return std::complex<double>(1, 0);
           });
  });
}

TEST_CASE("biases of kerple and sandwich follow their formulas") {
  const Problem p = Causal();
  const Tensors x(p);
  const std::vector<double> kerple =
      BiasedWeights(p, x, [](int64_t h, int64_t r) {
        const double power = 2 * (static_cast<double>(h) + .5) / kHeads;
        return -power * std::log(1 + 0.5 * static_cast<double>(r));
      });
  // Chi et al. 2023, appendix: sin sin^T + cos cos^T of embeddings 6 wide.
  const std::vector<double> sandwich =
      BiasedWeights(p, x, [](int64_t h, int64_t r) {
        const auto at = [](double t, int64_t m) {
          return t * std::pow(10000.0, -2.0 * static_cast<double>(m) / 6);
        };
        const double i = 100 + static_cast<double>(r), j = 100;
        double product = 0;
        for (int64_t m = 0; m < 3; ++m)
          product += std::sin(at(i, m)) * std::sin(at(j, m)) +
                     std::cos(at(i, m)) * std::cos(at(j, m));
        return product / (static_cast<double>(h + 1) * 8 / kHeads);
      });
  for (const std::string variant :
       {"softmax.flash", "softmax.naive", "softmax.window:size=1000",
        "sparse.strided:stride=1"}) {
    CheckNear(variant, Weights(variant + "+kerple", p, x), kerple);
    CheckNear(variant, Weights(variant + "+sandwich:width=6", p, x), sandwich);
  }
}

TEST_CASE("T5's buckets are those of its code") {
  // Causal, 32 buckets up to 128: computed by hand from
  // 16 + floor(16 ln(r / 16) / ln 8).
  const std::pair<int64_t, int64_t> causal[] = {
      {-5, 0},   {0, 0},    {1, 1},     {15, 15}, {16, 16},  {18, 16},
      {19, 17},  {20, 17},  {21, 18},   {23, 18}, {24, 19},  {26, 19},
      {27, 20},  {31, 21},  {46, 24},   {64, 26}, {100, 30}, {113, 31},
      {127, 31}, {128, 31}, {99999, 31}};
  for (const auto& [distance, bucket] : causal)
    CHECK_MESSAGE(T5Bucket(distance, 32, 128, true) == bucket, distance);
  // Both ways: 8 + floor(8 ln(r / 8) / ln 16), keys ahead from 16 on.
  const std::pair<int64_t, int64_t> both[] = {
      {0, 0},   {7, 7},   {8, 8},    {11, 8},   {12, 9},   {16, 10},
      {32, 12}, {64, 14}, {90, 14},  {91, 15},  {500, 15}, {-1, 17},
      {-7, 23}, {-8, 24}, {-16, 26}, {-32, 28}, {-500, 31}};
  for (const auto& [distance, bucket] : both)
    CHECK_MESSAGE(T5Bucket(distance, 32, 128, false) == bucket, distance);
}

TEST_CASE("without training t5 adds nothing; what is given is added") {
  const Problem p = Causal();
  const Tensors x(p);
  const std::vector<float> plain = Weights("softmax.flash", p, x);
  CHECK(Weights("softmax.flash+t5", p, x) == plain);
  std::vector<float> table(kHeads * 32);
  for (size_t n = 0; n < table.size(); ++n)
    table[n] = 0.01f * static_cast<float>(n % 37);
  CheckNear("t5", Weights("softmax.flash+t5", p, x, table),
            BiasedWeights(p, x, [&](int64_t h, int64_t r) {
              return table[h * 32 + T5Bucket(r, 32, 128, true)];
            }));
}

TEST_CASE("rerope clips distances, and is rope where nothing is clipped") {
  const Problem p = Causal();
  const Tensors x(p);
  const std::vector<double> want =
      Softmax(p, [&](int64_t h, int64_t i, int64_t j) {
        const auto r = static_cast<double>(std::min<int64_t>(i - j, 9));
        return PairScore(p, x, h, i, j, [&](int64_t m) {
          return std::polar(1.0, r * Theta(1e4, m));
        });
      });
  for (const std::string variant :
       {"softmax.flash", "softmax.naive", "sparse.fixed:block=70"})
    CheckNear(variant, Weights(variant + "+rerope:window=9", p, x), want);
  const std::vector<float> rope = Weights("softmax.flash+rope", p, x);
  CheckNear("a wide window", Weights("softmax.flash+rerope:window=70", p, x),
            {rope.begin(), rope.end()});
}

TEST_CASE("what does not fit is refused with the reason") {
  const struct {
    const char* spec;
    Code code;
    const char* says;
  } cases[] = {
      {"softmax.flash+rope+xpos", Code::kInvalid, "do not go together"},
      {"softmax.flash+logn+logn", Code::kInvalid, "do not go together"},
      {"softmax.flash+", Code::kInvalid, "no position"},
      {"softmax.flash+rope:scaling=yarn", Code::kInvalid, "factor"},
      {"softmax.flash+rope:factor=4", Code::kInvalid, "scaling"},
      {"softmax.flash+rope:scaling=yarn,factor=2,slow=9,fast=3", Code::kInvalid,
       "slow"},
      {"softmax.flash+rope:scaling=linear", Code::kInvalid, "none|pi|ntk|yarn"},
      {"softmax.flash+ropes", Code::kNotFound, "rope"},
      {"linear.elu+alibi", Code::kUnsupported, "linear.elu does not take"},
      {"gated.gau+t5", Code::kUnsupported, "added to the scores"},
      {"softmax.flash+alibi+kerple", Code::kInvalid, "do not go together"},
      {"softmax.flash+t5:buckets=64,distance=30", Code::kInvalid, "distance"},
      {"linear.elu+rerope", Code::kUnsupported, "log-sum-exp"},
      {"gated.gau+rerope", Code::kUnsupported, "log-sum-exp"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.spec);
    const Result<Spec> spec = ParseSpec(c.spec);
    REQUIRE(!spec.ok());
    CHECK(spec.status().code() == c.code);
    CHECK_MESSAGE(spec.status().message().find(c.says) != std::string::npos,
                  spec.status().message());
  }
  Problem p = Causal();
  p.mask = Mask::kNone;
  CHECK(MakePlan("softmax.flash+xpos", p).status().message().find("causal") !=
        std::string::npos);
  p = Causal();
  p.q_len = p.kv_len = 1 << 20;
  CHECK(MakePlan("softmax.flash+xpos", p).status().message().find("overflow") !=
        std::string::npos);
  CHECK(MakePlan("softmax.flash+xpos:scale=1e5", p).ok());
}

TEST_CASE("positions as text are read again") {
  for (const std::string text :
       {"", "none", "rope", "rope:scaling=ntk,factor=4+logn:length=128",
        "sinusoidal+alibi"}) {
    const Variant& v = *Find("softmax.flash");
    const auto once = ParsePositions(v, text);
    REQUIRE(once.ok());
    const std::string written = ToText(*once);
    const auto again = ParsePositions(v, written.substr(!written.empty()));
    REQUIRE_MESSAGE(again.ok(), written, ": ", again.status().message());
    CHECK(ToText(*again) == written);
  }
}

}  // namespace
}  // namespace saccade
