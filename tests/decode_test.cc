// Decoding: few queries against a cache of keys.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "tests/decode_reference.h"

namespace saccade {
namespace {

// One decoding step of n queries at the end of `keys` tokens.
struct Step {
  Step(const TileSpec& s, int64_t n, int64_t keys, unsigned seed = 1)
      : spec(s),
        random(seed),
        q(s.dtype, s.batch, s.q_heads, n, s.qk_dim),
        k(s.dtype, s.batch, s.kv_heads, keys, s.qk_dim),
        v(s.dtype, s.batch, s.kv_heads, keys, s.v_dim),
        gate(s.dtype, s.batch, s.q_heads, n, s.v_dim),
        out(s.dtype, s.batch, s.q_heads, n, s.v_dim),
        lse(static_cast<size_t>(s.batch * s.q_heads * n), kNaN) {
    for (Tensor* x : {&q, &k, &v, &gate}) x->Fill(random);
  }

  TileCall Call() {
    TileCall call;
    call.q = q.view();
    call.k = k.view();
    call.v = v.view();
    if (spec.gated) call.gate = gate.view();
    call.out = out.view();
    if (spec.normaliser == Normaliser::kSoftmax) call.lse = lse.data();
    call.kv_end = call.k.len;
    call.q_position = call.kv_end - call.q.len;
    return call;
  }
  void Run(Exec& exec = Serial()) {
    const TileCall call = Call();
    const Memory scratch(TileDecodeScratch(spec, call.kv_end, exec.slots()));
    TileDecode(spec, call, scratch, exec);
  }
  double Error(const Case& c) const {
    const int64_t keys = k.len();
    return Worst(
        spec, c, q, k, v, spec.gated ? &gate : nullptr, out, keys - q.len(),
        q.len(), keys,
        spec.normaliser == Normaliser::kSoftmax ? lse.data() : nullptr);
  }

  TileSpec spec;
  std::mt19937 random;
  Tensor q, k, v, gate, out;
  std::vector<float> lse;
};

TEST_CASE("a decoding step is the equation, on every target") {
  struct Shape {
    int64_t queries, keys, d, e;
  };
  // 1100 and 2500 keys are merged from two and three tasks.
  const std::vector<Shape> shapes = {
      {1, 1, 64, 64},   {1, 300, 64, 64},  {4, 300, 33, 17}, {3, 3, 5, 3},
      {2, 1100, 16, 8}, {1, 2500, 24, 40}, {4, 4, 1, 1},     {1, 131, 128, 130},
  };
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    for (const Case& c : Cases()) {
      for (const Shape& shape : shapes) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          // One stream of memory, or two.
          const ScopedZen4 core(shape.d % 2 == 0);
          CAPTURE(target);
          CAPTURE(c.name);
          CAPTURE(shape.keys);
          CAPTURE(shape.d);
          CAPTURE(std::string(NameOf(dtype)));
          Step step(MakeSpec(c, dtype, shape.d, shape.e), shape.queries,
                    shape.keys);
          step.Run();
          CHECK(step.Error(c) <= 1);
        }
      }
    }
  }
}

TEST_CASE("bias, gate and the other normalisers decode") {
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    for (const Case& c : Cases()) {
      for (const int kind : {0, 1, 2, 3}) {
        CAPTURE(target);
        CAPTURE(c.name);
        CAPTURE(kind);
        TileSpec spec = MakeSpec(c, DType::kF32, 20, 12);
        if (kind == 0) spec.slopes = {0.5f, 0.25f, 0.1f, 0.01f, 0.7f, 0.003f};
        if (kind == 1) spec.normaliser = Normaliser::kReluSquared;
        if (kind >= 2) spec.normaliser = Normaliser::kReluSquaredRows;
        spec.gated = kind == 3;
        spec.divisor = 77;
        Step step(spec, 3, 1300);
        step.Run();
        CHECK(step.Error(c) <= 1);
      }
    }
  }
}

TEST_CASE("a gated step also yields the product before the gate") {
  const Case c = Cases().front();
  TileSpec spec = MakeSpec(c, DType::kBF16, 20, 12);
  spec.normaliser = Normaliser::kReluSquared;
  spec.gated = true;
  Step step(spec, 2, 50);
  std::vector<float> ungated(static_cast<size_t>(2 * 6 * 2 * 12));
  TileCall call = step.Call();
  call.ungated = Contiguous<void>(ungated.data(), DType::kF32, 2, 6, 2, 12);
  const Memory scratch(TileDecodeScratch(spec, 50, 1));
  TileDecode(spec, call, scratch, Serial());
  const Row want = Want(spec, c, step.q, step.k, step.v, 1, 5, 1, 49, 50);
  for (size_t x = 0; x < 12; ++x)
    CHECK(std::abs(ungated[ungated.size() - 12 + x] - want.out[x]) <=
          kBudget * Unit(DType::kF32) * want.size[x]);
}

