// Time, decoding and shares of peak.
#include <fmt/format.h>

#include <set>

#include "reports/chart.h"
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
    table.columns.push_back({FormatLength(length)});
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

std::string GrowthText(const PowerFit& fit) {
  return fit.known() ? "n^" + FormatFixed(fit.exponent, 2) : "";
}

Figure TimeFigure(const Model& model, const Setting& setting,
                  const std::string& pass, const std::string& id) {
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
  figure.title = decode ? "One token against its context"
                        : fmt::format("The {} pass", pass);
  figure.table.caption = fmt::format("{}, {}", figure.title, setting.name);
  figure.caption = fmt::format(
      "Medians of raw samples; rounds go over all variants in turn, so that "
      "drift hits all alike.{2} Exponents: least squares on logarithms over "
      "the {1} longest lengths. Setting: {0}.",
      setting.name, kFitPoints,
      HasPeers(model) ? " Dashed: outside implementations, in the same rounds."
                      : "");
  figure.chart = ToJson(chart);
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
  for (const Setting& setting : model.settings) {
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
                   {"of bandwidth"}};
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
                              {FormatShare(timing.bandwidth_share)}});
        break;
      }
    }
  }
  return table;
}

Figure ShareFigure(const Model& model, const Setting& setting,
                   const std::string& pass, const std::string& id) {
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
  figure.title = fmt::format("The {} pass", pass);
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
  return figure;
}

}  // namespace

std::vector<Figure> QualityAgainstSpeed(const Model& model,
                                        const Verdict& verdict) {
  Chart chart = {
      {fmt::format("forward time at n = {}", FormatLength(verdict.length)),
       Scale::kTime},
      {fmt::format("bits a byte at {}×", verdict.far_multiple), Scale::kBits},
      false};
  Figure figure;
  figure.table.columns = {
      {"variant", false}, {"time"}, {"bits/byte"}, {"under a test window"}};
  for (const VerdictRow& row : verdict.rows) {
    if (row.time == nullptr || !row.time->outcome.ok()) continue;
    if (!row.far.known() && !row.far_window.known()) continue;
    const Entry& entry = model.at(row.timed);
    const double time = row.time->ns.value;
    for (const bool window : {false, true}) {
      const Estimate& bits = window ? row.far_window : row.far;
      Series series = SeriesOf(entry);
      series.layer = window ? "with a test window" : "plain";
      series.style = window ? 1 : 0;
      if (bits.known()) {
        series.points.push_back({time, bits.value, bits.low, bits.high});
      }
      chart.series.push_back(std::move(series));
    }
    figure.table.rows.push_back({EntryCell(entry),
                                 {FormatTime(time)},
                                 {FormatFixed(row.far.value, 2)},
                                 {FormatFixed(row.far_window.value, 2)}});
  }
  if (figure.table.rows.size() < 2) return {};
  figure.id = "quality-speed";
  figure.title = "Quality against speed";
  figure.table.caption = figure.title;
  figure.caption = fmt::format(
      "Down and to the left is better. Across: median time of a forward pass "
      "at "
      "n = {}. Up: bits a byte of test text read at {} times the training "
      "length (protocol {}); hollow points: the same model, its view cut to a "
      "window of the training length.",
      FormatLength(verdict.length), verdict.far_multiple, verdict.protocol);
  figure.chart = ToJson(chart);
  return {figure};
}

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
          .push_back(TimeFigure(model, setting, pass, IdOf("time", count++)));
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
        .push_back(
            TimeFigure(model, setting, "decode", IdOf("decode", count++)));
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
      Figure figure = ShareFigure(model, setting, pass, IdOf("peak", count));
      if (figure.chart["series"].empty()) continue;
      figures.push_back(std::move(figure));
      ++count;
    }
    Table rates = RateTable(model, setting);
    rates.html_only = &figures == &section.folded;
    if (model.settings.size() > 1) rates.caption += ", " + setting.name;
    if (!rates.rows.empty()) section.tables.push_back(std::move(rates));
  }
  return section;
}

}  // namespace saccade::reports
