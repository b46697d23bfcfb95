// Decoding: few queries against a cache of keys, and the cache itself.
//
// The yardstick is the equation in float64, with visibility written out for
// every pattern, not taken from the patterns under test.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "arena.h"
#include "engine/tile.h"
#include "simd/bf16.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// As many bytes as asked for, aligned, full of NaNs: a pass must not rely on
// what it finds in scratch, nor reach beyond it.
class Memory {
 public:
  explicit Memory(size_t bytes)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(
            ::operator new (bytes, std::align_val_t{kAlign}))) {
    std::memset(data_, 0xff, bytes);
  }
  ~Memory() { ::operator delete (data_, std::align_val_t{kAlign}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator Bytes() const { return {data_, bytes_}; }

 private:
  size_t bytes_;
  std::byte* data_;
};

// A tensor with gaps of NaN between its rows.
class Tensor {
 public:
  Tensor(DType dtype, int64_t batch, int64_t heads, int64_t len, int64_t dim)
      : dtype_(dtype), view_{nullptr, dtype, batch, heads,     len,
                             dim,     0,     0,     dim + kGap} {
    view_.head_stride = len * view_.row_stride;
    view_.batch_stride = heads * view_.head_stride;
    const auto n = static_cast<size_t>(batch * view_.batch_stride);
    floats_.assign(n, kNaN);
    halves_.assign(n, ToBF16(kNaN));
  }

  Tensor& Fill(std::mt19937& random) {
    std::normal_distribution<float> normal;
    ForAll([&](int64_t b, int64_t h, int64_t t, int64_t c) {
      Set(b, h, t, c, normal(random));
    });
    return *this;
  }
  void Set(int64_t b, int64_t h, int64_t t, int64_t c, float x) {
    halves_[At(b, h, t, c)] = ToBF16(x);
    floats_[At(b, h, t, c)] =
        dtype_ == DType::kF32 ? x : ToFloat(halves_[At(b, h, t, c)]);
  }
  void SetRow(int64_t t, float x) {
    ForAll([&](int64_t b, int64_t h, int64_t row, int64_t c) {
      if (row == t) Set(b, h, row, c, x);
    });
  }
  double operator()(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return dtype_ == DType::kF32
               ? static_cast<double>(floats_[At(b, h, t, c)])
               : static_cast<double>(ToFloat(halves_[At(b, h, t, c)]));
  }
  template <class F>
  void ForAll(F visit) const {
    for (int64_t b = 0; b < view_.batch; ++b)
      for (int64_t h = 0; h < view_.heads; ++h)
        for (int64_t t = 0; t < view_.len; ++t)
          for (int64_t c = 0; c < view_.dim; ++c) visit(b, h, t, c);
  }
  View view() {
    View v = view_;
    v.data = dtype_ == DType::kF32 ? static_cast<void*>(floats_.data())
                                   : static_cast<void*>(halves_.data());
    return v;
  }
  int64_t len() const { return view_.len; }
  /// Rows first .. first + n - 1.
  View Rows(int64_t first, int64_t n) {
    View v = view();
    v.data =
        static_cast<std::byte*>(v.data) + first * v.row_stride * SizeOf(dtype_);
    v.len = n;
    return v;
  }
  bool SameBits(const Tensor& other) const {
    return std::memcmp(floats_.data(), other.floats_.data(),
                       floats_.size() * sizeof(float)) == 0 &&
           std::memcmp(halves_.data(), other.halves_.data(),
                       halves_.size() * sizeof(BF16)) == 0;
  }

 private:
  static constexpr int64_t kGap = 3;
  size_t At(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return static_cast<size_t>(b * view_.batch_stride + h * view_.head_stride +
                               t * view_.row_stride + c);
  }
  DType dtype_;
  View view_;
  std::vector<float> floats_;
  std::vector<BF16> halves_;
};

struct Case {
  std::string name;
  Pattern pattern;
  std::function<bool(int64_t i, int64_t j)> visible;
};

Part Band(int64_t reach, int64_t sinks) {
  Part part;
  part.low = 0;
  part.reach = reach;
  part.sinks = sinks;
  return part;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  cases.push_back(
      {"causal", {Band(kFar, 0)}, [](int64_t i, int64_t j) { return j <= i; }});
  cases.push_back(
      {"everything", {Part{}}, [](int64_t, int64_t) { return true; }});
  cases.push_back({"window 100", {Band(99, 0)}, [](int64_t i, int64_t j) {
                     return j <= i && i - j < 100;
                   }});
  cases.push_back(
      {"window 1", {Band(0, 0)}, [](int64_t i, int64_t j) { return j == i; }});
  cases.push_back(
      {"window 40, 5 sinks", {Band(39, 5)}, [](int64_t i, int64_t j) {
         return j <= i && (i - j < 40 || j < 5);
       }});
  Part strided;
  strided.step = 7;
  strided.low = 1;
  cases.push_back(
      {"strided 7", {Band(6, 0), strided}, [](int64_t i, int64_t j) {
         return j <= i && (i - j < 7 || (i - j) % 7 == 0);
       }});
  Part fixed = Band(kFar, 0);
  fixed.kind = Part::Kind::kFixed;
  fixed.block = 32;
  fixed.columns = 5;
  cases.push_back({"fixed 32, 5 columns", {fixed}, [](int64_t i, int64_t j) {
                     return j <= i && (i / 32 == j / 32 || j % 32 >= 27);
                   }});
  auto mask = std::make_shared<BlockMask>();
  mask->block = 16;
  mask->offsets = {0};
  for (int64_t row = 0; row < 400; ++row) {
    for (int64_t column = 0; column <= row; ++column)
      if (column == row || column % 5 == row % 3)
        mask->columns.push_back(column);
    mask->offsets.push_back(static_cast<int64_t>(mask->columns.size()));
  }
  Part blocks = Band(kFar, 0);
  blocks.kind = Part::Kind::kBlocks;
  blocks.block = 16;
  blocks.blocks = mask;
  cases.push_back({"blocks of 16", {blocks}, [](int64_t i, int64_t j) {
                     return j <= i &&
                            (i / 16 == j / 16 || j / 16 % 5 == i / 16 % 3);
                   }});
  return cases;
}

struct Row {
  std::vector<double> out, size;
  double lse = 0;
};

// Row i of head h by the equation. Size is the sum of all absolute values that
// made the result, weights with the error of their scores.
Row Want(const TileSpec& s, const Case& c, const Tensor& q, const Tensor& k,
         const Tensor& v, int64_t b, int64_t h, int64_t t, int64_t i,
         int64_t keys) {
  const int64_t hk = h / (s.q_heads / s.kv_heads);
  const auto e = static_cast<size_t>(s.v_dim);
  const bool softmax = s.normaliser == Normaliser::kSoftmax;
  Row row{std::vector<double>(e), std::vector<double>(e)};
  std::vector<double> score, rough;
  std::vector<int64_t> seen;
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < keys; ++j) {
    if (!c.visible(i, j)) continue;
    double dot = 0, size = 0;
    for (int64_t n = 0; n < s.qk_dim; ++n) {
      const double x = s.scale * q(b, h, t, n) * k(b, hk, j, n);
      dot += x;
      size += std::abs(x);
    }
    if (!s.slopes.empty()) {
      const double bias = s.slopes[static_cast<size_t>(h)] *
                          static_cast<double>(std::abs(i - j));
      dot -= bias;
      size += bias;
    }
    seen.push_back(j);
    score.push_back(dot);
    rough.push_back(size);
    top = std::max(top, dot);
  }
  double norm = 0;
  for (size_t n = 0; n < seen.size(); ++n) {
    double& w = score[n];
    if (softmax) {
      w = std::exp(w - top);
      rough[n] = w * (1 + rough[n]);
      norm += w;
    } else {
      rough[n] = 2 * std::max(w, 0.0) * rough[n];
      w = std::max(w, 0.0) * std::max(w, 0.0);
    }
  }
  row.lse = top + std::log(norm);
  if (s.normaliser == Normaliser::kReluSquared) norm = s.divisor;
  if (s.normaliser == Normaliser::kReluSquaredRows)
    norm = static_cast<double>(seen.size());
  if (seen.empty()) return row;
  for (size_t n = 0; n < seen.size(); ++n)
    for (size_t x = 0; x < e; ++x)
      row.out[x] +=
          score[n] / norm * v(b, hk, seen[n], static_cast<int64_t>(x));
  for (size_t n = 0; n < seen.size(); ++n)
    for (size_t x = 0; x < e; ++x)
      row.size[x] += rough[n] / norm *
                     (std::abs(v(b, hk, seen[n], static_cast<int64_t>(x))) +
                      (softmax ? std::abs(row.out[x]) : 0));
  return row;
}

