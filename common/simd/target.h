// Which SIMD targets there are, and which one runs.
#ifndef SACCADE_COMMON_SIMD_TARGET_H_
#define SACCADE_COMMON_SIMD_TARGET_H_

#include <string_view>
#include <vector>

namespace saccade {

/// Targets that this build contains and this machine runs, best first: some of
/// "AVX3_BF16", "AVX3", "AVX2", "SSE4" on x86. The first is AVX3 with bf16 dot
/// products (AVX512_BF16), which Highway has no target for.
std::vector<std::string_view> TargetNames();

/// Picks the target for all kernels, the first time it is called: the one that
/// the environment variable SACCADE_TARGET names, if it is among TargetNames(),
/// else the best. Until then each dispatched call costs microseconds, so plans
/// call this when they are made. Thread-safe.
void ChooseTarget();

/// The target that kernels run on.
std::string_view ChosenTarget();

/// Whether it has a dot product of bf16.
bool MultipliesBF16();

/// Whether this CPU is of AMD's Zen 4, where some kernels were measured to want
/// other shapes than on Zen 5. It runs 512-bit operations as two halves, so
/// that a broadcast which several vectors share costs as much as it saves, and
/// additions run beside multiply-adds; its prefetcher needs no asking.
bool OnZen4();

/// Makes kernels choose as on Zen 4, or as elsewhere, while it lives: for
/// tests. As for ScopedTarget.
class ScopedZen4 {
 public:
  explicit ScopedZen4(bool on);
  ~ScopedZen4();
  ScopedZen4(const ScopedZen4&) = delete;
  ScopedZen4& operator=(const ScopedZen4&) = delete;

 private:
  bool previous_;
};

/// Makes kernels run on one target while it lives, in every thread: for tests.
/// Scopes may nest; they must not overlap across threads.
class ScopedTarget {
 public:
  /// Changes nothing when `name` is not among TargetNames().
  explicit ScopedTarget(std::string_view name);
  ~ScopedTarget();
  ScopedTarget(const ScopedTarget&) = delete;
  ScopedTarget& operator=(const ScopedTarget&) = delete;

 private:
  int previous_;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_SIMD_TARGET_H_
