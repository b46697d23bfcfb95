// Empties caches, so that a pass finds nothing of its own there.
#ifndef SACCADE_BENCH_COLD_H_
#define SACCADE_BENCH_COLD_H_

#include "bench/memory_block.h"
#include "saccade/status.h"

namespace saccade::bench {

/// A block twice the largest cache, and 64 MiB at least, to be written in place
/// of what caches hold.
class CacheSweep {
 public:
  /// Runs it once. kExhausted when there is no memory for the block.
  static Result<CacheSweep> Make();

  /// Every core that this process may use writes a part of the block, so that
  /// what only that core caches goes as well. Every part is larger than a
  /// core's own caches are.
  void Run() const;

  /// What a run took.
  double seconds() const { return seconds_; }

 private:
  MemoryBlock block_;
  double seconds_ = 0;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COLD_H_
