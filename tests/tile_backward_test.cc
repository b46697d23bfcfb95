// The tile engine's backward pass against gradients in float64 made by plain
// loops over the visible pairs, straight from the equations; those loops are
// held to central differences once.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/tile.h"
#include "simd/bf16.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

// The definition in pattern.h, word by word.
bool Visible(const Part& part, int64_t i, int64_t j) {
  const int64_t s = part.step;
  if (FloorDiv(i, s) * s + j % s != i) return false;  // not of j's class
  i = FloorDiv(i, s);
  j = j / s;
  if (i - j < part.low || i - j > part.high) return false;
  const int64_t b = part.block;
  switch (part.kind) {
    case Part::Kind::kBand:
      return std::abs(i - j) <= part.reach || j < part.sinks;
    case Part::Kind::kFixed:
      return FloorDiv(i, b) == j / b || j % b >= b - part.columns;
    case Part::Kind::kBlocks: {
      const BlockMask& mask = *part.blocks;
      const int64_t row = FloorDiv(i, b);
      if (row < 0 || row + 1 >= static_cast<int64_t>(mask.offsets.size()))
        return false;
      for (int64_t n = mask.offsets[row]; n < mask.offsets[row + 1]; ++n)
        if (mask.columns[n] == j / b) return true;
      return false;
    }
  }
  return false;
}

// A tensor [B, H, T, D] in float64 and as the engine gets it: tokens outside,
// heads inside, with gaps, starting at an odd element.
struct Tensor {
  Tensor() = default;
  Tensor(DType type, int64_t b, int64_t h, int64_t t, int64_t dim)
      : dtype(type),
        batch(b),
        heads(h),
        len(t),
        width(dim),
        value(static_cast<size_t>(b * h * t * dim)),
        bytes(static_cast<size_t>((b * t * h * (dim + 3) + 1) * SizeOf(type)),
              0xff) {}

  double& At(int64_t b, int64_t h, int64_t t, int64_t c) {
    return value[static_cast<size_t>(((b * heads + h) * len + t) * width + c)];
  }
  View view() {
    return {bytes.data() + SizeOf(dtype),
            dtype,
            batch,
            heads,
            len,
            width,
            len * heads * (width + 3),
            width + 3,
            heads * (width + 3)};
  }
  double Stored(int64_t b, int64_t h, int64_t t, int64_t c) {
    return dtype == DType::kF32 ? view().Row<float>(b, h, t)[c]
                                : ToFloat(view().Row<BF16>(b, h, t)[c]);
  }
  template <class F>
  void ForEach(F visit) {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < len; ++t)
          for (int64_t c = 0; c < width; ++c) visit(b, h, t, c);
  }
  // Stores the values and takes them back as they were rounded.
  void Store() {
    ForEach([&](int64_t b, int64_t h, int64_t t, int64_t c) {
      const float x = static_cast<float>(At(b, h, t, c));
      if (dtype == DType::kF32)
        view().Row<float>(b, h, t)[c] = x;
      else
        view().Row<BF16>(b, h, t)[c] = ToBF16(x);
      At(b, h, t, c) = Stored(b, h, t, c);
    });
  }
  void Fill(std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (double& x : value) x = normal(random);
    Store();
  }
  void SetRow(int64_t t, double x) {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t c = 0; c < width; ++c) At(b, h, t, c) = x;
    Store();
  }
  // The bytes between rows, which nobody may touch, are as they were made.
  bool GapsUntouched() const {
    const int64_t size = SizeOf(dtype), gap = 3 * size;
    const int64_t row = width * size + gap;
    for (int64_t n = 0; n < batch * heads * len; ++n) {
      const auto begin = bytes.begin() + size + n * row + width * size;
      if (std::count(begin, begin + gap, uint8_t{0xff}) != gap) return false;
    }
    return true;
  }

  DType dtype = DType::kF32;
  int64_t batch = 0, heads = 0, len = 0, width = 0;
  std::vector<double> value;
  std::vector<uint8_t> bytes;
};

