// saccade list: the variants, for people and for programs.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/choices.h"
#include "bench/cli_parse.h"
#include "bench/command.h"
#include "bench/compare.h"
#include "bench/explain.h"
#include "bench/learn/switches.h"
#include "bench/list_probes.h"
#include "bench/variant_facts.h"
#include "position.h"

namespace saccade::bench {
namespace {

using nlohmann::ordered_json;

constexpr char kExamples[] = R"(
Examples:
  saccade list
  saccade list --json
  saccade list --explain linear.elu,'sparse.*'
  saccade list --positions
  saccade list --switches)";

struct ListOptions {
  bool json = false;
  std::string explain;
  bool markdown = false;
  // These, instead of variants.
  bool probes = false, positions = false, switches = false;
};

void PrintOne(const Variant& v, std::ostream& out) {
  fmt::print(out, "{}\n  {}\n  source: {}\n", v.name, v.title, v.source);
  const Abilities abilities = AbilitiesOf(v);
  fmt::print(out, "  can: {}\n", abilities.can);
  if (!abilities.cannot.empty())
    fmt::print(out, "  cannot: {}\n", abilities.cannot);
  for (const Knob& k : v.knobs)
    fmt::print(out, "  {}: {} ({})\n", k.name, k.doc, RangeOf(k));
  for (const ExtraInput& x : v.inputs)
    fmt::print(out, "  input {}: {}\n", x.name, x.doc);
  if (const Result<CostShape> shape = CostShapeOf(v); shape.ok())
    fmt::print(out,
               "  cost, one head 64 wide, {} tokens: {:.3g} GFLOP forward, "
               "{:.3g} backward, {:.3g} MFLOP a decoded token; grows as "
               "N^{:.2f}\n",
               CostShape::kLength, shape->cost.forward_flops * 1e-9,
               shape->cost.backward_flops * 1e-9,
               shape->cost.decode_flops * 1e-6, shape->exponent);
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
  for (const TraitName& t : TraitNames())
    j["traits"][t.words] = v.traits.*t.has;
  j["knobs"] = ordered_json::array();
  for (const Knob& k : v.knobs) j["knobs"].push_back(JsonOf(k));
  j["inputs"] = ordered_json::array();
  for (const ExtraInput& x : v.inputs)
    j["inputs"].push_back({{"name", x.name}, {"doc", x.doc}});
  if (const Result<CostShape> shape = CostShapeOf(v); shape.ok())
    j["cost"] = {{"length", CostShape::kLength},
                 {"forward_flops", shape->cost.forward_flops},
                 {"backward_flops", shape->cost.backward_flops},
                 {"decode_flops", shape->cost.decode_flops},
                 {"exponent", shape->exponent}};
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

// Variants in the words of their own files, with their facts.
int Explain(const std::string& names, const Host& host) {
  const std::vector<std::string> globs = Split(names, ',');
  for (const std::string& glob : globs)
    if (std::none_of(
            Variants().begin(), Variants().end(),
            [&](const Variant* v) { return GlobMatches(glob, v->name); }))
      return Complain(NoMatch(glob), host);
  for (const Variant* v : Variants())
    if (AnyMatches(globs, v->name)) {
      fmt::print(host.out, "{}\n", ExplanationOf(*v));
      PrintOne(*v, host.out);
    }
  return kExitOk;
}

int List(const ListOptions& options, const Host& host) {
  if (options.probes) return ListProbes(options.json, host);
  if (options.positions) return ListPositions(options.json, host);
  if (options.switches) return ListSwitches(options.json, host);
  if (options.markdown) {
    fmt::print(host.out, "{}", VariantsPage());
    return kExitOk;
  }
  if (!options.explain.empty()) return Explain(options.explain, host);
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
  app.add_option("--explain", o->explain,
                 "These at length: equation, source, shapes, cost")
      ->type_name(kVariants);
  app.add_flag("--markdown", o->markdown, "All explained, as a page");
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
