// What a run comes to, as plain text for a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "reports/contest.h"
#include "reports/plain.h"
#include "reports/report.h"
#include "reports/sections.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

constexpr size_t kMostLines = 12;  // of one list

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
  std::map<std::pair<std::string, std::string>, int> skipped;
  std::vector<std::string> lines;
  for (const Gap& gap : model.gaps) {
    const std::string reason = ReasonClass(gap.outcome);
    if (gap.outcome.kind == Outcome::Kind::kSkipped) {
      skipped[{gap.training ? "training" : "cell", reason}] += gap.cells;
      continue;
    }
    const std::string line = fmt::format(
        "{}: {}", model.at(gap.entry).spec,
        gap.outcome.kind == Outcome::Kind::kFail ? "FAIL, " + reason : reason);
    if (std::find(lines.begin(), lines.end(), line) == lines.end())
      lines.push_back(line);
  }
  for (const auto& [what, count] : skipped)
    lines.push_back(fmt::format("{} {}{} skipped: {}", count, what.first,
                                count == 1 ? "" : "s", what.second));
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
  // How far to trust what follows comes before it.
  std::string notes = List("Note:", model.notes);
  if (!notes.empty()) notes = notes.substr(1) + "\n";
  if (verdict.rows.empty()) return notes + WithoutRows(model) + "\n";
  const Table table = VerdictTableOf(model, verdict);
  // The last column is prose, too wide for a terminal.
  std::string out =
      notes + AlignTable(table, table.columns.size() - 1) + Settings(model);
  const std::string untimed = Untimed(model), dashes = DashNote(model, table);
  if (!dashes.empty() && !untimed.empty())
    out += dashes + ": of what was asked for, the last lines say why.\n";
  out += "\n";
  for (const std::string& finding : verdict.findings) {
    out += "- " + finding + "\n";
  }
  const std::vector<Contest> contests = ContestsOf(model);
  if (!contests.empty()) {
    const Table means = MeanRatioTable(model, contests);
    out += fmt::format("\n{}:\n", means.caption) + AlignTable(means) +
           NotAhead(model, contests);
  }
  return out + untimed;
}

}  // namespace saccade::reports
