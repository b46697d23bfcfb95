// What the tests of the tile engine's forward pass have in common: settings and
// their data, the equation in float64, visibility written from the definition
// in engine/pattern.h, and patterns of every kind.
#ifndef SACCADE_TESTS_TILE_FORWARD_FIXTURE_H_
#define SACCADE_TESTS_TILE_FORWARD_FIXTURE_H_

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "arena.h"
#include "engine/tile.h"
#include "simd/bf16.h"
#include "simd/target.h"

namespace saccade::tile_forward {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kKappa = 8;  // the error budget, in units of u * size

// What stands in q, k and v.
enum class Fill { kNormal, kTied, kLarge, kRising, kOutlier };

struct Setting {
  TileSpec spec;
  int64_t q_len = 1, kv_len = 1;
  int64_t q_position = 0;
  Fill fill = Fill::kNormal;
  int64_t gap = 0;           // floats between rows
  bool token_major = false;  // [B, T, H, D]
  int64_t forgotten = 0;     // keys before the last kept ones, behind k_split
  int64_t kept_first = 0;
  bool with_lse = true;
};

// A tensor of either dtype; all that is not an element is NaN.
class Tensor {
 public:
  Tensor(const Setting& s, int64_t heads, int64_t len, int64_t dim)
      : dtype_(s.spec.dtype) {
    const int64_t batch = s.spec.batch, row = dim + s.gap;
    view_ = {nullptr, dtype_, batch, heads, len, dim, 0, 0, 0};
    view_.row_stride = s.token_major ? heads * row : row;
    view_.head_stride = s.token_major ? row : len * row;
    view_.batch_stride = heads * len * row;
    bits_.assign(batch * view_.batch_stride * SizeOf(dtype_) + 4, 0xff);
    // Rows begin at odd elements: nothing is aligned beyond that.
    view_.data = bits_.data() + SizeOf(dtype_);
  }
  void Set(int64_t b, int64_t h, int64_t t, int64_t c, float x) {
    if (dtype_ == DType::kF32)
      view_.Row<float>(b, h, t)[c] = x;
    else
      view_.Row<BF16>(b, h, t)[c] = ToBF16(x);
  }
  float At(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return dtype_ == DType::kF32 ? view_.Row<float>(b, h, t)[c]
                                 : ToFloat(view_.Row<BF16>(b, h, t)[c]);
  }
  void SetRow(int64_t t, float x) {
    for (int64_t b = 0; b < view_.batch; ++b)
      for (int64_t h = 0; h < view_.heads; ++h)
        for (int64_t c = 0; c < view_.dim; ++c) Set(b, h, t, c, x);
  }
  template <class F>
  void Generate(F make) {
    for (int64_t b = 0; b < view_.batch; ++b)
      for (int64_t h = 0; h < view_.heads; ++h)
        for (int64_t t = 0; t < view_.len; ++t)
          for (int64_t c = 0; c < view_.dim; ++c) Set(b, h, t, c, make(t));
  }
  const View& view() const { return view_; }
  const std::vector<unsigned char>& bits() const { return bits_; }

 private:
  DType dtype_;
  View view_;
  std::vector<unsigned char> bits_;
};

struct Data {
  explicit Data(const Setting& s)
      : q(s, s.spec.q_heads, s.q_len, s.spec.qk_dim),
        k(s, s.spec.kv_heads, s.kv_len - s.forgotten, s.spec.qk_dim),
        v(s, s.spec.kv_heads, s.kv_len - s.forgotten, s.spec.v_dim),
        gate(s, s.spec.q_heads, s.q_len, s.spec.v_dim),
        out(s, s.spec.q_heads, s.q_len, s.spec.v_dim),
        ungated(s.spec.batch * s.spec.q_heads * s.q_len * s.spec.v_dim),
        lse(s.spec.batch * s.spec.q_heads * s.q_len, kNaN) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const float large = s.fill == Fill::kLarge ? 6.0f : 1.0f;
    const bool tied = s.fill == Fill::kTied, rising = s.fill == Fill::kRising;
    q.Generate([&](int64_t) { return tied ? 0.5f : large * normal(random); });
    k.Generate([&](int64_t t) {
      if (rising) return static_cast<float>(t) / 64;
      return tied ? 0.25f : large * normal(random);
    });
    v.Generate([&](int64_t t) {
      // Just below a power of two, where a rounding is smallest for its size.
      const bool outlier = s.fill == Fill::kOutlier && t == 3;
      return outlier ? 1020.0f : normal(random);
    });
    gate.Generate([&](int64_t) { return normal(random); });
  }
  Tensor q, k, v, gate, out;
  std::vector<float> ungated, lse;
};

