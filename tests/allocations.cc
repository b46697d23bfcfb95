#include "tests/allocations.h"

#include <cstddef>

namespace {
// Trivial, so that counting in the first malloc of a thread is safe.
thread_local int64_t count = 0;
}  // namespace

namespace saccade {
int64_t Allocations() { return count; }
}  // namespace saccade

#if defined(__has_feature)  // clang's way to say it
#if __has_feature(address_sanitizer)
#define SACCADE_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SACCADE_ASAN 1
#endif
#if defined(SACCADE_ASAN)

// The sanitizer owns malloc, but tells whoever asks.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void*, size_t),
    void (*on_free)(const volatile void*));

namespace {
[[maybe_unused]] const int installed =
    __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, size_t) { ++count; },
        [](const volatile void*) {});
}  // namespace

#else

// In front of the C library's own, which C++'s new calls too.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* p, size_t size);
void* __libc_memalign(size_t align, size_t size);

void* malloc(size_t size) {
  ++count;
  return __libc_malloc(size);
}
void* calloc(size_t n, size_t size) {
  ++count;
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t size) {
  ++count;
  return __libc_realloc(p, size);
}
void* memalign(size_t align, size_t size) {
  ++count;
  return __libc_memalign(align, size);
}
void* aligned_alloc(size_t align, size_t size) {
  ++count;
  return __libc_memalign(align, size);
}
int posix_memalign(void** p, size_t align, size_t size) {
  ++count;
  *p = __libc_memalign(align, size);
  return *p || size == 0 ? 0 : 12;  // ENOMEM
}
}

#endif
