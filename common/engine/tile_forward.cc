// The tile engine's forward pass: cuts it into tiles. Kernels are in
// tile_forward-inl.h.
#include "engine/tile_forward.h"

#include "engine/tile.h"

namespace saccade {
namespace {

// Queries whose running maximum and sum are carried from part to part at once.
constexpr int64_t kCarry = 1 << 16;

// A softmax over several parts carries its state from one to the next: the
// maximum and the sum here, what was summed unnormalised in `out` (rounded to
// its dtype: one more rounding a part).
bool Carries(const TileSpec& spec) {
  return spec.normaliser == Normaliser::kSoftmax && spec.pattern.size() > 1;
}

struct Scratch {
  Scratch(Arena& arena, const TileSpec& spec, int slots) {
    if (Carries(spec)) {
      carry_max = arena.Take<float>(kCarry);
      carry_sum = arena.Take<float>(kCarry);
    }
    Arena one;
    TileScratch(one, spec);
    tile_bytes = static_cast<int64_t>(one.used());
    tiles = arena.Take<std::byte>(tile_bytes * slots);
  }
  TileScratch Slot(const TileSpec& spec, int slot) const {
    Arena arena({tiles + slot * tile_bytes, static_cast<size_t>(tile_bytes)});
    return {arena, spec};
  }

  float *carry_max = nullptr, *carry_sum = nullptr;
  int64_t tile_bytes = 0;
  std::byte* tiles = nullptr;
};

using Kernel = void (*)(const TileWork&, const TileScratch&);

struct Kernels {
  Kernel run;
  TileShape shape;
};

Kernels KernelsOf(const TileSpec& spec) {
  if (spec.normaliser != Normaliser::kSoftmax)
    return {ReluTile, ReluTileShape()};
  return {spec.slopes.empty() ? SoftmaxTile : BiasedSoftmaxTile,
          SoftmaxTileShape()};
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Heads (of all sequences) and query rows that are worked on at once.
struct Region {
  Interval heads, rows;
};

// How one part's tiles of a region are numbered: by head, residue class, block
// of the part's grain, tile in it; the last blocks and tiles first, as they see
// most under a causal mask. A class begins at each of the first rows.
struct Tiling {
  Tiling(const Part& part, const Region& region, int64_t tile)
      : tile(tile),
        classes(std::min(part.step, region.rows.size())),
        grain(part.Grain()) {
    const int64_t rows = CeilDiv(region.rows.size(), part.step);
    // Wherever a class's first query stands in its block.
    blocks = grain == kFar ? 1 : (rows + grain - 2) / grain + 1;
    tiles = CeilDiv(std::min(rows, grain), tile);
  }
  int64_t PerHead() const { return classes * blocks * tiles; }

  int64_t tile, classes, grain, blocks, tiles;
};

// Tile `index` of a head; its queries may be empty.
void Place(const Tiling& tiling, const Region& region, int64_t index,
           TileWork& work) {
  const int64_t step = work.part->step;
  const int64_t nth = tiling.tiles - 1 - index % tiling.tiles;
  index /= tiling.tiles;
  const int64_t block = tiling.blocks - 1 - index % tiling.blocks;
  const int64_t first_row = region.rows.begin + index / tiling.blocks;

  const int64_t position = work.call->q_position + first_row;
  const int64_t begin = FloorDiv(position, step);
  work.residue = position - begin * step;
  const Interval all{begin, begin + CeilDiv(region.rows.end - first_row, step)};
  Interval within = all;
  if (tiling.grain != kFar) {
    const int64_t start =
        (FloorDiv(begin, tiling.grain) + block) * tiling.grain;
    within = all.Cut({start, start + tiling.grain});
  }
  work.queries = Interval{within.begin + nth * tiling.tile,
                          within.begin + (nth + 1) * tiling.tile}
                     .Cut(within);
  work.q_row = first_row + (work.queries.begin - begin) * step;
}

void RunRegion(const TileSpec& spec, const TileCall& call, const Region& region,
               const Scratch& scratch, Exec& exec) {
  Part nothing;
  nothing.low = kFar;
  const Kernels kernels = KernelsOf(spec);
  const int64_t parts =
      std::max<int64_t>(1, static_cast<int64_t>(spec.pattern.size()));
  for (int64_t p = 0; p < parts; ++p) {
    const Part& part = spec.pattern.empty() ? nothing : spec.pattern[p];
    const Tiling tiling(part, region, kernels.shape.queries());
    exec.For(region.heads.size() * tiling.PerHead(),
             [&](int64_t task, int slot) {
               const int64_t head = task / tiling.PerHead();
               TileWork work;
               work.spec = &spec, work.call = &call, work.part = &part;
               work.batch = (region.heads.begin + head) / spec.q_heads;
               work.head = (region.heads.begin + head) % spec.q_heads;
               work.first = p == 0;
               work.last = p == parts - 1;
               Place(tiling, region, task % tiling.PerHead(), work);
               if (work.queries.empty()) return;
               if (scratch.carry_max != nullptr) {
                 const int64_t at =
                     head * region.rows.size() + work.q_row - region.rows.begin;
                 work.carry_max = scratch.carry_max + at;
                 work.carry_sum = scratch.carry_sum + at;
               }
               kernels.run(work, scratch.Slot(spec, slot));
             });
  }
}

}  // namespace

size_t TileForwardScratch(const TileSpec& spec, int slots) {
  Arena arena;
  Scratch(arena, spec, slots);
  return arena.used();
}

void TileForward(const TileSpec& spec, const TileCall& call, Bytes memory,
                 Exec& exec) {
  Arena arena(memory);
  const Scratch scratch(arena, spec, exec.slots());
  const int64_t heads = spec.batch * spec.q_heads;
  if (call.q.len == 0 || heads == 0) return;
  // Without a carry everything is one region.
  const int64_t rows =
      Carries(spec) ? std::min(call.q.len, kCarry) : call.q.len;
  const int64_t at_once = Carries(spec) ? kCarry / rows : heads;
  for (int64_t h = 0; h < heads; h += at_once)
    for (int64_t r = 0; r < call.q.len; r += rows)
      RunRegion(spec, call,
                {{h, std::min(heads, h + at_once)},
                 {r, std::min(call.q.len, r + rows)}},
                scratch, exec);
}

}  // namespace saccade
