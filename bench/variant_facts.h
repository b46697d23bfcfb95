// What is told of a variant wherever variants are listed.
#ifndef SACCADE_BENCH_VARIANT_FACTS_H_
#define SACCADE_BENCH_VARIANT_FACTS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "saccade/variant.h"

namespace saccade::bench {

/// A trait by its name in records, and as people read it.
struct TraitName {
  std::string_view name, words;
  bool Traits::*has;
};
std::span<const TraitName> TraitNames();

/// What it can do and what it cannot: "causal, cross, grouped heads".
struct Abilities {
  std::string can, cannot;
};
Abilities AbilitiesOf(const Variant& variant);

/// The cost of one head of width 64, causal where the variant can be.
struct CostShape {
  static constexpr int64_t kLength = 4096;  // tokens
  Cost cost;                                // of kLength
  double exponent = 0;  // of time in length, from there to four times as long
};
Result<CostShape> CostShapeOf(const Variant& variant);

/// "1 .. 1e+06, default 256", or the texts that a knob takes.
std::string RangeOf(const Knob& knob);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VARIANT_FACTS_H_
