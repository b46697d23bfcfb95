// What the backward pass of the tile engine shares between its schedule
// (tile_backward.cc) and its kernels (tile_backward_block.cc).
//
//   p_ij  = w(s_ij) / norm_i                      the weight of pair (i, j)
//   dv_j  = sum_i p_ij do_i                        dp_ij = do_i.v_j
//   ds_ij = scale p_ij (dp_ij - D_i)               D_i = do_i.o_i    (softmax)
//   ds_ij = scale 2 relu(s_ij) dp_ij / norm_i                  (relu squared)
//           with a softcap c, times 1 - tanh^2(scale q_i.k_j / c)
//   dk_j  = sum_i ds_ij q_i                        dq_i = sum_j ds_ij k_j
//
// (Dao et al. 2022, appendix B.4.) One pass: for each block of keys, for each
// block of queries that sees some of it, both of at most 128 tokens.
#ifndef SACCADE_COMMON_ENGINE_TILE_BACKWARD_H_
#define SACCADE_COMMON_ENGINE_TILE_BACKWARD_H_

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "arena.h"
#include "engine/pattern.h"
#include "engine/tile.h"

namespace saccade::backward {

constexpr int kQueries = 128;  // queries a block: 64 costs four points
constexpr int kKeys = 128;     // keys a block
constexpr int kStrip = 16;     // what is invisible is skipped in strips
constexpr int kStrips = kQueries / kStrip;
constexpr int kPanel = 64;  // keys a panel of the transposed K and V
/// From one query's scores to the next's. An odd number of cache lines, so
/// that a column of scores lies in all sets of the cache.
constexpr ptrdiff_t kScoreRow = kKeys + 16;
/// The same for rows of bf16, in floats.
constexpr ptrdiff_t kPairRow = kKeys / 2 + 16;

constexpr int64_t RoundUp(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

/// Rows of f32.
template <class T>
struct Rows {
  T* data = nullptr;
  ptrdiff_t stride = 0;
  T* operator[](int64_t r) const { return data + r * stride; }
};

/// Which cells of a block are visible, a cell being a strip of queries by a
/// strip of keys: bits, one mask for each strip of the other kind.
struct Cells {
  using Masks = std::array<uint32_t, kStrips>;
  Masks scores;   // by strip of queries: keys of which any is seen
  Masks part;     // of these, cells that are not seen whole
  Masks queries;  // by strip of queries: keys for the product dS K
  Masks keys;     // by strip of keys: queries for P^T dO and dS^T q
  /// Partly seen cells with a NaN or an infinity in q, dO or K, which neither
  /// `queries` nor `keys` holds: 0 * NaN is not 0.
  Masks careful;
  bool any_careful;
  bool hides;  // pairs that `low` and `high` hold may be hidden all the same:
               //   by kHiddenWeight in p
  /// Key j is seen by queries low[j] .. high[j] - 1 of the block. Valid where
  /// `part` has a bit.
  alignas(64) std::array<int32_t, kKeys> low, high;

  /// A block that is seen whole.
  void SetAll(int n_queries, int n_keys);
  /// seen[j]: the queries that see key j; `first` is the block's first query.
  void SetPart(const Interval* seen, int64_t first, int n_queries, int n_keys);
  /// Hides more than SetPart: a cell whole, or some of it. SetCareful follows.
  void Hide(int query_strip, int key_strip, bool whole) {
    const uint32_t cell = 1u << key_strip;
    part[query_strip] =
        whole ? part[query_strip] & ~cell : part[query_strip] | cell;
    if (whole) scores[query_strip] &= ~cell;
    hides = true;
  }
  /// Takes cells out of the products, because of strips that are not finite.
  void SetCareful(uint32_t query_strips, uint32_t key_strips);
};

/// Calls run(begin, end) for each run of ones among the low bits of a mask.
template <class F>
inline void ForRuns(uint32_t mask, F run) {
  while (mask != 0) {
    const int begin = std::countr_zero(mask);
    const int end = begin + std::countr_one(mask >> begin);
    run(begin, end);
    mask &= end < 32 ? ~uint32_t{0} << end : 0;
  }
}

/// Key blocks of one head and residue class add to dq in ascending order,
/// whatever thread has them: each says how far it has come and waits for those
/// before it. Places are any numbers that grow along a key block's work.
class Turn {
 public:
  /// `progress` holds a number for each key block of the chain; those before
  /// `*done` have finished.
  Turn(std::atomic<int64_t>* progress, std::atomic<int64_t>* done, int64_t own)
      : progress_(progress), done_(done), own_(own), first_(*done) {}

  /// Returns when all key blocks before have left `place`.
  void Await(int64_t place);
  void Leave(int64_t place) {
    progress_[own_].store(place, std::memory_order_release);
  }
  void Finish();

 private:
  std::atomic<int64_t>* progress_;
  std::atomic<int64_t>* done_;
  int64_t own_, first_;
};

/// A slot's own memory. Widths there are whole strips.
struct SlotScratch {
  SlotScratch(Arena& arena, const TileSpec& spec, int64_t distances);

  float *kt, *vt;       // [panel][width][kPanel], scaled
  float *p, *ds;        // [kQueries][kScoreRow]
  float *q, *dout, *k;  // rows, where those of the caller cannot be used
  // Of bf16: pairs of queries, and of keys, rounded.
  float *p_pairs, *ds_pairs;          // [kQueries / 2][kScoreRow]
  float* ds_rows;                     // [kQueries][kPairRow]
  float *start, *start_dp, *inverse;  // [kQueries]
  float* dbias;  // by distance, as in the widest range of BiasRanges
  Cells* cells;
  Interval* seen;  // [kKeys]
};

/// What blocks of keys give to the gradient of a bias's parameters.
class BiasGradient {
 public:
  /// `key_blocks`: the most of a round.
  BiasGradient(Arena& arena, const TileSpec& spec, int64_t key_blocks);

  /// At least as many as a BiasRanges of these lengths has in any part.
  static int64_t MostDistances(const TileSpec& spec, int64_t q_len,
                               int64_t kv_len);

  void Start(const TileSpec& spec) const;
  /// The n-th block's own, [group][parameters], set to 0.
  double* Block(int64_t n) const;
  /// Adds it to its pair's.
  void AddBlock(int64_t n, int64_t pair) const;
  /// Adds up sequences.
  void Store(const TileSpec& spec, const View& to) const;

 private:
  int64_t size_;  // of a block's
  double* blocks_;
  double* pairs_;  // [B, Hkv] of these
};

/// One TileBackward, as kernels see it. A pair is a (batch, key head); a round
/// is the pairs that are worked on together.
struct Pass {
  const TileSpec* spec;
  const TileBackwardCall* call;
  int64_t group;         // query heads a key head
  int64_t first_pair;    // of the round
  float* inner;          // D_i [pair of round][group][Tq], softmax
  const float* inverse;  // 1 / norm_i [Tq], relu squared
  float *dq, *dk, *dv;   // bf16: f32 copies [pair of round]([group])[T][dim]
  const BiasGradient* dbias;  // null where it is not wanted

  bool softmax() const { return spec->normaliser == Normaliser::kSoftmax; }
  int64_t q_len() const { return call->forward.q.len; }
  int64_t kv_len() const { return call->forward.kv_end; }
  int64_t Batch(int64_t pair) const {
    return (first_pair + pair) / spec->kv_heads;
  }
  int64_t KeyHead(int64_t pair) const {
    return (first_pair + pair) % spec->kv_heads;
  }
  int64_t QueryHead(int64_t pair, int64_t h) const {
    return KeyHead(pair) * group + h;
  }
  /// Where sums are kept: the caller's gradients, or their f32 copies.
  Rows<float> Dq(int64_t pair, int64_t h) const;
  Rows<float> Dk(int64_t pair) const;
  Rows<float> Dv(int64_t pair) const;
  float* Inner(int64_t pair, int64_t h) const {
    return inner + (pair * group + h) * q_len();
  }
};

/// A block of keys of one residue class of one part, for a pair of heads.
struct Job {
  const Part* part;
  int64_t nth;       // of the pattern's parts
  int64_t offset;    // the class: position = offset + step * index
  Interval keys;     // indices in the class
  Interval queries;  // all there are
  int64_t pair;
  double* dbias;  // what this block gives to it, [group][parameters]; or null
};

/// Adds all that a block of keys gives to dq, dk and dv.
void AddKeyBlock(const Pass& pass, const Job& job, SlotScratch& scratch,
                 Turn& turn);
/// The same where all of q, k, v and dO are bf16 and MultipliesBF16()
/// (simd/target.h).
void AddKeyPairBlock(const Pass& pass, const Job& job, SlotScratch& scratch,
                     Turn& turn);

/// D_i of queries `rows` of a head.
void InnerProducts(const Pass& pass, int64_t pair, int64_t h, Interval rows);

/// Rounds f32 copies to the caller's bf16.
void StoreRows(Rows<const float> from, Interval rows, int64_t dim, BF16* to,
               int64_t to_stride);

}  // namespace saccade::backward

#endif  // SACCADE_COMMON_ENGINE_TILE_BACKWARD_H_
