// Assertions, checks, what is missing, and the machine.
#include <fmt/format.h>

#include <set>

#include "reports/roster.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

std::string WordFor(const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::Kind::kFail:
      return "FAIL";
    case Outcome::Kind::kSkipped:
      return "skipped";
    case Outcome::Kind::kUnsupported:
      return "unsupported";
    case Outcome::Kind::kAbsent:
      return "n/a";
    case Outcome::Kind::kOk:
      break;
  }
  return "–";
}

Cell CheckCellOf(const Check& check) {
  if (check.outcome.ok()) {
    return {FormatNumber(check.worst), fmt::format("{} cases", check.cases),
            "good"};
  }
  if (check.outcome.kind == Outcome::Kind::kFail) {
    return {"FAIL", fmt::format("{} of {}", check.failures, check.cases),
            "fail"};
  }
  return GapCell(check.outcome);
}

// What the headers say of one field, without repetition.
std::string Told(const Model& model, std::string_view field) {
  std::string told;
  std::set<std::string> seen;
  for (const record::Record& header : model.headers) {
    std::string text = Get(header, field);
    for (const std::string& item : header.Texts(field)) {
      text += (text.empty() ? "" : ", ") + Clean(item);
    }
    if (text.empty() && header.Has(field)) {
      text = fmt::format("{}", header.Count(field));
    }
    if (text.empty() || !seen.insert(text).second) continue;
    told += (told.empty() ? "" : "; ") + text;
  }
  return told;
}

std::string Memory(const Model& model) {
  for (const record::Record& header : model.headers) {
    if (header.Has("memory_bytes")) {
      return FormatBytes(header.Number("memory_bytes"));
    }
  }
  return "";
}

}  // namespace

Cell EntryCell(const Entry& entry) {
  return {entry.spec, entry.peer ? "outside implementation" : "", "code",
          entry.colour, entry.shape};
}

Cell GapCell(const Outcome& outcome) {
  const bool fail = outcome.kind == Outcome::Kind::kFail;
  return {WordFor(outcome), "", fail ? "fail" : "quiet"};
}

std::vector<Figure>& FiguresFor(const Model& model, size_t i,
                                Section* section) {
  constexpr size_t kOpen = 4;
  return i == 0 || model.settings.size() <= kOpen ? section->figures
                                                  : section->folded;
}

std::string IdOf(const std::string& prefix, size_t number) {
  return fmt::format("{}-{}", prefix, number + 1);
}

Section ClaimSection(const Model& model) {
  Section section;
  section.id = "assertions";
  section.title = "Theory meets measurement";
  section.lead =
      "What the literature and the theory say must be seen, beside what was "
      "seen here.";
  if (model.claims.empty()) return {};
  Table table;
  table.caption = "Assertions";
  table.columns = {{"no."},
                   {"assertion", false},
                   {"expected", false},
                   {"measured", false},
                   {"verdict", false}};
  for (const Claim& claim : model.claims) {
    const std::string look = claim.verdict == "pass"   ? "good"
                             : claim.verdict == "fail" ? "fail"
                                                       : "quiet";
    table.rows.push_back(
        {{claim.number > 0 ? fmt::format("{}", claim.number) : "–"},
         {claim.claim, claim.variant, "prose"},
         {claim.expected, "", "prose"},
         {claim.measured.empty() ? "–" : claim.measured, "", "prose"},
         {claim.verdict, "", look}});
  }
  section.tables.push_back(std::move(table));
  return section;
}