struct Case {
  std::string name;
  TileSpec spec;
  int64_t q_len = 0, kv_len = 0, q_position = 0;
};

// Inputs, output and gradients. `size` of a gradient: the sum of the absolute
// values of what it is made of, and of what those are.
struct World {
  World(const Case& c, unsigned seed) : of(c) {
    const TileSpec& s = c.spec;
    q = {s.dtype, s.batch, s.q_heads, c.q_len, s.qk_dim};
    k = {s.dtype, s.batch, s.kv_heads, c.kv_len, s.qk_dim};
    v = {s.dtype, s.batch, s.kv_heads, c.kv_len, s.v_dim};
    out = {s.dtype, s.batch, s.q_heads, c.q_len, s.v_dim};
    dout = out;
    dq = dq_size = q;
    dk = dk_size = k;
    dv = dv_size = v;
    std::mt19937 random(seed);
    for (Tensor* t : {&q, &k, &v, &dout}) t->Fill(random);
  }

  double Score(int64_t b, int64_t h, int64_t i, int64_t j, double* size) {
    const int64_t hk = h / (of.spec.q_heads / of.spec.kv_heads);
    double s = 0, a = 0;
    for (int64_t c = 0; c < q.width; ++c) {
      s += q.At(b, h, i, c) * k.At(b, hk, j, c);
      a += std::abs(q.At(b, h, i, c) * k.At(b, hk, j, c));
    }
    const double bias =
        of.spec.slopes.empty()
            ? 0
            : of.spec.slopes[h] * std::abs(double(of.q_position + i - j));
    *size = of.spec.scale * a + bias;
    return of.spec.scale * s - bias;
  }

  // The forward pass of one row; returns the keys it sees.
  std::vector<int64_t> Row(int64_t b, int64_t h, int64_t i) {
    std::vector<int64_t> seen;
    for (int64_t j = 0; j < of.kv_len; ++j)
      for (const Part& part : of.spec.pattern)
        if (Visible(part, of.q_position + i, j)) seen.push_back(j);
    s.resize(seen.size());
    s_size.resize(seen.size());
    p.resize(seen.size());
    top = -kInf;
    for (size_t n = 0; n < seen.size(); ++n) {
      s[n] = Score(b, h, i, seen[n], &s_size[n]);
      top = std::isnan(s[n]) ? kNaN : std::max(s[n], top);
    }
    norm = 0;
    if (of.spec.normaliser == Normaliser::kSoftmax) {
      for (double x : s) norm += std::exp(x - top);
    } else {
      norm = of.spec.normaliser == Normaliser::kReluSquared
                 ? of.spec.divisor
                 : static_cast<double>(seen.size());
    }
    for (size_t n = 0; n < seen.size(); ++n) {
      const double relu = s[n] < 0 ? 0 : s[n];
      p[n] = of.spec.normaliser == Normaliser::kSoftmax
                 ? std::exp(s[n] - top) / norm
                 : relu * relu / norm;
    }
    const int64_t hk = h / (of.spec.q_heads / of.spec.kv_heads);
    for (int64_t c = 0; c < v.width; ++c) {
      double sum = 0;
      for (size_t n = 0; n < seen.size(); ++n)
        sum += p[n] * v.At(b, hk, seen[n], c);
      out.At(b, h, i, c) = sum;
    }
    return seen;
  }

  void Forward() {
    lse.clear();
    for (int64_t b = 0; b < q.batch; ++b)
      for (int64_t h = 0; h < q.heads; ++h)
        for (int64_t i = 0; i < q.len; ++i) {
          const bool any = !Row(b, h, i).empty();
          lse.push_back(static_cast<float>(any ? top + std::log(norm) : -kInf));
        }
  }

