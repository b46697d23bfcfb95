#include "bench/resume.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "bench/learn/random.h"
#include "record/file.h"
#include "record/json.h"

namespace saccade::bench {

Recorded::Recorded(record::Run run) : run_(std::move(run)) {
  for (size_t i = 0; i < run_.records.size(); ++i)
    places_[record::IdentityOf(run_.records[i].fields())] = i;
}

const record::Record* Recorded::Find(const record::Json& like) const {
  if (places_.empty()) return nullptr;
  const auto place = places_.find(record::IdentityOf(like));
  return place == places_.end() ? nullptr : &run_.records[place->second];
}

bool Recorded::Complete() const {
  return !run_.records.empty() && run_.records.back().kind() == "end" &&
         run_.records.back().ok();
}

bool NothingBegun(const std::string& folder) {
  std::error_code error;
  return std::filesystem::file_size(folder + "/run.jsonl", error) == 0 &&
         !error;
}

Status CheckSameRun(const record::Record& before, const record::Json& now) {
  // What a person can tell apart comes first: another commit is also another
  // build.
  constexpr std::pair<const char*, const char*> kSame[] = {
      {"cpu", "processor"},
      {"cores", "number of processors"},
      {"target", "SIMD target"},
      {"version", "version of the suite"},
      {"commit", "commit of the suite"},
      {"compiler", "compiler"},
      {"flags", "compiler flags"},
      {"libraries", "libraries"},
      {"build", "build of the program"},
      {"corpus", "text"},
      {"profile", "profile"},
      {"options", "settings, or text"}};
  for (const auto& [field, name] : kSame) {
    const auto there = before.fields().find(field);
    const auto here = now.find(field);
    const bool known = there != before.fields().end();
    if (known == (here != now.end()) && (!known || *there == *here)) continue;
    return Invalid(fmt::format(
        "a run goes on only as it began: the {} was {}, and is {} now", name,
        known ? record::Dump(*there) : "none",
        here != now.end() ? record::Dump(*here) : "none"));
  }
  return {};
}

std::string DigestOfFile(const std::string& path) {
  constexpr int64_t kMaxFile = int64_t{1} << 32;
  const Result<std::string> bytes = record::ReadFile(path, kMaxFile);
  if (!bytes.ok() || bytes->empty()) return "unknown";
  return fmt::format("{:016x}", Hash(*bytes));
}

}  // namespace saccade::bench
