// The scan engine's state and the operands of one run of tokens: what the
// passes (scan.cc) and the kernels (scan_tile-inl.h) share.
//
// A state is a matrix [rows, columns], and perhaps a vector z [rows], each held
// at two levels: `total`, and `recent`, the sum of at most kScanRun tokens that
// is then added to it. A plain sum rounds once a token at the size of the whole
// state, and loses a third of sqrt(N) units in the last place, 80 at 64k
// tokens; two levels divide the count by kScanRun. The kernels pay one addition
// for 2 kScanTile multiply-adds.
#ifndef SACCADE_COMMON_ENGINE_SCAN_STATE_H_
#define SACCADE_COMMON_ENGINE_SCAN_STATE_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "arena.h"
#include "engine/rows_ahead.h"
#include "saccade/variant.h"

namespace saccade {

/// Tokens of a register tile. The state is read as it was before the tile; what
/// its tokens say to each other goes by their scores; SeeingTile() does that by
/// pairs.
constexpr int64_t kScanTile = 6;
/// Most tokens of a run, and of the state's `recent` level.
constexpr int64_t kScanRun = 96;
/// Columns of the state that are shared out together.
constexpr int64_t kScanPanel = 32;
/// Columns of a row that lie together: [column / kScanLine][row][kScanLine].
/// Panels of 32 in one piece left half of the first-level cache's sets unused
/// where a kernel takes 16 columns.
constexpr int64_t kScanLine = 16;
/// Rows of operands are padded with zeros to a multiple of this.
constexpr int64_t kScanPad = 16;
/// Tiles of a run: whole ones, then single tokens.
constexpr int64_t kScanTiles = kScanRun / kScanTile + kScanTile - 1;
/// Floats of a tile's scores: row t, column s at 8 t + s.
constexpr int64_t kScanScores = 8 * kScanTile;

/// Most elements of which products are features.
constexpr int64_t kTaylorMost = 64;

constexpr int64_t ScanRoundUp(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

/// Where an element of a state of that many rows stands.
constexpr int64_t ScanAt(int64_t rows, int64_t row, int64_t column) {
  return (column / kScanLine * rows + row) * kScanLine + column % kScanLine;
}

/// A state, laid out in a scratch or in memory that outlives the pass. All zero
/// bytes are the state of an empty sequence.
struct ScanState {
  struct Level {
    int64_t started;  // 0: the next three are not set
    int64_t held;     // tokens in `recent`
    double fade;      // the decay over them, which `total` still lacks
    double owed;      // what rounding took from the factors applied to `recent`
  };

  /// `panels` of `rows` rows.
  ScanState(Arena& arena, int64_t rows, int64_t panels, bool with_z)
      : floats(panels * rows * kScanPanel),
        z_floats(with_z ? ScanRoundUp(rows, kScanPad) : 0),
        level(arena.Take<Level>(1)),
        total(arena.Take<float>(floats)),
        recent(arena.Take<float>(floats)),
        z_total(arena.Take<float>(z_floats)),
        z_recent(arena.Take<float>(z_floats)) {}

  void Clear() const {
    *level = {};
    std::fill_n(total, floats, 0.0f);
    std::fill_n(recent, floats, 0.0f);
    std::fill_n(z_total, z_floats, 0.0f);
    std::fill_n(z_recent, z_floats, 0.0f);
  }

  int64_t floats, z_floats;
  Level* level;
  float *total, *recent;
  float *z_total, *z_recent;
};

/// Rows of floats: row t of head h at data + h head + t stride. A negative
/// stride walks back in time.
template <class Float>
struct ScanRows {
  Float* At(int64_t h, int64_t t) const { return data + h * head + t * stride; }
  ScanRows Reversed() const { return {data, -stride, head}; }
  Float* data = nullptr;
  int64_t stride = 0, head = 0;
};

/// One run of a scan: for each token t in turn
///   S = decay_t S + sum_w key_w,t value_w,t^T,   out_r,t = query_r,t S.
/// There may be several readers r or several writers w, not both. A run with
/// decay has a writer, if need be of zeros.
struct ScanRun {
  int64_t count = 0;  // tokens, at most kScanRun
  /// Tokens that may follow in runs cut from the same stretch, these included:
  /// what the state does must not depend on where later ones are cut.
  int64_t stretch = 0;
  int64_t rows = 0;         // of the state: width of queries and keys
  int64_t columns = 0;      // of the state: width of values and out
  int64_t panel_begin = 0;  // the share of the columns that is computed;
  int64_t panel_end = 0;    //   the state's first panel is panel_begin
  int readers = 0;          // 0: the state is only updated
  int writers = 0;          // 0: the state is only read
  ScanRows<const float> query, key, value;
  ScanRows<float> out;
  const float* decay = nullptr;  // [count], or null: 1
  RowsAhead* ahead = nullptr;    // null: there is nothing to fetch
  /// Not null: out is multiplied by 1 / (max(query.z, least) + epsilon), which
  /// is written here as well, [readers, kScanRun].
  float* factor = nullptr;
  float least = -std::numeric_limits<float>::infinity();
  float epsilon = 0;
  float scale = 1;  // of out, where factor is null
};

/// A tile's share of its run's decays.
struct ScanDecay {
  float to[kScanTile];    // from before the tile up to each token
  float past[kScanTile];  // from each token up to the tile's end, or to the
                          //   frame: the run's begin
  float back[kScanTile];  // one over it
  float tile;             // over the tile
  float total;            // of the state's `total` before the tile
};

/// Room for what is computed once for a run and used by all its panels.
struct ScanScratch {
  ScanScratch(Arena& arena, int64_t rows, int64_t pairs)
      : scores(arena.Take<float>(pairs * kScanTiles * kScanScores)),
        decays(arena.Take<ScanDecay>(kScanTiles)),
        z(arena.Take<float>(ScanRoundUp(rows, kScanPad))) {}
  float* scores;  // [pairs, kScanTiles, kScanScores]
  ScanDecay* decays;
  float* z;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCAN_STATE_H_
