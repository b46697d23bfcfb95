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

class ReluSquared {
 public:
  static constexpr bool kRunning = false;
  static constexpr float kHidden = 0;

  explicit ReluSquared(const TileWork& work) : factor_(work.spec->scale) {}
  float Factor() const { return factor_; }
  HWY_INLINE V Score(V s, int64_t) const {
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
