// The verdict as a table: for the page, for pasting, and for the terminal.
#include <fmt/format.h>

#include "reports/report.h"
#include "reports/sections.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

constexpr char kNone[] = "–";

Cell NameCell(const Model& model, const VerdictRow& row) {
  const Entry& entry = model.at(row.entry());
  Cell cell = {entry.spec, "", "code", entry.colour, entry.shape};
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
  if (row.check.kind == Outcome::Kind::kFail) return {"FAIL", "", "fail"};
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

Cell BytesCell(const Weight* weight, double Weight::*bytes) {
  if (weight == nullptr) return {kNone, "", "quiet"};
  if (!weight->outcome.ok()) return GapCell(weight->outcome);
  return {FormatBytes(weight->*bytes)};
}

Cell BitsCell(const VerdictRow& row, const Estimate& bits, bool best) {
  if (!bits.known()) return GapCell(row.learned);
  const bool seeds = bits.bounded() && bits.count > 1;
  return {FormatFixed(bits.value, 2),
          seeds ? fmt::format("±{:.2f}", (bits.high - bits.low) / 2) : "",
          best ? "best" : ""};
}

std::vector<Column> Columns(const Verdict& verdict) {
  std::vector<Column> columns = {{"variant", false}, {"check", false}};
  if (verdict.length > 0) {
    columns.push_back({"time, n = " + FormatLength(verdict.length)});
    columns.push_back({"speed-up"});
    columns.push_back({"exponent"});
    columns.push_back({"of peak"});
    columns.push_back({"scratch"});
    columns.push_back({"state"});
  }
  if (!verdict.protocol.empty()) {
    columns.push_back({fmt::format("bits/byte at {}×", verdict.near_multiple)});
    columns.push_back({fmt::format("at {}×", verdict.far_multiple)});
    if (verdict.window) {
      columns.push_back({fmt::format("{}×, window", verdict.far_multiple)});
    }
  }
  if (!verdict.probe.empty()) {
    columns.push_back({fmt::format("{}, {}", verdict.probe,
                                   FormatLength(verdict.probe_length))});
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
    cells.push_back({timed ? FormatShare(row.time->peak_share) : kNone});
    cells.push_back(BytesCell(row.forward, &Weight::scratch));
    cells.push_back(BytesCell(row.decode, &Weight::state));
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

std::string Note(const Model& model, const Verdict& verdict) {
  std::string note;
  const auto add = [&](const std::string& sentence) {
    note += (note.empty() ? "" : " ") + sentence;
  };
  add("Check: the largest error seen, of the variant's budget, in units of "
      "roundoff times the size of what was summed.");
  if (verdict.length > 0) {
    add(fmt::format(
        "Time: median of a forward pass ({}). Best figures, and those tied "
        "with them, are bold; a tie is when 95 % intervals overlap.",
        model.setting()->name));
    add(
        fmt::format("The exponent is fitted on logarithms over the {} longest "
                    "lengths. State: carried from token to token when "
                    "decoding, the context full.",
                    kFitPoints));
  }
  if (!verdict.protocol.empty()) {
    add(
        fmt::format("Bits a byte of test text, protocol {}: lower is better; "
                    "differences up to {} bit are ties.",
                    verdict.protocol, kTieBits));
  }
  if (!verdict.probe.empty()) {
    add(fmt::format("{}: share of right answers at {} tokens.", verdict.probe,
                    FormatLength(verdict.probe_length)));
  }
  return note;
}

// The rows of a table in columns of equal width.
std::string Align(const Table& table, size_t columns) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns; ++c) {
    size_t width = Width(table.columns[c].text);
    for (const auto& row : table.rows) {
      width = std::max(width, Width(row[c].text));
    }
    widths.push_back(width);
  }
  const auto line = [&](const auto& text_of) {
    std::string out;
    for (size_t c = 0; c < columns; ++c) {
      const std::string text = text_of(c);
      const std::string pad(widths[c] - Width(text), ' ');
      out += c > 0 ? "  " : "";
      out += table.columns[c].number ? pad + text : text + pad;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  };
  std::string out = line([&](size_t c) { return table.columns[c].text; });
  size_t total = 2 * (columns - 1);
  for (const size_t width : widths) total += width;
  out += std::string(total, '-') + "\n";
  for (const auto& row : table.rows) {
    out += line([&](size_t c) { return row[c].text; });
  }
  return out;
}

}  // namespace

Table VerdictTableOf(const Model& model, const Verdict& verdict) {
  Table table;
  table.caption = "The verdict";
  table.note = Note(model, verdict);
  table.columns = Columns(verdict);
  for (const VerdictRow& row : verdict.rows) {
    table.rows.push_back(RowOf(model, verdict, row));
  }
  return table;
}

std::string VerdictTable(const record::Run& run) {
  const Model model = MakeModel({run});
  const Verdict verdict = MakeVerdict(model);
  if (verdict.rows.empty()) return "Nothing was measured.\n";
  const Table table = VerdictTableOf(model, verdict);
  // The last column is prose, too wide for a terminal.
  std::string out = Align(table, table.columns.size() - 1) + "\n";
  for (const std::string& finding : verdict.findings) {
    out += "- " + finding + "\n";
  }
  return out;
}

}  // namespace saccade::reports
