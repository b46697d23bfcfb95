// Asking for memory before its use, a few rows at a time: a burst would fill
// the buffers for lines under way, and the kernel would wait for them.
#ifndef SACCADE_COMMON_ENGINE_TILE_FETCH_H_
#define SACCADE_COMMON_ENGINE_TILE_FETCH_H_

#include <cstdint>

#include "saccade/tensor.h"

namespace saccade {

struct TileWork;

/// Rows that will be read or written soon. Of what it cannot hold nothing is
/// asked: it is but a hint.
class Fetches {
 public:
  /// `count` rows of `bytes` bytes, `stride` bytes apart.
  void Add(const void* at, int64_t stride, int64_t count, int64_t bytes) {
    if (at_ == blocks_) at_ = blocks_ = 0;
    if (blocks_ == kMost || count <= 0) return;
    block_[blocks_++] = {static_cast<const char*>(at), stride, count, bytes};
  }

  /// Rows row, row + step, ... of a head of a tensor.
  void AddRows(const ConstView& view, int64_t batch, int64_t head, int64_t row,
               int64_t step, int64_t count) {
    const int64_t size = SizeOf(view.dtype);
    const int64_t first = batch * view.batch_stride + head * view.head_stride +
                          row * view.row_stride;
    Add(static_cast<const char*>(view.data) + first * size,
        step * view.row_stride * size, count, view.dim * size);
  }

  /// Asks for a few rows; called between register tiles.
  void Next() {
    for (int n = 0; n < kPace && at_ < blocks_; ++n) {
      Block& b = block_[at_];
      for (int64_t line = 0; line < b.bytes; line += kLine)
        __builtin_prefetch(b.at + line, 0, 2);
      b.at += b.stride;
      if (--b.count == 0) ++at_;
    }
  }

 private:
  static constexpr int kMost = 8;  // blocks of rows
  static constexpr int kPace = 8;  // rows asked for at once
  static constexpr int kLine = 64;

  struct Block {
    const char* at;
    int64_t stride, count, bytes;
  };

  Block block_[kMost];
  int blocks_ = 0, at_ = 0;
};

/// The rows of out of `work`, the first of its run.
void FetchOut(const TileWork& work, Fetches& fetches);

/// What `next` touches beyond what `work`, the tile before it, does: queries,
/// out, and where keys of a band come in, these and their values.
void FetchNext(const TileWork& work, const TileWork& next, Fetches& fetches);

/// Keys that `work` comes to behind `key`, and their values, where rows are
/// short and far apart: there the hardware finds no stream to follow, and a
/// power of two between rows leaves L2 few places for them.
void FetchFollowing(const TileWork& work, int64_t key, Fetches& fetches);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_FETCH_H_