Section CheckSection(const Model& model) {
  Section section;
  section.id = "checks";
  section.title = "Correct before fast";
  section.lead =
      "Every variant is held against a float64 oracle written from its "
      "equation, on every instruction set of the machine. A figure is the "
      "largest error seen, in units of roundoff times the size of what was "
      "summed; the budget is what the variant allows itself.";
  if (model.checks.empty()) return {};
  std::set<std::string> targets;
  for (const auto& [key, by_target] : model.checks) {
    for (const auto& [target, check] : by_target) targets.insert(target);
  }
  Table table;
  table.caption = "Checks against oracles";
  table.columns = {
      {"variant", false}, {"pass", false}, {"storage", false}, {"budget"}};
  for (const std::string& target : targets) {
    table.columns.push_back({target.empty() ? "chosen target" : target});
  }
  for (const auto& [key, by_target] : model.checks) {
    double kappa = kNaN;
    for (const auto& [target, check] : by_target) {
      if (!std::isnan(check.kappa)) kappa = check.kappa;
    }
    std::vector<Cell> row = {EntryCell(model.at(key.entry)),
                             {key.pass},
                             {key.dtype.empty() ? "–" : key.dtype},
                             {FormatNumber(kappa)}};
    for (const std::string& target : targets) {
      const auto check = by_target.find(target);
      row.push_back(check == by_target.end() ? Cell{"–", "", "quiet"}
                                             : CheckCellOf(check->second));
    }
    table.rows.push_back(std::move(row));
  }
  section.tables.push_back(std::move(table));
  return section;
}

Section GapSection(const Model& model) {
  Section section;
  section.id = "gaps";
  section.title = "What is missing, and why";
  section.lead =
      "Cells that failed, were skipped or are not offered, with the reason "
      "given when it happened.";
  Table table;
  table.caption = "Missing cells";
  table.columns = {
      {"variant", false}, {"what", false}, {"status", false}, {"why", false}};
  for (const auto& [key, by_target] : model.checks) {
    for (const auto& [target, check] : by_target) {
      if (check.outcome.ok()) continue;
      table.rows.push_back(
          {EntryCell(model.at(key.entry)),
           {fmt::format("check, {} {} {}", key.pass, key.dtype, target)},
           GapCell(check.outcome),
           {check.outcome.reason, check.outcome.repeat, "prose"}});
    }
  }
  for (const Gap& gap : model.gaps) {
    table.rows.push_back({EntryCell(model.at(gap.entry)),
                          {gap.what},
                          GapCell(gap.outcome),
                          {gap.outcome.reason, gap.outcome.repeat, "prose"}});
  }
  if (!table.rows.empty()) section.tables.push_back(std::move(table));
  if (model.warnings.empty()) return section;
  Table dropped;
  dropped.caption = "Lines of the record that could not be read";
  dropped.columns = {{"line", false}};
  for (const std::string& warning : model.warnings) {
    dropped.rows.push_back({{warning, "", "prose"}});
  }
  section.tables.push_back(std::move(dropped));
  return section;
}

Section MachineSection(const Model& model) {
  Section section;
  section.id = "machine";
  section.title = "The machine and the build";
  Table facts;
  facts.caption = "Machine and build";
  facts.columns = {{"what", false}, {"value", false}};
  const auto add = [&](const std::string& what, const std::string& value) {
    if (!value.empty()) facts.rows.push_back({{what}, {value, "", "prose"}});
  };
  add("machine", Told(model, "machine"));
  add("processor", Told(model, "cpu"));
  add("processors usable", Told(model, "cores"));
  add("caches", Told(model, "caches"));
  add("memory", Memory(model));
  add("system", Told(model, "system"));
  add("instruction sets", Told(model, "targets"));
  add("threads", Told(model, "threads"));
  add("compiler", Told(model, "compiler"));
  add("flags", Told(model, "flags"));
  add("libraries", Told(model, "libraries"));
  add("version", Told(model, "version"));
  add("commit", Told(model, "commit"));
  add("profile", Told(model, "profile"));
  add("text", Told(model, "corpus"));
  add("started", Told(model, "started"));
  section.tables.push_back(std::move(facts));
  if (model.peaks.empty()) return section;
  Table peaks;
  peaks.caption = "What this machine can do, measured in the same run";
  peaks.columns = {
      {"peak", false}, {"target", false}, {"threads"}, {"GFLOP/s"}, {"GB/s"}};
  for (const Peak& peak : model.peaks) {
    peaks.rows.push_back({{peak.name},
                          {peak.target.empty() ? "–" : peak.target},
                          {fmt::format("{}", peak.threads)},
                          {FormatNumber(peak.gflops)},
                          {FormatNumber(peak.gbps)}});
  }
  section.tables.push_back(std::move(peaks));
  return section;
}

}  // namespace saccade::reports
