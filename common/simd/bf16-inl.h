// bf16 <-> f32, vectors and rows of any length.

// Per-target include guard.
#if defined(SACCADE_COMMON_SIMD_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_SIMD_BF16_INL_H_
#undef SACCADE_COMMON_SIMD_BF16_INL_H_
#else
#define SACCADE_COMMON_SIMD_BF16_INL_H_
#endif

#include <hwy/highway.h>

#include "simd/bf16.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

/// A vector of floats from memory, whatever they are stored as: Lanes(d)
/// elements are read.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> LoadAs(D d, const float* from) {
  return hwy::HWY_NAMESPACE::LoadU(d, from);
}
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> LoadAs(D d, const BF16* from) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

/// Stores a vector of floats, to bf16 as ToBF16 rounds.
template <class D>
HWY_INLINE void StoreAs(D d, hwy::HWY_NAMESPACE::Vec<D> x, float* to) {
  hwy::HWY_NAMESPACE::StoreU(x, d, to);
}
template <class D>
HWY_INLINE void StoreAs(D, hwy::HWY_NAMESPACE::Vec<D> x, BF16* to) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::BitCast(du, x);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1));
  const auto rounded =
      hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40));
  const auto half =
      hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(x)), quiet, rounded);
  // At most 16 bits are set, which a saturating demotion keeps.
  hn::StoreU(hn::DemoteTo(du16, hn::BitCast(di, half)), du16,
             reinterpret_cast<uint16_t*>(to));
}

/// to[0 .. n - 1] = from[0 .. n - 1], converted as above; nothing beyond is
/// touched. From and To are float or BF16. No overlap.
template <class From, class To>
HWY_INLINE void ConvertRow(const From* HWY_RESTRICT from, size_t n,
                           To* HWY_RESTRICT to) {
  const hwy::HWY_NAMESPACE::ScalableTag<float> d;
  const size_t lanes = hwy::HWY_NAMESPACE::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreAs(d, LoadAs(d, from + i), to + i);
  const hwy::HWY_NAMESPACE::CappedTag<float, 1> d1;
  for (; i < n; ++i) StoreAs(d1, LoadAs(d1, from + i), to + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_SIMD_BF16_INL_H_
