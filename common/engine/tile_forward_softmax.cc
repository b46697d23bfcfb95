// The tile engine's forward pass with softmax, plain or biased by distance.
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

// Scores are in base 2: queries carry log2 e.
class Softmax {
 public:
  static constexpr bool kRunning = true;
  static constexpr float kHidden = -kInf;

  explicit Softmax(const TileWork& work)
      : factor_(static_cast<float>(static_cast<double>(work.spec->scale) *
                                   1.4426950408889634)) {}
  float Factor() const { return factor_; }
  HWY_INLINE V Score(V s, int64_t) const { return s; }

 private:
  float factor_;
};

// s - slope |i - j|.
class BiasedSoftmax : public Softmax {
 public:
  explicit BiasedSoftmax(const TileWork& work)
      : Softmax(work),
        slope_(work.spec->slopes[work.head] * kLog2E *
               static_cast<float>(work.part->step)) {}
  HWY_INLINE V Score(V s, int64_t ahead) const {
    const V distance = hn::Abs(hn::Iota(d, static_cast<float>(ahead)));
    return hn::NegMulAdd(hn::Set(d, slope_), distance, s);
  }

 private:
  float slope_;
};

TileShape Shape() { return kShape; }
void PlainTile(const TileWork& work, const TileScratch& scratch) {
  Tile<Softmax>(work, scratch).Run();
}
void BiasedTile(const TileWork& work, const TileScratch& scratch) {
  Tile<BiasedSoftmax>(work, scratch).Run();
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
}  // namespace

TileShape SoftmaxTileShape() { return HWY_DYNAMIC_DISPATCH(Shape)(); }

void SoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(PlainTile)(work, scratch);
}

void BiasedSoftmaxTile(const TileWork& work, const TileScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(BiasedTile)(work, scratch);
}

}  // namespace saccade
#endif  // HWY_ONCE