  void Gradients() {
    Forward();
    for (Tensor* t : {&dq, &dk, &dv, &dq_size, &dk_size, &dv_size})
      std::fill(t->value.begin(), t->value.end(), 0.0);
    for (int64_t b = 0; b < q.batch; ++b)
      for (int64_t h = 0; h < q.heads; ++h)
        for (int64_t i = 0; i < q.len; ++i) GradientsOfRow(b, h, i);
    out.Store();  // rounded, as the engine is given it
  }

  void GradientsOfRow(int64_t b, int64_t h, int64_t i) {
    const std::vector<int64_t> seen = Row(b, h, i);
    const bool softmax = of.spec.normaliser == Normaliser::kSoftmax;
    const int64_t hk = h / (of.spec.q_heads / of.spec.kv_heads);
    double inner = 0, inner_size = 0;
    for (int64_t c = 0; softmax && c < v.width; ++c) {
      inner += dout.At(b, h, i, c) * out.At(b, h, i, c);
      inner_size += std::abs(dout.At(b, h, i, c) * out.At(b, h, i, c));
    }
    for (size_t n = 0; n < seen.size(); ++n) {
      const int64_t j = seen[n];
      double dp = 0, dp_size = 0;
      for (int64_t c = 0; c < v.width; ++c) {
        dp += dout.At(b, h, i, c) * v.At(b, hk, j, c);
        dp_size += std::abs(dout.At(b, h, i, c) * v.At(b, hk, j, c));
      }
      // An error e of a score is e relative in exp, and 2 e in relu^2 and its
      // derivative.
      const double lift =
          1 + s_size[n] + (softmax ? std::abs(top + std::log(norm)) : 0);
      double ds, ds_size;
      const double p_size =
          softmax ? p[n] * lift : 2 * s_size[n] * s_size[n] / norm;
      if (softmax) {
        ds = p[n] * (dp - inner);
        ds_size = p[n] * (dp_size + inner_size) * lift;
      } else {
        ds = 2 * (s[n] < 0 ? 0 : s[n]) * dp / norm;
        ds_size = 4 * s_size[n] * dp_size / norm;
      }
      for (int64_t c = 0; c < v.width; ++c) {
        dv.At(b, hk, j, c) += p[n] * dout.At(b, h, i, c);
        dv_size.At(b, hk, j, c) += p_size * std::abs(dout.At(b, h, i, c));
      }
      const double scale = of.spec.scale;
      for (int64_t c = 0; c < q.width; ++c) {
        dq.At(b, h, i, c) += scale * ds * k.At(b, hk, j, c);
        dk.At(b, hk, j, c) += scale * ds * q.At(b, h, i, c);
        dq_size.At(b, h, i, c) += scale * ds_size * std::abs(k.At(b, hk, j, c));
        dk_size.At(b, hk, j, c) += scale * ds_size * std::abs(q.At(b, h, i, c));
      }
    }
  }

  // Runs the engine on poisoned memory; returns the gradients' bytes.
  std::vector<uint8_t> Run(Exec& exec) {
    for (Tensor* t : {&dq, &dk, &dv})
      std::fill(t->bytes.begin(), t->bytes.end(), uint8_t{0xff});
    const size_t bytes =
        TileBackwardScratch(of.spec, of.q_len, of.kv_len, exec.slots());
    struct alignas(64) Line {
      uint8_t bytes[64];
    };
    std::vector<Line> space(bytes / sizeof(Line) + 1);
    std::memset(space.data(), 0xff, space.size() * sizeof(Line));
    TileBackwardCall call{
        .forward = {.q = q.view(),
                    .k = k.view(),
                    .v = v.view(),
                    .lse = of.spec.normaliser == Normaliser::kSoftmax
                               ? lse.data()
                               : nullptr,
                    .q_position = of.q_position,
                    .kv_end = of.kv_len},
        .out = out.view(),
        .dout = dout.view(),
        .dq = dq.view(),
        .dk = dk.view(),
        .dv = dv.view()};
    TileBackward(of.spec, call,
                 {reinterpret_cast<std::byte*>(space.data()), bytes}, exec);
    for (uint8_t x : space.back().bytes) CHECK(x == 0xff);
    std::vector<uint8_t> all;
    for (Tensor* t : {&dq, &dk, &dv}) {
      CHECK(t->GapsUntouched());
      all.insert(all.end(), t->bytes.begin(), t->bytes.end());
    }
    return all;
  }