constexpr double kBudget = 8;

double Unit(DType dtype) {
  return std::ldexp(1.0, dtype == DType::kF32 ? -24 : -8);
}

// Worst error of rows first .. first + n - 1 of `out`, in units of the budget,
// when query row t stands at `position` + t and sees keys up to its own.
double Worst(const TileSpec& s, const Case& c, const Tensor& q, const Tensor& k,
             const Tensor& v, const Tensor* gate, const Tensor& out,
             int64_t position, int64_t n, int64_t keys, const float* lse) {
  double worst = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.q_heads; ++h) {
      for (int64_t t = 0; t < n; ++t) {
        const Row want = Want(s, c, q, k, v, b, h, t, position + t, keys);
        for (int64_t x = 0; x < s.v_dim; ++x) {
          const auto at = static_cast<size_t>(x);
          const double g = gate ? (*gate)(b, h, t, x) : 1;
          const double error = std::abs(out(b, h, t, x) - g * want.out[at]);
          const double budget =
              Unit(DType::kF32) * std::abs(g) * want.size[at] * kBudget +
              (s.dtype == DType::kBF16
                   ? Unit(DType::kBF16) * std::abs(g * want.out[at])
                   : 0) +
              1e-37;
          // Not (error <= budget): a NaN is an error too.
          worst = error <= budget * worst ? worst : error / budget;
          if (std::isnan(error)) return error;
        }
        if (lse == nullptr) continue;
        const double got = lse[(b * s.q_heads + h) * n + t];
        if (std::isinf(want.lse)) {
          CHECK(got == want.lse);
        } else {
          CHECK(got == doctest::Approx(want.lse).epsilon(1e-5));
        }
      }
    }
  }
  return worst;
}

