#include "bench/memory_block.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace saccade::bench {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

MemoryBlock::~MemoryBlock() {
  if (data_) munmap(data_, size_);
}

Result<MemoryBlock> MemoryBlock::Make(size_t bytes, Pages pages) {
  MemoryBlock block;
  if (bytes == 0) return block;
  void* const at = bytes > SIZE_MAX / 2
                       ? MAP_FAILED
                       : mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return Exhausted(fmt::format("the system has no {} bytes", bytes));
  block.data_ = static_cast<std::byte*>(at);
  block.size_ = bytes;
  // A hint; a system that does not take it is measured as it is.
  (void)madvise(at, bytes,
                pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return block;
}

void MemoryBlock::Touch() const {
  for (size_t at = 0; at < size_; at += kPage)
    *const_cast<volatile std::byte*>(data_ + at) = std::byte{0};
}

size_t AvailableMemory() {
  std::ifstream in("/proc/meminfo");
  std::string name, unit;
  size_t kib = 0;
  while (in >> name >> kib && std::getline(in, unit))
    if (name == "MemAvailable:") return kib * 1024;
  return 0;
}

}  // namespace saccade::bench
