// The tile engine's forward pass with softmax: plain, biased by distance,
// capped, masked by the caller.
#include "engine/tile_forward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_forward_softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/tile_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

TileShape Shape() { return kShape; }
void PlainTile(const TileWork& work, const TileScratch& scratch) {
  Tile<Softmax>(work, scratch).Run();
}
void BiasedTile(const TileWork& work, const TileScratch& scratch) {
  Tile<BiasedSoftmax>(work, scratch).Run();
}
void TabledTile(const TileWork& work, const TileScratch& scratch) {
  Tile<TabledSoftmax>(work, scratch).Run();
}
void CappedTile(const TileWork& work, const TileScratch& scratch) {
  if (OnlyCaps(*work.spec))
    Tile<CappedSoftmax>(work, scratch).Run();
  else
    Tile<AnySoftmax<false>>(work, scratch).Run();
}
void MaskedTile(const TileWork& work, const TileScratch& scratch) {
  Tile<AnySoftmax<true>>(work, scratch).Run();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {
HWY_EXPORT(Shape);
HWY_EXPORT(PlainTile);
HWY_EXPORT(BiasedTile);
HWY_EXPORT(TabledTile);
HWY_EXPORT(CappedTile);
HWY_EXPORT(MaskedTile);
}  // namespace

TileShape SoftmaxTileShape() { return HWY_DYNAMIC_DISPATCH(Shape)(); }

void SoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(PlainTile)(work, scratch);
}

void BiasedSoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(BiasedTile)(work, scratch);
}

void TabledSoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(TabledTile)(work, scratch);
}

void CappedSoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(CappedTile)(work, scratch);
}

void MaskedSoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(MaskedTile)(work, scratch);
}

}  // namespace saccade
#endif  // HWY_ONCE
