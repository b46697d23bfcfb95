// What the parts of the tile engine's forward pass tell each other.
#ifndef SACCADE_COMMON_ENGINE_TILE_FORWARD_H_
#define SACCADE_COMMON_ENGINE_TILE_FORWARD_H_

#include <algorithm>
#include <cstdint>

#include "arena.h"
#include "engine/pattern.h"
#include "engine/tile.h"
#include "engine/tile_fetch.h"
#include "engine/tile_strips.h"

namespace saccade {

/// What is kept of a query from one part of the pattern to the next, in f32
/// whatever the dtype: a result is rounded once.
struct Carry {
  float* max = nullptr;  // running maximum (base 2), softmax only
  float* sum = nullptr;  // running sum of weights, softmax only
  float* out = nullptr;  // [v_dim], unnormalised; null: the caller's f32 `out`
};

/// Values of one head in the form in which they are multiplied, made once for
/// the tiles of a run: rows 0 .. rows - 1 of those for which there is room.
struct KeptValues {
  float* at = nullptr;
  int64_t room = 0, rows = 0;
  int64_t batch = -1, head = -1;  // of keys and values

  /// Keeps what it has of a head, and forgets the one before.
  void Of(int64_t its_batch, int64_t its_head) {
    if (batch != its_batch || head != its_head) rows = 0;
    batch = its_batch, head = its_head;
  }
};

/// One tile: some queries of one head, one residue class and one part of the
/// pattern.
struct TileWork {
  const TileSpec* spec = nullptr;
  const TileCall* call = nullptr;
  const Part* part = nullptr;
  int64_t batch = 0, head = 0;
  int64_t residue = 0;          // the class: positions residue + step i'
  Interval queries;             // i', at most TileShape::queries() of them
  int64_t q_row = 0;            // of the first; the others are part->step apart
  bool first = true;            // no part came before: nothing to merge with
  bool last = true;             // no part comes after: normalise, gate, store
  const float* bias = nullptr;  // of the head and part, at distance 0
  Carry carry;  // of the first query; the others are part->step apart
  Fetches* fetches = nullptr;  // to be asked for meanwhile
  KeptValues* kept = nullptr;  // of its run, or null

  int64_t KvHead() const { return head / (spec->q_heads / spec->kv_heads); }
};

/// Scratch of a slot. Rows have kMaxTile floats at most: a target's own tile
/// width is their distance.
struct TileScratch {
  TileScratch(Arena& arena, const TileSpec& spec)
      : queries(arena.Take<float>(kMaxTile * spec.qk_dim)),
        out(arena.Take<float>(kMaxTile * spec.v_dim)),
        scores(arena.Take<float>(
            kMaxTile *
            std::max<int64_t>({kKeyBlock, spec.qk_dim, spec.v_dim}))),
        max(arena.Take<float>(kMaxTile)),
        sum(arena.Take<float>(kMaxTile)),
        factor(arena.Take<float>(kMaxTile)),
        strips(arena.Take<Batch>(1)),
        keys(arena.Take<float>(kKeyBlock * spec.qk_dim)),
        values(arena.Take<float>(kKeyBlock * spec.v_dim)) {}

  float* queries;  // [qk_dim][tile], scaled
  float* out;      // [v_dim][tile], the sums
  float* scores;   // [key][tile], then weights; or rows of queries or of out
  float *max, *sum, *factor;  // [tile]
  Batch* strips;
  float *keys, *values;  // [key][dim], when packed
};

/// Tiles in a run: one thread's, so that it can ask for the memory of the next
/// one, and keep values for it; few enough that threads end together.
int64_t TilesInRun(int64_t tiles, int slots);

/// Rows of values that are kept for a run, at most.
int64_t KeptRows(const TileSpec& spec, int64_t q_len);

/// The tile of the chosen target.
TileShape SoftmaxTileShape();
TileShape ReluTileShape();

void SoftmaxTile(const TileWork& work, const TileScratch& scratch);
void BiasedSoftmaxTile(const TileWork& work, const TileScratch& scratch);
void TabledSoftmaxTile(const TileWork& work, const TileScratch& scratch);
/// With a softcap, and any bias; and with the caller's mask besides.
void CappedSoftmaxTile(const TileWork& work, const TileScratch& scratch);
void MaskedSoftmaxTile(const TileWork& work, const TileScratch& scratch);
void ReluTile(const TileWork& work, const TileScratch& scratch);

/// The same for bf16, where MultipliesBF16() (simd/target.h).
void SoftmaxPairTile(const TileWork& work, const TileScratch& scratch);
void BiasedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch);
void TabledSoftmaxPairTile(const TileWork& work, const TileScratch& scratch);
void CappedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch);
void MaskedSoftmaxPairTile(const TileWork& work, const TileScratch& scratch);
void ReluPairTile(const TileWork& work, const TileScratch& scratch);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_FORWARD_H_
