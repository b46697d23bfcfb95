#include "simd/target.h"

#include <hwy/highway.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

namespace saccade {
namespace {

int64_t Available() { return hwy::SupportedTargets() & HWY_TARGETS; }

// 0 when there is none of that name.
int64_t TargetOf(std::string_view name) {
  for (int64_t rest = Available(); rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    if (name == hwy::TargetName(target)) return target;
  }
  return 0;
}

// The one in use; Highway keeps its own copy in a form that cannot be read.
std::atomic<int64_t>& Current() {
  static std::atomic<int64_t> current{0};
  return current;
}

void Use(int64_t target) {
  Current() = target;
  hwy::GetChosenTarget().Update(target);
}

}  // namespace

std::vector<std::string_view> TargetNames() {
  std::vector<std::string_view> names;
  // The better a target, the lower its bit.
  for (int64_t rest = Available(); rest != 0; rest &= rest - 1)
    names.emplace_back(hwy::TargetName(rest & -rest));
  return names;
}

void ChooseTarget() {
  static std::once_flag once;
  std::call_once(once, [] {
    const int64_t best = Available() & -Available();
    const char* const wish = std::getenv("SACCADE_TARGET");
    const int64_t named = wish ? TargetOf(wish) : 0;
    Use(named ? named : best);
  });
}

std::string_view ChosenTarget() {
  ChooseTarget();
  return hwy::TargetName(Current());
}

ScopedTarget::ScopedTarget(std::string_view name) {
  ChooseTarget();
  previous_ = Current();
  const int64_t target = TargetOf(name);
  if (target) Use(target);
}

ScopedTarget::~ScopedTarget() { Use(previous_); }

}  // namespace saccade
