// Attention through landmarks at its limits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/lenses/lens.h"
#include "bench/verify.h"
#include "bench/verify_run.h"
#include "engine/landmark.h"
#include "engine/pseudo_inverse.h"

namespace saccade::bench {
namespace {

struct Case {
  Case(const std::string &spec, int64_t length, int64_t batch = 1) {
    const Result<Spec> parsed = ParseSpec(spec);
    REQUIRE_MESSAGE(parsed.ok(), parsed.status().message());
    check.variant = parsed->variant;
    check.problem = {.batch = batch,
                     .q_heads = 2,
                     .kv_heads = 2,
                     .q_len = length,
                     .kv_len = length,
                     .qk_dim = 20,
                     .v_dim = 12};
    check.problem.knobs = parsed->knobs;
    problem = *Resolve(*check.variant, check.problem);
    data = MakeData(check, problem);
  }
  Written Run(Exec &exec = Serial()) const {
    const auto plan = MakePlan(*check.variant, check.problem);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    Written w = RunPass(check, **plan, problem, data, exec);
    REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);
    return w;
  }

  CheckCase check;
  Problem problem;
  Data data;
};

double Worst(const std::vector<double> &a, const std::vector<double> &b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t n = 0; n < a.size(); ++n)
    worst = std::max(worst, std::abs(a[n] - b[n]));
  return worst;
}

TEST_CASE("segments differ by a token at most, and leave none out") {
  for (const int64_t length : {1, 5, 64, 65, 127, 1000})
    for (const int64_t count : {1, 3, 5, 64}) {
      if (count > length) continue;
      int64_t at = 0;
      for (int64_t s = 0; s < count; ++s) {
        const Interval rows = Segment(s, count, length);
        CHECK(rows.begin == at);
        CHECK(rows.size() >= length / count);
        CHECK(rows.size() <= length / count + 1);
        at = rows.end;
      }
      CHECK(at == length);
    }
}

TEST_CASE("an iteration that has ended is the inverse") {
  constexpr int64_t kN = 37;
  Arena count;
  PseudoInverse(count, kN, 12);
  std::vector<std::byte> memory(count.used() + kAlign);
  const auto first = reinterpret_cast<uintptr_t>(memory.data());
  Arena arena(Bytes(memory).subspan((kAlign - first % kAlign) % kAlign));
  const PseudoInverse inverse(arena, kN, 12);
  std::fill_n(inverse.a(), kN * inverse.stride(), 0.0);
  Rng rng(3);
  for (int64_t r = 0; r < kN; ++r) {
    for (int64_t c = 0; c < kN; ++c)
      inverse.a()[r * inverse.stride() + c] = 0.2 * rng.Uniform() / kN;
    inverse.a()[r * inverse.stride() + r] += 0.9;
  }
  inverse.Run();
  for (int64_t r = 0; r < kN; ++r)
    for (int64_t c = 0; c < kN; ++c) {
      double sum = 0;
      for (int64_t p = 0; p < kN; ++p)
        sum += inverse.a()[r * inverse.stride() + p] *
               inverse.z()[p * inverse.stride() + c];
      CHECK(std::abs(sum - (r == c)) < 1e-12);
    }
}

TEST_CASE("where every token is a landmark, Nystrom's attention is softmax") {
  // Scores far apart, whose matrix is well away from singular.
  Case run("lowrank.nystrom:steps=12", 40), exact("softmax.flash", 40);
  for (double &x : run.data.q) x *= 3;
  run.data.k = run.data.q;
  exact.data = run.data;
  CHECK(Worst(run.Run().out, exact.Run().out) < 1e-4);
}

// Trap 5: of other sequences' matrices nothing is known.
TEST_CASE("sequences with other norms leave a start value alone") {
  Case both("lowrank.nystrom:steps=2", 150, 2),
      one("lowrank.nystrom:steps=2", 150);
  const auto half = [](const std::vector<double> &x) {
    return std::vector<double>(x.begin(), x.begin() + std::ssize(x) / 2);
  };
  // The second sequence's keys all look to one landmark: a column sum of m.
  for (auto *x : {&both.data.q, &both.data.k})
    for (int64_t n = std::ssize(*x) / 2; n < std::ssize(*x); ++n)
      (*x)[n] = x == &both.data.k && n % 3000 < 40 ? 30 : 1;
  one.data.q = half(both.data.q);
  one.data.k = half(both.data.k);
  one.data.v = half(both.data.v);
  CHECK(half(both.Run().out) == one.Run().out);
}

TEST_CASE("more landmarks come closer to softmax") {
  const Lens *approximation = nullptr;
  for (const Lens *lens : Lenses())
    if (lens->name == "approximation") approximation = lens;
  REQUIRE(approximation != nullptr);
  double before = 1e9;
  for (const char *landmarks : {"4", "64", "512"}) {
    const Result<Spec> spec = ParseSpec(
        std::string("lowrank.nystrom:steps=12,landmarks=") + landmarks);
    REQUIRE(spec.ok());
    const auto readings = approximation->look({.spec = *spec}, Serial());
    REQUIRE_MESSAGE(readings.ok(), readings.status().message());
    const double error = readings->front().value;
    INFO(landmarks, ": ", error);
    CHECK(error < 0.95 * before);
    before = error;
  }
}

TEST_CASE("landmarks are for whole sequences, read both ways") {
  const Variant &v = *Find("lowrank.nystrom");
  Problem p = {.q_len = 9, .kv_len = 9, .qk_dim = 4, .v_dim = 4};
  CHECK(MakePlan(v, p).ok());
  p.mask = Mask::kCausal;
  CHECK(MakePlan(v, p).status().code() == Code::kUnsupported);
  p.mask = Mask::kNone;
  p.kv_len = 8;
  CHECK(MakePlan(v, p).status().code() == Code::kUnsupported);
}

}  // namespace
}  // namespace saccade::bench
