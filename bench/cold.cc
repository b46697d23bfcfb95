#include "bench/cold.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "bench/clock.h"
#include "bench/machine.h"

namespace saccade::bench {
namespace {

constexpr size_t kLeastBlock = size_t{64} << 20;
constexpr size_t kLeastPart = size_t{8} << 20;  // above any core's own caches

}  // namespace

Result<CacheSweep> CacheSweep::Make() {
  const size_t parts = UsableProcessors().size();
  Result<MemoryBlock> block = MemoryBlock::Make(
      std::max({kLeastBlock, 2 * LargestCacheBytes(), kLeastPart * parts}),
      Pages::kHuge);
  if (!block.ok()) return block.status();
  block->Touch();
  CacheSweep sweep;
  sweep.block_ = std::move(*block);
  const double start = SteadySeconds();
  sweep.Run();
  sweep.seconds_ = SteadySeconds() - start;
  return sweep;
}

void CacheSweep::Run() const {
  const Bytes all = block_.bytes();
  const std::vector<int> processors = UsableProcessors();
  const size_t parts = processors.size();
  const size_t each = all.size() / parts;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < parts; ++i)
    threads.emplace_back([&, i] {
      cpu_set_t own;
      CPU_ZERO(&own);
      CPU_SET(processors[i], &own);
      // Without its own core it writes its part all the same.
      (void)sched_setaffinity(0, sizeof own, &own);
      std::memset(all.data() + i * each, 1, each);
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace saccade::bench
