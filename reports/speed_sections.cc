// Time, decoding and shares of peak.
#include <fmt/format.h>

#include <set>

#include "reports/chart.h"
#include "reports/contest.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

std::set<int64_t> LengthsOf(const ByEntry<Timing>& cells) {
  std::set<int64_t> all;
  for (const auto& [entry, lengths] : cells) {
    for (const auto& [length, cell] : lengths) all.insert(length);
  }
  return all;
}

// Entries against lengths; `show` makes a cell of a timing that is ok.
template <class Show>
Table LengthTable(const Model& model, const ByEntry<Timing>& cells,
                  const Show& show) {
  Table table;
  table.columns.push_back({"variant", false});
  const std::set<int64_t> all = LengthsOf(cells);
  for (const int64_t length : all)
    table.columns.push_back({FormatLength(length), true, "", length});
  for (const auto& [entry, lengths] : cells) {
    std::vector<Cell> row = {EntryCell(model.at(entry))};
    for (const int64_t length : all) {
      const auto cell = lengths.find(length);
      if (cell == lengths.end()) {
        row.push_back({"–", "", "quiet"});
      } else if (!cell->second.outcome.ok()) {
        row.push_back(GapCell(cell->second.outcome));
      } else {
        row.push_back(show(cell->second));
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// Where a figure of all lengths of a pass belongs, and how to make it again.
void SetPlace(const Model& model, size_t setting, const std::string& pass,
              Figure* figure) {
  const ByEntry<Timing>& cells = model.settings[setting].times.at(pass);
  figure->place = {static_cast<int>(setting), pass};
  std::set<int> entries;
  for (const auto& [entry, lengths] : cells) entries.insert(entry);
  figure->repeat = RepeatCells(model, model.settings[setting], "speed", {pass},
                               entries, LengthsOf(cells));
}

std::string GrowthText(const PowerFit& fit) {
  return fit.known() ? "n^" + FormatFixed(fit.exponent, 2) : "";
}

Figure TimeFigure(const Model& model, size_t place, const std::string& pass,
                  const std::string& id) {
  const Setting& setting = model.settings[place];
  const ByEntry<Timing>& cells = setting.times.at(pass);
  const bool decode = pass == "decode";
  Chart chart = {
      {decode ? "context, tokens" : "length n, tokens", Scale::kLength},
      {decode ? "time per token" : "time", Scale::kTime}};
  Figure figure;
  figure.table = LengthTable(model, cells, [](const Timing& timing) {
    return Cell{FormatTime(timing.ns.value)};
  });
  figure.table.columns.push_back({"exponent"});
  figure.table.columns.push_back({"over n", false});
  size_t row = 0;
  for (const auto& [entry, lengths] : cells) {
    const PowerFit fit = GrowthOf(lengths);
    Series series = SeriesOf(model.at(entry));
    series.note = GrowthText(fit);
    for (const auto& [length, timing] : lengths) {
      if (!timing.outcome.ok()) continue;
      series.points.push_back({static_cast<double>(length), timing.ns.value,
                               timing.ns.low, timing.ns.high});
    }
    chart.series.push_back(std::move(series));
    figure.table.rows[row].push_back({FormatFixed(fit.exponent, 2)});
    figure.table.rows[row].push_back(
        {fit.known() ? fmt::format("{} to {}", FormatLength(fit.first),
                                   FormatLength(fit.last))
                     : "–"});
    ++row;
  }
  figure.id = id;
  figure.title = TitleIn(model, place,
                         decode ? "One token against its context"
                                : fmt::format("The {} pass", pass));
  figure.table.caption = fmt::format("{} ({})", figure.title, setting.name);
  figure.caption = fmt::format(
      "Medians of raw samples; rounds go over all variants in turn, so that "
      "drift hits all alike.{2} Exponents: least squares on logarithms over "
      "the {1} longest lengths. Setting: {0}.",
      setting.name, kFitPoints,
      HasPeers(model) ? " Dashed: outside implementations, in the same rounds."
                      : "");
  figure.chart = ToJson(chart);
  SetPlace(model, place, pass, &figure);
  return figure;
}

// Everything that is known of every cell.
Table EveryCell(const Model& model) {
  Table table;
  table.caption = "Every timed cell";
  table.note =
      "The interval is that of the median, 95 %. GFLOP/s count visible work "
      "by the equations; GB/s what must move at least.";
  table.html_only = true;
  table.columns = {{"variant", false}, {"pass", false},   {"n"},
                   {"median"},         {"interval"},      {"samples"},
                   {"GFLOP/s"},        {"of peak"},       {"GB/s"},
                   {"of bandwidth"},   {"setting", false}};
  for (size_t i = 0; i < model.settings.size(); ++i) {
    const Setting& setting = model.settings[i];
    for (const auto& [pass, cells] : setting.times) {
      for (const auto& [entry, lengths] : cells) {
        for (const auto& [length, timing] : lengths) {
          std::vector<Cell> row = {
              EntryCell(model.at(entry)), {pass}, {FormatLength(length)}};
          if (!timing.outcome.ok()) {
            row.push_back(GapCell(timing.outcome));
            row.resize(10);
          } else {
            const Estimate& ns = timing.ns;
            row.push_back({FormatTime(ns.value)});
            row.push_back({ns.bounded() ? FormatTime(ns.low) + " to " +
                                              FormatTime(ns.high)
                                        : "–"});
            row.push_back({ns.count > 0 ? fmt::format("{}", ns.count) : "–"});
            row.push_back({FormatNumber(timing.flops / ns.value)});
            row.push_back({FormatShare(timing.peak_share)});
            row.push_back({FormatNumber(timing.bytes / ns.value)});
            row.push_back({FormatShare(timing.bandwidth_share)});
          }
          row.push_back({setting.name});
          table.rows.push_back(std::move(row));
          table.places.push_back({static_cast<int>(i), pass, length});
        }
      }
    }
  }
  return table;
}

// Shares of peak at the longest length that each variant has.
Table RateTable(const Model& model, const Setting& setting) {
  Table table;
  table.caption = "Rates at each variant's longest measured length";
  table.note =
      "Peaks are measured in the same run: arithmetic by independent fused "
      "multiply-adds, bandwidth by streaming through memory.";
  table.columns = {{"variant", false}, {"pass", false}, {"n"},
                   {"GFLOP/s"},        {"of peak"},     {"GB/s"},
                   {"of bandwidth"},   {"FLOPs a byte"}};
  for (const auto& [pass, cells] : setting.times) {
    for (const auto& [entry, lengths] : cells) {
      for (auto it = lengths.rbegin(); it != lengths.rend(); ++it) {
        const Timing& timing = it->second;
        if (!timing.outcome.ok()) continue;
        table.rows.push_back({EntryCell(model.at(entry)),
                              {pass},
                              {FormatLength(it->first)},
                              {FormatNumber(timing.flops / timing.ns.value)},
                              {FormatShare(timing.peak_share)},
                              {FormatNumber(timing.bytes / timing.ns.value)},
                              {FormatShare(timing.bandwidth_share)},
                              {FormatNumber(timing.flops / timing.bytes)}});
        table.places.push_back({-1, pass, it->first});
        break;
      }
    }
  }
  return table;
}

Figure ShareFigure(const Model& model, size_t place, const std::string& pass,
                   const std::string& id) {
  const Setting& setting = model.settings[place];
  const ByEntry<Timing>& cells = setting.times.at(pass);
  Chart chart = {{"length n, tokens", Scale::kLength},
                 {"share of the arithmetic peak", Scale::kShare}};
  for (const auto& [entry, lengths] : cells) {
    Series series = SeriesOf(model.at(entry));
    for (const auto& [length, timing] : lengths) {
      if (!timing.outcome.ok()) continue;
      series.points.push_back({static_cast<double>(length), timing.peak_share});
    }
    chart.series.push_back(std::move(series));
  }
  Figure figure;
  figure.id = id;
  figure.title = TitleIn(model, place, fmt::format("The {} pass", pass));
  figure.caption = fmt::format(
      "Visible work over median time, of the peak measured in the same run. "
      "A variant that skips work may be fast with a low share. Setting: {}.",
      setting.name);
  figure.table = LengthTable(model, cells, [](const Timing& timing) {
    return Cell{FormatShare(timing.peak_share)};
  });
  figure.table.caption =
      fmt::format("Share of the arithmetic peak, {} pass", pass);
  figure.chart = ToJson(chart);
  SetPlace(model, place, pass, &figure);
  return figure;
}

}  // namespace

Section TimeSection(const Model& model) {
  Section section;
  section.id = "time";
  section.title = "Time against length";
  section.lead =
      "On logarithmic axes a power law is a straight line; its slope, fitted "
      "over the longest lengths, stands in the legend.";
  size_t count = 0;
  for (size_t i = 0; i < model.settings.size(); ++i) {
    const Setting& setting = model.settings[i];
    for (const std::string pass : {"forward", "backward"}) {
      if (!setting.times.contains(pass)) continue;
      FiguresFor(model, i, &section)
          .push_back(TimeFigure(model, i, pass, IdOf("time", count++)));
    }
  }
  if (!model.settings.empty()) section.tables.push_back(EveryCell(model));
  if (section.tables.empty() || section.tables[0].rows.empty()) return {};
  return section;
}

Section DecodeSection(const Model& model) {
  Section section;
  section.id = "decode";
  section.title = "Decoding";
  section.lead =
      "The cost of one more token when so many are held already: what "
      "generating text pays for its context.";
  size_t count = 0;
  for (size_t i = 0; i < model.settings.size(); ++i) {
    const Setting& setting = model.settings[i];
    if (!setting.times.contains("decode")) continue;
    FiguresFor(model, section.figures.size(), &section)
        .push_back(TimeFigure(model, i, "decode", IdOf("decode", count++)));
  }
  return section;
}

Section PeakSection(const Model& model) {
  Section section;
  section.id = "peak";
  section.title = "Share of peak";
  section.lead =
      "How much of what this machine can do a pass reaches: room for a better "
      "kernel, told apart from work that a method does not do.";
  size_t count = 0;
  for (size_t i = 0; i < model.settings.size(); ++i) {
    const Setting& setting = model.settings[i];
    std::vector<Figure>& figures = FiguresFor(model, i, &section);
    for (const std::string pass : {"forward", "backward"}) {
      if (!setting.times.contains(pass)) continue;
      Figure figure = ShareFigure(model, i, pass, IdOf("peak", count));
      if (figure.chart["series"].empty()) continue;
      figures.push_back(std::move(figure));
      ++count;
    }
    Figure roofline = RooflineFigure(model, i);
    if (!roofline.table.rows.empty()) {
      figures.push_back(std::move(roofline));
    }
    Table rates = RateTable(model, setting);
    rates.place.setting = static_cast<int>(i);
    rates.html_only = &figures == &section.folded;
    if (model.settings.size() > 1) rates.caption += ", " + setting.name;
    if (!rates.rows.empty()) section.tables.push_back(std::move(rates));
  }
  return section;
}

}  // namespace saccade::reports
