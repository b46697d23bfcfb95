// What was learned: text beyond the training length, probes, training itself.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "reports/chart.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

// What a protocol does, in a sentence; empty when it is not known here.
std::string Explain(const std::string& protocol) {
  if (protocol == "same-target") {
    return "One fixed set of bytes, scored with ever longer contexts before "
           "it.";
  }
  if (protocol == "nonoverlap") {
    return "All bytes of separate segments of each length, their starts "
           "included.";
  }
  if (protocol == "tail") {
    return "The last training length of each segment only.";
  }
  if (protocol == "sliding") {
    return "One passage, by a view that moves on by a quarter of the training "
           "length and scores what is new to it.";
  }
  if (protocol == "position") {
    return "Bytes by how many bytes of their segment stand before them: from "
           "this mark to the next, in the shortest segments that reach so far. "
           "Those that none stands before are in the table only.";
  }
  return "";
}

// How many seeds stand behind a figure's points, at least and at most.
std::string SeedsOf(const std::map<CurveKey, Curve>& curves,
                    const std::string& what) {
  int least = 0, most = 0;
  for (const auto& [key, curve] : curves) {
    if (key.what != what) continue;
    for (const auto& [x, point] : curve.points) {
      least = least == 0 ? point.count : std::min(least, point.count);
      most = std::max(most, point.count);
    }
  }
  if (most == 0) return "";
  if (most == 1) return "One seed; bands are 95 % intervals within the run.";
  return fmt::format("{} seeds; bands are Student's 95 % interval.",
                     least == most ? fmt::format("{}", most)
                                   : fmt::format("{} to {}", least, most));
}

std::string Show(const Estimate& estimate, int digits) {
  std::string text = FormatFixed(estimate.value, digits);
  if (estimate.bounded()) {
    text += fmt::format(
        " ±{}", FormatFixed((estimate.high - estimate.low) / 2, digits));
  }
  return text;
}

// Tokens read, as multiples of the training length where that is even.
bool Multiples(const std::string& what, const Curve& curve) {
  return what != "position" && curve.train_len > 0;
}

// The lengths that models were trained at.
std::set<int64_t> TrainedAt(const std::map<CurveKey, Curve>& curves) {
  std::set<int64_t> lengths;
  for (const auto& [key, curve] : curves) {
    if (curve.train_len > 0) lengths.insert(curve.train_len);
  }
  return lengths;
}

struct Reading {
  std::string what;
  Scale x, y;
  std::string x_title, y_title;
  std::string measure, option;  // of a command: --measure and what names it
  int digits;
};

double PlaceOf(const Reading& reading, const Curve& curve, int64_t x) {
  const auto tokens = static_cast<double>(x);
  return reading.x == Scale::kMultiple
             ? tokens / static_cast<double>(curve.train_len)
             : tokens;
}

std::string HeadOf(const Reading& reading, double x) {
  if (reading.x != Scale::kMultiple) {
    return FormatLength(static_cast<int64_t>(x));
  }
  return (x == std::floor(x) ? fmt::format("{:.0f}", x) : FormatNumber(x)) +
         "×";
}

// Where `name` stands, at the end if it did not.
int PlaceIn(std::vector<std::string>& names, const std::string& name) {
  const auto at = std::find(names.begin(), names.end(), name);
  const auto place = static_cast<int>(at - names.begin());
  if (at == names.end()) names.push_back(name);
  return place;
}