  // The worst error, in units of roundoff times size.
  double Worst(Tensor& got, Tensor& size) {
    const double u = got.dtype == DType::kF32 ? 0x1p-24 : 0x1p-9;
    double worst = 0;
    got.ForEach([&](int64_t b, int64_t h, int64_t t, int64_t c) {
      const double want = got.At(b, h, t, c), is = got.Stored(b, h, t, c);
      if (std::isnan(want) && std::isnan(is)) return;
      if (any_infinity && !std::isfinite(want)) return;
      const double error = std::abs(is - want);
      if (error <= 1e-37) return;  // below what floats can tell
      const double units = error / (u * size.At(b, h, t, c));
      worst = units <= worst ? worst : std::isnan(units) ? kInf : units;
    });
    return worst;
  }
  double Worst() {
    return std::max(
        {Worst(dq, dq_size), Worst(dk, dk_size), Worst(dv, dv_size)});
  }

  Case of;
  Tensor q, k, v, out, dout, dq, dk, dv, dq_size, dk_size, dv_size;
  std::vector<float> lse;
  bool any_infinity = false;  // how it spreads among who see it is not said
  // Of the row at hand.
  std::vector<double> s, s_size, p;
  double top = 0, norm = 0;
};

// The largest error seen is 5.0, in a causal chunk of a prefill.
constexpr double kKappa = 8;

TileSpec MakeSpec(Pattern pattern, int64_t qk_dim = 24, int64_t v_dim = 16,
                  Normaliser normaliser = Normaliser::kSoftmax) {
  TileSpec spec{.batch = 1,
                .q_heads = 1,
                .kv_heads = 1,
                .qk_dim = qk_dim,
                .v_dim = v_dim,
                .normaliser = normaliser,
                .divisor = 37,
                .pattern = std::move(pattern)};
  spec.scale = static_cast<float>(1 / std::sqrt(double(qk_dim)));
  return spec;
}

const Part kAll{};
const Part kCausal{.low = 0};

std::shared_ptr<const BlockMask> Mask(int64_t block) {
  auto mask = std::make_shared<BlockMask>();
  mask->block = block;
  mask->offsets = {0, 2, 3, 3, 5, 8};  // the third row of blocks sees nothing
  mask->columns = {0, 2, 1, 0, 3, 0, 1, 4};
  return mask;
}

Part Blocks(int64_t block, int64_t low) {
  return {.kind = Part::Kind::kBlocks,
          .low = low,
          .block = block,
          .blocks = Mask(block)};
}

// Local band and every l-th key before it, as in sparse.strided.
Pattern Strided(int64_t l) {
  return {Part{.low = 0, .high = l - 1}, Part{.step = l, .low = 1}};
}

