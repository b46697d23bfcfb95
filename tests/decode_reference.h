// Decoding against its equation in float64, with visibility written out for
// every pattern, not taken from the patterns under test.
#ifndef SACCADE_TESTS_DECODE_REFERENCE_H_
#define SACCADE_TESTS_DECODE_REFERENCE_H_

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

inline Part Band(int64_t reach, int64_t sinks) {
  Part part;
  part.low = 0;
  part.reach = reach;
  part.sinks = sinks;
  return part;
}

inline std::vector<Case> Cases() {
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
inline Row Want(const TileSpec& s, const Case& c, const Tensor& q,
                const Tensor& k, const Tensor& v, int64_t b, int64_t h,
                int64_t t, int64_t i, int64_t keys) {
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

inline double Unit(DType dtype) {
  return std::ldexp(1.0, dtype == DType::kF32 ? -24 : -8);
}

// Worst error of rows first .. first + n - 1 of `out`, in units of the budget,
// when query row t stands at `position` + t and sees keys up to its own.
// `rounded`: weights may have been rounded to bf16.
inline double Worst(const TileSpec& s, const Case& c, const Tensor& q,
                    const Tensor& k, const Tensor& v, const Tensor* gate,
                    const Tensor& out, int64_t position, int64_t n,
                    int64_t keys, const float* lse, bool rounded = false) {
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
              (rounded ? Unit(DType::kBF16) * std::abs(g) * want.size[at] : 0) +
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

inline TileSpec MakeSpec(const Case& c, DType dtype, int64_t d, int64_t e) {
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

}  // namespace saccade

#endif  // SACCADE_TESTS_DECODE_REFERENCE_H_
