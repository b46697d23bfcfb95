// Spec strings, knobs, and what a problem must satisfy before it is planned.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>

#include "clipped.h"
#include "nearest.h"
#include "position.h"
#include "saccade/variant.h"
#include "simd/target.h"
#include "turning.h"

namespace saccade {
namespace {

std::string Quoted(std::string_view s) {
  std::string out = "'";
  for (const char c : s.substr(0, 80)) out += (c >= ' ' && c < 127) ? c : '?';
  return out + (s.size() > 80 ? "...'" : "'");
}

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", x);
  return text;
}

bool Among(std::string_view word, std::string_view choices) {
  while (!choices.empty()) {
    const size_t bar = choices.find('|');
    if (word == choices.substr(0, bar)) return true;
    if (bar == std::string_view::npos) break;
    choices.remove_prefix(bar + 1);
  }
  return false;
}

// "a=1,b=x" into knobs, unresolved: numbers and words as they stand.
Result<Knobs> ParseKnobs(std::string_view text, std::string_view whole) {
  Knobs knobs;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    const size_t equals = item.find('=');
    if (equals == 0 || equals == std::string_view::npos ||
        equals + 1 == item.size())
      return Invalid("in " + Quoted(whole) + ": " + Quoted(item) +
                     " is not knob=value");
    const std::string_view name = item.substr(0, equals);
    if (knobs.Find(name))
      return Invalid("in " + Quoted(whole) + ": knob " + Quoted(name) +
                     " is given twice");
    knobs.SetText(name, item.substr(equals + 1));
  }
  return knobs;
}

// Checks given knobs against the declared ones and fills in defaults.
Result<Knobs> ResolveKnobs(std::string_view owner,
                           const std::vector<Knob>& declared,
                           const Knobs& given) {
  for (const Knobs::Entry& entry : given.entries()) {
    std::vector<std::string_view> names;
    bool known = false;
    for (const Knob& knob : declared) {
      names.push_back(knob.name);
      known = known || knob.name == entry.name;
    }
    if (!known)
      return NotFound(std::string(owner) + " has no knob " +
                      Quoted(entry.name) + DidYouMean(entry.name, names));
  }
  Knobs resolved;
  for (const Knob& knob : declared) {
    const Knobs::Entry* entry = given.Find(knob.name);
    const std::string place =
        std::string(owner) + ": knob " + std::string(knob.name);
    if (!knob.choices.empty()) {
      const bool any = knob.choices == "*";
      const std::string_view initial =
          any ? "" : knob.choices.substr(0, knob.choices.find('|'));
      const std::string_view word = entry ? entry->text : initial;
      if (!any && !Among(word, knob.choices))
        return Invalid(place + " is " + Quoted(word) + ", must be one of " +
                       std::string(knob.choices));
      resolved.SetText(knob.name, word);
      continue;
    }
    if (entry && std::isnan(entry->number))
      return Invalid(place + " is " + Quoted(entry->text) +
                     ", must be a number");
    const double x = entry ? entry->number : knob.initial;
    if (!(x >= knob.low && x <= knob.high) ||
        (knob.integer && x != std::floor(x)))
      return Invalid(place + " is " + Number(x) + ", must be " +
                     (knob.integer ? "a whole number" : "a number") + " from " +
                     Number(knob.low) + " to " + Number(knob.high));
    resolved.Set(knob.name, x);
  }
  return resolved;
}

// The product of sizes, or -1 when it passes 2^60.
int64_t Product(std::initializer_list<int64_t> sizes) {
  int64_t product = 1;
  for (const int64_t n : sizes)
    if (__builtin_mul_overflow(product, n, &product) ||
        product > (int64_t{1} << 60))
      return -1;
  return product;
}

Status CheckShapes(const Problem& p) {
  const struct {
    const char* name;
    int64_t value, least;
  } sizes[] = {{"batch", p.batch, 0},       {"q_heads", p.q_heads, 1},
               {"kv_heads", p.kv_heads, 1}, {"q_len", p.q_len, 0},
               {"kv_len", p.kv_len, 0},     {"qk_dim", p.qk_dim, 1},
               {"v_dim", p.v_dim, 1},       {"window", p.window, 0}};
  constexpr int64_t kMost = int64_t{1} << 40;
  for (const auto& size : sizes)
    if (size.value < size.least || size.value > kMost)
      return Invalid(std::string(size.name) + " is " +
                     std::to_string(size.value) + ", must be from " +
                     std::to_string(size.least) + " to 2^40");
  if (p.qk_dim > (1 << 20) || p.v_dim > (1 << 20))
    return Invalid("a head is wider than 2^20");
  if (p.q_heads % p.kv_heads != 0)
    return Invalid("q_heads (" + std::to_string(p.q_heads) +
                   ") is not a multiple of kv_heads (" +
                   std::to_string(p.kv_heads) + ")");
  const int64_t dim = std::max(p.qk_dim, p.v_dim);
  if (Product({p.batch, p.q_heads, p.q_len, dim, 4}) < 0 ||
      Product({p.batch, p.kv_heads, p.kv_len, dim, 4}) < 0)
    return Invalid("a tensor would pass 2^60 bytes");
  if (!std::isfinite(p.scale)) return Invalid("scale is not finite");
  if (!std::isfinite(p.softcap) || p.softcap < 0)
    return Invalid("softcap must be 0 (none) or a positive number");
  return {};
}

