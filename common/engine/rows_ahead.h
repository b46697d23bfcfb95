// Asking for rows of tensors before their use, a line at a time from within a
// kernel.
#ifndef SACCADE_COMMON_ENGINE_ROWS_AHEAD_H_
#define SACCADE_COMMON_ENGINE_ROWS_AHEAD_H_

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstdint>

#include "saccade/tensor.h"

namespace saccade {

/// Lines to fetch while a kernel runs, one a step of its inner loop: rows of
/// 2^shift lines, `stride` bytes apart.
struct LineFetch {
  static constexpr int64_t kLine = 64;
  const char* at = nullptr;
  int64_t stride = 0, lines = 0;
  int shift = 0;

  HWY_INLINE void Fetch(int64_t i) const {
    if (i < lines)
      hwy::Prefetch(at + (i >> shift) * stride +
                    (i & ((int64_t{1} << shift) - 1)) * kLine);
  }
};

/// Rows of tensors that the next stretch of tokens will need. Asked for while
/// this one is worked on, they are at hand: the hardware's prefetcher starts
/// anew on every page. (Zen 5, width 64, 4k tokens: half the time of a pass.)
class RowsAhead {
 public:
  /// Forgets all rows.
  void Clear() { tensors_ = now_ = 0; }

  /// Of `count` rows of a head from `row` on, backwards if `reverse`, those
  /// that the tensor has.
  void Add(const ConstView& view, int64_t b, int64_t h, int64_t row,
           bool reverse, int64_t count) {
    const int64_t skip =
        std::max<int64_t>(0, reverse ? row + 1 - view.len : -row);
    row += reverse ? -skip : skip;
    count = std::min(count - skip, reverse ? row + 1 : view.len - row);
    if (count <= 0) return;
    const int64_t size = SizeOf(view.dtype);
    const int64_t at =
        b * view.batch_stride + h * view.head_stride + row * view.row_stride;
    Add(static_cast<const char*>(view.data) + at * size,
        (reverse ? -1 : 1) * view.row_stride * size, view.dim * size, count);
  }

  /// `rows` rows of `bytes`, `stride` bytes apart; ignored beyond kMost calls.
  void Add(const void* at, int64_t stride, int64_t bytes, int64_t rows) {
    if (tensors_ == kMost || rows <= 0) return;
    Tensor& added = tensor_[tensors_++];
    added = {{static_cast<const char*>(at), stride, 0, 0}, rows};
    while ((LineFetch::kLine << added.fetch.shift) < bytes) ++added.fetch.shift;
  }

  /// The rows are to be fetched in about that many calls of Next().
  void Share(int64_t calls) {
    now_ = 0;
    calls_ = std::max<int64_t>(1, calls / std::max(1, tensors_));
    Start();
  }

  /// A part of one tensor's rows.
  LineFetch Next() {
    if (now_ == tensors_) return {};
    LineFetch fetch = tensor_[now_].fetch;
    const int64_t rows = std::min(each_, tensor_[now_].rows - row_);
    fetch.at += row_ * fetch.stride;
    fetch.lines = rows << fetch.shift;
    row_ += rows;
    if (row_ == tensor_[now_].rows) {
      ++now_;
      Start();
    }
    return fetch;
  }

 private:
  struct Tensor {
    LineFetch fetch;
    int64_t rows;
  };

  void Start() {
    row_ = 0;
    if (now_ < tensors_) each_ = (tensor_[now_].rows + calls_ - 1) / calls_;
  }

  static constexpr int kMost = 12;
  Tensor tensor_[kMost] = {};
  int tensors_ = 0, now_ = 0;
  int64_t calls_ = 1, row_ = 0, each_ = 0;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_ROWS_AHEAD_H_
