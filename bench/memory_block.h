// Memory straight from the system: page aligned, zero, untouched until used.
#ifndef SACCADE_BENCH_MEMORY_BLOCK_H_
#define SACCADE_BENCH_MEMORY_BLOCK_H_

#include <cstddef>
#include <utility>

#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade::bench {

/// Which pages the system should use.
enum class Pages : unsigned char {
  kSmall,  // so that what is resident is what was touched
  kHuge,   // so that timings do not depend on where small pages fell
};

/// A block of its own pages, given back at once at the end of its life.
class MemoryBlock {
 public:
  MemoryBlock() = default;
  ~MemoryBlock();
  MemoryBlock(MemoryBlock&& other) noexcept { *this = std::move(other); }
  MemoryBlock& operator=(MemoryBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  /// kExhausted when the system refuses. No bytes need no memory.
  static Result<MemoryBlock> Make(size_t bytes, Pages pages);

  Bytes bytes() const { return {data_, size_}; }

  /// Writes to every page, so that no pass pays for its first touch.
  void Touch() const;

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Bytes that the system could give without swapping; 0 when it does not say.
size_t AvailableMemory();

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_MEMORY_BLOCK_H_
