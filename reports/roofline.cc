// Work a second against work a byte, below what the machine can do.
#include <fmt/format.h>

#include <algorithm>

#include "reports/chart.h"
#include "reports/contest.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

const Peak* PeakOf(const Model& model, const std::string& name,
                   const Setting& setting) {
  const auto found = std::find_if(
      model.peaks.begin(), model.peaks.end(), [&](const Peak& peak) {
        return peak.name == name && peak.threads == setting.threads;
      });
  return found == model.peaks.end() ? nullptr : &*found;
}

// A peak of arithmetic and below it the slope of the bandwidth, from `low` to
// `high` FLOPs a byte.
Series Roof(const Peak& peak, const Peak* stream, double low, double high) {
  Series roof;
  roof.name =
      fmt::format("roof: {}, {} GFLOP/s", peak.name, FormatNumber(peak.gflops));
  roof.colour = kNoColour;
  roof.bare = true;
  roof.style = peak.name == "fma" ? 0 : 1;
  const double ridge = stream == nullptr ? 0 : peak.gflops / stream->gbps;
  if (low < ridge) {
    roof.points.push_back({low, low * stream->gbps});
    if (ridge < high) roof.points.push_back({ridge, peak.gflops});
  } else {
    roof.points.push_back({low, peak.gflops});
  }
  roof.points.push_back(
      {high, std::min(peak.gflops,
                      stream == nullptr ? peak.gflops : high * stream->gbps)});
  return roof;
}

// Where the marks lie across, with room on both sides.
std::pair<double, double> Span(const std::vector<Series>& all) {
  double low = kNaN, high = kNaN;
  for (const Series& series : all) {
    for (const Point& point : series.points) {
      low = std::isnan(low) ? point.x : std::min(low, point.x);
      high = std::isnan(high) ? point.x : std::max(high, point.x);
    }
  }
  return {low / 2, high * 2};
}

bool InBf16(const Setting& setting) {
  return std::any_of(setting.facets.begin(), setting.facets.end(),
                     [](const Facet& facet) {
                       return facet.name == "dtype" && facet.value == "bf16";
                     });
}

// What bounds a pass: forward multiplies in bf16 where the CPU does.
const Peak* PeakFor(const Model& model, const Setting& setting,
                    const std::string& pass) {
  const Peak* bf16 = InBf16(setting) && pass == "forward"
                         ? PeakOf(model, "bf16", setting)
                         : nullptr;
  return bf16 != nullptr ? bf16 : PeakOf(model, "fma", setting);
}

void AddRoofs(const Model& model, const Setting& setting, Chart* chart) {
  const auto [low, high] = Span(chart->series);
  const Peak* stream = PeakOf(model, "stream", setting);
  if (stream != nullptr && !(stream->gbps > 0)) stream = nullptr;
  for (const char* const name : {"fma", "bf16"}) {
    const Peak* peak = PeakOf(model, name, setting);
    if (peak == nullptr || !(peak->gflops > 0)) continue;
    if (peak->name == "bf16" && !InBf16(setting)) continue;
    chart->series.push_back(Roof(*peak, stream, low, high));
  }
}

}  // namespace

Figure RooflineFigure(const Model& model, size_t place) {
  const Setting& setting = model.settings[place];
  Chart chart = {{"FLOPs a byte", Scale::kSize}, {"GFLOP/s", Scale::kSize}};
  chart.lines = false;
  chart.longest = true;
  Figure figure;
  figure.table.columns = {{"variant", false}, {"pass", false}, {"n"},
                          {"FLOPs a byte"},   {"GFLOP/s"},     {"of its roof"}};
  const Peak* const stream = PeakOf(model, "stream", setting);
  std::set<int> entries;
  std::set<int64_t> lengths;
  std::vector<std::string> passes;
  for (int style = 0; const char* const pass : kPasses) {
    const auto cells = setting.times.find(pass);
    if (cells == setting.times.end()) continue;
    passes.push_back(pass);
    const Peak* const peak = PeakFor(model, setting, pass);
    for (const auto& [entry, by_length] : cells->second) {
      Series series = SeriesOf(model.at(entry));
      series.layer = series.pass = pass;
      series.style = style;
      for (const auto& [length, timing] : by_length) {
        const double intensity = timing.flops / timing.bytes;
        const double rate = timing.flops / timing.ns.value;
        if (!timing.outcome.ok() || !(intensity > 0) || !(rate > 0)) continue;
        Point point = {intensity, rate};
        point.length = length;
        series.points.push_back(point);
        lengths.insert(length);
        entries.insert(entry);
        const double roof =
            peak == nullptr || stream == nullptr
                ? kNaN
                : std::min(peak->gflops, intensity * stream->gbps);
        figure.table.rows.push_back({EntryCell(model.at(entry)),
                                     {pass},
                                     {FormatLength(length)},
                                     {FormatNumber(intensity)},
                                     {FormatNumber(rate)},
                                     {FormatShare(rate / roof)}});
        figure.table.places.push_back({-1, pass, length});
      }
      chart.series.push_back(std::move(series));
    }
    ++style;
  }
  if (entries.empty()) return {};
  AddRoofs(model, setting, &chart);
  figure.id = IdOf("roofline", place);
  figure.place.setting = static_cast<int>(place);
  figure.title = TitleIn(model, place, "Roofline");
  figure.table.caption = fmt::format("Roofline ({})", setting.name);
  figure.caption = fmt::format(
      "Each mark is a variant in one pass, at its longest length (of those in "
      "the filter). Across: visible work over the bytes that must move at "
      "least. Lines: what this machine was measured to do with {}; on the "
      "slope its memory's bandwidth is the limit, on the level its "
      "arithmetic. Above the slope data came from caches. Setting: {}.",
      setting.threads == 1 ? "one thread"
                           : fmt::format("{} threads", setting.threads),
      setting.name);
  figure.table.html_only = true;
  figure.chart = ToJson(chart);
  figure.repeat =
      RepeatCells(model, setting, "speed", passes, entries, lengths);
  return figure;
}

}  // namespace saccade::reports
