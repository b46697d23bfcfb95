// The tile engine's forward pass with weights relu(s)^2 (GAU).
#include "engine/tile_forward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_forward_relu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/tile_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

TileShape Shape() { return kShape; }
void RunTile(const TileWork& work, const TileScratch& scratch) {
  Tile<ReluSquared>(work, scratch).Run();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {
HWY_EXPORT(Shape);
HWY_EXPORT(RunTile);
}  // namespace

TileShape ReluTileShape() { return HWY_DYNAMIC_DISPATCH(Shape)(); }

void ReluTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(RunTile)(work, scratch);
}

}  // namespace saccade
#endif  // HWY_ONCE
