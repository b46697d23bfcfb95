// Exact limits, and the mistakes that implementations are known to make: what
// single variants compute, by their formulas. What patterns and masks let see
// is in traps_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/traps_fixture.h"

namespace saccade::bench::traps {
namespace {

TEST_CASE("linear attention is its N x N form") {
  // phi(q_i).phi(k_j) over j <= i, written out.
  const auto phi = [](double x) { return x > 0 ? x + 1 : std::exp(x); };
  for (const int64_t length : {1, 5, 63, 65, 130}) {
    const Problem p = Square(length, Mask::kCausal, 1);
    const Run run("linear.elu", p);
    std::vector<double> want(length * p.v_dim);
    for (int64_t i = 0; i < length; ++i) {
      double norm = 1e-6;
      for (int64_t j = 0; j <= i; ++j) {
        double w = 0;
        for (int64_t c = 0; c < p.qk_dim; ++c)
          w += phi(run.data.q[i * p.qk_dim + c]) *
               phi(run.data.k[j * p.qk_dim + c]);
        norm += w;
        for (int64_t c = 0; c < p.v_dim; ++c)
          want[i * p.v_dim + c] += w * run.data.v[j * p.v_dim + c];
      }
      for (int64_t c = 0; c < p.v_dim; ++c) want[i * p.v_dim + c] /= norm;
    }
    CHECK(Near(run.Out(), want));
  }
}

TEST_CASE("a cap that no score comes near is none, and a low one is felt") {
  for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
    Problem p = Square(130, mask);
    CheckSame("softmax.softcap:cap=1000000", "softmax.flash", p);
    const std::vector<double> low = Run("softmax.softcap:cap=0.5", p).Out();
    CHECK(!Near(low, Run("softmax.flash", p).Out()));
    p.softcap = 0.5;
    CHECK(Near(low, Run("softmax.flash", p).Out()));
  }
}

TEST_CASE("a gate multiplies what softmax gives") {
  const Problem p = Square(70, Mask::kCausal);
  Run gated("softmax.gated", p), plain("softmax.flash", p);
  std::vector<double> want = plain.Out();
  for (size_t n = 0; n < want.size(); ++n) want[n] *= gated.data.extra[0][n];
  CHECK(Near(gated.Out(), want));
  std::fill(gated.data.extra[0].begin(), gated.data.extra[0].end(), 0.0);
  CHECK(Near(gated.Out(), std::vector<double>(want.size(), 0.0)));
}

TEST_CASE("a cosine of distance weighs near keys more, and turns at its M") {
  Problem p = Square(40, Mask::kCausal, 1);
  const std::vector<double> near = Weights("linear.cosformer:m=80", p);
  const std::vector<double> flat = Weights("linear.relu", p);
  // Over the weights without it, those of the last query are the cosine's.
  for (int64_t j = 0; j < 40; ++j) {
    const int64_t last = 39 * 40;
    if (flat[last + j] == 0 || flat[last + 39] == 0) continue;
    const double ratio =
        near[last + j] / near[last + 39] * flat[last + 39] / flat[last + j];
    CHECK(ratio == doctest::Approx(std::cos(std::acos(-1.0) / 160 *
                                            static_cast<double>(39 - j)))
                       .epsilon(1e-5));
  }
}

// Powers of keys that rise without end are held: each is e^20 the one before.
TEST_CASE("efficient attention divides by running sums, however keys rise") {
  const Problem p = Square(230, Mask::kCausal, 1);
  Run run("linear.efficient", p);
  for (int64_t j = 0; j < 230; ++j)
    for (int64_t c = 0; c < p.qk_dim; ++c)
      run.data.k[j * p.qk_dim + c] =
          (c % 2 ? 20.0 : -20.0) * static_cast<double>(j);
  // Odd features see the newest key only, even ones the oldest.
  std::vector<double> want;
  for (int64_t i = 0; i < 230; ++i) {
    const double* const q = run.data.q.data() + i * p.qk_dim;
    double odd = 0, sum = 0;
    for (int64_t c = 0; c < p.qk_dim; ++c) {
      sum += std::exp(q[c]);
      odd += c % 2 ? std::exp(q[c]) : 0;
    }
    for (int64_t c = 0; c < p.v_dim; ++c)
      want.push_back(odd / sum * run.data.v[i * p.v_dim + c] +
                     (1 - odd / sum) * run.data.v[c]);
  }
  CHECK(Near(run.Out(), want));
}

// Trap 3, at its worst: the last key's features are e^100 those of the others.
TEST_CASE("random features of a late, large key leave earlier results alone") {
  const Problem p = Square(100, Mask::kCausal, 1);
  Run run("linear.favor", p);
  const std::vector<double> before = run.Out();
  for (int64_t c = 0; c < p.qk_dim; ++c)
    run.data.k[99 * p.qk_dim + c] = 40 * run.data.q[c];
  const std::vector<double> after = run.Out();
  CHECK(std::equal(before.begin(), before.end() - p.v_dim, after.begin()));
  CHECK(
      !std::equal(before.end() - p.v_dim, before.end(), after.end() - p.v_dim));
}

// Of short keys: 1e-4 of the largest feature, which they all share, is little.
TEST_CASE("more random features come closer to softmax") {
  const Problem p = Square(64, Mask::kCausal, 1);
  const auto scaled = [&](const std::string& spec) {
    Run run(spec, p);
    for (auto* rows : {&run.data.q, &run.data.k})
      for (double& x : *rows) x /= 2;
    return run.Out();
  };
  const std::vector<double> want = scaled("softmax.flash");
  const auto error = [&](int features) {
    double square = 0;
    for (const int seed : {1, 2, 3, 4}) {
      const std::vector<double> out =
          scaled("linear.favor:features=" + std::to_string(features) +
                 ",seed=" + std::to_string(seed));
      for (size_t n = 0; n < out.size(); ++n)
        square += (out[n] - want[n]) * (out[n] - want[n]);
    }
    return std::sqrt(square / static_cast<double>(4 * want.size()));
  };
  const double few = error(20), more = error(320), most = error(5120);
  MESSAGE("error of 20, 320, 5120 features: " << few << ", " << more << ", "
                                              << most);
  // As one over the root of their number: a quarter each time.
  CHECK(more < few / 2);
  CHECK(most < more / 2);
}

TEST_CASE("retention's heads fade by 1 - 2^(-5-h), and are normed") {
  const Problem p = Square(60, Mask::kCausal);
  Run run("recurrent.retention", p);
  std::fill(run.data.extra[0].begin(), run.data.extra[0].end(), 1.0);
  const std::vector<double> out = run.Out();
  for (int64_t h = 0; h < 2; ++h) {
    const double* const q = run.data.q.data() + (h * 60 + 59) * p.qk_dim;
    std::vector<double> row(p.v_dim);
    double mean = 0, square = 0;
    for (int64_t j = 0; j < 60; ++j) {
      double w = std::pow(h == 0 ? 31.0 / 32 : 63.0 / 64, 59 - j);
      double dot = 0;
      for (int64_t c = 0; c < p.qk_dim; ++c)
        dot += q[c] * run.data.k[(h * 60 + j) * p.qk_dim + c];
      w *= dot / std::sqrt(static_cast<double>(p.qk_dim));
      for (int64_t c = 0; c < p.v_dim; ++c)
        row[c] += w * run.data.v[(h * 60 + j) * p.v_dim + c];
    }
    for (const double x : row) mean += x / static_cast<double>(p.v_dim);
    for (const double x : row)
      square += (x - mean) * (x - mean) / static_cast<double>(p.v_dim);
    for (int64_t c = 0; c < p.v_dim; ++c)
      CHECK(out[(h * 60 + 59) * p.v_dim + c] ==
            doctest::Approx((row[c] - mean) / std::sqrt(square + 1e-6))
                .epsilon(1e-5));
  }
}

TEST_CASE("a sink takes weight from all keys alike, and none at -infinity") {
  const Problem p = Square(90, Mask::kCausal);
  Run sink("softmax.sink", p), plain("softmax.flash", p);
  REQUIRE(sink.data.bias.size() == 2);
  std::fill(sink.data.bias.begin(), sink.data.bias.end(), -100.0);
  CHECK(Near(sink.Out(), plain.Out()));
  // Scores of 0 and a sink of 0: one key more than there are.
  for (Run* run : {&sink, &plain}) {
    std::fill(run->data.q.begin(), run->data.q.end(), 0.0);
    std::fill(run->data.bias.begin(), run->data.bias.end(), 0.0);
  }
  std::vector<double> want = plain.Out();
  for (int64_t n = 0; n < std::ssize(want); ++n) {
    const auto keys = static_cast<double>(n / p.v_dim % p.q_len + 1);
    want[n] *= keys / (keys + 1);
  }
  CHECK(Near(sink.Out(), want));
}

TEST_CASE("content addressing sees directions, not lengths") {
  const Problem p = Square(80, Mask::kCausal);
  Run run("content.ntm", p);
  const std::vector<double> out = run.Out();
  for (double& x : run.data.q) x *= 4;
  for (double& x : run.data.k) x *= 0.125;
  CHECK(Near(run.Out(), out));
  // No strength, no preference.
  std::fill(run.data.extra[0].begin(), run.data.extra[0].end(), 0.0);
  Run mean("softmax.flash", p);
  mean.data.v = run.data.v;
  std::fill(mean.data.q.begin(), mean.data.q.end(), 0.0);
  CHECK(Near(run.Out(), mean.Out()));
}

TEST_CASE("GAU with softmax scales scores by the keys a row sees") {
  Problem p = Square(300, Mask::kNone, 1);
  p.scale = 0.3f;
  Run unit("gated.gau_softmax:n=300", p), plain("softmax.flash", p);
  std::fill(unit.data.extra[0].begin(), unit.data.extra[0].end(), 1.0);
  plain.data.v = unit.data.v;
  CHECK(Near(unit.Out(), plain.Out()));
  // Rows that see fewer than 16 keys are scaled as if they saw 16.
  p = Square(16, Mask::kCausal, 1);
  p.scale = 0.3f;
  Run few("gated.gau_softmax:n=16", p), same("softmax.flash", p);
  std::fill(few.data.extra[0].begin(), few.data.extra[0].end(), 1.0);
  CHECK(Near(few.Out(), same.Out()));
}

TEST_CASE("a diagonal is the values, moved") {
  for (const int64_t offset : {-3, 0, 2}) {
    const std::string spec = "local.diagonal:offset=" + std::to_string(offset);
    for (const Mask mask : {Mask::kNone, Mask::kCausal})
      CheckVisible(spec, Square(40, mask), [&](int64_t i, int64_t j) {
        return j == i + offset && (mask == Mask::kNone || j <= i);
      });
  }
  const Run here("local.diagonal:offset=0", Square(300, Mask::kCausal));
  CHECK(here.Out() == here.data.v);
}

TEST_CASE("a Gaussian of distance has its place, its width and its reach") {
  const std::string spec = "local.gaussian:offset=-4,sigma=2.5,reach=4";
  const Problem p = Square(60, Mask::kNone, 1);
  CheckVisible(spec, p,
               [](int64_t i, int64_t j) { return std::abs(j - i + 4) <= 10; });
  const std::vector<double> w = Weights(spec, p);
  const auto at = [&](int64_t j) { return w[30 * 60 + j]; };
  for (int64_t apart = 0; apart <= 10; ++apart) {
    const double want =
        std::exp(-static_cast<double>(apart * apart) / (2 * 2.5 * 2.5));
    CHECK(at(26 + apart) / at(26) == doctest::Approx(want).epsilon(1e-5));
    CHECK(at(26 - apart) == doctest::Approx(at(26 + apart)).epsilon(1e-5));
  }
  // Wider than the sequence by far: the mean.
  Run wide("local.gaussian:sigma=100000", p), mean("softmax.flash", p);
  std::fill(mean.data.q.begin(), mean.data.q.end(), 0.0);
  mean.data.v = wide.data.v;
  CHECK(Near(wide.Out(), mean.Out()));
}

TEST_CASE("additive scores are w . tanh(q + k), however large") {
  for (const double size : {1.0, 12.0, 60.0}) {
    const Problem p = Square(70, Mask::kCausal, 1);
    Run run("additive.bahdanau", p);
    for (double& x : run.data.q) x *= size;
    for (double& x : run.data.k) x *= size;
    std::vector<double> want(p.q_len * p.v_dim);
    for (int64_t i = 0; i < p.q_len; ++i) {
      double sum = 0;
      for (int64_t j = 0; j <= i; ++j) {
        double s = 0;
        for (int64_t u = 0; u < p.qk_dim; ++u)
          s += run.data.bias[u] * std::tanh(run.data.q[i * p.qk_dim + u] +
                                            run.data.k[j * p.qk_dim + u]);
        sum += std::exp(s);
        for (int64_t c = 0; c < p.v_dim; ++c)
          want[i * p.v_dim + c] += std::exp(s) * run.data.v[j * p.v_dim + c];
      }
      for (int64_t c = 0; c < p.v_dim; ++c) want[i * p.v_dim + c] /= sum;
    }
    CHECK(Near(run.Out(), want));
  }
}

TEST_CASE("a normed w has a length of its own") {
  const Problem p = Square(40, Mask::kCausal, 1);
  Run run("additive.bahdanau:normed=yes", p);
  const std::vector<double> out = run.Out();
  for (int64_t u = 0; u < p.qk_dim; ++u) run.data.bias[u] *= 8;
  CHECK(Near(run.Out(), out));
  run.data.bias[p.qk_dim] *= 2;
  CHECK(!Near(run.Out(), out));
}

TEST_CASE("GAU divides by what its knobs say") {
  const Problem p = Square(40, Mask::kCausal, 1);
  std::vector<double> fixed = Run("gated.gau:n=64", p).Out();
  std::vector<double> squared = Run("gated.gau:n=64,norm=n2", p).Out();
  std::vector<double> rows = Run("gated.gau:norm=rows", p).Out();
  for (int64_t n = 0; n < std::ssize(fixed); ++n) {
    squared[n] *= 64;
    rows[n] *= static_cast<double>(n / p.v_dim + 1) / 64;
  }
  CHECK(Near(fixed, squared));
  CHECK(Near(fixed, rows));
}

TEST_CASE(
    "top-k keeps so many keys, of equal ones the first, and all as softmax") {
  const Problem p = Square(300, Mask::kCausal);
  CHECK(
      Near(Run("topk.exact:keys=300", p).Out(), Run("softmax.naive", p).Out()));
  for (const bool zero : {false, true}) {
    const std::vector<double> w = Weights("topk.exact:keys=7", p, zero);
    const std::vector<double> all = Weights("softmax.naive", p, zero);
    for (int64_t row = 0; row < std::ssize(w) / 300; ++row) {
      const int64_t i = row % 300;
      int64_t kept = 0;
      double least = 1, most = 0;  // of softmax's weights: kept, left out
      for (int64_t j = 0; j <= i; ++j) {
        const double x = all[row * 300 + j];
        if (w[row * 300 + j] > 0) {
          ++kept;
          least = std::min(least, x);
          if (zero) CHECK(j < 7);
        } else {
          most = std::max(most, x);
        }
      }
      CHECK(kept == std::min<int64_t>(7, i + 1));
      CHECK(least >= most * (1 - 1e-6));
    }
  }
}

}  // namespace
}  // namespace saccade::bench::traps
