// The list of variants, from variants.def.
#include <algorithm>

#include "saccade/variant.h"

namespace saccade {
namespace variants {
#define SACCADE_VARIANT(id) const Variant& id();
#include "variants.def"
#undef SACCADE_VARIANT
}  // namespace variants

std::span<const Variant* const> Variants() {
  static const Variant* const all[] = {
#define SACCADE_VARIANT(id) &variants::id(),
#include "variants.def"
#undef SACCADE_VARIANT
  };
  return all;
}

const Variant* Find(std::string_view name) {
  for (const Variant* v : Variants())
    if (v->name == name) return v;
  return nullptr;
}

}  // namespace saccade
