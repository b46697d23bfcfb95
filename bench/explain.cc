#include "bench/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "bench/cli_parse.h"
#include "bench/variant_facts.h"

namespace saccade::bench {
namespace {

constexpr std::string_view kBegin =
    R"(<!-- Made by `saccade list --markdown`; a test keeps it so. -->
# The variants

Each is one file of this folder, named here by what its own head says. q, k and v
are queries, keys and values; i counts queries, j the keys that i sees; d is the
width of q and k, e that of v, Tq and Tk their numbers, Hq and Hkv the heads, B
the batch. Conventions that all share (masks, windows, groups of heads, rows that
see nothing) are in the README at the top.

*Grows* is the exponent of time in length, from 4k to 16k tokens by the cost
model; GFLOP are those of a causal forward pass and of its backward pass, one head
64 wide and 4k tokens, MFLOP those of a token decoded after as many.
)";

std::string_view FamilyOf(const Variant& v) {
  return v.name.substr(0, v.name.find('.'));
}

const Explanation* Find(std::string_view name) {
  const auto all = Explanations();
  const auto it =
      std::find_if(all.begin(), all.end(),
                   [&](const Explanation& e) { return e.name == name; });
  return it == all.end() ? nullptr : &*it;
}

// What a cell of a table may hold.
std::string Cell(std::string_view text) {
  std::string cell;
  for (const char c : text) cell += c == '|' ? "\\|" : std::string(1, c);
  return cell;
}

// Formulas as blocks, all else as it is, its first line without the name.
std::string Body(std::string_view text) {
  std::string body;
  bool formula = false;
  const auto fence = [&](bool begins) {
    if (begins == formula) return;
    body += "```\n";
    formula = begins;
  };
  text.remove_prefix(std::min(text.find(": ") + 2, text.size()));
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool indented = line.starts_with("  ");
    // A blank line between two formulas is one of theirs.
    if (!line.empty()) fence(indented);
    if (line.empty() && formula && !text.starts_with("  ")) fence(false);
    body += fmt::format("{}\n", indented ? line.substr(2) : line);
  }
  fence(false);
  return body;
}

std::string Row(const Variant& v) {
  const Result<CostShape> shape = CostShapeOf(v);
  std::string cost = "| | | ";
  if (shape.ok())
    cost = fmt::format(
        "N^{:.2f} | {:.3g}, {} | {}", shape->exponent,
        shape->cost.forward_flops * 1e-9,
        v.traits.backward
            ? fmt::format("{:.3g}", shape->cost.backward_flops * 1e-9)
            : "none",
        v.traits.extend ? fmt::format("{:.3g}", shape->cost.decode_flops * 1e-6)
                        : "none");
  std::string anchor(v.name);
  std::erase(anchor, '.');
  return fmt::format("| [`{}`](#{}) | {} | {} | {} |\n", v.name, anchor,
                     Cell(v.title), cost, AbilitiesOf(v).cannot);
}

std::string Section(const Variant& v) {
  std::string section =
      fmt::format("\n### {}\n\n{}", v.name, Body(ExplanationOf(v)));
  if (!v.knobs.empty() || !v.inputs.empty()) section += "\n";
  for (const Knob& k : v.knobs)
    section += fmt::format("- knob `{}`: {} ({})\n", k.name, k.doc, RangeOf(k));
  for (const ExtraInput& x : v.inputs)
    section += fmt::format("- input `{}`: {}\n", x.name, x.doc);
  return section;
}

}  // namespace

std::string ExplanationOf(const Variant& variant) {
  if (const Explanation* const e = Find(variant.name))
    return std::string(e->text);
  return fmt::format("{}: {}\n\nSource: {}\n", variant.name, variant.title,
                     variant.source);
}

std::string VariantsPage() {
  std::vector<std::string_view> families;
  std::map<std::string_view, std::vector<const Variant*>> members;
  for (const Variant* v : Variants()) {
    if (!Find(v->name)) continue;
    if (members[FamilyOf(*v)].empty()) families.push_back(FamilyOf(*v));
    members[FamilyOf(*v)].push_back(v);
  }
  std::string page(kBegin);
  for (const std::string_view family : families) {
    page += fmt::format(
        "\n## {}\n\n"
        "| variant | | grows | GFLOP | MFLOP a token | cannot |\n"
        "|---|---|---|---|---|---|\n",
        family);
    for (const Variant* v : members[family]) page += Row(*v);
    for (const Variant* v : members[family]) page += Section(*v);
  }
  return page;
}

}  // namespace saccade::bench
