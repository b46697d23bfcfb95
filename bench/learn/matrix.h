// Dense layers through BLAS, cut into tasks by shape alone, so that results are
// the same bits for any number of threads.
#ifndef SACCADE_BENCH_LEARN_MATRIX_H_
#define SACCADE_BENCH_LEARN_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "saccade/exec.h"
#include "saccade/tensor.h"

namespace saccade::bench {

/// Rows of floats, `stride` elements apart.
struct Rows {
  float* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;

  float* operator[](int64_t row) const { return data + row * stride; }
  /// The same rows, fewer columns.
  Rows Columns(int64_t first, int64_t count) const {
    return {data + first, rows, count, stride};
  }
};

/// Aligned memory that starts as zeros.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);

  Bytes bytes() const { return {data_.get(), size_}; }
  float* floats() const { return reinterpret_cast<float*>(data_.get()); }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

/// Rows with memory of their own.
struct Matrix : Rows {
  Matrix() = default;
  Matrix(int64_t rows, int64_t cols)
      : Rows{nullptr, rows, cols, cols},
        memory(static_cast<size_t>(rows * cols) * sizeof(float)) {
    data = memory.floats();
  }
  Buffer memory;
};

/// Tokens that one task works on, wherever work is cut by tokens.
constexpr int64_t kChunk = 128;

/// Chunk c of n rows.
struct Chunk {
  int64_t begin, end;
};
inline int64_t Chunks(int64_t n) { return (n + kChunk - 1) / kChunk; }
inline Chunk ChunkOf(int64_t n, int64_t c) {
  const int64_t begin = c * kChunk;
  return {begin, n - begin < kChunk ? n : begin + kChunk};
}

enum class Write : uint8_t { kSet, kAdd };

/// y (+)= x w^T: x [T, in], w [out, in] contiguous, y [T, out].
void Project(const Rows& x, const float* w, const Rows& y, Write write,
             Exec& exec);

/// dx (+)= dy w: the gradient of Project by x.
void ProjectBackX(const Rows& dy, const float* w, const Rows& dx, Write write,
                  Exec& exec);

/// dw (+)= dy^T x: the gradient of Project by w.
void ProjectBackW(const Rows& dy, const Rows& x, float* dw, Write write,
                  Exec& exec);

/// Keeps BLAS from starting threads of its own. Call once, before any of the
/// above.
void UseOneBlasThread();

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_MATRIX_H_
