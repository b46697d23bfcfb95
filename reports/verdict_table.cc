// The verdict as a table.
#include <fmt/format.h>

#include <algorithm>

#include "reports/sections.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

constexpr char kNone[] = "–";

Cell NameCell(const Model& model, const VerdictRow& row) {
  const Entry& entry = model.at(row.entry());
  Cell cell = {entry.spec, "", "code", entry.colour, entry.shape};
  if (entry.peer) cell.small = "outside implementation";
  if (row.timed >= 0 && row.trained >= 0 && row.timed != row.trained) {
    // The name is said already; what may follow it are knobs and positions.
    const std::string knobs =
        model.at(row.trained).spec.substr(entry.name.size());
    cell.small =
        knobs.empty() ? "trained without knobs" : "trained as " + knobs;
  } else if (row.timed < 0 && row.trained >= 0) {
    cell.small = "trained only";
  }
  return cell;
}

Cell CheckCell(const VerdictRow& row) {
  if (row.check.kind == Outcome::Kind::kFail) {
    return {"FAIL", row.failed, "fail"};
  }
  if (!row.checked) return {"not run", "", "quiet"};
  return {"ok",
          fmt::format("{} of {}", FormatFixed(row.worst, 1),
                      FormatFixed(row.kappa, 0)),
          "good"};
}

Cell TimeCell(const VerdictRow& row) {
  if (row.time == nullptr) return {kNone, "", "quiet"};
  if (!row.time->outcome.ok()) return GapCell(row.time->outcome);
  return {FormatTime(row.time->ns.value), "", row.fastest ? "best" : ""};
}

Cell SpeedupCell(const Verdict& verdict, const VerdictRow& row) {
  if (std::isnan(row.speedup)) return {kNone, "", "quiet"};
  if (row.timed == verdict.baseline) return {"1", "baseline", "quiet"};
  return {FormatRatio(row.speedup), row.tied_with_baseline ? "a tie" : ""};
}

Cell BytesCell(const Weight* weight, double Weight::*bytes, bool best) {
  if (weight == nullptr) return {kNone, "", "quiet"};
  if (!weight->outcome.ok()) return GapCell(weight->outcome);
  return {FormatBytes(weight->*bytes), "", best ? "best" : ""};
}

Cell BitsCell(const VerdictRow& row, const Estimate& bits, bool best) {
  if (!bits.known()) return GapCell(row.learned);
  const bool seeds = bits.bounded() && bits.count > 1;
  return {FormatFixed(bits.value, 2),
          seeds ? fmt::format("±{:.2f}", (bits.high - bits.low) / 2) : "",
          best ? "best" : ""};
}

// "time", or what it is the time of when not of a forward pass.
std::string TimeName(const Verdict& verdict) {
  if (verdict.pass == "decode") return "time a token";
  return verdict.pass == "forward" ? "time" : verdict.pass + " time";
}

std::string TimeHow(const Verdict& verdict) {
  const std::string length = FormatLength(verdict.length);
  return verdict.pass == "decode"
             ? fmt::format(
                   "Median of the raw samples of decoding one token "
                   "after {} ({}).",
                   length, verdict.setting->name)
             : fmt::format(
                   "Median of the raw samples of one {} pass over {} "
                   "tokens ({}).",
                   verdict.pass, length, verdict.setting->name);
}

void AddMemoryColumns(const Verdict& verdict, std::vector<Column>& columns) {
  const std::string weighed = FormatLength(verdict.weighed);
  // The length is said where it is not that of the times.
  const std::string at =
      verdict.weighed == verdict.length ? "" : ", n = " + weighed;
  columns.push_back(
      {"scratch" + at, true,
       fmt::format("Working memory of a {} pass over {} tokens beyond its "
                   "inputs and outputs, as its plan states it.",
                   verdict.pass, weighed)});
  columns.push_back(
      {"state" + at, true,
       fmt::format("What decoding carries from token to token after {} tokens: "
                   "keys and values, or sums of them. As the plan states it.",
                   weighed)});
}

