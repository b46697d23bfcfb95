// Exponentials and hyperbolic tangents that keep NaN.

// Per-target include guard.
#if defined(SACCADE_COMMON_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_SIMD_MATH_INL_H_
#undef SACCADE_COMMON_SIMD_MATH_INL_H_
#else
#define SACCADE_COMMON_SIMD_MATH_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;

/// 2^x for x <= 0 (and up to 126), within 1.6e-7 relative; exactly 1 at 0 and 0
/// at -infinity; below -126 the result may be 0. NaN stays NaN.
///
/// x is a whole number and a rest, and the rest's power a polynomial of degree
/// 5, the minimax fit among those that are 1 at 0. AVX3 has the rest above the
/// whole number below, [0, 1), in one instruction, and scales by that number in
/// another; Highway lacks both (the fit: 8.2e-8). Elsewhere adding 1.5 * 2^23
/// rounds x to an integer that sits in the low bits, from where a shift takes
/// it to the exponent, and the rest is in [-1/2, 1/2] (the fit: 9.3e-8);
/// Highway's NearestInt costs three operations more, for overflow.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> Exp2(D d, hwy::HWY_NAMESPACE::Vec<D> x) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET <= HWY_AVX3
  constexpr float kFit[] = {6.931513118e-01f, 2.401644502e-01f,
                            5.579991310e-02f, 9.017030322e-03f,
                            1.867130070e-03f};
  constexpr int kFloor = 1;
  hn::Vec<D> f;
  if constexpr (hn::MaxLanes(D()) == 16)
    f.raw = _mm512_reduce_ps(x.raw, kFloor);
  else if constexpr (hn::MaxLanes(D()) == 8)
    f.raw = _mm256_reduce_ps(x.raw, kFloor);
  else
    f.raw = _mm_reduce_ps(x.raw, kFloor);
#else
  constexpr float kFit[] = {6.931470037e-1f, 2.402224690e-1f, 5.550710857e-2f,
                            9.671291336e-3f, 1.326952130e-3f};
  const auto magic = hn::Set(d, 12582912.0f);
  x = hn::Max(hn::Set(d, -127.0f), x);  // of two, Max keeps a NaN in second
  const auto n = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(n, magic));
#endif
  auto p = hn::MulAdd(hn::Set(d, kFit[4]), f, hn::Set(d, kFit[3]));
  p = hn::MulAdd(p, f, hn::Set(d, kFit[2]));
  p = hn::MulAdd(p, f, hn::Set(d, kFit[1]));
  p = hn::MulAdd(p, f, hn::Set(d, kFit[0]));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
#if HWY_TARGET <= HWY_AVX3
  // At -infinity the rest is 0, and scaling by 2^-infinity gives 0.
  if constexpr (hn::MaxLanes(D()) == 16)
    return hn::Vec<D>{_mm512_scalef_ps(p.raw, x.raw)};
  else if constexpr (hn::MaxLanes(D()) == 8)
    return hn::Vec<D>{_mm256_scalef_ps(p.raw, x.raw)};
  else
    return hn::Vec<D>{_mm_scalef_ps(p.raw, x.raw)};
#else
  const hn::RebindToSigned<D> di;
  return hn::BitCast(
      d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, n))));
#endif
}

/// What Exp and ShortExp share: x as n ln 2 and a rest, and 2^n.
template <class D>
struct PowersOfTwo {
  using V = hwy::HWY_NAMESPACE::Vec<D>;
  V x, shifted, n;

  HWY_INLINE PowersOfTwo(D d, V at) {
    namespace hn = hwy::HWY_NAMESPACE;
    x = hn::Max(hn::Set(d, -110.0f), at);  // of two, Max keeps a NaN in second
    const auto magic = hn::Set(d, 12582912.0f);
    shifted = hn::MulAdd(x, hn::Set(d, kLog2E), magic);
    n = hn::Sub(shifted, magic);
  }

