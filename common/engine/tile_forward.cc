// The tile engine's forward pass: cuts it into tiles. Kernels are in
// tile_forward-inl.h.
#include "engine/tile_forward.h"

#include <algorithm>

#include "engine/tile.h"
#include "simd/target.h"

namespace saccade {
namespace {

// Queries whose state is carried from part to part at once, at most: 4 MiB of
// bf16's sums at width 64. A part's residue classes are cut as often as this
// cuts a sequence, and then share their keys less.
constexpr int64_t kCarry = 1 << 14;

// Parts have tiles of their own, for each shares its keys among other queries:
// neighbours, or those of a residue class. So a query's state goes from part to
// part by memory.
bool Carries(const TileSpec& spec) { return spec.pattern.size() > 1; }

// Queries that are carried at once, of all heads.
int64_t CarriedQueries(const TileSpec& spec, int64_t q_len) {
  return std::min(kCarry, spec.batch * spec.q_heads * q_len);
}

struct Scratch {
  Scratch(Arena& arena, const TileSpec& spec, int64_t q_len, int slots) {
    if (Carries(spec)) {
      const int64_t queries = CarriedQueries(spec, q_len);
      if (spec.normaliser == Normaliser::kSoftmax) {
        carry.max = arena.Take<float>(queries);
        carry.sum = arena.Take<float>(queries);
      }
      if (spec.dtype != DType::kF32)
        carry.out = arena.Take<float>(queries * spec.v_dim);
    }
    Arena one;
    TileScratch(one, spec);
    tile_bytes = static_cast<int64_t>(one.used());
    tiles = arena.Take<std::byte>(tile_bytes * slots);
    kept_rows = KeptRows(spec, q_len);
    kept_floats = kept_rows / 2 * spec.v_dim;
    kept = arena.Take<float>(kept_floats * slots);
  }
  TileScratch Slot(const TileSpec& spec, int slot) const {
    Arena arena({tiles + slot * tile_bytes, static_cast<size_t>(tile_bytes)});
    return {arena, spec};
  }

  KeptValues Kept(int slot) const {
    return {.at = kept + slot * kept_floats, .room = kept_rows};
  }

  // The state of the `at`th query of a region.
  Carry At(const TileSpec& spec, int64_t at) const {
    Carry its;
    if (carry.max != nullptr) its.max = carry.max + at;
    if (carry.sum != nullptr) its.sum = carry.sum + at;
    if (carry.out != nullptr) its.out = carry.out + at * spec.v_dim;
    return its;
  }