void AddSpeedColumns(const Model& model, const Verdict& verdict,
                     std::vector<Column>& columns) {
  columns.push_back({fmt::format("{}, n = {}", TimeName(verdict),
                                 FormatLength(verdict.length)),
                     true, TimeHow(verdict)});
  columns.push_back(
      {"speed-up", true,
       fmt::format("Time of {} over this one's; a tie where their 95 % "
                   "intervals overlap.",
                   verdict.baseline < 0 ? "the baseline"
                                        : model.at(verdict.baseline).spec)});
  columns.push_back(
      {"exponent", true,
       fmt::format("{} time grows as n to this power: least squares on "
                   "logarithms over the {} longest lengths. 1 is linear, 2 "
                   "quadratic.",
                   verdict.pass == "forward"    ? "Forward"
                   : verdict.pass == "backward" ? "Backward"
                                                : "Decoding",
                   kFitPoints)});
  if (verdict.pass == "decode") {
    columns.push_back({"of bandwidth", true,
                       "Bytes that must move at least over time, as a share "
                       "of the stream bandwidth measured in the same run."});
  } else {
    columns.push_back({"of peak", true,
                       "Visible work over time, as a share of the arithmetic "
                       "peak measured in the same run."});
  }
  if (verdict.weighed > 0) AddMemoryColumns(verdict, columns);
}

void AddTextColumns(const Verdict& verdict, std::vector<Column>& columns) {
  columns.push_back(
      {fmt::format("bits/byte at {}×", verdict.near_multiple), true,
       fmt::format("Held-out text read {} the training length, "
                   "protocol {}. Lower is better. ± half the 95 % interval "
                   "over seeds, where there were several.",
                   verdict.near_multiple == 1
                       ? std::string("at")
                       : fmt::format("at {} times", verdict.near_multiple),
                   verdict.protocol)});
  columns.push_back(
      {fmt::format("at {}×", verdict.far_multiple), true,
       fmt::format("The same at {} times the training length, the model as "
                   "trained.",
                   verdict.far_multiple)});
  if (!verdict.window) return;
  columns.push_back({fmt::format("{}×, window", verdict.far_multiple), true,
                     "The same, but each query sees only as many keys as in "
                     "training."});
}

std::vector<Column> Columns(const Model& model, const Verdict& verdict) {
  std::vector<Column> columns = {
      {"variant", false},
      {"check", false,
       "Largest error seen against a float64 oracle, over all passes and "
       "instruction sets, of what the variant's budget allows; in units of "
       "roundoff times the size of what was summed."}};
  if (verdict.length > 0) AddSpeedColumns(model, verdict, columns);
  if (!verdict.protocol.empty()) AddTextColumns(verdict, columns);
  if (!verdict.probe.empty()) {
    const std::string length = FormatLength(verdict.probe_length);
    columns.push_back(
        {fmt::format("{}, {}", verdict.probe, length), true,
         fmt::format("Share of right answers in this probe over {} tokens; 1 "
                     "is perfect.",
                     length)});
  }
  columns.push_back({"in words", false});
  return columns;
}

std::vector<Cell> RowOf(const Model& model, const Verdict& verdict,
                        const VerdictRow& row) {
  std::vector<Cell> cells = {NameCell(model, row), CheckCell(row)};
  if (verdict.length > 0) {
    const bool timed = row.time != nullptr && row.time->outcome.ok();
    cells.push_back(TimeCell(row));
    cells.push_back(SpeedupCell(verdict, row));
    cells.push_back({FormatFixed(row.growth.exponent, 2)});
    const double Timing::*share = verdict.pass == "decode"
                                      ? &Timing::bandwidth_share
                                      : &Timing::peak_share;
    cells.push_back({timed ? FormatShare(row.time->*share) : kNone});
    if (verdict.weighed > 0) {
      cells.push_back(
          BytesCell(row.weight, &Weight::scratch, row.least_scratch));
      cells.push_back(BytesCell(row.decode, &Weight::state, row.least_state));
    }
  }
  if (!verdict.protocol.empty()) {
    const Estimate best = BestFar(row);
    const bool window = row.far_window.known() &&
                        best.value == row.far_window.value && row.best_text;
    cells.push_back(BitsCell(row, row.near, false));
    cells.push_back(
        BitsCell(row, row.far, row.best_text && best.value == row.far.value));
    if (verdict.window) cells.push_back(BitsCell(row, row.far_window, window));
  }
  if (!verdict.probe.empty()) {
    cells.push_back(BitsCell(row, row.recall, row.best_recall));
  }
  cells.push_back({row.words, "", "prose"});
  return cells;
}

