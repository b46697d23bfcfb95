#include "bench/learn/matrix.h"

#include <cblas.h>

#include <algorithm>
#include <cstring>

#include "arena.h"

namespace saccade::bench {

Buffer::Buffer(size_t bytes) : size_(bytes) {
  data_.reset(static_cast<std::byte*>(
      ::operator new (std::max<size_t>(bytes, 1), std::align_val_t{kAlign})));
  std::memset(data_.get(), 0, bytes);
}

void Buffer::Free::operator()(std::byte* p) const {
  ::operator delete (p, std::align_val_t{kAlign});
}

void UseOneBlasThread() { openblas_set_num_threads(1); }

void Project(const Rows& x, const float* w, const Rows& y, Write write,
             Exec& exec) {
  exec.For(Chunks(x.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, end - begin, y.cols,
                x.cols, 1, x[begin], x.stride, w, x.cols,
                write == Write::kAdd ? 1 : 0, y[begin], y.stride);
  });
}

void ProjectBackX(const Rows& dy, const float* w, const Rows& dx, Write write,
                  Exec& exec) {
  exec.For(Chunks(dy.rows), [&](int64_t task, int) {
    const auto [begin, end] = ChunkOf(dy.rows, task);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, end - begin, dx.cols,
                dy.cols, 1, dy[begin], dy.stride, w, dx.cols,
                write == Write::kAdd ? 1 : 0, dx[begin], dx.stride);
  });
}

void ProjectBackW(const Rows& dy, const Rows& x, float* dw, Write write,
                  Exec& exec) {
  // Cut by outputs, not tokens: nothing has to be summed afterwards. Fewer
  // than 32 outputs a task cost more in BLAS's packing than they gain.
  const int64_t tasks = std::clamp<int64_t>(dy.cols / 32, 1, 8);
  exec.For(tasks, [&](int64_t task, int) {
    const int64_t begin = dy.cols * task / tasks;
    const int64_t end = dy.cols * (task + 1) / tasks;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, end - begin, x.cols,
                dy.rows, 1, dy.data + begin, dy.stride, x.data, x.stride,
                write == Write::kAdd ? 1 : 0, dw + begin * x.cols, x.cols);
  });
}

}  // namespace saccade::bench
