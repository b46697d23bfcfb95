// Stands in for engine passes that have not landed yet, so that the library
// links. Goes when they have.
#include <cstdlib>

#include "engine/tile.h"

namespace saccade {

[[gnu::weak]] size_t TileBackwardScratch(const TileSpec&, int64_t, int64_t,
                                         int) {
  return 0;
}
[[gnu::weak]] void TileBackward(const TileSpec&, const TileBackwardCall&, Bytes,
                                Exec&) {
  std::abort();
}
}  // namespace saccade
