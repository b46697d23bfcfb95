// The list of variants, from variants.def; plug-ins come after them.
#include "registry.h"

#include <array>
#include <atomic>
#include <mutex>
#include <string>

namespace saccade {
namespace variants {
#define SACCADE_VARIANT(id) const Variant& id();
#include "variants.def"
#undef SACCADE_VARIANT
}  // namespace variants

namespace {

// Room is set aside, so that spans of the list stay what they were.
constexpr size_t kMostVariants = 1024;

struct List {
  std::array<const Variant*, kMostVariants> all = {
#define SACCADE_VARIANT(id) &variants::id(),
#include "variants.def"
#undef SACCADE_VARIANT
  };
  std::atomic<size_t> size{0};
  std::mutex adding;

  List() {
    while (all[size] != nullptr) ++size;
  }
};

List& TheList() {
  static List list;
  return list;
}

}  // namespace

std::span<const Variant* const> Variants() {
  const List& list = TheList();
  return {list.all.data(), list.size.load()};
}

const Variant* Find(std::string_view name) {
  for (const Variant* v : Variants())
    if (v->name == name) return v;
  return nullptr;
}

const Variant& Exact() { return variants::softmax_flash(); }

Status Register(const Variant* variant) {
  List& list = TheList();
  const std::lock_guard<std::mutex> lock(list.adding);
  if (Find(variant->name) != nullptr)
    return Invalid("there is a variant '" + std::string(variant->name) +
                   "' already");
  if (list.size == kMostVariants)
    return Exhausted("no room for another variant");
  list.all[list.size] = variant;
  ++list.size;
  return {};
}

}  // namespace saccade
