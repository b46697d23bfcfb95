// What lenses saw: weights, perturbations and gradients inside each variant.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "reports/chart.h"
#include "reports/repeat.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

struct Subject {
  const char* name;
  const char* title;
  const char* note;
};
constexpr char kFresh[] = "fresh", kTrained[] = "trained";
constexpr Subject kSubjects[] = {
    {"inputs", "Attention by itself, on random queries and keys",
     "Queries and keys are N(0, 1), so that scaled scores have variance 1; 512 "
     "tokens, 8 heads of 64. Weights are what comes out where values are the "
     "identity; that this output is linear in the values is checked first."},
    {kFresh, "In a model that has learned nothing",
     "Weights of all heads on 4 sequences of 128 random bytes."},
    {kTrained, "In a model that was trained on text",
     "The same lenses on the models of the section on text; weights are read "
     "on 4 sequences of 128 bytes of the test text. Small: the same lens on "
     "the "
     "model before it was trained, its weights on random bytes."},
};

// The readings of one subject, of one lens or of all.
std::vector<const Look*> LooksAt(const Model& model, std::string_view subject,
                                 std::string_view lens = {}) {
  std::vector<const Look*> looks;
  for (const Look& look : model.looks) {
    if (look.subject == subject && (lens.empty() || look.lens == lens)) {
      looks.push_back(&look);
    }
  }
  return looks;
}

// What a lens read of an entry; null when it did not.
const Look* LookAt(const Model& model, std::string_view subject,
                   std::string_view lens, int entry) {
  for (const Look* look : LooksAt(model, subject, lens)) {
    if (look->entry == entry) return look;
  }
  return nullptr;
}

std::string Show(double value) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  // A slope or a share that is nothing but rounding.
  if (size < 5e-4) return fmt::format("{:.0e}", value);
  return FormatFixed(value, size < 10 ? 3 : 1);
}