TileSpec MakeSpec(const Case& c, DType dtype, int64_t d, int64_t e) {
  TileSpec spec;
  spec.batch = 2;
  spec.q_heads = 6;
  spec.kv_heads = 2;
  spec.qk_dim = d;
  spec.v_dim = e;
  spec.dtype = dtype;
  spec.scale = 1 / std::sqrt(static_cast<float>(d));
  spec.pattern = c.pattern;
  return spec;
}

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

// A plan of one pattern, and a whole sequence to feed it.
struct Sequence {
  Sequence(const Case& c, DType dtype, int64_t n, int64_t most)
      : spec(MakeSpec(c, dtype, 12, 20)),
        q(dtype, 2, 6, n, 12),
        k(dtype, 2, 2, n, 12),
        v(dtype, 2, 2, n, 20),
        out(dtype, 2, 6, n, 20),
        lse(static_cast<size_t>(2 * 6 * n)) {
    std::mt19937 random(7);
    for (Tensor* x : {&q, &k, &v}) x->Fill(random);
    Problem problem;
    problem.batch = 2;
    problem.q_heads = 6;
    problem.kv_heads = 2;
    problem.q_len = most;
    problem.kv_len = n;
    problem.qk_dim = 12;
    problem.v_dim = 20;
    problem.dtype = dtype;
    problem.mask = Mask::kCausal;
    problem.scale = spec.scale;
    plan = MakeTilePlan(problem, spec);
    state = std::make_unique<Memory>(plan->Memory(1).state);
    scratch = std::make_unique<Memory>(plan->Memory(1).extend_scratch);
    REQUIRE(plan->Reset(*state).ok());
  }

  // Tokens `held` .. `held` + n - 1; their log-sum-exps move to their places.
  Status Extend(int64_t n) {
    std::vector<float> rows(static_cast<size_t>(2 * 6 * n));
    Inputs fresh;
    fresh.q = q.Rows(held, n);
    fresh.k = k.Rows(held, n);
    fresh.v = v.Rows(held, n);
    const Status status = plan->Extend(fresh, {out.Rows(held, n), rows.data()},
                                       *state, *scratch, Serial());
    if (!status.ok()) return status;
    const int64_t all = q.len();
    for (int64_t head = 0; head < 12; ++head)
      std::copy_n(rows.data() + head * n, n, lse.data() + head * all + held);
    held += n;
    return status;
  }

  TileSpec spec;
  Tensor q, k, v, out;
  std::vector<float> lse;
  std::unique_ptr<Plan> plan;
  std::unique_ptr<Memory> state, scratch;
  int64_t held = 0;
};

TEST_CASE("any split of a sequence into Extends is the causal sum") {
  std::mt19937 random(3);
  for (const Case& c : Cases()) {
    if (c.name == "everything") continue;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t most : {1, 9, 700}) {
        CAPTURE(c.name);
        CAPTURE(std::string(NameOf(dtype)));
        CAPTURE(most);
        constexpr int64_t kTokens = 700;
        Sequence s(c, dtype, kTokens, most);
        while (s.held < kTokens) {
          const int64_t n = static_cast<int64_t>(random()) % (most + 1);
          REQUIRE(s.Extend(std::min(n, kTokens - s.held)).ok());
        }
        CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens,
                    kTokens, s.lse.data()) <= 1);
      }
    }
  }
}

