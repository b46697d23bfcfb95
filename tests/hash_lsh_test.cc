// Attention within buckets at its limits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench {
namespace {

constexpr int64_t kQk = 20, kV = 12;

struct Case {
  Case(const std::string &spec, int64_t length, Mask mask) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    check.variant = parsed->variant;
    check.problem = {.q_heads = 2,
                     .kv_heads = 2,
                     .q_len = length,
                     .kv_len = length,
                     .qk_dim = kQk,
                     .v_dim = kV,
                     .mask = mask};
    check.problem.knobs = parsed->knobs;
    problem = *Resolve(*check.variant, check.problem);
    data = MakeData(check, problem);
  }
  std::vector<double> Out() const {
    const auto plan = MakePlan(*check.variant, check.problem);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    const Written w = RunPass(check, **plan, problem, data, Serial());
    REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);
    return w.out;
  }

  CheckCase check;
  Problem problem;
  Data data;
};

// Softmax over all visible keys q_j / |q_j| but the query's own; or its value,
// where there is no other.
std::vector<double> Exact(const Case &of) {
  const Problem &p = of.problem;
  std::vector<double> out;
  const auto row = [&](const std::vector<double> &x, int64_t head, int64_t t,
                       int64_t width) {
    return x.data() + (head * p.q_len + t) * width;
  };
  for (int64_t head = 0; head < 2; ++head)
    for (int64_t i = 0; i < p.q_len; ++i) {
      std::vector<double> sum(kV, 0);
      double all = 0;
      for (int64_t j = 0; j < p.q_len; ++j) {
        if (j == i || (p.mask != Mask::kNone && j > i)) continue;
        const double *const q = row(of.data.q, head, i, kQk);
        const double *const k = row(of.data.q, head, j, kQk);
        double dot = 0, square = 0;
        for (int64_t c = 0; c < kQk; ++c) dot += q[c] * k[c];
        for (int64_t c = 0; c < kQk; ++c) square += k[c] * k[c];
        const double w = std::exp(p.scale * dot / std::sqrt(square));
        all += w;
        for (int64_t c = 0; c < kV; ++c)
          sum[c] += w * row(of.data.v, head, j, kV)[c];
      }
      for (int64_t c = 0; c < kV; ++c)
        out.push_back(all > 0 ? sum[c] / all : row(of.data.v, head, i, kV)[c]);
    }
  return out;
}

double Distance(const std::vector<double> &a, const std::vector<double> &b) {
  REQUIRE(a.size() == b.size());
  double error = 0, size = 0;
  for (size_t n = 0; n < a.size(); ++n) {
    error += (a[n] - b[n]) * (a[n] - b[n]);
    size += b[n] * b[n];
  }
  return std::sqrt(error / size);
}

TEST_CASE("tokens of one bucket and chunk see each other, and not themselves") {
  for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
    Case run("hash.lsh:rounds=3,chunk=128", 100, mask);
    // A part that all share makes their buckets the same.
    for (size_t n = 0; n < run.data.q.size(); ++n)
      run.data.q[n] += 200 * std::cos(static_cast<double>(n % kQk));
    run.problem.scale = run.check.problem.scale = 0.01f;
    CHECK(Distance(run.Out(), Exact(run)) < 1e-5);
  }
}

TEST_CASE("a bucket's chunks see one back, and a first token itself") {
  Case run("hash.lsh:rounds=1,chunk=16", 50, Mask::kCausal);
  for (size_t n = 0; n < run.data.q.size(); ++n)
    run.data.q[n] = std::cos(static_cast<double>(n % kQk));
  // All scores are alike: outputs are means of what is seen.
  for (int64_t n = 0; n < std::ssize(run.data.v); ++n)
    run.data.v[n] = static_cast<double>(n / kV % 50);
  const std::vector<double> out = run.Out();
  for (int64_t i = 0; i < 50; ++i) {
    const int64_t first = std::max<int64_t>(0, i / 16 - 1) * 16;
    const double mean = i == 0 ? 0 : static_cast<double>(first + i - 1) / 2;
    CHECK(out[i * kV] == doctest::Approx(mean));
  }
}

TEST_CASE("opposite directions are different buckets") {
  Case run("hash.lsh:buckets=2,rounds=1", 2, Mask::kNone);
  for (int64_t n = 0; n < std::ssize(run.data.q); ++n)
    run.data.q[n] = n / kQk % 2 == 0 ? 1 : -1;
  CHECK(Distance(run.Out(), run.data.v) < 1e-6);  // each is alone
}

TEST_CASE("more rounds come closer to all pairs") {
  double before = 1e9;
  for (const char *rounds : {"1", "3", "8"}) {
    Case run(std::string("hash.lsh:buckets=4,rounds=") + rounds, 200,
             Mask::kCausal);
    const double error = Distance(run.Out(), Exact(run));
    INFO(rounds, ": ", error);
    CHECK(error < 0.8 * before);
    before = error;
  }
}

TEST_CASE("what has no hash is refused") {
  const Variant &v = *Find("hash.lsh");
  Problem p = {.q_len = 9, .kv_len = 9, .qk_dim = 4, .v_dim = 4};
  CHECK(MakePlan(v, p).ok());
  p.knobs.SetText("buckets", "7");
  const Status odd = MakePlan(v, p).status();
  CHECK(odd.code() == Code::kInvalid);
  CHECK(odd.message().find("even") != std::string::npos);
  p.knobs = {};
  p.kv_len = 10;
  CHECK(MakePlan(v, p).status().code() == Code::kUnsupported);
}

}  // namespace
}  // namespace saccade::bench
