// Exact limits, and the mistakes that implementations are known to make: what
// patterns and masks let see, and how heads and rows are laid out. Here, unlike
// elsewhere, variants are named; what single forms compute is in
// traps_forms_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/traps_fixture.h"

namespace saccade::bench::traps {
namespace {

TEST_CASE("tier 1 is here") {
  for (const char* name :
       {"softmax.naive", "softmax.flash", "softmax.window", "softmax.alibi",
        "sparse.strided", "sparse.fixed", "sparse.atrous", "sparse.block",
        "linear.elu", "gated.gau"})
    CHECK_MESSAGE(Find(name) != nullptr, name);
}

TEST_CASE("at its limit a pattern is full softmax") {
  for (const int64_t length : {1, 7, 64, 130})
    for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
      const Problem p = Square(length, mask);
      const std::string n = std::to_string(length);
      CheckSame("softmax.naive", "softmax.flash", p);
      CheckSame("softmax.window:size=" + n, "softmax.flash", p);
      CheckSame("softmax.window:size=1000000", "softmax.flash", p);
      CheckSame("softmax.window:size=1,sinks=" + n, "softmax.flash", p);
      CheckSame("sparse.fixed:block=" + n + ",columns=1", "softmax.flash", p);
      CheckSame("sparse.fixed:block=16,columns=16", "softmax.flash", p);
      CheckSame("sparse.atrous:rate=1", "softmax.flash", p);
      CheckSame("sparse.atrous:rate=5,local=" + n, "softmax.flash", p);
      CheckSame("sparse.block:block=16,band=1000", "softmax.flash", p);
      CheckSame("sparse.block:block=16,globals=1000", "softmax.flash", p);
      CheckSame("softmax.alibi", "softmax.flash+alibi", p);
      if (mask == Mask::kNone) continue;
      CheckSame("sparse.strided:stride=1", "softmax.flash", p);
      CheckSame("sparse.strided:stride=" + n, "softmax.flash", p);
    }
}

TEST_CASE("a mask of all blocks, the caller's own, is full softmax") {
  Problem p = Square(100, Mask::kCausal);
  const std::vector<double> full = Run("softmax.flash", p).Out();
  auto blocks = std::make_shared<BlockMask>();
  blocks->block = 30;
  blocks->offsets = {0};
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t column = 0; column < 4; ++column)
      blocks->columns.push_back(column);
    blocks->offsets.push_back(std::ssize(blocks->columns));
  }
  p.blocks = blocks;
  CHECK(Near(Run("sparse.block", p).Out(), full));
}

TEST_CASE("patterns see what their definitions say") {
  const Problem causal = Square(70, Mask::kCausal),
                both = Square(70, Mask::kNone);
  CheckVisible(
      "softmax.window:size=9,sinks=3", causal,
      [](int64_t i, int64_t j) { return j <= i && (i - j < 9 || j < 3); });
  CheckVisible("softmax.window:size=9", both,
               [](int64_t i, int64_t j) { return std::abs(i - j) < 9; });
  CheckVisible("sparse.strided:stride=8", causal, [](int64_t i, int64_t j) {
    return j <= i && (i - j < 8 || (i - j) % 8 == 0);
  });
  const auto fixed = [](int64_t i, int64_t j) {
    return i / 16 == j / 16 || j % 16 >= 13;
  };
  CheckVisible("sparse.fixed:block=16,columns=3", both, fixed);
  CheckVisible("sparse.fixed:block=16,columns=3", causal,
               [&](int64_t i, int64_t j) { return j <= i && fixed(i, j); });
  CheckVisible("sparse.atrous:rate=6", both,
               [](int64_t i, int64_t j) { return std::abs(i - j) % 6 == 0; });
  CheckVisible("sparse.atrous:rate=6,local=2", causal,
               [](int64_t i, int64_t j) {
                 return j <= i && ((i - j) % 6 == 0 || i - j <= 2);
               });
  CheckVisible("sparse.block:pattern=longformer,block=8,band=1,globals=1", both,
               [](int64_t i, int64_t j) {
                 return std::abs(i / 8 - j / 8) <= 1 || j < 8 || i < 8;
               });
}

// Trap 1.
TEST_CASE("ALiBi's slopes are right when heads are no power of two") {
  // Press et al. 2021: for 12 heads, the 8 of 8 heads, then every other one of
  // the 16 of 16 heads. 2^(-8 (h + 1) / 12) for every head is wrong.
  const double exponents[] = {-1, -2, -3,  -4,   -5,   -6,
                              -7, -8, -.5, -1.5, -2.5, -3.5};
  for (const std::string spec : {"softmax.alibi", "softmax.flash+alibi"}) {
    const int64_t length = 5;
    const std::vector<double> w =
        Weights(spec, Square(length, Mask::kCausal, 12), true);
    for (int64_t h = 0; h < 12; ++h) {
      // The last query's weights of itself and of the key before.
      const int64_t last = (h + 1) * length * length - 1;
      CHECK(std::log(w[last] / w[last - 1]) ==
            doctest::Approx(std::exp2(exponents[h])).epsilon(1e-5));
    }
  }
}

// Trap 2: attending over the wrong axis of blocks makes "local" strided.
TEST_CASE("a window is local: the nearest keys, not every n-th") {
  CheckVisible("softmax.window:size=4", Square(32, Mask::kCausal),
               [](int64_t i, int64_t j) { return j <= i && j > i - 4; });
}

