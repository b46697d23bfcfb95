// Which SIMD targets there are, and which one runs.
#ifndef SACCADE_COMMON_SIMD_TARGET_H_
#define SACCADE_COMMON_SIMD_TARGET_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace saccade {

/// Targets that this build contains and this machine runs, best first: some of
/// "AVX3", "AVX2", "SSE4" on x86.
std::vector<std::string_view> TargetNames();

/// Picks the target for all kernels, the first time it is called: the one that
/// the environment variable SACCADE_TARGET names, if it is among TargetNames(),
/// else the best. Until then each dispatched call costs microseconds, so plans
/// call this when they are made. Thread-safe.
void ChooseTarget();

/// The target that kernels run on.
std::string_view ChosenTarget();

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
  int64_t previous_;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_SIMD_TARGET_H_
