// saccade list: the variants, for people and for programs.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/command.h"
#include "bench/learn/switches.h"
#include "bench/list_probes.h"
#include "position.h"

namespace saccade::bench {
namespace {

using nlohmann::ordered_json;

constexpr char kExamples[] = R"(
Examples:
  saccade list
  saccade list --json
  saccade list --positions
  saccade list --switches)";

struct ListOptions {
  bool json = false;
  // These, instead of variants.
  bool probes = false, positions = false, switches = false;
};

struct Trait {
  const char* name;
  bool has;
};

std::vector<Trait> TraitsOf(const Traits& t) {
  return {{"causal", t.causal},     {"bidirectional", t.bidirectional},
          {"cross", t.cross},       {"grouped heads", t.grouped_heads},
          {"window", t.window},     {"bias", t.bias},
          {"rotary", t.rotary},     {"scores", t.scores},
          {"mask", t.attn_mask},    {"softcap", t.softcap},
          {"lse", t.lse},           {"bf16", t.bf16},
          {"backward", t.backward}, {"decoding", t.extend}};
}

// The cost of a causal forward pass, one head of width 64, at two lengths.
struct CostShape {
  Cost short_one, long_one;
  double exponent = 0;  // of time in length
};

constexpr int64_t kShort = 4096, kLong = 16384;

bool CostOf(const Variant& v, CostShape* shape) {
  Problem p;
  p.qk_dim = p.v_dim = 64;
  p.mask = v.traits.causal ? Mask::kCausal : Mask::kNone;
  for (const int64_t n : {kShort, kLong}) {
    p.q_len = p.kv_len = n;
    const Result<Problem> resolved = Resolve(v, p);
    if (!resolved.ok()) return false;
    (n == kShort ? shape->short_one : shape->long_one) = v.cost(*resolved);
  }
  shape->exponent =
      std::log(shape->long_one.forward_flops / shape->short_one.forward_flops) /
      std::log(static_cast<double>(kLong) / kShort);
  return true;
}

std::string RangeOf(const Knob& k) {
  if (k.choices == "*") return "any text";
  if (!k.choices.empty()) return std::string(k.choices);
  return fmt::format("{:g} .. {:g}, default {:g}", k.low, k.high, k.initial);
}

void PrintOne(const Variant& v, std::ostream& out) {
  fmt::print(out, "{}\n  {}\n  source: {}\n", v.name, v.title, v.source);
  std::string can, cannot;
  for (const Trait& t : TraitsOf(v.traits)) {
    std::string& list = t.has ? can : cannot;
    list += (list.empty() ? "" : ", ") + std::string(t.name);
  }
  fmt::print(out, "  can: {}\n", can);
  if (!cannot.empty()) fmt::print(out, "  cannot: {}\n", cannot);
  for (const Knob& k : v.knobs)
    fmt::print(out, "  {}: {} ({})\n", k.name, k.doc, RangeOf(k));
  for (const ExtraInput& x : v.inputs)
    fmt::print(out, "  input {}: {}\n", x.name, x.doc);
  CostShape cost;
  if (CostOf(v, &cost))
    fmt::print(out,
               "  cost, one head 64 wide, {} tokens: {:.3g} GFLOP forward, "
               "{:.3g} backward, {:.3g} MFLOP a decoded token; grows as "
               "N^{:.2f}\n",
               kShort, cost.short_one.forward_flops * 1e-9,
               cost.short_one.backward_flops * 1e-9,
               cost.short_one.decode_flops * 1e-6, cost.exponent);
  fmt::print(out, "\n");
}

ordered_json JsonOf(const Knob& k) {
  ordered_json knob = {{"name", k.name}, {"doc", k.doc}};
  if (k.choices.empty()) {
    knob["default"] = k.initial;
    knob["low"] = k.low;
    knob["high"] = k.high;
    knob["integer"] = k.integer;
  } else {
    knob["choices"] = k.choices;
  }
  return knob;
}

ordered_json JsonOf(const Variant& v) {
  ordered_json j = {{"name", v.name},
                    {"title", v.title},
                    {"source", v.source},
                    {"kappa", v.kappa}};
  for (const Trait& t : TraitsOf(v.traits)) j["traits"][t.name] = t.has;
  j["knobs"] = ordered_json::array();
  for (const Knob& k : v.knobs) j["knobs"].push_back(JsonOf(k));
  j["inputs"] = ordered_json::array();
  for (const ExtraInput& x : v.inputs)
    j["inputs"].push_back({{"name", x.name}, {"doc", x.doc}});
  CostShape cost;
  if (CostOf(v, &cost))
    j["cost"] = {{"length", kShort},
                 {"forward_flops", cost.short_one.forward_flops},
                 {"backward_flops", cost.short_one.backward_flops},
                 {"decode_flops", cost.short_one.decode_flops},
                 {"exponent", cost.exponent}};
  return j;
}

std::vector<std::string_view> TakersOf(const PositionScheme& scheme) {
  std::vector<std::string_view> names;
  for (const Variant* v : Variants())
    if (ParsePositions(*v, scheme.name).ok()) names.push_back(v->name);
  return names;
}

int ListPositions(bool as_json, const Host& host) {
  ordered_json all = ordered_json::array();
  for (const PositionScheme& s : PositionSchemes()) {
    const std::vector<std::string_view> takers = TakersOf(s);
    if (as_json) {
      ordered_json j = {{"name", s.name},
                        {"kind", NameOf(s.kind)},
                        {"formula", s.title},
                        {"source", s.source},
                        {"knobs", ordered_json::array()},
                        {"variants", takers}};
      for (const Knob& k : s.knobs) j["knobs"].push_back(JsonOf(k));
      all.push_back(std::move(j));
      continue;
    }
    fmt::print(host.out, "+{}\n  {}: {}\n  source: {}\n", s.name,
               NameOf(s.kind), s.title, s.source);
    for (const Knob& k : s.knobs)
      fmt::print(host.out, "  {}: {} ({})\n", k.name, k.doc, RangeOf(k));
    fmt::print(host.out, "  taken by: {}\n\n",
               takers.size() == Variants().size()
                   ? "all variants"
                   : fmt::format("{}", fmt::join(takers, ", ")));
  }
  if (as_json) fmt::print(host.out, "{}\n", all.dump(2));
  return kExitOk;
}

int ListSwitches(bool as_json, const Host& host) {
  ordered_json all = ordered_json::array();
  for (const Switch& s : Switches()) {
    if (as_json) {
      all.push_back({{"name", s.name}, {"does", s.does}});
    } else {
      fmt::print(host.out, "{:<8} {}\n", s.name, s.does);
    }
  }
  if (as_json) fmt::print(host.out, "{}\n", all.dump(2));
  return kExitOk;
}

int List(const ListOptions& options, const Host& host) {
  if (options.probes) return ListProbes(options.json, host);
  if (options.positions) return ListPositions(options.json, host);
  if (options.switches) return ListSwitches(options.json, host);
  ordered_json all = ordered_json::array();
  for (const Variant* v : Variants()) {
    if (options.json) {
      all.push_back(JsonOf(*v));
    } else {
      PrintOne(*v, host.out);
    }
  }
  if (options.json) fmt::print(host.out, "{}\n", all.dump(2));
  return kExitOk;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<ListOptions>();
  app.add_flag("--probes", o->probes,
               "Probes instead: what each asks, and what is expected");
  app.add_flag("--positions", o->positions,
               "What may follow a variant's +, and which take it");
  app.add_flag("--switches", o->switches,
               "Changes to how a trained model is read, and what they do");
  app.add_flag("--json", o->json, "As JSON");
  return [o](const Invocation& call) { return List(*o, call.host); };
}

}  // namespace

namespace commands {
const Command list = {"list",
                      "Show variants, what they can do, their knobs and cost",
                      kExamples, Declare};
}

}  // namespace saccade::bench
