// What probes say in tables: beside theory, and told apart.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

std::string ShowAccuracy(const Estimate& estimate) {
  std::string text = FormatFixed(estimate.value, 2);
  if (estimate.bounded()) {
    text += fmt::format(" ({} to {})", FormatFixed(estimate.low, 2),
                        FormatFixed(estimate.high, 2));
  }
  return text;
}

std::string ShowForetold(const Foretold& f) {
  const std::string low = FormatFixed(f.low, 2), high = FormatFixed(f.high, 2);
  if (!f.known()) return "";
  if (f.low > 0 && f.high < 1)
    return fmt::format("theory: {} to {}", low, high);
  return f.low > 0 ? "theory: at least " + low : "theory: at most " + high;
}

// Accuracies that no variant of a table has need no column.
std::vector<int> EntriesOf(const Model& model) {
  std::set<int> entries;
  for (const auto& [key, curve] : model.probes) entries.insert(key.entry);
  return {entries.begin(), entries.end()};
}

// Whether measurement agrees with theory: intervals that meet do. What was
// not learned at the training length cannot be lost beyond it.
std::string LookOf(const Foretold& foretold, const Estimate& got,
                   bool learned) {
  if (!foretold.known()) return "";
  const double low = got.bounded() ? got.low : got.value;
  const double high = got.bounded() ? got.high : got.value;
  if (low > foretold.high) return "fail";
  if (high < foretold.low) return learned ? "fail" : "quiet";
  return "good";
}

// Whether most was learned at the training length.
bool Learned(const Curve& curve) {
  const auto trained = curve.points.find(curve.train_len);
  return trained != curve.points.end() && trained->second.value >= 0.5;
}

Cell CellOf(const Curve& curve, int64_t x, bool judged) {
  if (!curve.outcome.ok()) return GapCell(curve.outcome);
  const auto point = curve.points.find(x);
  if (point == curve.points.end()) return {"–", "", "quiet"};
  const auto found = curve.foretold.find(x);
  const Foretold foretold =
      found == curve.foretold.end() ? Foretold() : found->second;
  return {ShowAccuracy(point->second), ShowForetold(foretold),
          LookOf(foretold, point->second, judged)};
}

// A row of the matrix: one probe at one length.
std::vector<Cell> RowOf(const Model& model, const std::string& probe,
                        int64_t length, const std::vector<int>& entries) {
  std::vector<Cell> cells;
  double chance = kNaN;
  for (const int entry : entries) {
    const auto curve = model.probes.find({probe, entry, kPlain});
    if (curve == model.probes.end()) {
      cells.push_back({"–", "", "quiet"});
      continue;
    }
    const bool trained = length == curve->second.train_len;
    cells.push_back(
        CellOf(curve->second, length, trained || Learned(curve->second)));
    if (!std::isnan(curve->second.chance)) chance = curve->second.chance;
  }
  cells.insert(
      cells.begin(),
      {{probe}, {FormatLength(length)}, {FormatFixed(chance, 2), "", "quiet"}});
  return cells;
}

}  // namespace

Table ProbeMatrix(const Model& model) {
  const std::vector<int> entries = EntriesOf(model);
  Table table;
  table.caption =
      "Share of right symbols, trained length and longest, beside theory";
  table.note =
      "In brackets the 95 % interval: Wilson's of one seed, Student's over "
      "several. Below it what theory foretold, where it says anything: green "
      "agrees, red does not; a level that was to be kept is not judged where "
      "less than half was learned at the training length.";
  table.columns = {{"probe", false}, {"tokens"}, {"guessing"}};
  for (const int entry : entries) {
    table.columns.push_back({model.at(entry).spec});
  }
  for (const std::string& probe : model.probe_names) {
    std::set<int64_t> lengths;
    int64_t trained = 0;
    for (const auto& [key, curve] : model.probes) {
      if (key.what != probe) continue;
      trained = std::max(trained, curve.train_len);
      for (const auto& [length, point] : curve.points) lengths.insert(length);
    }
    if (lengths.empty()) continue;
    std::set<int64_t> shown = {*lengths.rbegin()};
    if (lengths.contains(trained)) shown.insert(trained);
    for (const int64_t length : shown) {
      table.rows.push_back(RowOf(model, probe, length, entries));
    }
  }
  return table;
}

std::vector<Table> ProbePartTables(const Model& model) {
  std::vector<Table> tables;
  for (const std::string& probe : model.probe_names) {
    int64_t longest = 0;
    std::set<int64_t> buckets;
    for (const auto& [key, lengths] : model.probe_parts) {
      if (key.what == probe)
        longest = std::max(longest, lengths.rbegin()->first);
    }
    Table table;
    for (const auto& [key, lengths] : model.probe_parts) {
      const auto part = lengths.find(longest);
      if (key.what != probe || part == lengths.end()) continue;
      for (const auto& [x, point] : part->second.points) buckets.insert(x);
    }
    if (buckets.size() < 2) continue;
    const auto text = model.probe_texts.find(probe);
    table.caption = fmt::format(
        "Probe {} at {} tokens, by {}", probe, FormatLength(longest),
        text == model.probe_texts.end() ? "bucket" : text->second.bucket);
    table.columns = {{"variant", false}};
    for (const int64_t x : buckets) {
      table.columns.push_back({fmt::format("{}", x)});
    }
    for (const auto& [key, lengths] : model.probe_parts) {
      const auto part = lengths.find(longest);
      if (key.what != probe || part == lengths.end()) continue;
      std::vector<Cell> row = {EntryCell(model.at(key.entry))};
      const auto whole = model.probes.find(key);
      const bool learned =
          whole != model.probes.end() && Learned(whole->second);
      for (const int64_t x : buckets) {
        row.push_back(CellOf(part->second, x, learned));
      }
      table.rows.push_back(std::move(row));
    }
    tables.push_back(std::move(table));
    tables.back().html_only = true;
  }
  return tables;
}

}  // namespace saccade::reports