  /// p 2^n.
  HWY_INLINE V Scale(D d, V p) const {
    namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET <= HWY_AVX3
    if constexpr (hn::MaxLanes(D()) == 16)
      return V{_mm512_scalef_ps(p.raw, n.raw)};
#endif
    // 2^n in two factors, as n is -159 .. 0. NaN's bits give finite factors.
    const hn::RebindToSigned<D> di;
    const auto magic = hn::BitCast(di, hn::Set(d, 12582912.0f));
    const auto whole = hn::Sub(hn::BitCast(di, shifted), magic);
    const auto half = hn::ShiftRight<1>(whole);
    const auto power = [&](auto e) HWY_ATTR {
      return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(e, hn::Set(di, 127))));
    };
    return hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(whole, half)));
  }
};

/// e^x for x <= 0, within 1.2e-7 relative where the result is normal; exactly 1
/// at 0, and 0 below -104. NaN stays NaN.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> Exp(D d, hwy::HWY_NAMESPACE::Vec<D> x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const PowersOfTwo<D> at(d, x);
  // ln 2 in two pieces; n times the first is exact.
  auto f = hn::NegMulAdd(at.n, hn::Set(d, 0.693359375f), at.x);
  f = hn::NegMulAdd(at.n, hn::Set(d, -2.12194440e-4f), f);
  // The minimax fit of degree 6 on [-ln 2 / 2, ln 2 / 2] (3e-9).
  auto p =
      hn::MulAdd(hn::Set(d, 1.381830196e-3f), f, hn::Set(d, 8.368532173e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 4.166829214e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.666652262e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 4.999999404e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return at.Scale(d, p);
}

/// The same in two operations less, where multiply-adds round once: within
/// 2.4e-7 relative down to -30, 4e-7 where the result is normal. Anything for x
/// > 0.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> ShortExp(D d,
                                               hwy::HWY_NAMESPACE::Vec<D> x) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET > HWY_AVX2
  return Exp(d, x);
#endif
  const PowersOfTwo<D> at(d, x);
  const auto f = hn::NegMulAdd(at.n, hn::Set(d, kLn2), at.x);
  // The minimax fit of degree 5 among those that are 1 at 0 (9.3e-8).
  auto p =
      hn::MulAdd(hn::Set(d, 8.29331111e-3f), f, hn::Set(d, 4.18969691e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.66675672e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 4.99991596e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 9.99999762e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return at.Scale(d, p);
}

/// tanh x within 3e-7 relative, and its slope 1 - tanh^2 x likewise. NaN stays
/// NaN.
///
/// Below 0.55 an odd polynomial (the fit: 1.1e-9), for the difference of 1 and
/// e^-2|x| would cancel; beyond (1 - t) / (1 + t), t = e^-2|x|, whose slope is
/// 4 t / (1 + t)^2.
template <class D>
struct TanhAndSlope {
  using V = hwy::HWY_NAMESPACE::Vec<D>;
  V value, slope;

  HWY_INLINE TanhAndSlope(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const V z = hn::Mul(x, x), one = hn::Set(d, 1.0f);
    V p = hn::MulAdd(hn::Set(d, -6.274237205e-3f), z,
                     hn::Set(d, 2.107167744e-2f));
    p = hn::MulAdd(p, z, hn::Set(d, -5.385230952e-2f));
    p = hn::MulAdd(p, z, hn::Set(d, 1.333258613e-1f));
    p = hn::MulAdd(p, z, hn::Set(d, -3.333331756e-1f));
    const V near = hn::Mul(x, hn::MulAdd(p, z, one));
    const V size = hn::Abs(x);
    const auto small = hn::Lt(size, hn::Set(d, 0.55f));
    value = near;
    slope = hn::NegMulAdd(near, near, one);
    // Of scores that a cap hardly touches all are, and half the work is saved.
    if (HWY_LIKELY(hn::AllTrue(d, small))) return;
    const V t = Exp(d, hn::Mul(hn::Set(d, -2.0f), size));
    const V share = hn::Div(one, hn::Add(one, t));
    const V far = hn::CopySign(hn::Mul(hn::Sub(one, t), share), x);
    value = hn::IfThenElse(small, near, far);
    const V steep =
        hn::Mul(hn::Mul(hn::Set(d, 4.0f), t), hn::Mul(share, share));
    slope = hn::IfThenElse(small, slope, steep);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_SIMD_MATH_INL_H_