Status CheckTraits(const Variant& variant, const Problem& p) {
  const Traits& t = variant.traits;
  const std::string name(variant.name);
  if (p.mask == Mask::kNone && !t.bidirectional)
    return Unsupported(name + " is causal only");
  if (p.mask != Mask::kNone && !t.causal)
    return Unsupported(name + " is bidirectional only");
  if (p.q_len != p.kv_len && !t.cross)
    return Unsupported(name + " wants as many queries as keys");
  if (p.q_heads != p.kv_heads && !t.grouped_heads)
    return Unsupported(name + " wants as many query heads as key heads");
  const bool cut = p.window > 0 || p.least_distance > -kNoDistance ||
                   p.most_distance < kNoDistance;
  if (cut && !t.window) return Unsupported(name + " cannot be cut to a window");
  if (p.attn_mask != AttnMask::kNone && !t.attn_mask)
    return Unsupported(name +
                       " takes no attn_mask (`saccade list` shows which do)");
  if (p.softcap > 0 && !t.softcap)
    return Unsupported(name + " does not cap its scores (softcap)");
  if (p.dtype == DType::kBF16 && !t.bf16)
    return Unsupported(name + " has no bf16 storage");
  return {};
}

Result<Position> ResolvePosition(const Variant& variant,
                                 const Position& given) {
  const PositionScheme* scheme = FindPosition(given.name);
  if (!scheme) {
    std::vector<std::string_view> names;
    for (const PositionScheme& s : PositionSchemes()) names.push_back(s.name);
    return NotFound("no position scheme " + Quoted(given.name) +
                    DidYouMean(given.name, names));
  }
  const Traits& t = variant.traits;
  if ((scheme->kind == PositionKind::kBias && !t.bias) ||
      (scheme->kind == PositionKind::kRotary && !t.rotary) ||
      (scheme->kind == PositionKind::kScale && !t.scores))
    return Unsupported(std::string(variant.name) + " does not take +" +
                       std::string(scheme->name) + ", which is " +
                       NameOf(scheme->kind));
  if (scheme->name == "rerope" &&
      !(t.lse && t.window && variant.inputs.empty() && !variant.parameters))
    return Unsupported(std::string(variant.name) +
                       " does not take +rerope: it gives no log-sum-exp to "
                       "merge near and far keys by");
  Result<Knobs> knobs = ResolveKnobs(scheme->name, scheme->knobs, given.knobs);
  if (!knobs.ok()) return knobs.status();
  const Position position{given.name, *knobs};
  if (Status s = CheckKnobs(position); !s.ok()) return s;
  return position;
}

Result<std::vector<Position>> ResolvePositions(
    const Variant& variant, const std::vector<Position>& given) {
  std::vector<Position> resolved;
  for (const Position& one : given) {
    if (one.name == "none" && one.knobs.entries().empty()) continue;
    Result<Position> position = ResolvePosition(variant, one);
    if (!position.ok()) return position.status();
    const PositionKind kind = FindPosition(position->name)->kind;
    if (const Position* other = PositionOf(resolved, kind))
      return Invalid(other->name + " and " + position->name +
                     " do not go together: one of them is what is " +
                     NameOf(kind));
    resolved.push_back(*position);
  }
  return resolved;
}

// What is before the first ':', and behind it.
std::pair<std::string_view, std::string_view> SplitName(std::string_view part) {
  const size_t colon = part.find(':');
  return {part.substr(0, colon), colon == std::string_view::npos
                                     ? std::string_view()
                                     : part.substr(colon + 1)};
}

}  // namespace

const char* NameOf(Mask mask) {
  switch (mask) {
    case Mask::kNone:
      return "none";
    case Mask::kCausal:
      return "causal";
    case Mask::kCausalTopLeft:
      return "causal_top_left";
  }
  return "?";
}

const char* NameOf(AttnMask mask) {
  switch (mask) {
    case AttnMask::kNone:
      return "none";
    case AttnMask::kBoolean:
      return "boolean";
    case AttnMask::kAdditive:
      return "additive";
  }
  return "?";
}

Knobs::Knobs(std::initializer_list<std::pair<std::string_view, double>> list) {
  for (const auto& [name, number] : list) Set(name, number);
}

void Knobs::Set(std::string_view name, double number) {
  Put({std::string(name), number, saccade::Number(number)});
}