inline void Run(const Setting& s, Data& data) {
  TileCall call{.q = data.q.view(), .k = data.k.view(), .v = data.v.view()};
  call.out = data.out.view();
  if (s.spec.gated) {
    call.gate = data.gate.view();
    call.ungated =
        Contiguous<void>(data.ungated.data(), DType::kF32, s.spec.batch,
                         s.spec.q_heads, s.q_len, s.spec.v_dim);
  }
  if (s.with_lse) call.lse = data.lse.data();
  call.q_position = s.q_position;
  call.kv_end = s.kv_len;
  if (s.forgotten > 0) {
    call.k_split = s.kept_first;
    call.k_shift = s.forgotten;
  }
  // Scratch full of NaN, with a guard behind.
  const size_t bytes = TileForwardScratch(s.spec, s.q_len, 1), guard = 64;
  std::vector<float> memory((bytes + guard + kAlign) / sizeof(float), kNaN);
  void* at = memory.data();
  size_t space = memory.size() * sizeof(float);
  std::align(kAlign, bytes, at, space);
  std::memset(static_cast<char*>(at) + bytes, 0x5a, guard);
  TileForward(s.spec, call, {static_cast<std::byte*>(at), bytes}, Serial());
  const char* const behind = static_cast<char*>(at) + bytes;
  CHECK(std::all_of(behind, behind + guard, [](char c) { return c == 0x5a; }));
}

inline bool SeesPart(const Part& part, int64_t i, int64_t j) {
  if ((i - j) % part.step != 0) return false;
  i = FloorDiv(i, part.step);
  j = FloorDiv(j, part.step);
  if (i - j < part.low || i - j > part.high) return false;
  switch (part.kind) {
    case Part::Kind::kBand:
      return std::abs(i - j) <= part.reach || j < part.sinks;
    case Part::Kind::kFixed:
      return FloorDiv(i, part.block) == j / part.block ||
             j % part.block >= part.block - part.columns;
    case Part::Kind::kBlocks: {
      const int64_t row = FloorDiv(i, part.block);
      if (row < 0 ||
          row + 1 >= static_cast<int64_t>(part.blocks->offsets.size()))
        return false;
      const auto& columns = part.blocks->columns;
      return std::count(columns.begin() + part.blocks->offsets[row],
                        columns.begin() + part.blocks->offsets[row + 1],
                        j / part.block) > 0;
    }
  }
  return false;
}

inline bool Sees(const Pattern& pattern, int64_t i, int64_t j) {
  return std::any_of(pattern.begin(), pattern.end(),
                     [&](const Part& p) { return SeesPart(p, i, j); });
}

// One pair: its score and the sum of absolute values in it.
struct Pair {
  int64_t row;
  double score, size, weight;
};

struct Worst {
  double out = 0, ungated = 0, lse = 0;
  void Note(double* worst, double got, double want, double size, double u) {
    if (got == want || (std::isnan(got) && std::isnan(want))) return;
    const double error = std::abs(got - want) / (u * size);
    *worst = std::isfinite(error) ? std::max(*worst, error) : kInf;
  }
};

