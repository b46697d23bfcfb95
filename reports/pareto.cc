// Quality against cost, and who is beaten in both.
#include <fmt/format.h>

#include <algorithm>

#include "reports/chart.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

// A variant as trained, or the same read under a test window.
struct Option {
  const VerdictRow* row = nullptr;
  bool window = false;
  Estimate cost, bits;         // less is better, in both
  const Option* by = nullptr;  // who dominates it, the best of these
};

// Whether a is no worse than b in both, and surely better in one.
bool Dominates(const Option& a, const Option& b) {
  if (a.cost.value > b.cost.value || a.bits.value > b.bits.value) return false;
  const bool cheaper = a.cost.value < b.cost.value && !Overlap(a.cost, b.cost);
  const bool better =
      b.bits.value - a.bits.value > kTieBits && !Overlap(a.bits, b.bits);
  return cheaper || better;
}

// Of all that dominate an option the one with the least bits: itself one that
// none dominates, but for ties.
void MarkDominated(std::vector<Option>& options) {
  for (Option& option : options) {
    for (const Option& other : options) {
      if (!Dominates(other, option)) continue;
      if (option.by == nullptr || other.bits.value < option.by->bits.value) {
        option.by = &other;
      }
    }
  }
}

// What a picture sets against quality.
struct Price {
  std::string id, title, column, axis, caption;
  Scale scale;
  std::string (*show)(double);
};

std::vector<Option> OptionsOf(const Verdict& verdict,
                              Estimate (*cost)(const VerdictRow&)) {
  std::vector<Option> options;
  for (const VerdictRow& row : verdict.rows) {
    const Estimate price = cost(row);
    if (!price.known() || row.check.kind == Outcome::Kind::kFail) continue;
    for (const bool window : {false, true}) {
      const Estimate& bits = window ? row.far_window : row.far;
      if (bits.known()) options.push_back({&row, window, price, bits});
    }
  }
  MarkDominated(options);
  return options;
}

std::string NameOf(const Model& model, const Option& option) {
  return model.at(option.row->timed).spec + (option.window ? ", window" : "");
}

Series SeriesFor(const Model& model, const Option& option) {
  Series series = SeriesOf(model.at(option.row->timed));
  series.layer = option.window ? "with a test window" : "plain";
  series.style = option.window ? 1 : 0;
  Point point = {option.cost.value, option.bits.value, option.bits.low,
                 option.bits.high};
  point.faded = option.by != nullptr;
  series.points.push_back(point);
  return series;
}

// From each option that none dominates to the next dearer one, by a step: no
// option that was measured lies below.
Series Frontier(const std::vector<Option>& options) {
  std::vector<const Option*> best;
  for (const Option& option : options) {
    if (option.by == nullptr) best.push_back(&option);
  }
  std::sort(best.begin(), best.end(), [](const Option* a, const Option* b) {
    return std::pair(a->cost.value, a->bits.value) <
           std::pair(b->cost.value, b->bits.value);
  });
  Series series;
  series.name = "frontier";
  series.bare = true;
  series.colour = kNoColour;
  double least = kNaN;
  for (const Option* option : best) {
    if (option->bits.value >= least) continue;  // a tie behind another
    if (!series.points.empty()) {
      series.points.push_back({option->cost.value, least});
    }
    least = option->bits.value;
    series.points.push_back({option->cost.value, least});
  }
  if (series.points.size() < 2) series.points.clear();
  return series;
}

Table TableFor(const Model& model, const std::vector<Option>& options,
               const Price& price) {
  Table table;
  table.caption = price.title;
  table.columns = {{"variant", false},
                   {"at test time", false},
                   {price.column},
                   {"bits/byte"},
                   {"dominated by", false}};
  for (const Option& option : options) {
    table.rows.push_back({EntryCell(model.at(option.row->timed)),
                          {option.window ? kWindow : kPlain},
                          {price.show(option.cost.value)},
                          {FormatFixed(option.bits.value, 2)},
                          option.by == nullptr
                              ? Cell{"none", "", "best"}
                              : Cell{NameOf(model, *option.by), "", "quiet"}});
  }
  return table;
}

// How to measure the costs again; of the quality the section on text tells.
std::string Repeat(const Model& model, const Verdict& verdict,
                   const std::vector<Option>& options) {
  std::set<int> entries;
  for (const Option& option : options) {
    entries.insert({option.row->timed, option.row->trained});
  }
  const std::string cells =
      RepeatCells(model, *verdict.setting, "speed,memory,extrapolation",
                  {verdict.pass, "decode"}, entries, {verdict.length});
  return cells + " --protocols " + Quote(verdict.protocol);
}

Figure Picture(const Model& model, const Verdict& verdict, const Price& price,
               const std::vector<Option>& options) {
  Chart chart = {
      {price.axis, price.scale},
      {fmt::format("bits a byte at {}×", verdict.far_multiple), Scale::kBits},
      false};
  for (const Option& option : options) {
    chart.series.push_back(SeriesFor(model, option));
  }
  chart.series.push_back(Frontier(options));
  Figure figure;
  figure.id = price.id;
  figure.title = price.title;
  figure.caption = fmt::format(
      "Down and to the left is better. Across: {}. Up: bits a byte of test "
      "text read at {} times the training length (protocol {}); hollow: the "
      "same model, its view cut to a window of the training length. Faded: "
      "dominated, for another is no worse in both and surely better in one; "
      "the table says which.",
      price.caption, verdict.far_multiple, verdict.protocol);
  figure.table = TableFor(model, options, price);
  figure.chart = ToJson(chart);
  figure.repeat = Repeat(model, verdict, options);
  return figure;
}

Estimate TimeOf(const VerdictRow& row) {
  return row.time != nullptr && row.time->outcome.ok() ? row.time->ns
                                                       : Estimate{};
}

Estimate StateOf(const VerdictRow& row) {
  return row.decode != nullptr && row.decode->outcome.ok()
             ? Estimate{row.decode->state}
             : Estimate{};
}

}  // namespace

std::vector<Figure> QualityAgainstCost(const Model& model,
                                       const Verdict& verdict) {
  std::vector<Figure> figures;
  const auto add = [&](const Price& price, const std::vector<Option>& options) {
    if (options.empty() || options.front().row == options.back().row) return;
    figures.push_back(Picture(model, verdict, price, options));
  };
  const std::string length = FormatLength(verdict.length);
  const std::string what = verdict.pass == "decode"
                               ? "time of decoding a token after " + length
                               : verdict.pass + " time at n = " + length;
  add({"quality-time", "Quality against time", "time", what, "median " + what,
       Scale::kTime, FormatTime},
      OptionsOf(verdict, TimeOf));
  const std::string state = fmt::format("state when decoding, after {} tokens",
                                        FormatLength(verdict.weighed));
  add({"quality-memory", "Quality against memory", "state", state, state,
       Scale::kBytes, FormatBytes},
      OptionsOf(verdict, StateOf));
  return figures;
}

}  // namespace saccade::reports
