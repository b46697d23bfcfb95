// Scratch laid out by one function that runs twice: with no memory, to count,
// and with memory, to hand out. Size and layout cannot drift apart.
#ifndef SACCADE_COMMON_ARENA_H_
#define SACCADE_COMMON_ARENA_H_

#include <cstddef>
#include <cstdint>

#include "saccade/tensor.h"

namespace saccade {

constexpr size_t kAlign = 64;  // bytes: a cache line, the widest vector

/// Hands out 64-byte aligned pieces of a block, or counts them.
///
///   struct Scratch {
///     explicit Scratch(Arena& a, int64_t n) : x(a.Take<float>(n)) {}
///     float* x;
///   };
///   Arena count;  Scratch(count, n);  size_t bytes = count.used();
///   Arena arena(memory);  Scratch s(arena, n);
class Arena {
 public:
  Arena() = default;
  explicit Arena(Bytes memory) : base_(memory.data()) {}

  /// n elements, uninitialised; null when counting.
  template <class T>
  T* Take(int64_t n) {
    std::byte* const at = base_ ? base_ + used_ : nullptr;
    used_ +=
        (static_cast<size_t>(n) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    return reinterpret_cast<T*>(at);
  }

  size_t used() const { return used_; }

 private:
  std::byte* base_ = nullptr;
  size_t used_ = 0;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ARENA_H_
