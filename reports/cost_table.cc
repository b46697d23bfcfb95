// What a model of text cost to train, beside what it learned: the fair match by
// parameters, and the one by FLOPs.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

constexpr char kText[] = "text";  // the task

Cell BitsCell(const std::map<CurveKey, Curve>& curves, const CurveKey& key,
              int64_t multiple) {
  const auto curve = curves.find(key);
  if (curve == curves.end()) return {FormatFixed(kNaN, 3), "", "quiet"};
  if (!curve->second.outcome.ok()) return GapCell(curve->second.outcome);
  const auto point =
      curve->second.points.find(multiple * curve->second.train_len);
  if (point == curve->second.points.end())
    return {FormatFixed(kNaN, 3), "", "quiet"};
  return {FormatFixed(point->second.value, 3)};
}

double FlopsPerToken(const Training& t) {
  return t.tokens > 0 ? t.flops / static_cast<double>(t.tokens) : kNaN;
}

}  // namespace

Table CostTable(const Model& model, const Verdict& verdict) {
  // Seeds cost the same. The rows of an entry stand together.
  std::map<std::pair<int, bool>, const Training*> rows;
  for (const Training& t : model.trainings) {
    if (t.task == kText) rows.try_emplace({t.entry, t.by_flops}, &t);
  }
  Table table;
  if (rows.empty()) return table;
  const bool matched =
      std::any_of(rows.begin(), rows.end(),
                  [](const auto& row) { return row.first.second; });
  table.caption = "What training cost";
  table.note = fmt::format(
      "FLOPs a token: six for each weight of a product with a matrix, and what "
      "attention does at the training length, forward and back, by its "
      "equations. Bits a byte: protocol {}.",
      verdict.protocol);
  if (matched) {
    table.note +=
        " A second row is the same model, trained once more with the steps "
        "that make its FLOPs those of the profile's first model; nothing else "
        "in this report is about it.";
  }
  table.columns = {{"variant", false}};
  if (matched) table.columns.push_back({"matched by", false});
  for (const char* head : {"parameters", "MFLOP/token", "steps", "GFLOP"})
    table.columns.push_back({head});
  table.columns.push_back(
      {fmt::format("bits/byte at {}×", verdict.near_multiple)});
  table.columns.push_back({fmt::format("at {}×", verdict.far_multiple)});
  if (verdict.window)
    table.columns.push_back({fmt::format("{}×, window", verdict.far_multiple)});
  for (const auto& [key, t] : rows) {
    const auto& curves = key.second ? model.texts_by_flops : model.texts;
    std::vector<Cell> cells = {EntryCell(model.at(key.first))};
    if (matched) cells.push_back({key.second ? "FLOPs" : "parameters"});
    for (const std::string& text :
         {fmt::format("{}", t->params),
          FormatFixed(FlopsPerToken(*t) * 1e-6, 3), fmt::format("{}", t->steps),
          FormatNumber(t->flops * 1e-9)})
      cells.push_back({text});
    const CurveKey plain = {verdict.protocol, key.first, kPlain};
    const CurveKey window = {verdict.protocol, key.first, kWindow};
    cells.push_back(BitsCell(curves, plain, verdict.near_multiple));
    cells.push_back(BitsCell(curves, plain, verdict.far_multiple));
    if (verdict.window)
      cells.push_back(BitsCell(curves, window, verdict.far_multiple));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace saccade::reports
