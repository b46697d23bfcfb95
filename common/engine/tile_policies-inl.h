// What becomes of a score in the tile engine's forward pass.

// Per-target include guard.
#if defined(SACCADE_COMMON_ENGINE_TILE_POLICIES_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_POLICIES_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_POLICIES_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_POLICIES_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "engine/tile_forward.h"
#include "engine/tile_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

// Whether a softcap is all that happens to scores.
inline bool OnlyCaps(const TileSpec& spec) {
  return spec.bias == nullptr && spec.slopes.empty();
}

constexpr float kInf = std::numeric_limits<float>::infinity();

// A Policy says what becomes of a score, and how weights are normalised:
//   kRunning  weights are 2^(score - running maximum), divided by their sum;
//             otherwise Score returns the weight itself
//   kHidden   the score of a pair that is not visible: its weight is 0
//   kMask     whether the caller's mask stands where scores are to go
//   Policy(work), Factor()  what queries are multiplied by beforehand
//   Score(s, ahead, at)     ahead: i - j of lane 0, in class coordinates; at:
//                           where the score is to go
//   Weights()               of held scores: Held or HeldRaw
//   Norm(query)             without kRunning: what out is multiplied by

// Scores are in base 2: queries carry log2 e.
class Softmax {
 public:
  static constexpr bool kRunning = true;
  static constexpr float kHidden = -kInf;
  static constexpr bool kMask = false;

  explicit Softmax(const TileWork& work)
      : factor_(static_cast<float>(static_cast<double>(work.spec->scale) *
                                   1.4426950408889634)) {}
  float Factor() const { return factor_; }
  HWY_INLINE V Score(V s, int64_t, const float*) const { return s; }
  Held Weights() const { return {}; }

 private:
  float factor_;
};

// Of queries without their factor, which must be positive.
class RawSoftmax : public Softmax {
 public:
  using Softmax::Softmax;
  HeldRaw Weights() const { return {Factor()}; }
};

// s - slope |i - j|.
class BiasedSoftmax : public Softmax {
 public:
  explicit BiasedSoftmax(const TileWork& work)
      : Softmax(work),
        slope_(work.call->Slope(*work.spec, work.batch, work.head) * kLog2E *
               static_cast<float>(work.part->step)) {}
  HWY_INLINE V Score(V s, int64_t ahead, const float*) const {
    const V distance = hn::Abs(hn::Iota(d, static_cast<float>(ahead)));
    return hn::NegMulAdd(hn::Set(d, slope_), distance, s);
  }

 private:
  float slope_;
};

// s + bias(i - j), from a table.
class TabledSoftmax : public Softmax {
 public:
  explicit TabledSoftmax(const TileWork& work)
      : Softmax(work), bias_(work.bias) {}
  HWY_INLINE V Score(V s, int64_t ahead, const float*) const {
    return hn::Add(s, hn::LoadU(d, bias_ + ahead));
  }

 private:
  const float* bias_;
};

// cap tanh(s / cap), and no more.
class CappedSoftmax : public Softmax {
 public:
  explicit CappedSoftmax(const TileWork& work)
      : Softmax(work), cap_(work.spec->softcap * kLog2E) {
    // The minimax fit of tanh(x) / x in x^2 for |x| < kNear (4.1e-8).
    constexpr double kFit[] = {-3.333266316e-1, 1.329982523e-1,
                               -4.914849151e-2};
    const double square = static_cast<double>(cap_) * cap_;
    double scale = 1;
    for (int i = 0; i < 3; ++i)
      fit_[i] = static_cast<float>(kFit[i] / (scale *= square));
    near_ = static_cast<float>(square * kNear * kNear);
  }
  HWY_INLINE V Score(V s, int64_t, const float*) const {
    const V z = hn::Mul(s, s);
    V p = hn::MulAdd(hn::Set(d, fit_[2]), z, hn::Set(d, fit_[1]));
    p = hn::MulAdd(p, z, hn::Set(d, fit_[0]));
    p = hn::MulAdd(p, z, hn::Set(d, 1.0f));
    const V near = hn::Mul(p, s);
    // Usually that is all, for scores that the cap hardly touches. It must not
    // show in a lane's bits what its neighbours hold.
    const auto nearby = hn::Lt(z, hn::Set(d, near_));
    if (HWY_LIKELY(hn::AllTrue(d, nearby))) return near;
    const V share = hn::Mul(s, hn::Set(d, 1 / cap_));
    const V far = hn::Mul(hn::Set(d, cap_), TanhAndSlope<D>(d, share).value);
    return hn::IfThenElse(nearby, near, far);
  }

 private:
  static constexpr double kNear = 0.35;
  float cap_;  // in base 2, as scores are
  float fit_[3], near_;
};

// All that may become of a score, each a branch that goes the same way for all
// of a pass: softcap, either bias, the caller's mask.
template <bool kWithMask>
class AnySoftmax : public Softmax {
 public:
  static constexpr bool kMask = kWithMask;

  explicit AnySoftmax(const TileWork& work)
      : Softmax(work),
        cap_(work.spec->softcap * kLog2E),
        inverse_(cap_ > 0 ? 1 / cap_ : 0),
        bias_(work.bias) {
    if (!work.spec->slopes.empty())
      slope_ = work.call->Slope(*work.spec, work.batch, work.head) * kLog2E *
               static_cast<float>(work.part->step);
  }
  HWY_INLINE V Score(V s, int64_t ahead, const float* at) const {
    if (cap_ > 0) {
      const V share = hn::Mul(s, hn::Set(d, inverse_));
      s = hn::Mul(hn::Set(d, cap_), TanhAndSlope<D>(d, share).value);
    }
    if (bias_ != nullptr) s = hn::Add(s, hn::LoadU(d, bias_ + ahead));
    if (slope_ != 0) {
      const V distance = hn::Abs(hn::Iota(d, static_cast<float>(ahead)));
      s = hn::NegMulAdd(hn::Set(d, slope_), distance, s);
    }
    if constexpr (!kMask) return s;
    // What is hidden is so whatever its key holds.
    const V mask = hn::Load(d, at), hidden = hn::Set(d, kHidden);
    return hn::IfThenElse(hn::Eq(mask, hidden), hidden, hn::Add(s, mask));
  }

 private:
  float cap_, inverse_;  // in base 2, as scores are
  const float* bias_;
  float slope_ = 0;
};

// relu(s)^2, of GAU.
class ReluSquared {
 public:
  static constexpr bool kRunning = false;
  static constexpr float kHidden = kHiddenWeight;
  static constexpr bool kMask = false;

  explicit ReluSquared(const TileWork& work) : factor_(work.spec->scale) {}
  float Factor() const { return factor_; }
  Held Weights() const { return {}; }
  HWY_INLINE V Score(V s, int64_t, const float*) const {
    const V positive = hn::Max(hn::Zero(d), s);  // keeps a NaN in second place
    return hn::Mul(positive, positive);
  }
  // Of query i', in class coordinates.
  float Norm(const TileWork& work, int64_t i) const {
    if (work.spec->normaliser == Normaliser::kReluSquared)
      return static_cast<float>(1 / work.spec->divisor);
    const int64_t seen =
        VisibleKeys(work.spec->pattern, work.residue + i * work.part->step,
                    work.call->kv_end);
    return seen == 0 ? 0.0f : 1.0f / static_cast<float>(seen);
  }

 private:
  float factor_;
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_POLICIES_INL_H_