TEST_CASE("Extend equals Forward") {
  for (const Case& c : Cases()) {
    if (c.name == "everything") continue;
    CAPTURE(c.name);
    constexpr int64_t kTokens = 150;
    Sequence s(c, DType::kF32, kTokens, kTokens);
    for (const int64_t n : {3, 0, 40, 1, 100, 4, 2}) REQUIRE(s.Extend(n).ok());
    Tensor whole(DType::kF32, 2, 6, kTokens, 20);
    const Memory scratch(s.plan->Memory(1).forward_scratch);
    Inputs in;
    in.q = s.q.view();
    in.k = s.k.view();
    in.v = s.v.view();
    REQUIRE(s.plan->Forward(in, {whole.view()}, {}, scratch, Serial()).ok());
    CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, whole, 0, kTokens, kTokens,
                nullptr) <= 1);
    CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens, kTokens,
                s.lse.data()) <= 1);
  }
}

// The problem's own window ends sinks' sight too, but not before it is over.
TEST_CASE("a window's sinks stay in its cache for as long as they are seen") {
  for (const int64_t high : {3, 99, 300}) {
    Part part = Band(2, 6);
    part.high = high;
    const Case c{"sinks within a window", {part}, [&](int64_t i, int64_t j) {
                   return j <= i && i - j <= high && (i - j <= 2 || j < 6);
                 }};
    for (const int64_t most : {1, 7, 200}) {
      CAPTURE(high);
      CAPTURE(most);
      constexpr int64_t kTokens = 400;
      Sequence s(c, DType::kF32, kTokens, most);
      while (s.held < kTokens)
        REQUIRE(s.Extend(std::min(most, kTokens - s.held)).ok());
      CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens, kTokens,
                  s.lse.data()) <= 1);
    }
  }
}

TEST_CASE("a window's state does not grow with the sequence") {
  const Case c = Cases()[4];
  const size_t brief = Sequence(c, DType::kF32, 1000, 1).plan->Memory(1).state;
  const size_t longer =
      Sequence(c, DType::kF32, 1000000 / 100, 1).plan->Memory(1).state;
  CHECK(brief == longer);
  // 5 sinks, 39 behind, 64 of slack; padded to 128 rows of 12 + 20 floats.
  CHECK(longer == 64 + 2 * 2 * 128 * (12 + 20) * 4);
}

TEST_CASE("a state is filled to the brim and no further") {
  Sequence s(Cases().front(), DType::kF32, 10, 4);
  CHECK(s.Extend(4).ok());
  CHECK(s.Extend(4).ok());
  Inputs fresh;
  fresh.q = s.q.Rows(0, 3);
  fresh.k = s.k.Rows(0, 3);
  fresh.v = s.v.Rows(0, 3);
  const Outputs out{s.out.Rows(0, 3)};
  const auto extend = [&] {
    return s.plan->Extend(fresh, out, *s.state, *s.scratch, Serial()).code();
  };
  CHECK(extend() == Code::kExhausted);
  CHECK(s.Extend(2).ok());
  CHECK(s.Extend(0).ok());
  CHECK(extend() == Code::kExhausted);
  CHECK(s.plan->Reset(*s.state).ok());
  CHECK(extend() == Code::kOk);
}

TEST_CASE("a state that was not reset, or is another plan's, is refused") {
  Sequence s(Cases().front(), DType::kF32, 10, 4);
  Sequence other(Cases().front(), DType::kF32, 11, 4);
  Inputs fresh;
  fresh.q = s.q.Rows(0, 1);
  fresh.k = s.k.Rows(0, 1);
  fresh.v = s.v.Rows(0, 1);
  const Outputs out{s.out.Rows(0, 1)};
  const auto extend = [&](Bytes state) {
    return s.plan->Extend(fresh, out, state, *s.scratch, Serial()).code();
  };
  const Memory garbage(s.plan->Memory(1).state);
  CHECK(extend(garbage) == Code::kInvalid);
  CHECK(extend(*other.state) == Code::kInvalid);
  CHECK(extend(*s.state) == Code::kOk);
  // A count of tokens that no Extend can have left.
  const int64_t tokens = 1000;
  std::memcpy(Bytes(*s.state).data() + sizeof(uint64_t), &tokens,
              sizeof(tokens));
  CHECK(extend(*s.state) == Code::kInvalid);
}

}  // namespace
}  // namespace saccade
