#include "bench/resume.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "bench/learn/random.h"
#include "record/file.h"
#include "record/json.h"

namespace saccade::bench {

using record::Json;

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

std::optional<HeaderDifference> DifferenceOf(
    const Json& there, const Json& here,
    std::span<const std::string_view> but) {
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
      {"shard", "shard"},
      {"options", "settings, or text"}};
  const auto told = [](const Json& header, const char* field) {
    const auto it = header.find(field);
    return it == header.end() ? std::string("none") : record::Dump(*it);
  };
  for (const auto& [field, name] : kSame) {
    const HeaderDifference d = {field, name, told(there, field),
                                told(here, field)};
    if (d.there != d.here &&
        std::find(but.begin(), but.end(), field) == but.end())
      return d;
  }
  return {};
}

Status CheckSameRun(const record::Record& before, const Json& now) {
  const std::optional<HeaderDifference> d = DifferenceOf(before.fields(), now);
  if (!d) return {};
  return Invalid(fmt::format(
      "a run goes on only as it began: the {} was {}, and is {} now", d->name,
      d->there, d->here));
}

std::string DigestOfFile(const std::string& path) {
  constexpr int64_t kMaxFile = int64_t{1} << 32;
  const Result<std::string> bytes = record::ReadFile(path, kMaxFile);
  if (!bytes.ok() || bytes->empty()) return "unknown";
  return fmt::format("{:016x}", Hash(*bytes));
}

}  // namespace saccade::bench