inline std::vector<Pair> Pairs(const Setting& s, const Data& x, int64_t b,
                               int64_t h, int64_t t) {
  const int64_t i = s.q_position + t;
  std::vector<Pair> pairs;
  for (int64_t j = 0; j < s.kv_len; ++j) {
    if (!Sees(s.spec.pattern, i, j)) continue;
    const int64_t row = s.forgotten && j >= s.kept_first ? j - s.forgotten : j;
    Pair pair{row, 0, 0, 0};
    for (int64_t c = 0; c < s.spec.qk_dim; ++c) {
      const double product =
          static_cast<double>(x.q.At(b, h, t, c)) *
          x.k.At(b, h / (s.spec.q_heads / s.spec.kv_heads), row, c);
      pair.score += s.spec.scale * product;
      pair.size += std::abs(s.spec.scale * product);
    }
    if (!s.spec.slopes.empty()) {
      const double bias = s.spec.slopes[h] * std::abs(double(i - j));
      pair.score -= bias;
      pair.size += bias;
    }
    pairs.push_back(pair);
  }
  return pairs;
}

// Weights, and what the relative error of a weight is allowed to be: sizes.
inline double Normalise(const Setting& s, std::vector<Pair>& pairs) {
  const auto n = static_cast<double>(pairs.size());
  if (s.spec.normaliser != Normaliser::kSoftmax) {
    const double norm =
        s.spec.normaliser == Normaliser::kReluSquared ? s.spec.divisor : n;
    for (Pair& p : pairs) {
      p.weight = p.score > 0 ? p.score * p.score / norm : 0.0;
      // (s + e size)^2, to first order, and the plain product's own error.
      p.size = p.weight + 2 * std::max(p.score, 0.0) * p.size / norm;
      if (std::isnan(p.score)) p.weight = p.score;
    }
    return -kInf;
  }
  double top = -kInf, sum = 0, mean = 0;
  for (const Pair& p : pairs) top = std::max(top, p.score);
  for (Pair& p : pairs) sum += p.weight = std::exp(p.score - top);
  for (Pair& p : pairs) mean += (p.weight /= sum) * p.size;
  for (Pair& p : pairs) p.size = p.weight * (1 + p.size + mean);
  return top + std::log(sum);
}

inline Worst Compare(const Setting& s, const Data& x) {
  Worst worst;
  constexpr double u = 0x1p-24;
  // All sums are made in f32 and rounded to bf16 once, at half a unit of its
  // last place. In units of u, of which `kKappa` are allowed.
  const double once = s.spec.dtype == DType::kF32 ? 0 : 0x1p-8 / u / kKappa;
  // Where the CPU multiplies bf16, weights are rounded as well.
  const double weights =
      s.spec.dtype == DType::kBF16 && MultipliesBF16() ? once : 0;
  for (int64_t b = 0; b < s.spec.batch; ++b)
    for (int64_t h = 0; h < s.spec.q_heads; ++h)
      for (int64_t t = 0; t < s.q_len; ++t) {
        std::vector<Pair> pairs = Pairs(s, x, b, h, t);
        double lse_size = 1;
        for (const Pair& p : pairs) lse_size = std::max(lse_size, p.size);
        const double lse = Normalise(s, pairs);
        const int64_t row = (b * s.spec.q_heads + h) * s.q_len + t;
        if (s.spec.normaliser == Normaliser::kSoftmax && s.with_lse)
          worst.Note(&worst.lse, x.lse[row], lse,
                     lse_size + (std::isfinite(lse) ? std::abs(lse) : 0), u);
        for (int64_t c = 0; c < s.spec.v_dim; ++c) {
          double want = 0, size = 0;
          for (const Pair& p : pairs) {
            const double value =
                x.v.At(b, h / (s.spec.q_heads / s.spec.kv_heads), p.row, c);
            want += p.weight * value;
            size += (p.size + weights * p.weight) * std::abs(value);
          }
          const double gate = s.spec.gated ? x.gate.At(b, h, t, c) : 1.0;
          worst.Note(&worst.out, x.out.At(b, h, t, c), gate * want,
                     std::abs(gate) * size + once * std::abs(gate * want), u);
          if (s.spec.gated)
            worst.Note(&worst.ungated, x.ungated[row * s.spec.v_dim + c], want,
                       size, u);
        }
      }
  return worst;
}

