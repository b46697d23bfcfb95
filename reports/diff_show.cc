// A diff as text, Markdown and JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "reports/diff.h"
#include "reports/page.h"
#include "reports/plain.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using Rows = std::vector<const DiffRow*>;

constexpr char kNone[] = "–";

std::string Counted(size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// ---- figures

bool IsTime(const DiffRow& row) { return row.measure == "median_ns"; }
bool IsBytes(const DiffRow& row) { return row.measure.ends_with("_bytes"); }
bool IsRatio(const DiffRow& row) { return IsTime(row) || IsBytes(row); }

std::string FormatAmount(const DiffRow& row, double amount) {
  if (IsTime(row)) return FormatTime(amount);
  if (IsBytes(row)) return FormatBytes(amount);
  return FormatFixed(amount, 3);
}

// Ratios stand as they are, differences with their sign.
std::string FormatBy(const DiffRow& row, double by) {
  const bool sign = !IsRatio(row) && by > 0;
  return (sign ? "+" : "") + FormatFixed(by, 3);
}

std::string FormatInterval(const DiffRow& row) {
  if (!row.by.bounded()) return kNone;
  return fmt::format("{} to {}", FormatBy(row, row.by.low),
                     FormatBy(row, row.by.high));
}

// ---- cells

std::string Shown(const std::string& field, const record::Json& value) {
  if (value.is_string()) return Clean(value.get<std::string>());
  if (value.is_number_integer() && field.ends_with("_len"))
    return FormatLength(value.get<int64_t>());
  return value.is_null() ? kNone : value.dump();
}

// Fields that say nothing beside others.
bool Redundant(const std::string& field, const record::Json& cell) {
  if (field == "kind") return true;
  if (field == "cache") return cell.at(field) == "warm";  // as it usually is
  if (field == "q_len") return cell.contains("kv_len");
  const bool shape = field == "q_heads" || field == "kv_heads" ||
                     field == "qk_dim" || field == "v_dim";
  return shape && cell.contains("setting");
}

std::string HeadOf(const std::string& field) {
  return field == "kv_len" ? "n" : field;
}

// Names of cells: what they have in common, and the columns of the rest.
struct Names {
  std::string common;                // "dtype f32, mask causal"
  std::vector<std::string> columns;  // fields
};

template <class Cells>
Names NamesOf(const Cells& cells) {
  record::Json all = record::Json::object();
  for (const record::Json* cell : cells)
    for (const auto& [field, value] : cell->items())
      if (!Redundant(field, *cell)) all[field] = value;
  all = record::InTableOrder(all);
  Names names;
  for (const auto& item : all.items()) {
    const std::string& field = item.key();
    const record::Json& value = item.value();
    const bool same =
        std::all_of(cells.begin(), cells.end(), [&](const record::Json* cell) {
          return cell->contains(field) && cell->at(field) == value;
        });
    if (!same || field == "variant" || field == "pass") {
      names.columns.push_back(field);
      continue;
    }
    names.common += fmt::format("{}{} {}", names.common.empty() ? "" : ", ",
                                HeadOf(field), Shown(field, value));
  }
  return names;
}

Cell CellIn(const record::Json& cell, const std::string& field) {
  return {cell.contains(field) ? Shown(field, cell.at(field)) : kNone};
}

// ---- tables

struct Sheet {
  std::string title;
  std::string lead;
  Table table;
};

// What is said of a list: "56 times: 2 slower, 54 same".
std::string CountsOf(const std::vector<DiffRow>& rows, std::string_view what) {
  std::string counts;
  for (int c = static_cast<int>(Change::kBroken); c >= 0; --c) {
    const auto change = static_cast<Change>(c);
    const auto count =
        std::count_if(rows.begin(), rows.end(),
                      [&](const DiffRow& row) { return row.change == change; });
    if (count > 0)
      counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count,
                            NameOf(change));
  }
  return fmt::format("{}: {}", Counted(rows.size(), what), counts);
}