Figure CurveFigure(const Model& model, const std::map<CurveKey, Curve>& curves,
                   const Reading& reading, const std::string& id) {
  Chart chart = {{reading.x_title, reading.x}, {reading.y_title, reading.y}};
  Figure figure;
  std::set<double> all;
  for (const auto& [key, curve] : curves) {
    if (key.what != reading.what) continue;
    for (const auto& [x, point] : curve.points) {
      all.insert(PlaceOf(reading, curve, x));
    }
  }
  figure.table.columns = {{"variant", false}, {"at test time", false}};
  for (const double x : all)
    figure.table.columns.push_back({HeadOf(reading, x)});
  std::vector<std::string> changes = {kPlain, kWindow};  // a style each
  std::set<int> entries;
  for (const auto& [key, curve] : curves) {
    if (key.what != reading.what) continue;
    entries.insert(key.entry);
    const Entry& entry = model.at(key.entry);
    Series series = SeriesOf(entry);
    series.layer = key.change;
    series.style = PlaceIn(changes, key.change);
    std::map<double, Estimate> points;
    if (curve.outcome.ok()) {
      for (const auto& [x, point] : curve.points) {
        points[PlaceOf(reading, curve, x)] = point;
      }
    }
    std::vector<Cell> row = {EntryCell(entry), {key.change}};
    for (const double x : all) {
      const auto point = points.find(x);
      if (point == points.end()) {
        row.push_back(GapCell(curve.outcome));
        continue;
      }
      const Estimate& estimate = point->second;
      row.push_back({Show(estimate, reading.digits)});
      series.points.push_back({x, estimate.value, estimate.low, estimate.high});
    }
    figure.table.rows.push_back(std::move(row));
    chart.series.push_back(std::move(series));
    if (!std::isnan(curve.chance) && key.change != kWhole) {
      chart.guides = {{false, curve.chance, "guessing"}};
    }
  }
  if (reading.y == Scale::kBits) {
    for (const auto& [name, bits] : model.anchors) {
      chart.guides.push_back({false, bits, name});
    }
  }
  if (reading.what == "position") {
    for (const int64_t len : TrainedAt(curves)) {
      chart.guides.push_back(
          {true, static_cast<double>(len), "training length"});
    }
  }
  figure.id = id;
  figure.chart = ToJson(chart);
  figure.repeat = RepeatTraining(
      model, {"--measure", reading.measure, reading.option, reading.what},
      entries);
  return figure;
}

Table AnchorTable(const Model& model) {
  Table table;
  table.caption = "What a figure means: the same text under known models";
  table.columns = {{"model", false}, {"bits/byte"}};
  for (const auto& [name, bits] : model.anchors) {
    table.rows.push_back({{name}, {FormatFixed(bits, 2)}});
  }
  return table;
}

// Falling loss against the share of the training that is done.
Figure LossFigure(const Model& model) {
  Chart chart = {{"share of the steps", Scale::kShare},
                 {"training loss", Scale::kNats}};
  std::set<int> entries;
  for (const Training& training : model.trainings) {
    if (training.by_flops) continue;
    entries.insert(training.entry);
    Series series = SeriesOf(model.at(training.entry));
    series.layer = training.task;
    series.style = training.task == model.trainings.front().task ? 0 : 1;
    const auto count = static_cast<double>(training.loss.size());
    for (size_t i = 0; i < training.loss.size(); ++i) {
      series.points.push_back(
          {static_cast<double>(i + 1) / count, training.loss[i]});
    }
    chart.series.push_back(std::move(series));
  }
  Figure figure;
  figure.id = "loss";
  figure.title = "Loss while training";
  figure.caption =
      "Nats a token, averaged between marks. The same seed gives every variant "
      "the same data in the same order.";
  figure.chart = ToJson(chart);
  figure.repeat =
      RepeatTraining(model, {"--measure", "extrapolation,probes"}, entries);
  return figure;
}

Table TrainingTable(const Model& model) {
  Table table;
  table.caption = "Models trained";
  table.columns = {{"variant", false}, {"task", false}, {"model", false},
                   {"seed"},           {"parameters"},  {"steps"},
                   {"tokens"},         {"L"},           {"final loss"},
                   {"seconds"},        {"GFLOP/s"}};
  for (const Training& training : model.trainings) {
    table.rows.push_back(
        {EntryCell(model.at(training.entry)),
         {training.task, training.by_flops ? "matched by FLOPs" : ""},
         {training.model},
         {fmt::format("{}", training.seed)},
         {fmt::format("{}", training.params)},
         {fmt::format("{}", training.steps)},
         {fmt::format("{}", training.tokens)},
         {fmt::format("{}", training.train_len)},
         {FormatFixed(training.final_loss, 3)},
         {FormatNumber(training.seconds)},
         {FormatNumber(training.gflops)}});
  }
  return table;
}

}  // namespace

