// What the chunk engine's passes share: how work is shared out, and the buffers
// of a task.
#ifndef SACCADE_COMMON_ENGINE_CHUNK_BUFFERS_H_
#define SACCADE_COMMON_ENGINE_CHUNK_BUFFERS_H_

#include <algorithm>
#include <cstdint>

#include "arena.h"
#include "engine/chunk.h"
#include "engine/pattern.h"

namespace saccade {

constexpr int64_t kChunkPad = 16;  // floats: rows are whole vectors

constexpr int64_t ChunkPadded(int64_t n) {
  return (n + kChunkPad - 1) / kChunkPad * kChunkPad;
}
/// Of factors that are vectors each pair of tokens costs a walk over them, so
/// that chunks are half as long.
inline int64_t ChunkLength(const ChunkSpec& spec) {
  return spec.decay == ChunkDecay::kVector ? kChunkTokens / 2 : kChunkTokens;
}
inline int64_t Chunks(const ChunkSpec& spec, int64_t len) {
  return (len + ChunkLength(spec) - 1) / ChunkLength(spec);
}
inline bool IsDelta(const ChunkSpec& spec) { return spec.beta_input >= 0; }

/// Into how many tasks a head is split, by columns of its values, which do not
/// depend on each other. With four heads or more, not at all. Depends on the
/// problem alone.
inline int64_t ChunkShares(const ChunkSpec& spec) {
  const int64_t heads = std::max<int64_t>(1, spec.batch * spec.kv_heads);
  const int64_t panels = std::max<int64_t>(1, ChunkPadded(spec.v_dim) / 32);
  return std::clamp<int64_t>((4 + heads - 1) / heads, 1, panels);
}
/// Columns of a share.
inline Interval ChunkShare(const ChunkSpec& spec, int64_t share) {
  const int64_t panels = ChunkPadded(spec.v_dim) / kChunkPad;
  const int64_t shares = ChunkShares(spec);
  return Interval{panels * share / shares * kChunkPad,
                  panels * (share + 1) / shares * kChunkPad}
      .Cut({0, spec.v_dim});
}
/// Floats of a share's state [qk_dim, its columns], both padded.
inline int64_t ChunkStateFloats(const ChunkSpec& spec, int64_t share) {
  return ChunkPadded(spec.qk_dim) * ChunkPadded(ChunkShare(spec, share).size());
}
/// Those of the shares before it.
inline int64_t ChunkStateOffset(const ChunkSpec& spec, int64_t share) {
  int64_t floats = 0;
  for (int64_t s = 0; s < share; ++s) floats += ChunkStateFloats(spec, s);
  return floats;
}

/// The widest share's columns, padded.
inline int64_t ChunkWidth(const ChunkSpec& spec) {
  int64_t most = 0;
  for (int64_t s = 0; s < ChunkShares(spec); ++s)
    most = std::max(most, ChunkPadded(ChunkShare(spec, s).size()));
  return most;
}

/// Where a share's gradients go: floats of its own, to be added up, or out.
struct ChunkSums {
  ConstView dout;
  View dq, dk, dv, ddecay, dbeta;
};

/// A task's room for one chunk: rows of qk_dim (`d`) or of its columns (`e`),
/// squares of tokens. Rows are zeros beyond their width.
struct ChunkRoom {
  ChunkRoom(Arena& a, const ChunkSpec& spec)
      : tokens(ChunkLength(spec)),
        d(ChunkPadded(spec.qk_dim)),
        e(ChunkWidth(spec)),
        k(a.Take<float>(tokens * d)),
        q(a.Take<float>(tokens * d)),
        faded(a.Take<float>(tokens * d)),
        columns(a.Take<float>(std::max(d, e) * kChunkTokens)),
        u(a.Take<float>(tokens * e)),
        o(a.Take<float>(tokens * e)),
        state(a.Take<float>(d * e)),
        seen(a.Take<float>(spec.group > 0 ? d * e : 0)),
        square(a.Take<float>(kChunkTokens * kChunkTokens)),
        p(a.Take<float>(kChunkTokens * kChunkTokens)),
        between(a.Take<float>(kChunkTokens * kChunkTokens)),
        factor(a.Take<float>(Factors(spec))),
        from(a.Take<float>(Factors(spec))),
        to(a.Take<float>(Factors(spec))),
        keep(a.Take<float>(d)),
        beta(a.Take<float>(kChunkTokens)),
        q_inverse(a.Take<double>(spec.unit ? tokens : 0)),
        k_inverse(a.Take<double>(spec.unit ? tokens : 0)),
        walk(a.Take<float>(d)) {}
  /// A number or a row for each token.
  static int64_t Factors(const ChunkSpec& spec) {
    return spec.decay == ChunkDecay::kVector
               ? kChunkTokens / 2 * ChunkPadded(spec.qk_dim)
               : kChunkTokens;
  }

  int64_t tokens, d, e;
  float *k, *q;
  float* faded;    // q or k, times what fades from or to the chunk's ends
  float* columns;  // k, or u, with tokens in the lanes
  float *u, *o;
  float *state, *seen;
  float* square;  // A, times b where a system is solved
  float* p;
  float* between;             // D: fades from s to t, in row t
  float *factor, *from, *to;  // a, G, and what fades to the chunk's end
  float* keep;                // what rows of the state fade by over the chunk
  float* beta;
  double *q_inverse, *k_inverse;  // one over lengths that rows had, or 0
  float* walk;
};

/// What backward wants beside it.
struct ChunkBackwardRoom {
  ChunkBackwardRoom(Arena& a, const ChunkSpec& spec)
      : room(a, spec),
        y(a.Take<float>(room.tokens * room.e)),
        du(a.Take<float>(room.tokens * room.e)),
        rows(a.Take<float>(room.tokens * room.e)),
        dq(a.Take<float>(room.tokens * room.d)),
        dk(a.Take<float>(room.tokens * room.d)),
        more(a.Take<float>(room.tokens * room.d)),
        dstate(a.Take<float>(room.d * room.e)),
        dseen(a.Take<float>(spec.group > 0 ? room.d * room.e : 0)),
        turned(a.Take<float>(room.e * room.d)),
        dturned(a.Take<float>(room.e * room.d)),
        products(a.Take<float>(kChunkTokens * kChunkTokens)),
        dp(a.Take<float>(kChunkTokens * kChunkTokens)),
        weights(a.Take<float>(kChunkTokens * kChunkTokens)),
        dlog(a.Take<float>(std::max(ChunkRoom::Factors(spec), kChunkTokens))),
        dbeta(a.Take<float>(kChunkTokens)) {}
  ChunkRoom room;
  float *y, *du;
  float* rows;  // rows of e that are needed for a moment
  float *dq, *dk;
  float* more;  // rows of d that are needed for a moment
  float* dstate;
  float* dseen;             // by what a group's queries see
  float *turned, *dturned;  // transposes of the state and its gradient
  float* products;          // Q K^T
  float *dp, *weights;
  float *dlog, *dbeta;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_CHUNK_BUFFERS_H_