  Carry carry;  // of all of a region's queries, [head][row]
  int64_t tile_bytes = 0;
  std::byte* tiles = nullptr;
  int64_t kept_rows = 0, kept_floats = 0;  // of a slot
  float* kept = nullptr;
};

using Kernel = void (*)(const TileWork&, const TileScratch&);

struct Kernels {
  Kernel run;
  TileShape shape;
};

Kernels KernelsOf(const TileSpec& spec) {
  const bool pairs = spec.dtype == DType::kBF16 && MultipliesBF16();
  if (spec.normaliser != Normaliser::kSoftmax)
    return {pairs ? ReluPairTile : ReluTile, ReluTileShape()};
  const TileShape shape = SoftmaxTileShape();
  if (spec.masked)
    return {pairs ? MaskedSoftmaxPairTile : MaskedSoftmaxTile, shape};
  if (spec.softcap > 0)
    return {pairs ? CappedSoftmaxPairTile : CappedSoftmaxTile, shape};
  if (spec.bias != nullptr)
    return {pairs ? TabledSoftmaxPairTile : TabledSoftmaxTile, shape};
  if (spec.slopes.empty())
    return {pairs ? SoftmaxPairTile : SoftmaxTile, shape};
  return {pairs ? BiasedSoftmaxPairTile : BiasedSoftmaxTile, shape};
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

// The tiles of one part in a region.
class Tiles {
 public:
  Tiles(const TileSpec& spec, const TileCall& call, const Part& part,
        const Region& region, const Scratch& scratch, TileShape shape)
      : spec_(spec),
        call_(call),
        part_(part),
        region_(region),
        scratch_(scratch),
        tiling_(part, region, shape.queries()) {}

  int64_t size() const { return region_.heads.size() * tiling_.PerHead(); }

  // Its queries may be empty.
  TileWork At(int64_t index, bool first, bool last) const {
    const int64_t head = index / tiling_.PerHead();
    TileWork work;
    work.spec = &spec_, work.call = &call_, work.part = &part_;
    work.batch = (region_.heads.begin + head) / spec_.q_heads;
    work.head = (region_.heads.begin + head) % spec_.q_heads;
    if (call_.bias != nullptr && !spec_.pattern.empty())
      work.bias = call_.bias->Zero(&part_ - spec_.pattern.data(), work.head);
    work.first = first, work.last = last;
    Place(tiling_, region_, index % tiling_.PerHead(), work);
    if (!work.queries.empty())
      work.carry = scratch_.At(
          spec_, head * region_.rows.size() + work.q_row - region_.rows.begin);
    return work;
  }

 private:
  const TileSpec& spec_;
  const TileCall& call_;
  const Part& part_;
  const Region region_;
  const Scratch& scratch_;
  const Tiling tiling_;
};

// Sees nothing: what stands for a pattern of no parts.
Part Nothing() {
  Part part;
  part.low = kFar;
  return part;
}

// Runs tiles `its` of a part, which is the first of the pattern's, or the last.
void RunTiles(const Tiles& tiles, Interval its, bool first, bool last,
              Kernel kernel, const TileScratch& scratch, KeptValues kept) {
  TileWork work = tiles.At(its.begin, first, last);
  Fetches fetches;
  if (!work.queries.empty()) FetchOut(work, fetches);
  for (int64_t index = its.begin; index < its.end; ++index) {
    TileWork next;
    if (index + 1 < its.end) next = tiles.At(index + 1, first, last);
    if (!next.queries.empty()) FetchNext(work, next, fetches);
    work.fetches = &fetches, work.kept = &kept;
    kept.Of(work.batch, work.KvHead());
    if (!work.queries.empty()) kernel(work, scratch);
    work = next;
    fetches = {};
  }
}

void RunRegion(const TileSpec& spec, const TileCall& call, const Region& region,
               const Scratch& scratch, Exec& exec) {
  const Part nothing = Nothing();
  const Kernels kernels = KernelsOf(spec);
  const int64_t parts =
      std::max<int64_t>(1, static_cast<int64_t>(spec.pattern.size()));
  for (int64_t p = 0; p < parts; ++p) {
    const Part& part = spec.pattern.empty() ? nothing : spec.pattern[p];
    const Tiles tiles(spec, call, part, region, scratch, kernels.shape);
    const int64_t run = TilesInRun(tiles.size(), exec.slots());
    exec.For(CeilDiv(tiles.size(), run), [&](int64_t task, int slot) {
      RunTiles(tiles,
               Interval{task * run, (task + 1) * run}.Cut({0, tiles.size()}),
               p == 0, p == parts - 1, kernels.run, scratch.Slot(spec, slot),
               scratch.Kept(slot));
    });
  }
}

}  // namespace

int64_t TilesInRun(int64_t tiles, int slots) {
  constexpr int64_t kMost = 16, kRunsPerSlot = 8;
  return std::clamp<int64_t>(tiles / (kRunsPerSlot * slots), 1, kMost);
}

int64_t KeptRows(const TileSpec& spec, int64_t q_len) {
  // 512 KiB at width 64, in place of as much of the values themselves in the
  // caches; what is beyond, each tile makes for itself.
  constexpr int64_t kMost = 1 << 12;
  if (spec.dtype != DType::kBF16 || q_len <= kMaxTile) return 0;
  return std::min(kMost, q_len + q_len % 2);
}

size_t TileForwardAllScratch(const TileSpec& spec, int64_t q_len,
                             int64_t sequences, int slots) {
  Arena arena;
  arena.Take<int64_t>(sequences + 1);
  Scratch(arena, spec, q_len, slots);
  return arena.used();
}

void TileForwardAll(const TileSpec& spec, std::span<const TileCall> calls,
                    Bytes memory, Exec& exec) {
  const auto sequences = static_cast<int64_t>(calls.size());
  int64_t q_len = 0;
  for (const TileCall& call : calls) q_len = std::max(q_len, call.q.len);
  Arena arena(memory);
  int64_t* const ends = arena.Take<int64_t>(sequences + 1);
  if (Carries(spec)) {
    for (const TileCall& call : calls)
      TileForward(spec, call, memory.subspan(arena.used()), exec);
    return;
  }
  const Scratch scratch(arena, spec, q_len, exec.slots());
  const Part nothing = Nothing();
  const Part& part = spec.pattern.empty() ? nothing : spec.pattern[0];
  const Kernels kernels = KernelsOf(spec);
  const auto tiles_of = [&](int64_t s) {
    return Tiles(spec, calls[s], part, {{0, spec.q_heads}, {0, calls[s].q.len}},
                 scratch, kernels.shape);
  };
  // Runs of tiles, numbered through all sequences; ends[s]: of the s-th.
  int64_t tiles = 0, runs = 0;
  for (int64_t s = 0; s < sequences; ++s)
    if (calls[s].q.len > 0) tiles += tiles_of(s).size();
  const int64_t run = TilesInRun(tiles, exec.slots());
  for (int64_t s = 0; s < sequences; ++s) {
    if (calls[s].q.len > 0) runs += CeilDiv(tiles_of(s).size(), run);
    ends[s] = runs;
  }
  exec.For(runs, [&](int64_t task, int slot) {
    const int64_t s = std::upper_bound(ends, ends + sequences, task) - ends;
    const Tiles its = tiles_of(s);
    const int64_t nth = task - (s == 0 ? 0 : ends[s - 1]);
    RunTiles(its, Interval{nth * run, (nth + 1) * run}.Cut({0, its.size()}),
             true, true, kernels.run, scratch.Slot(spec, slot),
             scratch.Kept(slot));
  });
}

size_t TileForwardScratch(const TileSpec& spec, int64_t q_len, int slots) {
  Arena arena;
  Scratch(arena, spec, q_len, slots);
  return arena.used();
}

void TileForward(const TileSpec& spec, const TileCall& call, Bytes memory,
                 Exec& exec) {
  Arena arena(memory);
  const Scratch scratch(arena, spec, call.q.len, exec.slots());
  const int64_t heads = spec.batch * spec.q_heads;
  if (call.q.len == 0 || heads == 0) return;
  // Without a carry everything is one region.
  const int64_t most = CarriedQueries(spec, call.q.len);
  const int64_t rows = Carries(spec) ? std::min(call.q.len, most) : call.q.len;
  const int64_t at_once = Carries(spec) ? most / rows : heads;
  for (int64_t h = 0; h < heads; h += at_once)
    for (int64_t r = 0; r < call.q.len; r += rows)
      RunRegion(spec, call,
                {{h, std::min(heads, h + at_once)},
                 {r, std::min(call.q.len, r + rows)}},
                scratch, exec);
}

}  // namespace saccade