// Trap 4.
TEST_CASE("a window of one key is the value itself") {
  for (const Mask mask : {Mask::kCausal, Mask::kNone}) {
    const Run run("softmax.window:size=1", Square(37, mask));
    CHECK(Near(run.Out(), run.data.v));
    Problem p = Square(37, mask);
    p.window = 1;
    const Run cut("softmax.flash", p);
    CHECK(Near(cut.Out(), cut.data.v));
  }
}

TEST_CASE("a window of W holds W keys, the query's own included") {
  for (const int64_t size : {2, 3, 16, 17}) {
    const std::vector<double> w =
        Weights("softmax.window:size=" + std::to_string(size),
                Square(40, Mask::kCausal, 1));
    const auto row = w.end() - 40;
    CHECK(std::count_if(row, w.end(), [](double x) { return x != 0; }) == size);
  }
}

// Trap 7.
TEST_CASE("query heads read key heads in runs: 0 0 0 1 1 1") {
  for (const Variant* v : Variants()) {
    if (!v->traits.grouped_heads || !v->inputs.empty()) continue;
    // The linear family divides by a sum that has an epsilon beside it, and an
    // iteration to an inverse is not at its end.
    Problem p = Square(21, v->traits.causal ? Mask::kCausal : Mask::kNone);
    p.q_heads = 6;
    Run run(std::string(v->name), p);
    for (int64_t n = 0; n < std::ssize(run.data.v); ++n)
      run.data.v[n] = n < std::ssize(run.data.v) / 2 ? 1 : 2;
    // A sink would take its share.
    std::fill(run.data.bias.begin(), run.data.bias.end(), -100.0);
    const std::vector<double> out = run.Out();
    INFO(v->name);
    for (int64_t h = 0; h < 6; ++h)
      CHECK(out[h * std::ssize(out) / 6 + 50] ==
            doctest::Approx(h < 3 ? 1 : 2).epsilon(0.1));
  }
}

// Trap 8, and 3: neither chunks nor the end of the sequence show.
TEST_CASE("the prefix of the result is the result of the prefix") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      if (!v->traits.causal) continue;
      const Problem whole = Square(150, Mask::kCausal);
      Run run(std::string(v->name), whole);
      const std::vector<double> out = run.Out();
      const auto cut = [&](const std::vector<double>& x, int64_t length) {
        const int64_t width = std::ssize(x) / 2 / 150;
        std::vector<double> y;
        for (int64_t h = 0; h < 2; ++h)
          y.insert(y.end(), x.begin() + h * 150 * width,
                   x.begin() + (h * 150 + length) * width);
        return y;
      };
      for (const int64_t length : {1, 3, 15, 16, 17, 63, 65, 100, 127, 149}) {
        Run prefix(std::string(v->name), Square(length, Mask::kCausal));
        prefix.data.q = cut(run.data.q, length);
        prefix.data.k = cut(run.data.k, length);
        prefix.data.v = cut(run.data.v, length);
        prefix.data.bias = run.data.bias;
        for (size_t n = 0; n < v->inputs.size(); ++n)
          prefix.data.extra[n] = cut(run.data.extra[n], length);
        CHECK_MESSAGE(Near(prefix.Out(), cut(out, length)), length);
      }
    }
}

TEST_CASE("weights of the softmax family sum to one") {
  for (const Variant* v : Variants()) {
    if (v->name.rfind("softmax.", 0) != 0 && v->name.rfind("sparse.", 0) != 0)
      continue;
    if (!v->inputs.empty() || v->parameters) continue;  // gates, sinks
    INFO(v->name);
    for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
      if (mask == Mask::kNone && !v->traits.bidirectional) continue;
      const std::vector<double> w =
          Weights(std::string(v->name), Square(90, mask));
      double worst = 0;
      for (int64_t row = 0; row < std::ssize(w) / 90; ++row) {
        double sum = 0;
        for (int64_t j = 0; j < 90; ++j) sum += w[row * 90 + j];
        worst = std::max(worst, std::abs(sum - 1));
      }
      CHECK(worst < 2e-6);
    }
  }
}

TEST_CASE("scores that are all alike weigh the visible values alike") {
  const Problem p = Square(50, Mask::kCausal);
  for (const std::string spec : {"softmax.naive", "softmax.flash"}) {
    const std::vector<double> w = Weights(spec, p, true);
    for (int64_t i = 0; i < 50; ++i)
      for (int64_t j = 0; j < 50; ++j)
        CHECK(w[i * 50 + j] ==
              doctest::Approx(j <= i ? 1.0 / static_cast<double>(i + 1) : 0));
  }
}

TEST_CASE("a query that sees nothing is zero, its log-sum-exp -inf") {
  // Bottom right: with more queries than keys, the first see nothing.
  for (const Variant* v : Variants()) {
    if (!v->traits.causal || !v->traits.cross) continue;
    Problem p = Square(20, Mask::kCausal);
    p.kv_len = 12;
    const std::vector<double> out = Run(std::string(v->name), p).Out();
    INFO(v->name);
    for (int64_t h = 0; h < 2; ++h)
      CHECK(std::all_of(out.begin() + h * 20 * 12,
                        out.begin() + h * 20 * 12 + 8 * 12,
                        [](double x) { return x == 0; }));
  }
}

}  // namespace
}  // namespace saccade::bench::traps