// The rows that are shown, in columns of what varies among them.
Sheet SheetOf(const std::vector<DiffRow>& rows, std::string_view what,
              bool all) {
  Sheet sheet;
  sheet.title = CountsOf(rows, what);
  Rows shown;
  std::vector<const record::Json*> cells;
  std::set<std::string> measures;
  bool bounded = false;
  for (const DiffRow& row : rows) {
    if (row.change == Change::kSame && !all) continue;
    shown.push_back(&row);
    cells.push_back(&row.cell);
    measures.insert(row.measure);
    bounded |= row.by.bounded();
  }
  if (shown.empty()) return sheet;
  const Names names = NamesOf(cells);
  if (!names.common.empty()) sheet.lead = "Of " + names.common + ".";
  Table& table = sheet.table;
  for (const std::string& field : names.columns)
    table.columns.push_back({HeadOf(field), field.ends_with("_len")});
  const bool checks = measures.contains("check");
  if (measures.size() > 1) table.columns.push_back({"of", false});
  if (!checks) {
    const bool ratio = IsRatio(*shown[0]);
    for (const char* head : {"A", "B", ratio ? "B / A" : "B - A"})
      table.columns.push_back({head});
    if (bounded) table.columns.push_back({"95 %"});
  }
  table.columns.push_back({"verdict", false});
  if (checks) table.columns.push_back({"reason", false});
  for (const DiffRow* row : shown) {
    std::vector<Cell> line;
    for (const std::string& field : names.columns)
      line.push_back(CellIn(row->cell, field));
    if (measures.size() > 1) line.push_back({row->measure});
    if (!checks) {
      line.push_back({FormatAmount(*row, row->a)});
      line.push_back({FormatAmount(*row, row->b)});
      line.push_back({FormatBy(*row, row->by.value)});
      if (bounded) line.push_back({FormatInterval(*row)});
    }
    line.push_back({std::string(NameOf(row->change))});
    if (checks) line.push_back({row->reason});
    table.rows.push_back(std::move(line));
  }
  return sheet;
}

Sheet MeansOf(const Diff& diff) {
  Sheet sheet;
  sheet.title = "Geometric means over cells, B / A";
  sheet.table.columns = {
      {"pass", false}, {"B / A"}, {"95 %"}, {"verdict", false}};
  for (const DiffRow& row : diff.means)
    sheet.table.rows.push_back(
        {{row.cell.contains("pass") ? Shown("pass", row.cell["pass"]) : "all"},
         {FormatBy(row, row.by.value)},
         {FormatInterval(row)},
         {std::string(NameOf(row.change))}});
  return sheet;
}

Sheet GapsOf(const Diff& diff) {
  Sheet sheet;
  sheet.title =
      fmt::format("{} in one side alone", Counted(diff.gaps.size(), "cell"));
  // Cells that one side lacks for one reason make one line.
  std::map<std::tuple<std::string, char, std::string>, size_t> counts;
  for (const DiffGap& gap : diff.gaps) {
    const auto text = [&](const char* field) {
      return gap.cell.contains(field) ? Shown(field, gap.cell[field]) : "";
    };
    const std::string variant = text("variant");
    ++counts[{text("kind") + " " + (variant.empty() ? text("peer") : variant),
              gap.side, gap.reason.substr(0, gap.reason.find(": about"))}];
  }
  sheet.table.columns = {
      {"of", false}, {"cells"}, {"not in", false}, {"reason", false}};
  for (const auto& [key, count] : counts)
    sheet.table.rows.push_back({{std::get<0>(key)},
                                {fmt::format("{}", count)},
                                {std::string(1, std::get<1>(key))},
                                {std::get<2>(key)}});
  return sheet;
}

// ---- sentences

// Percents of what is left: "0.4 %".
std::string Percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

