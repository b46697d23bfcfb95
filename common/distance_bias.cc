#include "distance_bias.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "position.h"
#include "saccade/variant.h"

namespace saccade {
namespace {

double Apart(int64_t distance) {
  return static_cast<double>(distance < 0 ? -distance : distance);
}

class Alibi final : public DistanceBias {
 public:
  explicit Alibi(int64_t heads) : slopes_(AlibiSlopes(heads)) {}
  void Fill(int64_t head, const float*, const Distances& at,
            float* to) const override {
    for (int64_t n = 0; n < at.count; ++n)
      to[n] = static_cast<float>(-slopes_[head] * Apart(at[n]));
  }

 private:
  std::vector<float> slopes_;
};

class T5 final : public DistanceBias {
 public:
  T5(int64_t buckets, int64_t most, bool causal)
      : buckets_(buckets), most_(most), causal_(causal) {}

  int64_t parameters() const override { return buckets_; }
  void Start(int64_t, float* parameters) const override {
    std::fill_n(parameters, buckets_, 0.0f);
  }
  void Fill(int64_t, const float* parameters, const Distances& at,
            float* to) const override {
    for (int64_t n = 0; n < at.count; ++n)
      to[n] = parameters[T5Bucket(at[n], buckets_, most_, causal_)];
  }
  void AddGradient(const float*, const Distances& at, const float* d_bias,
                   double* d_parameters) const override {
    for (int64_t n = 0; n < at.count; ++n)
      d_parameters[T5Bucket(at[n], buckets_, most_, causal_)] += d_bias[n];
  }

 private:
  int64_t buckets_, most_;
  bool causal_;
};

// The authors keep p and a above 0.01 by cutting them off after each step; as
// logarithms they need no such care.
class Kerple final : public DistanceBias {
 public:
  explicit Kerple(int64_t heads) : heads_(heads) {}

  int64_t parameters() const override { return 2; }
  // The authors draw p from 0 .. 2 and a from 0 .. 1: ours are spread over that
  // range, and its mean.
  void Start(int64_t head, float* parameters) const override {
    parameters[0] = static_cast<float>(std::log(
        2 * (static_cast<double>(head) + 0.5) / static_cast<double>(heads_)));
    parameters[1] = static_cast<float>(std::log(0.5));
  }
  void Fill(int64_t, const float* parameters, const Distances& at,
            float* to) const override {
    const double p = std::exp(static_cast<double>(parameters[0]));
    const double a = std::exp(static_cast<double>(parameters[1]));
    for (int64_t n = 0; n < at.count; ++n)
      to[n] = static_cast<float>(-p * std::log1p(a * Apart(at[n])));
  }
  void AddGradient(const float* parameters, const Distances& at,
                   const float* d_bias, double* d_parameters) const override {
    const double p = std::exp(static_cast<double>(parameters[0]));
    const double a = std::exp(static_cast<double>(parameters[1]));
    for (int64_t n = 0; n < at.count; ++n) {
      if (d_bias[n] == 0) continue;
      const double far = a * Apart(at[n]);
      d_parameters[0] -= d_bias[n] * p * std::log1p(far);
      d_parameters[1] -= d_bias[n] * p * far / (1 + far);
    }
  }

 private:
  int64_t heads_;
};

class Sandwich final : public DistanceBias {
 public:
  Sandwich(int64_t heads, int64_t width, int64_t farthest) : heads_(heads) {
    for (int64_t r = 0; r <= farthest; ++r) {
      double sum = 0;
      for (int64_t m = 0; m < width / 2; ++m)
        sum += std::cos(static_cast<double>(r) *
                        std::pow(10000.0, -2.0 * static_cast<double>(m) /
                                              static_cast<double>(width)));
      sums_.push_back(sum);
    }
  }
  void Fill(int64_t head, const float*, const Distances& at,
            float* to) const override {
    const double over =
        static_cast<double>(heads_) / (8.0 * static_cast<double>(head + 1));
    const auto last = static_cast<double>(sums_.size() - 1);
    for (int64_t n = 0; n < at.count; ++n)
      to[n] = static_cast<float>(
          over * sums_[static_cast<size_t>(std::min(Apart(at[n]), last))]);
  }

 private:
  int64_t heads_;
  std::vector<double> sums_;  // by distance, as far as the problem goes
};

}  // namespace

int64_t T5Bucket(int64_t distance, int64_t buckets, int64_t most, bool causal) {
  int64_t first = 0;
  if (causal) {
    distance = std::max<int64_t>(distance, 0);
  } else {
    buckets /= 2;
    if (distance < 0) first = buckets;
    distance = std::abs(distance);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  if (distance >= most) return first + buckets - 1;
  // Base 2, which is exact where a bucket begins at a power of two.
  const auto ratio = [&](int64_t x) {
    return std::log2(static_cast<double>(x) / static_cast<double>(exact));
  };
  const auto beyond = static_cast<int64_t>(
      ratio(distance) / ratio(most) * static_cast<double>(buckets - exact));
  return first + std::min(exact + beyond, buckets - 1);
}

std::shared_ptr<const DistanceBias> MakeDistanceBias(const Problem& p) {
  const Position* const bias = PositionOf(p.positions, PositionKind::kBias);
  if (bias == nullptr) return nullptr;
  if (bias->name == "alibi") return std::make_shared<Alibi>(p.q_heads);
  if (bias->name == "t5")
    return std::make_shared<T5>(bias->knobs.Int("buckets"),
                                bias->knobs.Int("distance"),
                                p.mask != Mask::kNone);
  if (bias->name == "kerple") return std::make_shared<Kerple>(p.q_heads);
  return std::make_shared<Sandwich>(p.q_heads, bias->knobs.Int("width"),
                                    std::max(p.q_len, p.kv_len));
}

std::vector<float> BiasStart(const Problem& p) {
  const int64_t n = BiasParameters(p);
  std::vector<float> start(p.q_heads * n);
  if (n == 0) return start;
  const auto bias = MakeDistanceBias(p);
  for (int64_t h = 0; h < p.q_heads; ++h) bias->Start(h, start.data() + h * n);
  return start;
}

ConstView SlopesOf(const Problem& p, const Inputs& in) {
  if (in.bias.data == nullptr || FindIn(p.positions, "alibi") == nullptr)
    return {};
  ConstView slopes = in.bias;
  if (slopes.batch == 1) slopes.batch_stride = 0;
  return slopes;
}

int64_t LearnedParameters(const Variant& variant, const Problem& p) {
  return variant.parameters ? variant.parameters(p) : BiasParameters(p);
}

std::vector<float> LearnedStart(const Variant& variant, const Problem& p) {
  if (!variant.parameters) return BiasStart(p);
  const int64_t n = variant.parameters(p);
  std::vector<float> start(p.q_heads * n);
  for (int64_t h = 0; h < p.q_heads; ++h)
    variant.start(p, h, start.data() + h * n);
  return start;
}

int64_t BiasParameters(const Problem& p) {
  const Position* const bias = PositionOf(p.positions, PositionKind::kBias);
  if (bias == nullptr) return 0;
  if (bias->name == "t5") return bias->knobs.Int("buckets");
  return bias->name == "kerple" ? 2 : 0;
}

}  // namespace saccade
