// What a run comes to, as plain text for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "reports/contest.h"
#include "reports/report.h"
#include "reports/sections.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

constexpr size_t kMostLines = 12;  // of one list

// The first columns of a table, each of equal width.
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

std::string List(const std::string& title,
                 const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string out = "\n" + title + "\n";
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i)
    out += "  " + lines[i] + "\n";
  if (lines.size() > kMostLines)
    out += fmt::format("  and {} more, in the report\n",
                       lines.size() - kMostLines);
  return out;
}

// Where ours is not ahead, the worst first.
std::string NotAhead(const Model& model, const std::vector<Contest>& contests) {
  std::vector<const Contest*> behind;
  for (const Contest& c : contests)
    if (c.behind()) behind.push_back(&c);
  std::sort(behind.begin(), behind.end(), [](const auto* a, const auto* b) {
    return a->ratio() < b->ratio();
  });
  const std::vector<std::string> labels = SettingLabels(model);
  std::vector<std::string> lines;
  for (const Contest* c : behind)
    lines.push_back(fmt::format(
        "{} {}, n = {}, {}: {}", FormatRatio(c->ratio()), c->pass,
        FormatLength(c->length), labels[c->setting], model.at(c->peer).spec));
  return List("Their time over ours, where ours is not ahead:", lines);
}

// What was not timed for which reason, and how many cells that are.
std::string Untimed(const Model& model) {
  std::map<std::string, int> skipped;
  std::vector<std::string> lines;
  for (const Gap& gap : model.gaps) {
    const std::string reason = ReasonClass(gap.outcome);
    if (gap.outcome.kind == Outcome::Kind::kSkipped) {
      skipped[reason] += gap.cells;
      continue;
    }
    const std::string line = fmt::format(
        "{}: {}", model.at(gap.entry).spec,
        gap.outcome.kind == Outcome::Kind::kFail ? "FAIL, " + reason : reason);
    if (std::find(lines.begin(), lines.end(), line) == lines.end())
      lines.push_back(line);
  }
  for (const auto& [reason, cells] : skipped)
    lines.push_back(fmt::format("{} cell{} skipped: {}", cells,
                                cells == 1 ? "" : "s", reason));
  return List("Not measured:", lines);
}

std::string Settings(const Model& model) {
  if (model.settings.size() < 2) return "";
  return fmt::format("Of {}; {} more in the report.\n",
                     model.settings.front().name, model.settings.size() - 1);
}

}  // namespace

std::string VerdictTable(const record::Run& run) {
  const Model model = MakeModel({run});
  const Verdict verdict = MakeVerdict(model);
  if (verdict.rows.empty()) return WithoutRows(model) + "\n";
  const Table table = VerdictTableOf(model, verdict);
  // The last column is prose, too wide for a terminal.
  std::string out =
      Align(table, table.columns.size() - 1) + Settings(model) + "\n";
  for (const std::string& finding : verdict.findings) {
    out += "- " + finding + "\n";
  }
  const std::vector<Contest> contests = ContestsOf(model);
  if (!contests.empty()) {
    const Table means = MeanRatioTable(model, contests);
    out += fmt::format("\n{}:\n", means.caption) +
           Align(means, means.columns.size()) + NotAhead(model, contests);
  }
  return out + Untimed(model);
}

}  // namespace saccade::reports