// Readings by variant and lens; `told` are the lenses that were explained.
Table ReadingTable(const Model& model, const Subject& subject,
                   std::set<std::string>* told) {
  Table table;
  table.caption = subject.title;
  table.note = subject.note;
  table.columns = {{"variant", false}};
  std::vector<const Look*> heads;  // a reading of each lens
  std::vector<int> entries;
  for (const Look* look : LooksAt(model, subject.name)) {
    const auto same = [&](const Look* head) {
      return head->lens == look->lens;
    };
    if (look->picture.empty() && std::none_of(heads.begin(), heads.end(), same))
      heads.push_back(look);
    if (std::find(entries.begin(), entries.end(), look->entry) == entries.end())
      entries.push_back(look->entry);
  }
  std::sort(entries.begin(), entries.end());
  for (const Look* head : heads) {
    std::string how = head->how;
    if (!head->expected.empty()) how += ". Expected: " + head->expected;
    if (!told->insert(head->lens).second) how.clear();
    table.columns.push_back({head->lens, true, how});
  }
  const bool trained = subject.name == std::string_view(kTrained);
  for (const int entry : entries) {
    std::vector<Cell> row = {EntryCell(model.at(entry))};
    for (const Look* head : heads) {
      const Look* const look = LookAt(model, subject.name, head->lens, entry);
      Cell cell =
          look != nullptr ? Cell{Show(look->value())} : Cell{"–", "", "quiet"};
      const Look* const fresh =
          trained ? LookAt(model, kFresh, head->lens, entry) : nullptr;
      if (fresh != nullptr) cell.small = "fresh " + Show(fresh->value());
      row.push_back(std::move(cell));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Figure MapFigure(const Model& model, const Subject& subject,
                 const std::string& lens, const std::string& id) {
  Figure figure;
  figure.id = id;
  figure.table.columns = {{"variant", false}, {"darkest"}};
  std::vector<Map> maps;
  std::set<int> entries;
  std::string how;
  for (const Look* look : LooksAt(model, subject.name, lens)) {
    if (look->picture.empty()) continue;
    entries.insert(look->entry);
    const Entry& entry = model.at(look->entry);
    const std::string darkest = FormatNumber(look->value());
    maps.push_back(
        {entry.spec, "darkest " + darkest, look->size, look->picture});
    figure.table.rows.push_back({EntryCell(entry), {darkest}});
    how = look->how;
  }
  figure.title =
      fmt::format("{}: {}", subject.title,
                  lens == "weights" ? "who looks at whom" : "who moves whom");
  figure.caption = fmt::format(
      "Each row is a token, the first on top; each column what it draws upon, "
      "the first on the left. {}. Darker is more, by the square root; blank is "
      "exactly nothing. Blank above the diagonal: no look ahead.",
      how);
  figure.table.caption = figure.title;
  figure.chart = ToJson(maps);
  figure.repeat =
      RepeatTraining(model,
                     {"--measure", subject.name == std::string(kTrained)
                                       ? "extrapolation,lenses"
                                       : "lenses"},
                     entries);
  return figure;
}

// Distances whose gradients are averaged, half octaves: [begin, next begin).
constexpr size_t kSteps[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};

// Root mean squares of a curve from one step to the next; NaN past its end.
std::vector<double> BySteps(const std::vector<double>& curve) {
  std::vector<double> means;
  for (size_t s = 0; s + 1 < std::size(kSteps); ++s) {
    double squares = 0, count = 0;
    for (size_t k = kSteps[s]; k < std::min(kSteps[s + 1], curve.size()); ++k) {
      squares += curve[k] * curve[k];
      ++count;
    }
    means.push_back(count > 0 ? std::sqrt(squares / count) : kNaN);
  }
  return means;
}

Figure ReachFigure(const Model& model) {
  Chart chart = {{"tokens back", Scale::kLength},
                 {"|| d loss / d embedding ||", Scale::kSize}};
  Figure figure;
  figure.table.columns = {{"variant", false}, {"model", false}};
  for (size_t s = 0; s + 1 < std::size(kSteps); ++s) {
    figure.table.columns.push_back({fmt::format("{}", kSteps[s])});
  }
  std::set<int> entries;
  for (const Look& look : model.looks) {
    if (look.curve.empty()) continue;
    entries.insert(look.entry);
    const Entry& entry = model.at(look.entry);
    Series series = SeriesOf(entry);
    series.layer = look.subject;
    series.style = look.subject == kTrained ? 0 : 1;
    std::vector<Cell> row = {EntryCell(entry), {look.subject}};
    const std::vector<double> means = BySteps(look.curve);
    for (size_t s = 0; s < means.size(); ++s) {
      series.points.push_back({static_cast<double>(kSteps[s]), means[s]});
      row.push_back(
          {std::isnan(means[s]) ? "–" : fmt::format("{:.2g}", means[s])});
    }
    chart.series.push_back(std::move(series));
    figure.table.rows.push_back(std::move(row));
  }
  figure.id = "gradient-reach";
  figure.title = "How far back a loss reaches";
  figure.caption =
      "The gradient of the loss at the last token by the embedding k tokens "
      "before it: root mean square over 16 sequences of random bytes and over "
      "k up to the next mark. A recurrent net's falls exponentially; a "
      "window's is 0, and its line ends, where all layers' windows together "
      "end.";
  figure.table.caption = figure.title;
  figure.chart = ToJson(chart);
  figure.repeat =
      RepeatTraining(model, {"--measure", "extrapolation,lenses"}, entries);
  return figure;
}

}  // namespace

Section LensSection(const Model& model) {
  Section section;
  section.id = "lenses";
  section.title = "Lenses: what happens inside";
  section.lead =
      "The same looks into every variant, none of which knows its name: at its "
      "effective weights where the output is linear in the values, and for any "
      "variant at what a change of one byte moves and at how far gradients "
      "reach.";
  std::set<std::string> told;
  for (const Subject& subject : kSubjects) {
    const auto looks = LooksAt(model, subject.name);
    if (looks.empty()) continue;
    section.tables.push_back(ReadingTable(model, subject, &told));
    for (const std::string lens : {"weights", "impact"}) {
      Figure figure =
          MapFigure(model, subject, lens, IdOf("lens", section.figures.size()));
      if (!figure.table.rows.empty()) {
        section.figures.push_back(std::move(figure));
      }
    }
  }
  Figure reach = ReachFigure(model);
  if (!reach.table.rows.empty()) section.figures.push_back(std::move(reach));
  return section;
}

}  // namespace saccade::reports