// What intervals have in them beside samples.
void AddNoiseNotes(const Diff& diff, std::vector<std::string>* notes) {
  std::string cells;
  const RunNoise* any = nullptr;
  bool assumed = false;
  for (const auto& [pass, noise] : diff.noise) {
    cells += fmt::format("{}{} {}", cells.empty() ? "" : ", ",
                         Percent(noise.cell), Clean(pass));
    assumed |= noise.assumed;
    any = &noise;
  }
  if (any == nullptr) return;
  notes->push_back(fmt::format(
      "Between runs of one program a cell moves by (standard deviation) {}{}; "
      "intervals have that in them",
      cells, assumed ? ", assumed, for there are too few cells to tell" : ""));
  if (any->run_freedom > 0) {
    std::string runs;
    for (const auto& [pass, noise] : diff.noise)
      runs += fmt::format("{}{} {}", runs.empty() ? "" : ", ",
                          Percent(noise.run), Clean(pass));
    notes->push_back("Whole runs move by " + runs +
                     ", told from those of a side");
  } else {
    notes->push_back(
        "One run a side: what slowed all of one run alike is told from the "
        "program by the machine's peaks alone; `saccade versus` times two "
        "programs in turn and tells more");
  }
  std::string peaks;
  for (const auto& [name, ratio] : diff.peaks)
    peaks += fmt::format("{}{} {:.3f}", peaks.empty() ? "" : ", ", name, ratio);
  if (!peaks.empty())
    notes->push_back("The machine's own peaks in these runs, B / A: " + peaks);
}

std::vector<std::string> NotesOf(const Diff& diff) {
  std::vector<std::string> notes;
  AddNoiseNotes(diff, &notes);
  if (diff.in_turn)
    notes.push_back(
        "Both programs were timed in turn, started anew each time: ratios are "
        "of such turns (trimmed means, Yuen 1974)");
  if (!diff.times.empty())
    notes.push_back(fmt::format(
        "Verdicts are for all cells together (Benjamini & Hochberg 1995, p < "
        ".05); same: the interval lies within {} of 1",
        Percent(diff.same_within)));
  return notes;
}

std::vector<Sheet> SheetsOf(const Diff& diff, bool all) {
  std::vector<Sheet> sheets;
  if (!diff.checks.empty())
    sheets.push_back(SheetOf(diff.checks, "check", all));
  if (!diff.means.empty()) sheets.push_back(MeansOf(diff));
  if (!diff.times.empty()) sheets.push_back(SheetOf(diff.times, "time", all));
  if (!diff.bytes.empty()) sheets.push_back(SheetOf(diff.bytes, "size", all));
  if (!diff.readings.empty())
    sheets.push_back(SheetOf(diff.readings, "reading", all));
  if (!diff.gaps.empty()) sheets.push_back(GapsOf(diff));
  return sheets;
}

std::vector<std::string> HeadOf(const Diff& diff) {
  std::vector<std::string> head;
  const auto side = [&](const std::vector<std::string>& runs, char name) {
    for (size_t i = 0; i < runs.size(); ++i)
      head.push_back(fmt::format(
          "{}{}: {}", name, runs.size() > 1 ? fmt::format("{}", i + 1) : "",
          runs[i]));
  };
  side(diff.a, 'A');
  side(diff.b, 'B');
  for (const DiffRemark& remark : diff.remarks) head.push_back(remark.text);
  return head;
}

std::string ShowText(const Diff& diff, bool all) {
  std::string out;
  for (const std::string& line : HeadOf(diff)) out += line + "\n";
  for (const Sheet& sheet : SheetsOf(diff, all)) {
    out += "\n" + sheet.title + "\n";
    if (!sheet.lead.empty()) out += sheet.lead + "\n";
    if (!sheet.table.rows.empty()) out += "\n" + AlignTable(sheet.table);
  }
  const std::vector<std::string> notes = NotesOf(diff);
  if (!notes.empty()) out += "\n";
  for (const std::string& note : notes) out += note + ".\n";
  return out;
}

std::string ShowMarkdown(const Diff& diff, bool all) {
  std::string out;
  for (const std::string& line : HeadOf(diff))
    out += "- " + EscapeMarkdown(line) + "\n";
  for (const Sheet& sheet : SheetsOf(diff, all)) {
    out += "\n**" + EscapeMarkdown(sheet.title) + "**\n";
    if (!sheet.lead.empty()) out += "\n" + EscapeMarkdown(sheet.lead) + "\n";
    if (!sheet.table.rows.empty()) out += "\n" + MarkdownTable(sheet.table);
  }
  const std::vector<std::string> notes = NotesOf(diff);
  if (!notes.empty()) out += "\n";
  for (const std::string& note : notes)
    out += "- " + EscapeMarkdown(note) + ".\n";
  return out;
}

