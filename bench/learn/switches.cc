#include "bench/learn/switches.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/named.h"
#include "position.h"

namespace saccade::bench {
namespace {

Result<Changes> Positions(const Model& model, const std::string& text) {
  Result<std::vector<Position>> positions = model.TestPositions(text);
  if (!positions.ok()) return positions.status();
  return Changes{0, std::move(*positions)};
}

Result<Changes> Plain(const Model&, int64_t) { return Changes{}; }

Result<Changes> Window(const Model& model, int64_t) {
  if (!model.spec().variant->traits.window) {
    return Unsupported("the variant takes no window");
  }
  return Changes{.window = model.options().train_len};
}

Result<Changes> LogN(const Model& model, int64_t) {
  return Positions(model,
                   fmt::format("+logn:length={}", model.options().train_len));
}

// The model's positions with `change` made to its RoPE.
template <class Change>
Result<Changes> WithRope(const Model& model, const Change& change) {
  std::vector<Position> positions = model.spec().positions;
  const auto rope =
      std::find_if(positions.begin(), positions.end(),
                   [](const Position& p) { return p.name == "rope"; });
  if (rope == positions.end()) {
    return Unsupported("the model was trained without RoPE");
  }
  change(*rope);
  return Positions(model, ToText(positions).substr(1));  // '+' would add
}

Result<Changes> Scaled(const Model& model, int64_t multiple,
                       std::string_view scaling) {
  return WithRope(model, [&](Position& rope) {
    if (multiple == 1) return;  // nothing to scale by
    rope.knobs.SetText("scaling", scaling);
    rope.knobs.Set("factor", static_cast<double>(multiple));
    rope.knobs.Set("length", static_cast<double>(model.options().train_len));
  });
}

Result<Changes> Pi(const Model& model, int64_t multiple) {
  return Scaled(model, multiple, "pi");
}

Result<Changes> Ntk(const Model& model, int64_t multiple) {
  return Scaled(model, multiple, "ntk");
}

Result<Changes> Yarn(const Model& model, int64_t multiple) {
  return Scaled(model, multiple, "yarn");
}

Result<Changes> ReRope(const Model& model, int64_t) {
  return WithRope(model, [&](Position& rope) {
    const Knobs::Entry* const base = rope.knobs.Find("base");
    const Knobs old =
        base == nullptr ? Knobs() : Knobs({{"base", base->number}});
    rope = {"rerope", old};
    rope.knobs.Set("window",
                   static_cast<double>(model.options().train_len / 2));
  });
}

}  // namespace

std::span<const Switch> Switches() {
  static constexpr Switch kAll[] = {
      {"plain", "as trained", Plain},
      {"window", "each query sees only as many keys as in training", Window},
      {"logn", "queries scaled by ln n / ln L beyond L", LogN},
      {"pi", "RoPE's positions divided by r", Pi},
      {"ntk", "RoPE's base raised for r", Ntk},
      {"yarn", "RoPE's slow angles divided by r", Yarn},
      {"rerope", "RoPE's distances held from L/2 on", ReRope},
  };
  return kAll;
}

Result<std::vector<const Switch*>> FindSwitches(
    const std::vector<std::string>& names) {
  return FindNamed("switch", PointersTo(Switches()), names);
}

std::vector<const Switch*> Allowed(const Model& model,
                                   std::span<const Switch* const> switches) {
  std::vector<const Switch*> allowed;
  for (const Switch* s : switches) {
    const Result<Changes> changes = s->at(model, 2);
    if (!changes.ok()) continue;
    Problem p =
        model.AttentionProblem(1, model.options().train_len, changes->window);
    if (changes->positions) p.positions = *changes->positions;
    if (MakePlan(*model.spec().variant, p).ok()) allowed.push_back(s);
  }
  return allowed;
}

}  // namespace saccade::bench
