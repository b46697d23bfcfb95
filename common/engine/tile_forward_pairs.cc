// The tile engine's forward pass in the CPU's bf16 dot product, where there is
// one: AVX3 with one more instruction set.
#include "engine/tile_forward.h"
#include "simd/target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_forward_pairs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Before all that has kernels.
#include "simd/bf16_target-inl.h"
// These have.
#include "engine/tile_forward-inl.h"
#include "engine/tile_pairs-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

// Scores come without their factor.
template <class Policy>
class Late : public Policy {
 public:
  using Policy::Policy;
  HWY_INLINE V Score(V s, int64_t ahead, const float* at) const {
    return Policy::Score(hn::Mul(hn::Set(d, Policy::Factor()), s), ahead, at);
  }
};

template <class Policy>
void RunPairs(const TileWork& work, const TileScratch& scratch) {
  Tile<Late<Policy>, Pairs>(work, scratch).Run();
}

}  // namespace

void SoftmaxPairs(const TileWork& work, const TileScratch& scratch) {
  // Of scores times a factor that is not positive the greatest are not what
  // they are without.
  if (work.spec->scale > 0)
    Tile<RawSoftmax, Pairs>(work, scratch).Run();
  else
    RunPairs<AnySoftmax<false>>(work, scratch);
}
void BiasedSoftmaxPairs(const TileWork& work, const TileScratch& scratch) {
  RunPairs<BiasedSoftmax>(work, scratch);
}
void TabledSoftmaxPairs(const TileWork& work, const TileScratch& scratch) {
  RunPairs<TabledSoftmax>(work, scratch);
}
void CappedSoftmaxPairs(const TileWork& work, const TileScratch& scratch) {
  if (OnlyCaps(*work.spec))
    RunPairs<CappedSoftmax>(work, scratch);
  else
    RunPairs<AnySoftmax<false>>(work, scratch);
}
void MaskedSoftmaxPairs(const TileWork& work, const TileScratch& scratch) {
  RunPairs<AnySoftmax<true>>(work, scratch);
}
void ReluPairs(const TileWork& work, const TileScratch& scratch) {
  RunPairs<ReluSquared>(work, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET == HWY_AVX3

#if HWY_ONCE
namespace saccade {

#if HWY_TARGETS & HWY_AVX3
void SoftmaxPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::SoftmaxPairs(work, scratch);
}
void BiasedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::BiasedSoftmaxPairs(work, scratch);
}
void TabledSoftmaxPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::TabledSoftmaxPairs(work, scratch);
}
void CappedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::CappedSoftmaxPairs(work, scratch);
}
void MaskedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::MaskedSoftmaxPairs(work, scratch);
}
void ReluPairTile(const TileWork& work, const TileScratch& scratch) {
  N_AVX3::ReluPairs(work, scratch);
}
#else
void SoftmaxPairTile(const TileWork&, const TileScratch&) {}
void BiasedSoftmaxPairTile(const TileWork&, const TileScratch&) {}
void TabledSoftmaxPairTile(const TileWork&, const TileScratch&) {}
void CappedSoftmaxPairTile(const TileWork&, const TileScratch&) {}
void MaskedSoftmaxPairTile(const TileWork&, const TileScratch&) {}
void ReluPairTile(const TileWork&, const TileScratch&) {}
#endif

}  // namespace saccade
#endif  // HWY_ONCE