// ---- JSON

record::Json Number(double number) {
  return std::isfinite(number) ? record::Json(number) : record::Json();
}

record::Json JsonOf(const DiffRow& row) {
  record::Json out = {{"measure", row.measure}, {"cell", row.cell}};
  if (row.measure != "check") {
    out["a"] = Number(row.a);
    out["b"] = Number(row.b);
    out[IsRatio(row) ? "ratio" : "difference"] = Number(row.by.value);
    out["low"] = Number(row.by.low);
    out["high"] = Number(row.by.high);
    out["p"] = Number(row.p);
  }
  out["verdict"] = NameOf(row.change);
  if (!row.reason.empty()) out["reason"] = row.reason;
  return out;
}

record::Json JsonOf(const std::vector<DiffRow>& rows) {
  record::Json out = record::Json::array();
  for (const DiffRow& row : rows) out.push_back(JsonOf(row));
  return out;
}

std::string ShowJson(const Diff& diff) {
  constexpr const char* kKinds[] = {"build", "unlike", "noise", "note"};
  record::Json out = {{"a", diff.a}, {"b", diff.b}};
  out["remarks"] = record::Json::array();
  for (const DiffRemark& remark : diff.remarks)
    out["remarks"].push_back({{"kind", kKinds[static_cast<int>(remark.kind)]},
                              {"text", remark.text}});
  out["same_within"] = diff.same_within;
  out["in_turn"] = diff.in_turn;
  out["noise"] = record::Json::object();
  for (const auto& [pass, noise] : diff.noise)
    out["noise"][pass] = {{"cell", noise.cell},
                          {"run", noise.run},
                          {"evidence", noise.evidence},
                          {"assumed", noise.assumed}};
  out["peaks"] = diff.peaks;
  out["checks"] = JsonOf(diff.checks);
  out["means"] = JsonOf(diff.means);
  out["times"] = JsonOf(diff.times);
  out["bytes"] = JsonOf(diff.bytes);
  out["readings"] = JsonOf(diff.readings);
  out["gaps"] = record::Json::array();
  for (const DiffGap& gap : diff.gaps)
    out["gaps"].push_back({{"cell", gap.cell},
                           {"not_in", std::string(1, gap.side)},
                           {"reason", gap.reason}});
  return out.dump(2, ' ', false, record::Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string Describe(const DiffRow& row) {
  constexpr std::string_view kPlain[] = {"variant", "peer", "pass", "dtype",
                                         "mask"};
  std::string words;
  for (const auto& [field, value] : row.cell.items()) {
    if (Redundant(field, row.cell) || field == "setting") continue;
    const bool plain = std::find(std::begin(kPlain), std::end(kPlain), field) !=
                       std::end(kPlain);
    words += fmt::format("{}{}{}", words.empty() ? "" : ", ",
                         plain ? "" : HeadOf(field) + " ", Shown(field, value));
  }
  if (words.empty()) words = "all cells";
  if (row.measure == "check")
    return fmt::format("{}: check {}, {}", words, NameOf(row.change),
                       row.reason);
  return fmt::format("{}: {}{} {}, {}", words,
                     IsTime(row) ? "" : row.measure + " ",
                     IsRatio(row) ? "B / A" : "B - A",
                     FormatBy(row, row.by.value), NameOf(row.change));
}

std::string ShowDiff(const Diff& diff, DiffFormat format, bool all) {
  switch (format) {
    case DiffFormat::kText:
      return ShowText(diff, all);
    case DiffFormat::kMarkdown:
      return ShowMarkdown(diff, all);
    case DiffFormat::kJson:
      return ShowJson(diff);
  }
  return {};
}

}  // namespace saccade::reports