std::string Note(const Verdict& verdict) {
  std::string note =
      "Bold: the best of a column among variants that passed their checks, and "
      "what is tied with it. Figures tie when their 95 % intervals overlap, "
      "those of plans when they are equal";
  if (!verdict.protocol.empty()) {
    note += fmt::format(", bits a byte also when within {}", kTieBits);
  }
  return note + ".";
}

}  // namespace

Table ChoiceTableOf(const Model& model, const Verdict& verdict) {
  Table table;
  table.caption = "The best by each measure";
  table.cards = true;
  const bool text = !verdict.protocol.empty(), probe = !verdict.probe.empty();
  table.columns = {{"choose by", false}, {"variant", false}};
  if (verdict.length > 0) {
    table.columns.push_back({fmt::format("{}, n = {}", TimeName(verdict),
                                         FormatLength(verdict.length))});
  }
  if (verdict.weighed > 0) {
    table.columns.push_back({"scratch"});
    table.columns.push_back({"state"});
  }
  if (text) {
    table.columns.push_back(
        {fmt::format("bits/byte at {}×", verdict.far_multiple)});
  }
  if (probe) {
    table.columns.push_back({fmt::format("{}, {}", verdict.probe,
                                         FormatLength(verdict.probe_length))});
  }
  const auto add = [&](const char* by, int place, bool VerdictRow::*mark) {
    if (place < 0) return;
    const VerdictRow& row = verdict.rows[static_cast<size_t>(place)];
    const auto ties =
        std::count_if(verdict.rows.begin(), verdict.rows.end(),
                      [&](const VerdictRow& other) { return other.*mark; });
    std::vector<Cell> cells = {{by}, NameCell(model, row)};
    if (ties > 1) {
      cells[0].small =
          fmt::format("a tie with {} other{}", ties - 1, ties == 2 ? "" : "s");
    }
    if (verdict.length > 0) cells.push_back(TimeCell(row));
    if (verdict.weighed > 0) {
      cells.push_back(
          BytesCell(row.weight, &Weight::scratch, row.least_scratch));
      cells.push_back(BytesCell(row.decode, &Weight::state, row.least_state));
    }
    if (text) {
      Cell bits = BitsCell(row, BestFar(row), row.best_text);
      const bool window =
          row.far_window.known() && !(row.far.value <= row.far_window.value);
      if (window) bits.small += bits.small.empty() ? "window" : ", window";
      cells.push_back(std::move(bits));
    }
    if (probe) cells.push_back(BitsCell(row, row.recall, row.best_recall));
    table.rows.push_back(std::move(cells));
  };
  add("time", verdict.fastest, &VerdictRow::fastest);
  add("scratch", verdict.least_scratch, &VerdictRow::least_scratch);
  add("state", verdict.least_state, &VerdictRow::least_state);
  add("text", verdict.best_text, &VerdictRow::best_text);
  add("recall", verdict.most_recall, &VerdictRow::best_recall);
  if (table.rows.size() < 2) table.rows.clear();
  return table;
}

Table VerdictTableOf(const Model& model, const Verdict& verdict) {
  Table table;
  table.caption = "The verdict";
  table.note = Note(verdict);
  table.columns = Columns(model, verdict);
  for (const VerdictRow& row : verdict.rows) {
    table.rows.push_back(RowOf(model, verdict, row));
  }
  const std::string dashes = DashNote(model, table);
  if (!dashes.empty())
    table.note += fmt::format(
        " {}: of what was asked for, see \"What is missing, and why\".",
        dashes);
  return table;
}

std::string DashNote(const Model& model, const Table& table) {
  const bool any = std::any_of(
      table.rows.begin(), table.rows.end(), [](const std::vector<Cell>& row) {
        return std::any_of(row.begin(), row.end(),
                           [](const Cell& cell) { return cell.text == kNone; });
      });
  if (!any) return "";
  const auto dropped =
      std::count_if(model.gaps.begin(), model.gaps.end(), [](const Gap& gap) {
        return gap.training && gap.outcome.kind == Outcome::Kind::kSkipped;
      });
  if (dropped == 0) return "A dash is what was not measured";
  return fmt::format("A dash is what was not measured, {} training{} among it",
                     dropped, dropped == 1 ? "" : "s");
}

std::string WithoutRows(const Model& model) {
  return model.looks.empty() ? "Nothing was measured."
                             : "Nothing was timed, weighed or trained; the "
                               "lenses are in the report.";
}

}  // namespace saccade::reports
