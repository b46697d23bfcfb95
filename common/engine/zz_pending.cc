// Stands in for engine passes that have not landed yet, so that the library
// links. Goes when they have.
#include <cstdlib>

#include "engine/tile.h"

namespace saccade {

[[gnu::weak]] size_t TileForwardScratch(const TileSpec&, int) { return 0; }
[[gnu::weak]] void TileForward(const TileSpec&, const TileCall&, Bytes, Exec&) {
  std::abort();
}
[[gnu::weak]] size_t TileDecodeScratch(const TileSpec&, int64_t, int) {
  return 0;
}
[[gnu::weak]] void TileDecode(const TileSpec&, const TileCall&, Bytes, Exec&) {
  std::abort();
}

}  // namespace saccade
