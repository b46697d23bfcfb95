// Memory beyond inputs and outputs.
#include <fmt/format.h>

#include <set>

#include "reports/chart.h"
#include "reports/contest.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

std::string TitleOf(const std::string& pass) {
  if (pass == "forward") return "The forward pass";
  if (pass == "backward") return "The backward pass";
  return "Decoding: state and scratch";
}

std::string CaptionOf(const std::string& pass) {
  if (pass == "backward") {
    return "Scratch, and what forward keeps for backward, by the plan";
  }
  if (pass == "decode") {
    return "What is carried from token to token, and scratch, by the plan";
  }
  return "Scratch by the plan";
}

Figure MemoryFigure(const Model& model, size_t place, const std::string& pass,
                    const std::string& id) {
  const Setting& setting = model.settings[place];
  const ByEntry<Weight>& cells = setting.weights.at(pass);
  Chart chart = {{pass == "decode" ? "context, tokens" : "length n, tokens",
                  Scale::kLength},
                 {"beyond inputs and outputs", Scale::kBytes}};
  Figure figure;
  std::set<int64_t> all;
  for (const auto& [entry, lengths] : cells) {
    for (const auto& [length, cell] : lengths) all.insert(length);
  }
  figure.table.columns.push_back({"variant", false});
  for (const int64_t length : all) {
    figure.table.columns.push_back({FormatLength(length), true, "", length});
  }
  std::set<int> entries;
  for (const auto& [entry, lengths] : cells) {
    entries.insert(entry);
    Series series = SeriesOf(model.at(entry));
    std::vector<Cell> row = {EntryCell(model.at(entry))};
    for (const int64_t length : all) {
      const auto cell = lengths.find(length);
      if (cell == lengths.end()) {
        row.push_back({"–", "", "quiet"});
        continue;
      }
      const Weight& weight = cell->second;
      if (!weight.outcome.ok()) {
        row.push_back(GapCell(weight.outcome));
        continue;
      }
      row.push_back({FormatBytes(weight.working())});
      series.points.push_back({static_cast<double>(length), weight.working()});
    }
    chart.series.push_back(std::move(series));
    figure.table.rows.push_back(std::move(row));
  }
  figure.id = id;
  figure.title = TitleIn(model, place, TitleOf(pass));
  figure.table.caption = fmt::format("{} ({})", figure.title, setting.name);
  figure.caption = fmt::format(
      "{}. What needs nothing cannot stand on a logarithmic axis; the table "
      "has it; lines that coincide hide each other. Setting: {}.",
      CaptionOf(pass), setting.name);
  figure.chart = ToJson(chart);
  figure.place = {static_cast<int>(place), pass};
  figure.repeat = RepeatCells(model, setting, "memory", {pass}, entries, all);
  return figure;
}

// The plan's figures beside what a fresh process was seen to grow by.
Table GrowthTable(const Model& model, const Setting& setting) {
  Table table;
  table.caption = "The plan's word against a process's growth";
  table.note =
      "At the longest length of each variant and pass. Growth is that of the "
      "peak resident memory of a fresh process, its tensors left out; pages "
      "are 4 KiB, and small buffers may come from memory it had already.";
  table.columns = {{"variant", false}, {"pass", false}, {"n"},
                   {"scratch"},        {"saved"},       {"state"},
                   {"planned"},        {"measured"}};
  for (const auto& [pass, cells] : setting.weights) {
    for (const auto& [entry, lengths] : cells) {
      for (auto it = lengths.rbegin(); it != lengths.rend(); ++it) {
        const Weight& weight = it->second;
        if (!weight.outcome.ok() || std::isnan(weight.growth)) continue;
        table.rows.push_back({EntryCell(model.at(entry)),
                              {pass},
                              {FormatLength(it->first)},
                              {FormatBytes(weight.scratch)},
                              {FormatBytes(weight.saved)},
                              {FormatBytes(weight.state)},
                              {FormatBytes(weight.working())},
                              {FormatBytes(weight.growth)}});
        table.places.push_back({-1, pass, it->first});
        break;
      }
    }
  }
  return table;
}

}  // namespace

Section MemorySection(const Model& model) {
  Section section;
  section.id = "memory";
  section.title = "Memory against length";
  section.lead =
      "What a pass needs beyond its inputs and outputs. A flat line is what "
      "lets a length grow until the inputs themselves no longer fit.";
  for (size_t i = 0; i < model.settings.size(); ++i) {
    const Setting& setting = model.settings[i];
    for (const std::string pass : {"forward", "backward", "decode"}) {
      if (!setting.weights.contains(pass)) continue;
      section.figures.push_back(
          MemoryFigure(model, i, pass, IdOf("memory", section.figures.size())));
    }
    Table growth = GrowthTable(model, setting);
    growth.place.setting = static_cast<int>(i);
    if (!growth.rows.empty()) section.tables.push_back(std::move(growth));
  }
  return section;
}

}  // namespace saccade::reports
