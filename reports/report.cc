#include "reports/report.h"

#include <fmt/format.h>

#include <filesystem>

#include "record/file.h"
#include "reports/render.h"
#include "reports/roster.h"
#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using record::Run;

// An ISO 8601 moment without its seconds; other texts as they are.
std::string Moment(const std::string& started) {
  if (started.size() != 20 || started[10] != 'T' || started[19] != 'Z') {
    return started;
  }
  return started.substr(0, 10) + ", " + started.substr(11, 5) + " UTC";
}

std::string Subtitle(const Model& model) {
  std::string text;
  const auto add = [&](const std::string& part) {
    if (!part.empty()) text += (text.empty() ? "" : " · ") + part;
  };
  size_t variants = 0, peers = 0;
  for (const Entry& entry : model.entries) {
    const bool first =
        &entry == &model.entries.front() || (&entry)[-1].name != entry.name;
    (entry.peer ? peers : variants) += first;
  }
  add(fmt::format("{} variant{}", variants, variants == 1 ? "" : "s"));
  if (peers > 0) {
    add(fmt::format("{} outside implementation{}", peers,
                    peers == 1 ? "" : "s"));
  }
  const record::Record& header = model.headers.front();
  add(Get(header, "cpu"));
  if (model.setting() != nullptr) add(model.setting()->name);
  if (header.Has("profile")) add(Get(header, "profile") + " profile");
  add(Get(header, "corpus"));
  add(Moment(Get(header, "started")));
  return text;
}

// Whether pooled runs are of one machine and one build.
bool Alike(const Model& model) {
  for (const record::Record& header : model.headers) {
    for (const char* field : {"cpu", "compiler", "flags", "commit"}) {
      if (Get(header, field) != Get(model.headers.front(), field)) return false;
    }
  }
  return true;
}

// Whether a pass seems faster than the machine can be.
bool AbovePeak(const Model& model) {
  constexpr double kSlack = 1.05;  // of a peak measured apart from the passes
  for (const Setting& setting : model.settings) {
    for (const auto& [pass, entries] : setting.times) {
      for (const auto& [entry, lengths] : entries) {
        for (const auto& [length, timing] : lengths) {
          if (timing.outcome.ok() && timing.peak_share > kSlack) return true;
        }
      }
    }
  }
  return false;
}

std::vector<Banner> Banners(const Model& model) {
  std::vector<Banner> banners;
  if (!model.finished) {
    banners.push_back({"This run did not come to its end",
                       model.end_reason + "; what was measured before is all "
                                          "here."});
  }
  if (!Alike(model)) {
    banners.push_back(
        {"These runs are of different machines or builds",
         "Times of one are not comparable with those of another; where several "
         "measured the same cell, the later run in the order given is shown."});
  }
  if (AbovePeak(model)) {
    banners.push_back(
        {"Some passes seem faster than this machine's peak",
         "The peak was measured while something else was using the machine; "
         "do not trust shares of it, and times only with care. Measure again "
         "when the machine is quiet."});
  }
  std::string notes;
  for (std::string note : model.notes) {
    // Remarks of several origins are made sentences.
    if (note[0] >= 'a' && note[0] <= 'z') note[0] += 'A' - 'a';
    if (!note.ends_with('.') && !note.ends_with('!')) note += '.';
    notes += (notes.empty() ? "" : " ") + note;
  }
  if (!notes.empty()) banners.push_back({"Note", notes});
  if (!model.warnings.empty()) {
    banners.push_back(
        {fmt::format("{} remark{} on reading the record", model.warnings.size(),
                     model.warnings.size() == 1 ? "" : "s"),
         model.warnings.front()});
  }
  return banners;
}

Page MakePage(const Model& model) {
  const Verdict verdict = MakeVerdict(model);
  Page page;
  page.title = "Attention variants, compared";
  page.subtitle = Subtitle(model);
  page.banners = Banners(model);
  page.findings = verdict.findings;
  AddAnswers(model, verdict, &page);
  AddFilters(model, &page);
  if (verdict.rows.empty()) page.findings = {WithoutRows(model)};
  for (Section section :
       {TimeSection(model), DecodeSection(model), PeakSection(model),
        PeerSection(model), MemorySection(model), TextSection(model, verdict),
        ProbeSection(model), LensSection(model), ClaimSection(model),
        CheckSection(model), TrainingSection(model), GapSection(model),
        MachineSection(model)}) {
    if (section.figures.empty() && section.tables.empty()) continue;
    page.sections.push_back(std::move(section));
  }
  for (const record::Record& header : model.headers) {
    page.commands.push_back(Clean(header.Text("command"), 2000));
  }
  return page;
}

}  // namespace

Status WriteReport(const std::vector<std::string>& run_files,
                   const std::string& out_dir, const std::string& note) {
  if (run_files.empty()) return Invalid("no run to report on");
  std::vector<Run> runs;
  for (const std::string& file : run_files) {
    Result<Run> run = record::ReadRun(file);
    if (!run.ok()) return run.status();
    runs.push_back(std::move(*run));
  }
  Page page = MakePage(MakeModel(runs));
  if (!note.empty()) {
    page.banners.insert(page.banners.begin(), {"Note", Clean(note, 4000)});
  }
  const Result<std::string> html = RenderHtml(page);
  if (!html.ok()) return html.status();
  const Result<std::string> markdown = RenderMarkdown(page);
  if (!markdown.ok()) return markdown.status();
  std::error_code error;
  const std::filesystem::path folder(out_dir);
  std::filesystem::create_directories(folder, error);
  if (error) {
    return IoError(fmt::format("{}: cannot make this folder: {}", out_dir,
                               error.message()));
  }
  const Status status = record::WriteFile(folder / "report.html", *html);
  return status.ok() ? record::WriteFile(folder / "report.md", *markdown)
                     : status;
}

}  // namespace saccade::reports