std::vector<Case> OneHead() {
  const Part window{.low = -20, .high = 20};
  const Part sinks{.low = 0, .reach = 30, .sinks = 5};
  const Part fixed{
      .kind = Part::Kind::kFixed, .low = 0, .block = 40, .columns = 7};
  const Part fixed_all{.kind = Part::Kind::kFixed, .block = 33, .columns = 3};
  using N = Normaliser;
  return {
      {"full", MakeSpec({kAll}, 64, 64), 150, 150, 0},
      {"full, wide", MakeSpec({kAll}, 128, 80), 130, 140, 10},
      {"full, odd widths", MakeSpec({kAll}, 33, 7), 61, 139, 78},
      {"width 1", MakeSpec({kAll}, 1, 1), 17, 19, 2},
      {"one token", MakeSpec({kCausal}), 1, 1, 0},
      {"one query", MakeSpec({kCausal}, 5, 3), 1, 77, 76},
      {"no query", MakeSpec({kCausal}), 0, 9, 9},
      {"no key", MakeSpec({kCausal}), 9, 0, -9},
      {"causal", MakeSpec({kCausal}, 64, 64), 300, 300, 0},
      {"causal, odd", MakeSpec({kCausal}, 13, 21), 261, 261, 0},
      {"causal, chunk of a prefill", MakeSpec({kCausal}), 70, 277, 207},
      {"causal, more queries than keys", MakeSpec({kCausal}), 277, 70, -207},
      {"causal, top left, short", MakeSpec({kCausal}), 277, 70, 0},
      {"window", MakeSpec({window}), 290, 290, 0},
      {"window 1", MakeSpec({Part{.low = 0, .high = 0}}), 50, 50, 0},
      {"sinks", MakeSpec({sinks}), 290, 290, 0},
      {"sinks, shifted", MakeSpec({sinks}), 90, 290, 200},
      {"strided", MakeSpec(Strided(16)), 290, 290, 0},
      {"strided, odd", MakeSpec(Strided(7)), 190, 290, 100},
      {"strided, negative", MakeSpec(Strided(7)), 190, 90, -100},
      {"atrous", MakeSpec({Part{.step = 3}}), 190, 290, 100},
      {"atrous, negative", MakeSpec({Part{.step = 3, .low = 0}}), 99, 90, -9},
      {"fixed", MakeSpec({fixed}), 290, 290, 0},
      {"fixed, both ways", MakeSpec({fixed_all}), 170, 290, 120},
      {"blocks 16", MakeSpec({Blocks(16, -kFar)}), 80, 80, 0},
      {"blocks 50, causal", MakeSpec({Blocks(50, 0)}), 250, 250, 0},
      {"blocks 150", MakeSpec({Blocks(150, -kFar)}), 500, 640, 140},
      {"blocks, negative", MakeSpec({Blocks(16, -kFar)}), 90, 80, -10},
      {"relu squared", MakeSpec({kCausal}, 24, 40, N::kReluSquared), 200, 200,
       0},
      {"relu squared, rows", MakeSpec({kCausal}, 24, 40, N::kReluSquaredRows),
       200, 180, -20},
      {"relu squared, rows, parts",
       MakeSpec(Strided(7), 24, 40, N::kReluSquaredRows), 100, 100, 0},
      {"relu squared, rows, blocks",
       MakeSpec({Blocks(50, 0)}, 8, 8, N::kReluSquaredRows), 250, 250, 0},
  };
}

std::vector<Case> Cases() {
  std::vector<Case> cases = OneHead();
  Case grouped{"grouped heads", MakeSpec({kCausal}), 150, 170, 20};
  grouped.spec.batch = 2;
  grouped.spec.q_heads = 6;
  grouped.spec.kv_heads = 2;
  cases.push_back(grouped);
  grouped.name = "grouped heads, two parts";
  grouped.spec.pattern = Strided(9);
  cases.push_back(grouped);
  Case alibi{"alibi", MakeSpec({kCausal}), 150, 150, 0};
  alibi.spec.q_heads = alibi.spec.kv_heads = 2;
  alibi.spec.slopes = {0.25f, 0.01f};
  cases.push_back(alibi);
  alibi.name = "alibi, both ways, with a step";
  alibi.spec.pattern = {Part{.step = 3}};
  cases.push_back(alibi);
  alibi.name = "alibi, relu squared";
  alibi.spec.normaliser = Normaliser::kReluSquared;
  cases.push_back(alibi);
  const size_t f32 = cases.size();
  for (size_t n = 0; n < f32; n += 2) {
    cases.push_back(cases[n]);
    cases.back().name += ", bf16";
    cases.back().spec.dtype = DType::kBF16;
  }
  return cases;
}

}  // namespace

