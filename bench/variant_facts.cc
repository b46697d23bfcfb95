#include "bench/variant_facts.h"

#include <fmt/format.h>

#include <cmath>

namespace saccade::bench {

std::span<const TraitName> TraitNames() {
  static constexpr TraitName kNames[] = {
      {"causal", "causal", &Traits::causal},
      {"bidirectional", "bidirectional", &Traits::bidirectional},
      {"cross", "cross", &Traits::cross},
      {"grouped_heads", "grouped heads", &Traits::grouped_heads},
      {"window", "window", &Traits::window},
      {"bias", "bias", &Traits::bias},
      {"rotary", "rotary", &Traits::rotary},
      {"scores", "scores", &Traits::scores},
      {"attn_mask", "mask", &Traits::attn_mask},
      {"softcap", "softcap", &Traits::softcap},
      {"lse", "lse", &Traits::lse},
      {"bf16", "bf16", &Traits::bf16},
      {"backward", "backward", &Traits::backward},
      {"extend", "decoding", &Traits::extend},
  };
  return kNames;
}

Abilities AbilitiesOf(const Variant& variant) {
  Abilities abilities;
  for (const TraitName& t : TraitNames()) {
    std::string& list =
        variant.traits.*t.has ? abilities.can : abilities.cannot;
    list += (list.empty() ? "" : ", ") + std::string(t.words);
  }
  return abilities;
}

Result<CostShape> CostShapeOf(const Variant& v) {
  Problem p;
  p.qk_dim = p.v_dim = 64;
  p.mask = v.traits.causal ? Mask::kCausal : Mask::kNone;
  const auto at = [&](int64_t length) -> Result<Cost> {
    p.q_len = p.kv_len = length;
    const Result<Problem> resolved = Resolve(v, p);
    if (!resolved.ok()) return resolved.status();
    return v.cost(*resolved);
  };
  const Result<Cost> shorter = at(CostShape::kLength);
  const Result<Cost> longer = at(4 * CostShape::kLength);
  for (const auto* cost : {&shorter, &longer})
    if (!cost->ok()) return cost->status();
  return CostShape{
      *shorter,
      std::log(longer->forward_flops / shorter->forward_flops) / std::log(4.0)};
}

std::string RangeOf(const Knob& k) {
  if (k.choices == "*") return "any text";
  if (!k.choices.empty()) return std::string(k.choices);
  return fmt::format("{:g} .. {:g}, default {:g}", k.low, k.high, k.initial);
}

}  // namespace saccade::bench
