// Outside implementations: how they ran, and how ours stands to them.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "reports/chart.h"
#include "reports/contest.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using Contests = std::vector<Contest>;

// The name alone: here all are outside implementations.
Cell NameCell(const Entry& entry) {
  Cell cell = EntryCell(entry);
  cell.small.clear();
  return cell;
}

std::vector<double> RatiosOf(const Contests& contests, int peer,
                             const std::string& pass) {
  std::vector<double> ratios;
  for (const Contest& c : contests)
    if (c.peer == peer && c.pass == pass) ratios.push_back(c.ratio());
  return ratios;
}

std::vector<std::string> PassesOf(const Contests& contests) {
  std::vector<std::string> passes;
  for (const Contest& c : contests)
    if (passes.empty() || passes.back() != c.pass) passes.push_back(c.pass);
  return passes;
}

std::set<int64_t> LengthsOf(const Contests& contests, const std::string& pass) {
  std::set<int64_t> lengths;
  for (const Contest& c : contests)
    if (c.pass == pass) lengths.insert(c.length);
  return lengths;
}

// A row each setting, a column each length: of all peers the fastest.
Table StrongestTable(const Model& model, const Contests& contests,
                     const std::string& pass) {
  Table table;
  table.caption = fmt::format("The fastest of them over ours, {} pass", pass);
  table.note =
      "Its time over ours; above 1 ours is ahead of all, and a red figure says "
      "that it is not.";
  table.columns = {{"setting", false}};
  const std::set<int64_t> lengths = LengthsOf(contests, pass);
  for (const int64_t length : lengths)
    table.columns.push_back({FormatLength(length)});
  const std::vector<std::string> labels = SettingLabels(model);
  std::map<size_t, std::map<int64_t, Cell>> cells;
  for (size_t i = 0; i < contests.size();) {
    const size_t end = EndOfCell(contests, i);
    const auto best =
        std::min_element(contests.begin() + static_cast<std::ptrdiff_t>(i),
                         contests.begin() + static_cast<std::ptrdiff_t>(end),
                         [](const Contest& a, const Contest& b) {
                           return a.ratio() < b.ratio();
                         });
    i = end;
    if (best->pass != pass) continue;
    const std::string& name = model.at(best->peer).name;
    cells[best->setting][best->length] = {
        FormatRatio(best->ratio()),
        best->tie() ? fmt::format("{}, a tie", name) : name,
        best->behind() ? "fail" : ""};
  }
  for (const auto& [setting, by_length] : cells) {
    std::vector<Cell> row = {{labels[setting]}};
    for (const int64_t length : lengths) {
      const auto it = by_length.find(length);
      row.push_back(it == by_length.end() ? Cell{"–", "", "quiet"}
                                          : it->second);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Cell RatioCell(const ByLength<Timing>& peer, int64_t length,
               const Contest* contest) {
  if (contest != nullptr)
    return {FormatRatio(contest->ratio()), contest->tie() ? "a tie" : "",
            contest->behind() ? "fail" : ""};
  const auto it = peer.find(length);
  if (it == peer.end() || it->second.outcome.ok()) return {"–", "", "quiet"};
  return GapCell(it->second.outcome);
}

// Every peer in every cell.
Table RatioTable(const Model& model, const Contests& contests) {
  const bool one = model.settings.size() == 1;
  Table table;
  table.caption = "Time of outside implementations over ours, " +
                  (one ? model.settings[0].name : "every cell");
  table.note =
      "Ours is the variant that a peer names, or else the fastest that does "
      "the same visible work, in the same rounds; above 1 it is ahead.";
  table.html_only = !one;
  table.columns = {{"outside implementation", false}, {"pass", false}};
  if (!one) table.columns.push_back({"setting", false});
  std::set<int64_t> all;
  for (const std::string& pass : PassesOf(contests))
    all.merge(LengthsOf(contests, pass));
  for (const int64_t length : all)
    table.columns.push_back({FormatLength(length)});
  std::map<std::tuple<size_t, std::string, int, int64_t>, const Contest*> at;
  for (const Contest& c : contests)
    at[{c.setting, c.pass, c.peer, c.length}] = &c;
  const std::vector<std::string> labels = SettingLabels(model);
  for (size_t i = 0; i < model.settings.size(); ++i) {
    for (const auto& [pass, cells] : model.settings[i].times) {
      for (const auto& [entry, lengths] : cells) {
        if (!model.at(entry).peer) continue;
        std::vector<Cell> row = {NameCell(model.at(entry)), {pass}};
        if (!one) row.push_back({labels[i]});
        for (const int64_t length : all) {
          const auto it = at.find({i, pass, entry, length});
          row.push_back(RatioCell(lengths, length,
                                  it == at.end() ? nullptr : it->second));
        }
        table.rows.push_back(std::move(row));
      }
    }
  }
  return table;
}

// Lines of peers over length: means over settings, and how far these spread.
Figure RatioFigure(const Model& model, const Contests& contests,
                   const std::string& pass) {
  Chart chart = {{"length n, tokens", Scale::kLength},
                 {"their time over ours", Scale::kRatio}};
  std::map<int, std::map<int64_t, std::vector<double>>> ratios;
  for (const Contest& c : contests)
    if (c.pass == pass) ratios[c.peer][c.length].push_back(c.ratio());
  Figure figure;
  figure.table.columns = {{"outside implementation", false}};
  const std::set<int64_t> all = LengthsOf(contests, pass);
  for (const int64_t length : all)
    figure.table.columns.push_back({FormatLength(length)});
  for (const auto& [peer, lengths] : ratios) {
    Series series = SeriesOf(model.at(peer));
    std::vector<Cell> row = {NameCell(model.at(peer))};
    for (const int64_t length : all) {
      const auto it = lengths.find(length);
      if (it == lengths.end()) {
        row.push_back({"–", "", "quiet"});
        continue;
      }
      const auto [low, high] =
          std::minmax_element(it->second.begin(), it->second.end());
      const double mean = GeometricMean(it->second);
      const bool many = it->second.size() > 1;
      series.points.push_back({static_cast<double>(length), mean,
                               many ? *low : kNaN, many ? *high : kNaN});
      row.push_back(
          {FormatRatio(mean),
           many ? fmt::format("{} to {}", FormatRatio(*low), FormatRatio(*high))
                : ""});
    }
    chart.series.push_back(std::move(series));
    figure.table.rows.push_back(std::move(row));
  }
  chart.guides.push_back({false, 1, "ours"});
  figure.id = "peers-" + pass;
  figure.title = fmt::format("The {} pass", pass);
  figure.table.caption = fmt::format("Their time over ours, {} pass", pass);
  figure.caption = fmt::format(
      "Above the line ours is faster.{}",
      model.settings.size() == 1
          ? ""
          : fmt::format(" Geometric means over {} settings; the tooltip has "
                        "the least and the greatest.",
                        model.settings.size()));
  figure.chart = ToJson(chart);
  return figure;
}

}  // namespace

bool HasPeers(const Model& model) {
  return std::any_of(model.entries.begin(), model.entries.end(),
                     [](const Entry& entry) { return entry.peer; });
}

Table MeanRatioTable(const Model& model, const Contests& contests) {
  Table table;
  table.caption = "Their time over ours, geometric means";
  table.note =
      "Of all cells that both were timed in; below, from the least to "
      "the greatest.";
  table.columns = {{"outside implementation", false}};
  const std::vector<std::string> passes = PassesOf(contests);
  for (const std::string& pass : passes) table.columns.push_back({pass});
  for (int peer = 0; peer < static_cast<int>(model.entries.size()); ++peer) {
    if (!model.at(peer).peer) continue;
    std::vector<Cell> row = {NameCell(model.at(peer))};
    bool any = false;
    for (const std::string& pass : passes) {
      const std::vector<double> ratios = RatiosOf(contests, peer, pass);
      if (ratios.empty()) {
        row.push_back({"–", "", "quiet"});
        continue;
      }
      any = true;
      const auto [low, high] =
          std::minmax_element(ratios.begin(), ratios.end());
      row.push_back({FormatRatio(GeometricMean(ratios)),
                     ratios.size() == 1
                         ? "1 cell"
                         : fmt::format("{} to {}, {} cells", FormatRatio(*low),
                                       FormatRatio(*high), ratios.size())});
    }
    if (any) table.rows.push_back(std::move(row));
  }
  return table;
}

Section PeerSection(const Model& model) {
  if (!HasPeers(model)) return {};
  const Contests contests = ContestsOf(model);
  Section section;
  section.id = "peers";
  section.title = "Outside implementations";
  section.lead =
      "What others offer for the same function, on the same inputs, with as "
      "many threads, in rounds interleaved with ours. Those with a process of "
      "their own tell their own time, by a monotonic clock around as many runs "
      "as a sample of ours would have; no thread is pinned, theirs or ours. "
      "Each is held against the float64 oracle before it is timed.";
  if (!contests.empty()) {
    section.tables.push_back(MeanRatioTable(model, contests));
    for (const std::string& pass : PassesOf(contests)) {
      section.figures.push_back(RatioFigure(model, contests, pass));
      if (model.settings.size() > 1)
        section.tables.push_back(StrongestTable(model, contests, pass));
    }
    section.tables.push_back(RatioTable(model, contests));
  }
  Table how;
  how.caption = "What ran";
  how.columns = {{"outside implementation", false}, {"how", false}};
  for (const Entry& entry : model.entries) {
    if (!entry.peer) continue;
    how.rows.push_back(
        {NameCell(entry),
         {entry.title.empty() ? "it did not run" : entry.title, "", "prose"}});
  }
  section.tables.push_back(std::move(how));
  return section;
}

}  // namespace saccade::reports
