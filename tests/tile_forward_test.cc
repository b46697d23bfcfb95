// The tile engine's forward pass against the equation in float64, on every
// target.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <string_view>

#include "simd/target.h"
#include "tests/tile_forward_fixture.h"

namespace saccade::tile_forward {
namespace {

TEST_CASE("every pattern, at lengths that fit no tile") {
  for (const Named& p : Patterns())
    for (const auto& [q_len, kv_len] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {70, 70}, {300, 300}, {5, 333}, {150, 37}, {64, 0}})
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        Setting s{Spec(24, 17, p.pattern), q_len, kv_len, kv_len - q_len};
        s.spec.dtype = dtype;
        CheckOnEveryTarget(p.name, s);
      }
}

TEST_CASE("widths from 1 to 256") {
  for (const int64_t dim : {1, 2, 3, 5, 8, 31, 64, 80, 127, 256})
    for (const Named& p : {Patterns()[0], Patterns()[1], Patterns()[4]}) {
      CheckOnEveryTarget(p.name, {Spec(dim, dim, p.pattern), 90, 130, 40});
      CheckOnEveryTarget(p.name, {Spec(dim, 257 - dim, p.pattern), 20, 70, 50});
    }
}

TEST_CASE("scores that are tied, large or rising") {
  for (const Fill fill : {Fill::kTied, Fill::kLarge, Fill::kRising})
    for (const int64_t dim : {1, 64})
      for (const Named& p : {Patterns()[0], Patterns()[1], Patterns()[14]}) {
        Setting s{Spec(dim, dim, p.pattern), 200, 1100, 900, fill};
        CheckOnEveryTarget(p.name, s);
      }
}

TEST_CASE("a scale of any sign") {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const float scale : {3.0f, -0.3f, 0.0f})
      for (const Named& p : {Patterns()[0], Patterns()[1], Patterns()[4]}) {
        Setting s{Spec(32, 16, p.pattern), 100, 600, 500};
        s.spec.dtype = dtype;
        s.spec.scale = scale;
        CheckOnEveryTarget(p.name, s);
      }
}

TEST_CASE("any strides, batches, and queries that share keys") {
  for (const bool token_major : {false, true})
    for (const Named& p : {Patterns()[1], Patterns()[14], Patterns()[11]}) {
      Setting s{Spec(10, 6, p.pattern), 75, 90, 15};
      s.spec.batch = 2;
      s.spec.q_heads = 6;
      s.spec.kv_heads = 2;
      s.gap = 5;
      s.token_major = token_major;
      CheckOnEveryTarget(p.name, s);
      s.spec.dtype = DType::kBF16;
      s.with_lse = false;
      CheckOnEveryTarget(p.name, s);
    }
}

TEST_CASE("a bias by distance") {
  for (const Named& p : Patterns()) {
    Setting s{Spec(16, 9, p.pattern), 150, 180, 30};
    s.spec.q_heads = s.spec.kv_heads = 3;
    s.spec.slopes = {0.5f, 0.01f, 2.0f};
    CheckOnEveryTarget(p.name, s);
  }
}

TEST_CASE("weights of squared positive scores, with and without a gate") {
  for (const Named& p : Patterns())
    for (const bool rows : {false, true})
      for (const bool gated : {false, true})
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          Setting s{Spec(32, 19, p.pattern), 140, 170, 30};
          s.spec.dtype = dtype;
          s.spec.normaliser =
              rows ? Normaliser::kReluSquaredRows : Normaliser::kReluSquared;
          s.spec.divisor = 37;
          s.spec.gated = gated;
          CheckOnEveryTarget(p.name, s);
        }
}

TEST_CASE("a gated softmax keeps its product before the gate") {
  for (const Named& p : {Patterns()[1], Patterns()[14]})
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Setting s{Spec(32, 21, p.pattern), 140, 170, 30};
      s.spec.gated = true;
      s.spec.dtype = dtype;
      CheckOnEveryTarget(p.name, s);
    }
}

TEST_CASE("a cache that forgot what no query sees") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Setting s{Spec(12, 12, {Window(49, 4, true)}), 30, 300, 270};
    s.spec.dtype = dtype;
    s.kept_first = 4;
    s.forgotten = 300 - 30 - 49 - 4;  // rows hold sinks, then the last 79
    CheckOnEveryTarget("forgets", s);
  }
}

TEST_CASE("queries before the first token") {
  for (const Named& p : Patterns()) {
    Setting s{Spec(8, 8, p.pattern), 120, 50, -70};
    CheckOnEveryTarget(p.name, s);
  }
}

TEST_CASE("a row that sees nothing is 0 and its log-sum-exp -infinity") {
  const Setting s{Spec(8, 8, {Causal()}), 40, 10, -30};
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget scope(target);
    Data data(s);
    Run(s, data);
    for (int64_t t = 0; t < 30; ++t) {
      CHECK(data.lse[t] == -kInf);
      for (int64_t c = 0; c < 8; ++c) CHECK(data.out.At(0, 0, t, c) == 0);
    }
    CHECK(std::isfinite(data.lse[30]));
  }
}

TEST_CASE("long sums keep the budget") {
  for (const int64_t dim : {1, 16}) {
    Setting s{Spec(dim, dim, {Part()}), 70, 5000, 0};
    CheckOnEveryTarget("long", s);
    s.spec.scale = 1e-3f;
    CheckOnEveryTarget("long and flat", s);
  }
}

TEST_CASE("one large value among many small ones keeps the budget") {
  // Every sum that goes on behind it is rounded at its size.
  Setting s{Spec(1, 8, {Part()}), 16, 256, 0, Fill::kOutlier};
  s.spec.scale = 1e-2f;
  CheckOnEveryTarget("outlier", s);
}

TEST_CASE("the carry of several parts covers more rows than it holds at once") {
  // 20000 queries of two heads, and 6000 of four: more than one region each.
  Setting s{Spec(1, 1, Strided(5, true)), 20000, 12, -19990};
  s.spec.q_heads = s.spec.kv_heads = 2;
  Setting t{Spec(1, 3, Strided(5, true)), 6000, 40, -5960};
  t.spec.q_heads = t.spec.kv_heads = 4;
  const ScopedTarget scope(TargetNames().front());
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (Setting* const setting : {&s, &t}) {
      setting->spec.dtype = dtype;
      Data data(*setting);
      Run(*setting, data);
      CHECK(Compare(*setting, data).out <= kKappa);
    }
}

}  // namespace
}  // namespace saccade::tile_forward