TEST_CASE("the float64 gradients agree with central differences") {
  for (Normaliser n : {Normaliser::kSoftmax, Normaliser::kReluSquared,
                       Normaliser::kReluSquaredRows}) {
    Case c{"", MakeSpec(Strided(3), 4, 3, n), 9, 11, 2};
    c.spec.batch = 2;
    c.spec.q_heads = 4;
    c.spec.kv_heads = 2;
    c.spec.slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
    World world(c, 1);
    world.Gradients();
    const auto loss = [&] {
      world.Forward();
      double sum = 0;
      for (size_t m = 0; m < world.out.value.size(); ++m)
        sum += world.out.value[m] * world.dout.value[m];
      return sum;
    };
    const auto check = [&](Tensor& x, const Tensor& dx) {
      for (size_t m = 0; m < x.value.size(); ++m) {
        const double at = x.value[m], h = 1e-5;
        x.value[m] = at + h;
        const double up = loss();
        x.value[m] = at - h;
        const double down = loss();
        x.value[m] = at;
        CHECK((up - down) / (2 * h) ==
              doctest::Approx(dx.value[m]).epsilon(1e-5));
      }
    };
    check(world.q, world.dq);
    check(world.k, world.dk);
    check(world.v, world.dv);
  }
}

TEST_CASE("gradients are right on every target, whatever a query sees") {
  for (const Case& c : Cases()) {
    World world(c, 2);
    world.Gradients();
    for (std::string_view target : TargetNames()) {
      const ScopedTarget scope(target);
      CAPTURE(c.name);
      CAPTURE(target);
      world.Run(Serial());
      CHECK(world.Worst() <= kKappa);
    }
  }
}

TEST_CASE("what is behind the mask does not matter, even when it is NaN") {
  for (const Case& c : Cases()) {
    if (c.q_len < 2 || c.kv_len < 2) continue;
    for (double poison : {kNaN, kInf}) {
      for (int what = 0; what < 3; ++what) {
        World world(c, 3);
        // A query, a key; those who see them are lost, and nobody else.
        const int64_t i = c.q_len / 3, j = c.kv_len - 2;
        if (what == 0) world.q.SetRow(i, poison);
        if (what == 1) world.dout.SetRow(i, poison);
        if (what == 2) world.v.SetRow(j, poison), world.k.SetRow(j, poison);
        world.Gradients();
        world.any_infinity = poison == kInf;
        for (std::string_view target : TargetNames()) {
          const ScopedTarget scope(target);
          CAPTURE(c.name);
          CAPTURE(target);
          CAPTURE(what);
          world.Run(Serial());
          CHECK(world.Worst() <= kKappa);
        }
      }
    }
  }
}

TEST_CASE("gradients do not depend on the number of threads") {
  const tbb::global_control eight(tbb::global_control::max_allowed_parallelism,
                                  8);
  const std::unique_ptr<Exec> two = MakeTbbExec(2), seven = MakeTbbExec(7);
  for (Case c : Cases()) {
    if (c.q_len * c.kv_len == 0) continue;
    CAPTURE(c.name);
    World world(c, 4);
    world.Forward();
    world.out.Store();
    const std::vector<uint8_t> one = world.Run(Serial());
    for (int n = 0; n < 3; ++n) {
      CHECK(world.Run(*two) == one);
      CHECK(world.Run(*seven) == one);
    }
  }
}

TEST_CASE("scratch does not grow with the square of the length") {
  const TileSpec spec = MakeSpec({kCausal}, 64, 64);
  const size_t at_1k = TileBackwardScratch(spec, 1024, 1024, 1);
  const size_t at_9k = TileBackwardScratch(spec, 9 * 1024, 9 * 1024, 1);
  // Two floats a query at most.
  CHECK(at_9k - at_1k <= 8 * 1024 * 2 * sizeof(float));
}

}  // namespace saccade
