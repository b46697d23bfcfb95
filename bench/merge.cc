#include "bench/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "bench/resume.h"
#include "bench/shard.h"

namespace saccade::bench {
namespace {

using record::Json;
using record::Record;
using record::Run;

std::string_view Name(const Run& run) { return run.path; }

bool Finished(const Run& run) {
  return !run.records.empty() && run.records.back().kind() == "end" &&
         run.records.back().ok();
}

// The shards by their number.
Result<std::map<int, const Run*>> ByNumber(const std::vector<Run>& runs,
                                           int* of) {
  std::map<int, const Run*> shards;
  for (const Run& run : runs) {
    const Result<Shard> shard = ParseShard(run.header.Text("shard"));
    if (!shard.ok())
      return Invalid(fmt::format(
          "{}: is no shard of a comparison; compare --shard makes them",
          Name(run)));
    const auto [other, fresh] = shards.try_emplace(shard->index, &run);
    if (!fresh)
      return Invalid(fmt::format("{}: is shard {}, and so is {}", Name(run),
                                 shard->Name(), Name(*other->second)));
    if (*of != 0 && *of != shard->of)
      return Invalid(fmt::format("{}: is one of {} shards, {} is one of {}",
                                 Name(run), shard->of, Name(runs[0]), *of));
    *of = shard->of;
  }
  return shards;
}

Status CheckAlike(const std::vector<Run>& runs, const MergeRules& rules) {
  std::vector<std::string_view> but = {"shard"};
  if (rules.machines_differ)
    but.insert(but.end(), kMachineFields.begin(), kMachineFields.end());
  const Run& first = runs.front();
  for (const Run& run : runs) {
    const auto d =
        DifferenceOf(first.header.fields(), run.header.fields(), but);
    if (!d) continue;
    const bool machine = std::find(kMachineFields.begin(), kMachineFields.end(),
                                   d->field) != kMachineFields.end();
    return Invalid(fmt::format(
        "{}: does not belong to {}: the {} is {} there, and {} here{}",
        Name(run), Name(first), d->name, d->there, d->here,
        machine ? "; --machines differ merges them all the same" : ""));
  }
  return {};
}

// Why it is not the whole comparison; or empty.
std::string WhatIsMissing(const std::map<int, const Run*>& shards, int of) {
  std::string missing;
  const auto add = [&](const std::string& what) {
    missing += (missing.empty() ? "" : ", ") + what;
  };
  for (int i = 1; i <= of; ++i) {
    const auto shard = shards.find(i);
    if (shard == shards.end()) {
      add(fmt::format("shard {}/{} is missing", i, of));
    } else if (!Finished(*shard->second)) {
      add(fmt::format("shard {}/{} ({}) did not come to its end", i, of,
                      Name(*shard->second)));
    }
  }
  return missing;
}

// What every shard finds out for itself. A model at its start is seen through
// lenses both where it is trained and where its kind is looked at untrained.
bool Shared(const std::string& kind) {
  return kind == "variant" || kind == "verify" || kind == "anchor" ||
         kind == "peak" || kind == "noise" || kind == "lens";
}

std::string MachineOf(const Record& header) {
  const std::string machine = header.Text("machine");
  return machine.empty() ? header.Text("cpu") : machine;
}

// Collects records, each measurement once.
class Union {
 public:
  explicit Union(bool machines_differ) : machines_differ_(machines_differ) {}

  Status Add(const Run& run) {
    std::vector<std::pair<std::string, size_t>> added;
    for (const Record& r : run.records) {
      if (r.kind() == "end" || r.kind() == "claim") continue;
      Json fields = r.fields();
      if (machines_differ_ && r.Has("setting"))
        fields["setting"] =
            fmt::format("{}, on {}", r.Text("setting"), MachineOf(run.header));
      const std::string identity = record::IdentityOf(fields);
      const auto other = places_.find(identity);
      if (other == places_.end()) {
        added.emplace_back(identity, records_.size());
        records_.push_back(std::move(fields));
        continue;
      }
      if (!Shared(r.kind()))
        return Invalid(fmt::format("{}:{}: another shard has measured this too",
                                   Name(run), r.line()));
      Json& kept = records_[other->second];
      // A check that failed anywhere has failed; peaks are those of the last.
      if (r.kind() == "peak" || (r.kind() == "verify" && !r.ok()))
        kept = std::move(fields);
    }
    // One shard may say the same twice: peaks, and what a resumed run repeats.
    for (const auto& [identity, place] : added) places_[identity] = place;
    return {};
  }

