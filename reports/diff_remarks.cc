// What differs between the runs of a diff beside their figures.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/diff_parts.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using record::Record;
using record::Run;
using Kind = DiffRemark::Kind;

// Header fields that both sides should have alike, and what differs then.
constexpr struct {
  const char* field;
  const char* words;
  Kind kind;
} kHeld[] = {{"cpu", "processors", Kind::kUnlike},
             {"cores", "numbers of cores", Kind::kUnlike},
             {"memory_bytes", "memory", Kind::kUnlike},
             {"system", "systems", Kind::kUnlike},
             {"target", "SIMD targets", Kind::kUnlike},
             {"compiler", "compilers", Kind::kUnlike},
             {"flags", "compiler flags", Kind::kUnlike},
             {"libraries", "libraries", Kind::kUnlike},
             {"threads", "threads", Kind::kUnlike},
             {"options", "settings or texts", Kind::kUnlike},
             {"version", "versions", Kind::kBuild},
             {"commit", "commits", Kind::kBuild},
             {"build", "programs", Kind::kBuild}};

// What a reader may compare by eye in place of a digest.
std::string ValueOf(const Record& header, std::string_view field) {
  const std::string from(field == "options" ? "command" : field);
  if (!header.Has(from)) return "";
  const record::Json& value = header.fields().at(from);
  if (!value.is_array())
    return Clean(value.is_string() ? value.get<std::string>() : value.dump());
  std::string list;
  for (const std::string& item : header.Texts(from))
    list += (list.empty() ? "" : ", ") + Clean(item);
  return list;
}

std::set<std::string> ValuesOf(const Runs& runs, std::string_view field) {
  std::set<std::string> values;
  for (const Run& run : runs)
    if (run.header.Has(field))
      values.insert(run.header.fields().at(std::string(field)).dump());
  return values;
}

std::string WordsOf(const Runs& runs, std::string_view field) {
  std::vector<std::string> words;
  for (const Run& run : runs) {
    std::string word = ValueOf(run.header, field);
    if (std::find(words.begin(), words.end(), word) == words.end())
      words.push_back(std::move(word));
  }
  return JoinNames(words);
}

void CompareHeaders(const Runs& a, const Runs& b, Diff* diff) {
  for (const auto& held : kHeld) {
    const std::set<std::string> in_a = ValuesOf(a, held.field),
                                in_b = ValuesOf(b, held.field);
    // A side is of one program on one machine, or its runs say nothing of it.
    for (const auto& [values, side] : {std::pair{&in_a, 'A'}, {&in_b, 'B'}})
      if (values->size() > 1)
        diff->remarks.push_back(
            {Kind::kUnlike, fmt::format("The runs of {} have different {}",
                                        side, held.words)});
    if (in_a.empty() || in_b.empty() || in_a == in_b) continue;
    diff->remarks.push_back(
        {held.kind,
         fmt::format("Different {}: A {}, B {}", held.words,
                     WordsOf(a, held.field), WordsOf(b, held.field))});
  }
}

// What a run says of itself, with the name of its side. What both say alike,
// as runs that were made at once do, is said once.
void AddOwn(const Run& run, const std::string& name, Diff* diff,
            std::set<std::string>* noise) {
  std::set<std::string> said;
  const Record* end = nullptr;
  for (const Record& record : run.records) {
    if (record.kind() == "end") end = &record;
    if (record.kind() != "noise") continue;
    const std::string reason = Clean(record.Text("reason"), 400);
    if (said.insert(reason).second && noise->insert(reason).second)
      diff->remarks.push_back(
          {Kind::kNoise, fmt::format("Noise in {}: {}", name, reason)});
  }
  const std::string note = Clean(run.header.Text("note"), 400);
  if (!note.empty())
    diff->remarks.push_back({Kind::kNote, fmt::format("{}: {}", name, note)});
  if (end == nullptr || !end->ok())
    diff->remarks.push_back(
        {Kind::kNote,
         fmt::format("{} did not come to its end{}{}", name,
                     end == nullptr ? "" : ": ",
                     end == nullptr ? "" : Clean(end->Text("reason"), 400))});
}

// "runs/old: AMD EPYC, g++ 12.2.0, commit 0123abc, 2025-01-01T12:00:00Z".
std::string InWords(const Run& run) {
  std::string words = Clean(run.path, 400) + ":";
  for (const char* field : {"cpu", "compiler", "commit", "started"}) {
    const std::string value = ValueOf(run.header, field);
    if (value.empty()) continue;
    words += words.ends_with(':') ? " " : ", ";
    words += (field == std::string_view("commit") ? "commit " : "") + value;
  }
  return words;
}

void AddSide(const Runs& runs, char side, std::vector<std::string>* words,
             Diff* diff, std::set<std::string>* noise) {
  for (size_t i = 0; i < runs.size(); ++i) {
    words->push_back(InWords(runs[i]));
    AddOwn(runs[i],
           runs.size() > 1 ? fmt::format("{}{}", side, i + 1)
                           : std::string(1, side),
           diff, noise);
  }
}

}  // namespace

bool SameMachine(const Runs& a, const Runs& b) {
  std::set<std::string> machines;
  for (const Runs* side : {&a, &b})
    for (const Run& run : *side)
      machines.insert(ValueOf(run.header, "cpu") + "\n" +
                      ValueOf(run.header, "cores"));
  return machines.size() < 2;
}

void AddRemarks(const Runs& a, const Runs& b, Diff* diff) {
  CompareHeaders(a, b, diff);
  std::set<std::string> noise;
  AddSide(a, 'A', &diff->a, diff, &noise);
  AddSide(b, 'B', &diff->b, diff, &noise);
}

}  // namespace saccade::reports
