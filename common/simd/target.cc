#include "simd/target.h"

#include <hwy/highway.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace saccade {
namespace {

struct Target {
  std::string_view name;
  int64_t highway;  // its bit
  bool bf16 = false;
};

bool CpuMultipliesBF16() {
#if HWY_ARCH_X86
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Best first.
const std::vector<Target>& Available() {
  static const std::vector<Target> targets = [] {
    std::vector<Target> all;
    // The better a target, the lower its bit.
    for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0;
         rest &= rest - 1) {
      const int64_t bit = rest & -rest;
      if (bit == HWY_AVX3 && CpuMultipliesBF16())
        all.push_back({"AVX3_BF16", bit, true});
      all.push_back({hwy::TargetName(bit), bit});
    }
    return all;
  }();
  return targets;
}

// Its place among those available; -1 when there is none of that name.
int IndexOf(std::string_view name) {
  const std::vector<Target>& all = Available();
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i].name == name) return static_cast<int>(i);
  return -1;
}

// The one in use; Highway keeps its own copy in a form that cannot be read.
std::atomic<int>& Current() {
  static std::atomic<int> current{0};
  return current;
}

// Whether kernels choose as on Zen 4: family 19h with AVX-512.
std::atomic<bool>& Zen4() {
#if HWY_ARCH_X86
  static std::atomic<bool> zen4{__builtin_cpu_is("amdfam19h") &&
                                __builtin_cpu_supports("avx512f")};
#else
  static std::atomic<bool> zen4{false};
#endif
  return zen4;
}

void Use(int target) {
  Current() = target;
  hwy::GetChosenTarget().Update(Available()[target].highway);
}

}  // namespace

std::vector<std::string_view> TargetNames() {
  std::vector<std::string_view> names;
  for (const Target& t : Available()) names.push_back(t.name);
  return names;
}

void ChooseTarget() {
  static std::once_flag once;
  std::call_once(once, [] {
    const char* const wish = std::getenv("SACCADE_TARGET");
    Use(std::max(0, wish ? IndexOf(wish) : 0));
  });
}

std::string_view ChosenTarget() {
  ChooseTarget();
  return Available()[Current()].name;
}

bool MultipliesBF16() {
  ChooseTarget();
  return Available()[Current()].bf16;
}

bool OnZen4() { return Zen4().load(std::memory_order_relaxed); }

ScopedZen4::ScopedZen4(bool on) : previous_(Zen4().exchange(on)) {}

ScopedZen4::~ScopedZen4() { Zen4() = previous_; }

ScopedTarget::ScopedTarget(std::string_view name) {
  ChooseTarget();
  previous_ = Current();
  const int target = IndexOf(name);
  if (target >= 0) Use(target);
}

ScopedTarget::~ScopedTarget() { Use(previous_); }

}  // namespace saccade