  // In the order in which one run measures.
  std::vector<Json> Finish() && {
    std::vector<std::pair<std::pair<int, int64_t>, size_t>> order;
    for (size_t i = 0; i < records_.size(); ++i)
      order.push_back({Place(records_[i]), i});
    std::sort(order.begin(), order.end());
    std::vector<Json> sorted;
    for (const auto& [place, i] : order)
      sorted.push_back(std::move(records_[i]));
    return sorted;
  }

 private:
  static std::pair<int, int64_t> Place(const Json& record) {
    const std::string kind = record.value("kind", "");
    const bool cell = kind == "speed" || kind == "peer" || kind == "memory";
    constexpr std::string_view kPhases[] = {"variant", "noise", "peak",
                                            "verify",  "speed", "memory",
                                            "lens",    "anchor"};
    const auto* const phase =
        std::find(std::begin(kPhases), std::end(kPhases),
                  kind == "peer" ? "speed" : std::string_view(kind));
    return {static_cast<int>(phase - std::begin(kPhases)),
            cell ? record.value("kv_len", int64_t{0}) : 0};
  }

  bool machines_differ_;
  std::vector<Json> records_;
  std::unordered_map<std::string, size_t> places_;  // of shards before
};

// The different texts of a field, "a; b".
std::string Joined(const std::vector<Run>& runs,
                   std::string (*text)(const Record&)) {
  std::set<std::string> seen;
  std::string joined;
  for (const Run& run : runs)
    if (seen.insert(text(run.header)).second)
      joined += (joined.empty() ? "" : "; ") + text(run.header);
  return joined;
}

Json HeaderOf(const std::vector<Run>& runs, const MergeRules& rules) {
  Json header = runs.front().header.fields();
  header.erase("shard");
  std::string note = fmt::format("merged from {} shards", runs.size());
  for (const Run& run : runs)
    header["started"] = std::min(header["started"].get<std::string>(),
                                 run.header.Text("started"));
  const std::string machines = Joined(runs, MachineOf);
  if (rules.machines_differ && machines != MachineOf(runs.front().header)) {
    note += ", measured on different machines (" + machines +
            "): compare times and ratios within a setting only";
    header["machine"] = machines;
    header["cpu"] = Joined(runs, [](const Record& h) { return h.Text("cpu"); });
  }
  const std::string before = header.value("note", "");
  header["note"] = before.empty() ? note : before + "; " + note;
  return header;
}

}  // namespace

Result<MergedRun> MergeShards(const std::vector<Run>& runs,
                              const MergeRules& rules) {
  if (runs.empty()) return Invalid("there is no shard to merge");
  int of = 0;
  const Result<std::map<int, const Run*>> shards = ByNumber(runs, &of);
  if (!shards.ok()) return shards.status();
  Status status = CheckAlike(runs, rules);
  if (!status.ok()) return status;
  MergedRun merged;
  merged.missing = WhatIsMissing(*shards, of);
  if (!merged.missing.empty() && !rules.partial)
    return Invalid(merged.missing +
                   "; --partial merges what there is, compare --resume goes "
                   "on with a shard");
  Union all(rules.machines_differ &&
            Joined(runs, MachineOf) != MachineOf(runs.front().header));
  for (const auto& [number, run] : *shards) {
    status = all.Add(*run);
    if (!status.ok()) return status;
    const Record* const last =
        run->records.empty() ? nullptr : &run->records.back();
    if (last && last->kind() == "end" && last->Has("seconds"))
      merged.seconds += last->Number("seconds");
  }
  merged.header = HeaderOf(runs, rules);
  merged.records = std::move(all).Finish();
  return merged;
}

}  // namespace saccade::bench