void Knobs::SetText(std::string_view name, std::string_view text) {
  double number = NAN;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) number = NAN;
  Put({std::string(name), number, std::string(text)});
}

void Knobs::Put(Entry entry) {
  for (Entry& old : entries_) {
    if (old.name != entry.name) continue;
    old = std::move(entry);
    return;
  }
  entries_.push_back(std::move(entry));
}

const Knobs::Entry* Knobs::Find(std::string_view name) const {
  for (const Entry& entry : entries_)
    if (entry.name == name) return &entry;
  return nullptr;
}

double Knobs::Number(std::string_view name) const { return Find(name)->number; }
int64_t Knobs::Int(std::string_view name) const {
  return static_cast<int64_t>(Find(name)->number);
}
const std::string& Knobs::Text(std::string_view name) const {
  return Find(name)->text;
}

Result<Spec> ParseSpec(std::string_view text) {
  Spec spec;
  const size_t plus = text.find('+');
  const auto [name, knobs] = SplitName(text.substr(0, plus));
  spec.variant = Find(name);
  if (!spec.variant) {
    std::vector<std::string_view> names;
    for (const Variant* v : Variants()) names.push_back(v->name);
    return NotFound("no variant " + Quoted(name) + DidYouMean(name, names));
  }
  Result<Knobs> given = ParseKnobs(knobs, text);
  if (!given.ok()) return given.status();
  Result<Knobs> resolved = ResolveKnobs(name, spec.variant->knobs, *given);
  if (!resolved.ok()) return resolved.status();
  spec.knobs = *given;
  if (plus == std::string_view::npos) return spec;
  if (plus + 1 == text.size())
    return Invalid("in " + Quoted(text) + ": no position after the +");
  Result<std::vector<Position>> positions =
      ParsePositions(*spec.variant, text.substr(plus + 1));
  if (!positions.ok()) return positions.status();
  spec.positions = *positions;
  return spec;
}

Result<std::vector<Position>> ParsePositions(const Variant& variant,
                                             std::string_view text) {
  std::vector<Position> given;
  for (size_t at = 0; at < text.size();) {
    const size_t plus = std::min(text.find('+', at), text.size());
    const auto [name, knobs] = SplitName(text.substr(at, plus - at));
    Result<Knobs> parsed = ParseKnobs(knobs, text);
    if (!parsed.ok()) return parsed.status();
    given.push_back({std::string(name), *parsed});
    at = plus + 1;
  }
  return ResolvePositions(variant, given);
}

Result<Problem> Resolve(const Variant& variant, const Problem& problem) {
  Problem p = problem;
  if (Status s = CheckShapes(p); !s.ok()) return s;
  if (Status s = CheckTraits(variant, p); !s.ok()) return s;
  Result<std::vector<Position>> positions =
      ResolvePositions(variant, p.positions);
  if (!positions.ok()) return positions.status();
  p.positions = *positions;
  if (Status s = CheckPositions(p); !s.ok()) return s;
  if (p.softcap > 0 && BiasParameters(p) > 0)
    return Unsupported(
        "softcap does not go with a bias that is learned: its gradient is not "
        "made");
  Result<Knobs> knobs = ResolveKnobs(variant.name, variant.knobs, p.knobs);
  if (!knobs.ok()) return knobs.status();
  p.knobs = *knobs;
  if (p.scale == 0)
    p.scale = variant.scaled
                  ? static_cast<float>(1 / std::sqrt(double(p.qk_dim)))
                  : 1.0f;
  return p;
}

Result<std::unique_ptr<Plan>> MakePlan(const Variant& variant,
                                       const Problem& problem) {
  Result<Problem> resolved = Resolve(variant, problem);
  if (!resolved.ok()) return resolved.status();
  ChooseTarget();
  Result<std::unique_ptr<Plan>> plan = FindIn(resolved->positions, "rerope")
                                           ? MakeClippedPlan(variant, *resolved)
                                           : variant.plan(*resolved);
  if (!plan.ok()) return plan;
  (*plan)->variant_ = &variant;
  plan = MakeTurnedPlan(*resolved, Turning(*resolved), std::move(*plan));
  (*plan)->variant_ = &variant;
  return plan;
}

Result<std::unique_ptr<Plan>> MakePlan(std::string_view spec,
                                       const Problem& problem) {
  Result<Spec> parsed = ParseSpec(spec);
  if (!parsed.ok()) return parsed.status();
  Problem p = problem;
  p.knobs = parsed->knobs;
  p.positions = parsed->positions;
  return MakePlan(*parsed->variant, p);
}

std::vector<Explanation> Explain(const Problem& problem) {
  Problem asked = problem;
  asked.knobs = {};
  std::vector<Explanation> all;
  for (const Variant* variant : Variants())
    all.push_back({variant, MakePlan(*variant, asked).status()});
  return all;
}

}  // namespace saccade