inline void CheckOnEveryTarget(const std::string& name, const Setting& s) {
  CAPTURE(name);
  CAPTURE(s.q_len);
  CAPTURE(s.kv_len);
  CAPTURE(s.spec.qk_dim);
  CAPTURE(s.spec.v_dim);
  CAPTURE(NameOf(s.spec.dtype));
  for (const std::string_view target : TargetNames()) {
    CAPTURE(std::string(target));
    const ScopedTarget scope(target);
    Data data(s);
    Run(s, data);
    const Worst worst = Compare(s, data);
    CHECK(worst.out <= kKappa);
    CHECK(worst.ungated <= kKappa);
    CHECK(worst.lse <= kKappa);
  }
}

inline TileSpec Spec(int64_t qk_dim, int64_t v_dim, Pattern pattern) {
  TileSpec spec;
  spec.batch = 1;
  spec.q_heads = spec.kv_heads = 1;
  spec.qk_dim = qk_dim;
  spec.v_dim = v_dim;
  spec.scale = 1 / std::sqrt(static_cast<float>(qk_dim));
  spec.pattern = std::move(pattern);
  return spec;
}

inline Part Masked(bool causal) {
  Part part;
  if (causal) part.low = 0;
  return part;
}

inline Part Causal() { return Masked(true); }

inline Part Window(int64_t reach, int64_t sinks, bool causal) {
  Part part = Masked(causal);
  part.reach = reach;
  part.sinks = sinks;
  return part;
}

inline Part Fixed(int64_t block, int64_t columns, bool causal) {
  Part part = Masked(causal);
  part.kind = Part::Kind::kFixed;
  part.block = block;
  part.columns = columns;
  return part;
}

inline Part Blocks(int64_t block, int64_t count, bool causal) {
  auto mask = std::make_shared<BlockMask>();
  mask->block = block;
  mask->offsets = {0};
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t column = 0; column < count; ++column)
      if (column == row || (row * 7 + column * 3) % 4 == 0)
        mask->columns.push_back(column);
    if (row % 5 == 3) mask->columns.resize(mask->offsets.back());  // nothing
    mask->offsets.push_back(static_cast<int64_t>(mask->columns.size()));
  }
  Part part = Masked(causal);
  part.kind = Part::Kind::kBlocks;
  part.block = block;
  part.blocks = mask;
  return part;
}

// What is near, and of the rest every step-th: both together.
inline Pattern Strided(int64_t step, bool causal) {
  Part near = Window(step - 1, 0, causal), far = Causal();
  far.step = step;
  far.low = 1;
  if (causal) return {near, far};
  Part ahead = far;
  ahead.low = -kFar;
  ahead.high = -1;
  return {near, far, ahead};
}

struct Named {
  std::string name;
  Pattern pattern;
};

inline std::vector<Named> Patterns() {
  Part cut = Causal();
  cut.high = 36;
  Part atrous = Causal();
  atrous.step = 3;
  return {{"full", {Part()}},
          {"causal", {Causal()}},
          {"nothing", {}},
          {"itself", {Window(0, 0, true)}},
          {"window", {Window(69, 0, true)}},
          {"cut", {cut}},
          {"sinks", {Window(20, 5, true)}},
          {"both ways", {Window(33, 0, false)}},
          {"both ways with sinks", {Window(9, 3, false)}},
          {"fixed", {Fixed(24, 5, true)}},
          {"fixed both ways", {Fixed(10, 1, false)}},
          {"blocks", {Blocks(16, 60, true)}},
          {"blocks both ways", {Blocks(40, 60, false)}},
          {"atrous", {atrous}},
          {"strided", Strided(7, true)},
          {"strided both ways", Strided(20, false)},
          {"strided far", Strided(128, true)},
          {"a window as wide as a tile", {Window(63, 0, true)}},
          {"wide both ways", {Window(40, 0, false)}}};
}

}  // namespace saccade::tile_forward

#endif  // SACCADE_TESTS_TILE_FORWARD_FIXTURE_H_
