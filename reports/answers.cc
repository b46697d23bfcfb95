// The verdict of each pass, length and setting that a reader may choose, and
// what there is to choose by.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

// A report with more is no longer a file to send around.
constexpr size_t kMostAnswers = 60;

std::string PassName(const std::string& pass) {
  return pass == "decode" ? "decoding" : "the " + pass + " pass";
}

std::set<int64_t> LengthsOf(const ByEntry<Timing>& cells) {
  std::set<int64_t> all;
  for (const auto& [entry, lengths] : cells) {
    for (const auto& [length, timing] : lengths) {
      if (timing.outcome.ok()) all.insert(length);
    }
  }
  return all;
}

// What a verdict's figures are named and placed by.
Answer AnswerOf(const Model& model, const Verdict& verdict, size_t setting) {
  Answer answer;
  answer.place = {static_cast<int>(setting), verdict.pass, verdict.length};
  answer.choice = ChoiceTableOf(model, verdict);
  answer.verdict = VerdictTableOf(model, verdict);
  answer.pictures = QualityAgainstCost(model, verdict);
  if (verdict.length == 0) {
    answer.place = {};
    return answer;
  }
  answer.title = fmt::format("{} at n = {}", PassName(verdict.pass),
                             FormatLength(verdict.length));
  answer.title[0] = static_cast<char>(std::toupper(answer.title[0]));
  if (model.settings.size() > 1) {
    answer.title += fmt::format(" ({})", model.settings[setting].name);
  }
  return answer;
}

// In order of use: the first setting's lengths, pass by pass; then, of the
// others, the reference length, and then their other lengths.
std::vector<Focus> FociOf(const Model& model) {
  std::vector<Focus> foci, rest;
  for (size_t i = 0; i < model.settings.size(); ++i) {
    for (const char* const pass : kPasses) {
      const auto cells = model.settings[i].times.find(pass);
      if (cells == model.settings[i].times.end()) continue;
      if (i > 0) foci.push_back({i, pass, 0});
      for (const int64_t length : LengthsOf(cells->second)) {
        (i == 0 ? foci : rest).push_back({i, pass, length});
      }
    }
  }
  foci.insert(foci.end(), rest.begin(), rest.end());
  return foci;
}

// Ids are unique in a page.
void Number(Answer& answer, size_t number) {
  // What columns mean stands once, below the first.
  for (Column& column : answer.verdict.columns) column.how.clear();
  answer.verdict.note.clear();
  for (Figure& figure : answer.pictures) figure.id = IdOf(figure.id, number);
}

const char* LabelOf(const std::string& facet) {
  if (facet == "dtype") return "storage";
  return facet == "shape" ? "heads" : facet.c_str();
}

}  // namespace

void AddAnswers(const Model& model, const Verdict& verdict, Page* page) {
  page->answer = AnswerOf(model, verdict, 0);
  std::set<std::tuple<int, std::string, int64_t>> seen;
  const auto place = [](const Answer& answer) {
    return std::tuple(answer.place.setting, answer.place.pass,
                      answer.place.length);
  };
  seen.insert(place(page->answer));
  for (const Focus& focus : FociOf(model)) {
    if (page->others.size() == kMostAnswers) break;
    const Verdict other = MakeVerdict(model, focus);
    Answer answer = AnswerOf(model, other, focus.setting);
    if (answer.place.length == 0 || !seen.insert(place(answer)).second) {
      continue;
    }
    Number(answer, page->others.size() + 1);
    page->others.push_back(std::move(answer));
  }
}

void AddFilters(const Model& model, Page* page) {
  page->settings = Json::array();
  std::vector<Filter> facets;
  std::set<std::string> passes;
  std::set<int64_t> lengths;
  for (const Setting& setting : model.settings) {
    Json& json = page->settings.emplace_back(Json::object());
    for (const Facet& facet : setting.facets) {
      json[facet.name] = facet.value;
      auto filter = std::find_if(
          facets.begin(), facets.end(),
          [&](const Filter& other) { return other.name == facet.name; });
      if (filter == facets.end()) {
        filter = facets.insert(filter, {facet.name, LabelOf(facet.name), {}});
      }
      auto& values = filter->values;
      if (std::none_of(values.begin(), values.end(), [&](const auto& other) {
            return other.value == facet.value;
          })) {
        values.push_back({facet.value, facet.value});
      }
    }
    for (const auto& [pass, cells] : setting.times) {
      passes.insert(pass);
      for (const int64_t length : LengthsOf(cells)) lengths.insert(length);
    }
    for (const auto& [pass, cells] : setting.weights) passes.insert(pass);
  }
  Filter pass = {"pass", "pass", {}};
  for (const char* const name : kPasses) {
    if (passes.contains(name)) pass.values.push_back({name, name});
  }
  Filter from = {"from", "lengths from", {}}, to = {"to", "to", {}};
  for (const int64_t length : lengths) {
    from.values.push_back({fmt::format("{}", length), FormatLength(length)});
  }
  to.values = from.values;
  facets.insert(facets.begin(), std::move(pass));
  facets.push_back(std::move(from));
  facets.push_back(std::move(to));
  for (Filter& filter : facets) {
    if (filter.values.size() > 1) page->filters.push_back(std::move(filter));
  }
}

}  // namespace saccade::reports