TEST_CASE("a row that sees nothing is 0 and its log-sum-exp -infinity") {
  // Queries at positions -2 .. 1 of a causal sequence of two tokens.
  const Case c = Cases().front();
  Step step(MakeSpec(c, DType::kF32, 8, 8), 4, 2);
  step.Run();
  for (int64_t x = 0; x < 8; ++x) {
    CHECK(step.out(0, 0, 0, x) == 0);
    CHECK(step.out(1, 5, 1, x) == 0);
  }
  CHECK(step.lse[0] == -std::numeric_limits<float>::infinity());
  CHECK(step.Error(c) <= 1);
}

TEST_CASE("what is behind the mask does not matter, what is visible does") {
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    for (const Case& c : Cases()) {
      CAPTURE(target);
      CAPTURE(c.name);
      constexpr int64_t kKeys = 210;
      Step clean(MakeSpec(c, DType::kF32, 16, 16), 1, kKeys);
      Step dirty(MakeSpec(c, DType::kF32, 16, 16), 1, kKeys);
      int64_t visible = -1;
      for (int64_t j = 0; j < kKeys; ++j) {
        if (c.visible(kKeys - 1, j)) {
          visible = j;
        } else {
          dirty.k.SetRow(j, kNaN);
          dirty.v.SetRow(j, std::numeric_limits<float>::infinity());
        }
      }
      clean.Run();
      dirty.Run();
      CHECK(clean.out.SameBits(dirty.out));
      dirty.k.SetRow(visible, kNaN);
      dirty.Run();
      CHECK(std::isnan(dirty.out(0, 0, 0, 0)));
      CHECK(std::isnan(dirty.out(1, 5, 0, 15)));
    }
  }
}

TEST_CASE("each of several queries sees its own past only") {
  const Case c = Cases().front();
  Step clean(MakeSpec(c, DType::kF32, 16, 16), 4, 140);
  Step dirty(MakeSpec(c, DType::kF32, 16, 16), 4, 140);
  dirty.k.SetRow(139, kNaN);
  dirty.v.SetRow(139, kNaN);
  clean.Run();
  dirty.Run();
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t x = 0; x < 16; ++x)
      CHECK(clean.out(1, 4, t, x) == dirty.out(1, 4, t, x));
  CHECK(std::isnan(dirty.out(1, 4, 3, 0)));
}

TEST_CASE("decoding gives the same bits on any number of threads") {
  const tbb::global_control more(tbb::global_control::max_allowed_parallelism,
                                 8);
  for (const Case& c : Cases()) {
    CAPTURE(c.name);
    Step serial(MakeSpec(c, DType::kF32, 16, 16), 2, 5000);
    serial.Run();
    for (const int threads : {2, 3, 7}) {
      Step step(serial.spec, 2, 5000);
      const std::unique_ptr<Exec> exec = MakeTbbExec(threads);
      step.Run(*exec);
      CHECK(step.out.SameBits(serial.out));
      CHECK(step.lse == serial.lse);
    }
  }
}

TEST_CASE("a cache may have forgotten the positions between") {
  // Rows 0 .. 4 are the sinks, the others end at position 999.
  const Case c{"window 40, 5 sinks", {Band(39, 5)}, {}};
  Step whole(MakeSpec(c, DType::kF32, 16, 16), 2, 1000);
  whole.Run();
  Step part(whole.spec, 2, 1000);
  TileCall call = part.Call();
  const int64_t start = 900;
  Tensor k(DType::kF32, 2, 2, 5 + 1000 - start, 16);
  Tensor v = k;
  k.ForAll([&](int64_t b, int64_t h, int64_t t, int64_t x) {
    const int64_t p = t < 5 ? t : t - 5 + start;
    k.Set(b, h, t, x, static_cast<float>(part.k(b, h, p, x)));
    v.Set(b, h, t, x, static_cast<float>(part.v(b, h, p, x)));
  });
  call.k = k.view();
  call.v = v.view();
  call.k_split = 5;
  call.k_shift = start - 5;
  const Memory scratch(TileDecodeScratch(part.spec, 1000, 1));
  TileDecode(part.spec, call, scratch, Serial());
  CHECK(part.out.SameBits(whole.out));
}

}  // namespace
}  // namespace saccade
