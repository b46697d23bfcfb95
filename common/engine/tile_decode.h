// How a decoding step is cut into tasks; shared by its kernels and its driver.
//
// The keys that a step's queries see are listed part by part, run by run. The
// list, which is the same for every head, is cut into chunks of about
// kDecodeChunk keys; a task is a chunk for one key head and yields, for every
// row, a partial result (m, l, o) that a second loop merges in chunk order.
//
// Legend. G query heads share a key head; rows r = t G + g of a task are query
// t of the call, head g of the group. R rows in all.
#ifndef SACCADE_COMMON_ENGINE_TILE_DECODE_H_
#define SACCADE_COMMON_ENGINE_TILE_DECODE_H_

#include <algorithm>
#include <cstdint>

#include "arena.h"
#include "engine/pattern.h"
#include "engine/tile.h"
#include "simd/bf16.h"

namespace saccade {

constexpr int64_t kDecodeBlock = 256;   // keys at most whose scores are held
constexpr int64_t kDecodeChunk = 2048;  // keys a task
constexpr int64_t kDecodePad = 16;      // floats: the widest vector

constexpr int64_t PadTo(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

/// Queries of a part that are decoded together: they read the same keys.
struct DecodeGroup {
  const Part* part;
  int64_t nth;       // of the pattern's parts
  int64_t residue;   // positions are residue + part->step x, x in `queries`
  Interval queries;  // in the part's coordinates
  int64_t first;     // the call's query row of queries.begin
  int64_t keys;      // there are keys 0 .. keys - 1 in the part's coordinates
};

/// Calls visit(DecodeGroup) in a fixed order, covering every query and part.
template <class F>
void ForGroups(const Pattern& pattern, int64_t q_position, int64_t q_len,
               int64_t kv_end, F visit) {
  for (size_t nth = 0; nth < pattern.size(); ++nth) {
    const Part& part = pattern[nth];
    for (int64_t t = 0; t < q_len;) {
      const int64_t at = FloorDiv(q_position + t, part.step);
      const int64_t residue = q_position + t - at * part.step;
      int64_t n = part.step > 1 ? 1 : q_len - t;
      const int64_t grain = part.Grain();
      if (grain < kFar) n = std::min(n, (FloorDiv(at, grain) + 1) * grain - at);
      const int64_t keys =
          kv_end > residue ? (kv_end - residue - 1) / part.step + 1 : 0;
      visit(DecodeGroup{
          &part, static_cast<int64_t>(nth), residue, {at, at + n}, t, keys});
      t += n;
    }
  }
}

/// At least as many keys as the list of any step holds.
int64_t MostDecodeKeys(const Pattern& pattern, int64_t kv_len);

/// Partial results of one task, R rows.
struct DecodePartial {
  float *m, *l;  // [R]: running maximum (base 2) and sum of weights
  float* o;      // [R, e_pad]: sum of weights times values
};

/// One call, cut up, and its scratch.
struct DecodeJob {
  DecodeJob(Arena& arena, const TileSpec& spec, int64_t kv_len, int slots);

  /// Sets what depends on the call.
  void Start(const TileCall& call);

  /// Chunks as if there were `keys` keys to see.
  static int64_t Chunks(int64_t keys) {
    return std::max<int64_t>(1, (keys + kDecodeChunk - 1) / kDecodeChunk);
  }
  DecodePartial Partial(int64_t kv_head, int64_t chunk) const {
    float* const at = partial + (kv_head * chunks + chunk) * partial_floats;
    return {at, at + most_rows, at + 2 * most_rows};
  }

  const TileSpec& spec;
  const TileCall* call = nullptr;
  int64_t group;           // G
  int64_t most_rows;       // R at its largest
  int64_t d_pad, e_pad;    // widths, padded
  int64_t partial_floats;  // of one task's results
  int64_t slot_floats;     // of a slot's q [R, d_pad], s [2, R, kDecodeBlock]
  float* partial;
  float* slot;
  int64_t keys = 0, chunks = 1, chunk = 0;  // of the list; keys a chunk
};

/// Fills the partial results of one task.
void DecodeChunk(const DecodeJob& job, int64_t kv_head, int64_t chunk,
                 int slot);

/// Merges a key head's chunks, in order, and writes its rows of the output.
void DecodeMerge(const DecodeJob& job, int64_t kv_head);

/// A stored number.
inline float AsFloat(float x) { return x; }
inline float AsFloat(BF16 x) { return ToFloat(x); }

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_DECODE_H_