Section TextSection(const Model& model, const Verdict& verdict) {
  Section section;
  section.id = "text";
  section.title = "Text beyond the training length";
  section.lead =
      "A tiny byte-level model is trained short and read long. Level or "
      "falling is good; rising means that the method does not stand lengths it "
      "has not seen. Dashed: the same model read with a change that needs no "
      "training, such as a view cut to a window of the training length. Why "
      "curves rise: positions that turn queries and keys (rope) or are added "
      "to embeddings meet distances, or places, that no step of training had, "
      "and what attention makes of them is anybody's guess; a bias that grows "
      "with the distance (alibi) goes on as it began. Under a window no new "
      "distance occurs, so that text, whose next byte hangs on the last few "
      "hundred, reads as in training; but what stood farther back is gone, and "
      "a probe asks for just that. So choose by the need: text alone, by these "
      "curves with a window; recall of what is far back, by the probes.";
  Table switches = SwitchTable(model, verdict);
  const char* const folded =
      switches.rows.empty()
          ? ""
          : " Other changes than the window are in the legend, off at first.";
  if (!switches.rows.empty()) section.summary.push_back(std::move(switches));
  Table cost = CostTable(model, verdict);
  if (!cost.rows.empty()) section.summary.push_back(std::move(cost));
  for (const std::string& protocol : model.protocols) {
    bool multiples = false;
    for (const auto& [key, curve] : model.texts) {
      multiples |= key.what == protocol && Multiples(protocol, curve);
    }
    const Reading reading = {protocol,
                             multiples ? Scale::kMultiple : Scale::kLength,
                             Scale::kBits,
                             multiples
                                 ? "context, multiples of the training length"
                                 : "position, tokens",
                             "bits a byte",
                             "extrapolation",
                             "--protocols",
                             3};
    Figure figure = CurveFigure(model, model.texts, reading,
                                IdOf("text", section.figures.size()));
    figure.title = fmt::format("Protocol {}", protocol);
    figure.table.caption = figure.title + ", bits a byte";
    figure.caption =
        fmt::format("{} {} Grey lines: known models of the same text.{}",
                    Explain(protocol), SeedsOf(model.texts, protocol), folded);
    section.figures.push_back(std::move(figure));
  }
  for (Table& table : std::array{DifferenceTable(model, verdict),
                                 ProtocolTable(model), AnchorTable(model)}) {
    if (!table.rows.empty()) section.tables.push_back(std::move(table));
  }
  return section;
}

Section ProbeSection(const Model& model) {
  Section section;
  section.id = "probes";
  section.title = "Probes: recall, order and counting";
  section.lead =
      "Level text is cheap for whoever forgets. A probe asks for what only the "
      "right place of the past can tell, so it punishes what a window hides or "
      "a state has lost. What theory foretells was written down before the "
      "training, from what a variant's pattern lets it see, what its state "
      "holds and how positions enter.";
  if (Table matrix = ProbeMatrix(model); !matrix.rows.empty()) {
    section.summary.push_back(std::move(matrix));
  }
  for (const std::string& probe : model.probe_names) {
    int64_t train_len = 0;
    for (const auto& [key, curve] : model.probes) {
      if (key.what == probe) train_len = std::max(train_len, curve.train_len);
    }
    const Reading reading = {
        probe,           Scale::kLength, Scale::kShare, "length, tokens",
        "right answers", "probes",       "--probes",    3};
    Figure figure = CurveFigure(model, model.probes, reading,
                                IdOf("probe", section.figures.size()));
    figure.title = fmt::format("Probe {}", probe);
    figure.table.caption = figure.title + ", share of right answers";
    figure.caption = fmt::format("Trained at {} tokens. {}", train_len,
                                 SeedsOf(model.probes, probe));
    if (const auto text = model.probe_texts.find(probe);
        text != model.probe_texts.end()) {
      figure.caption = fmt::format("{}. Expected: {}. {} Source: {}.",
                                   text->second.title, text->second.expected,
                                   figure.caption, text->second.source);
    }
    section.figures.push_back(std::move(figure));
  }
  section.tables = ProbePartTables(model);
  return section;
}

Section TrainingSection(const Model& model) {
  Section section;
  section.id = "training";
  section.title = "Training";
  section.lead =
      "What stands behind the curves above: models of nearly the same size, "
      "the "
      "same data, the same number of steps.";
  if (model.trainings.empty()) return {};
  Figure figure = LossFigure(model);
  if (figure.chart["series"].empty()) {
    section.tables.push_back(TrainingTable(model));
  } else {
    figure.table = TrainingTable(model);
    section.figures.push_back(std::move(figure));
  }
  return section;
}

}  // namespace saccade::reports
