// A comparison measured in parts is the same comparison.
#include "bench/merge.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "bench/learn/random.h"
#include "bench/shard.h"
#include "tests/folder.h"
#include "tests/program.h"
#include "tests/report_fixture.h"

namespace saccade::bench {
namespace {

using record::Json, record::Run;
using reports::Mentions;

TEST_CASE("every piece of work is dealt once, and to all about as much") {
  Random random(1, "deal");
  for (const int of : {1, 2, 3, 7}) {
    std::vector<double> weights;
    for (int i = 0; i < 40; ++i)
      weights.push_back(static_cast<double>(1 + random.Below(100)));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<int> times(weights.size());
    for (int index = 1; index <= of; ++index) {
      const std::vector<bool> mine = Deal(weights, {index, of});
      double share = 0;
      for (size_t i = 0; i < mine.size(); ++i)
        if (mine[i]) ++times[i], share += weights[i];
      CHECK(share == doctest::Approx(sum / of).epsilon(0.25));
    }
    CHECK(times == std::vector<int>(weights.size(), 1));
  }
  // Equal pieces too, and fewer than there are shards.
  const std::vector<double> two = {1, 1};
  CHECK(Deal(two, {1, 3}) == std::vector<bool>{true, false});
  CHECK(Deal(two, {2, 3}) == std::vector<bool>{false, true});
  CHECK(Deal(two, {3, 3}) == std::vector<bool>{false, false});
}

TEST_CASE("a shard is one of some, counted from 1") {
  for (const char* text : {"1/1", "1/2", "2/2", "1000/1000"}) {
    const Result<Shard> shard = ParseShard(text);
    REQUIRE(shard.ok());
    CHECK(shard->Name() == text);
  }
  for (const char* text : {"", "1", "/", "0/2", "3/2", "1/0", "-1/2", "1/2/3",
                           "a/b", "1/1001", "1/99999999999999999999"}) {
    CAPTURE(text);
    CHECK(!ParseShard(text).ok());
  }
}

constexpr char kProfile[] = R"({
  "measures": ["speed", "memory", "lenses", "extrapolation", "probes"],
  "variants": "linear.elu,softmax.flash",
  "shape": {"heads": 2, "dims": "8", "threads": "1"},
  "speed": {"lengths": "16,32", "passes": "forward,decode",
            "sample_seconds": 1e-4, "cell_seconds": 1e-3,
            "also": [{"variants": "linear.elu", "lengths": "48"}]},
  "memory": {"lengths": "16", "passes": "forward"},
  "learn": ["softmax.flash+rope", "linear.elu", "softmax.alibi"],
  "probe": ["linear.elu", "softmax.flash+rope"],
  "lenses": ["linear.elu", "softmax.flash"],
  "claims": {"softmax": ["softmax.flash+rope"], "linear": ["linear.elu"],
             "rope": ["softmax.flash+rope"], "alibi": ["softmax.alibi"]},
  "learn_settings": {"width": 16, "layers": 1, "heads": 2, "train_len": 16,
    "steps": 20, "tokens_per_step": 64, "multiples": [1, 4, 16],
    "test_bytes": 512, "targets": 4, "seeds": [1, 2], "probe_max_len": 1,
    "probe_effort": 0.02, "probe_tokens_per_step": 128, "probe_sequences": 2}
})";

Run Read(const std::string& path) {
  Result<Run> run = record::ReadRun(record::RunFile(path));
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(run->warnings.empty());
  return *run;
}

// Names of all that was measured, each as often as it was.
std::multiset<std::string> Measured(const Run& run) {
  std::multiset<std::string> names;
  for (const record::Record& r : run.records)
    if (r.kind() != "peak" && r.kind() != "noise" && r.kind() != "end" &&
        r.kind() != "claim")
      names.insert(record::IdentityOf(r.fields()));
  return names;
}

// Which cells were timed against each other.
std::map<std::string, std::set<std::string>> Groups(const Run& run) {
  std::map<std::string, std::set<std::string>> groups;
  for (const record::Record& r : run.records)
    if (r.kind() == "speed")
      groups[r.Text("pass") + std::to_string(r.Count("kv_len"))].insert(
          r.Text("variant"));
  return groups;
}

std::vector<std::string> Claims(const Run& run) {
  std::vector<std::string> claims;
  for (const record::Record& r : run.records)
    if (r.kind() == "claim") claims.push_back(r.fields().dump());
  return claims;
}

TEST_CASE("shards put together are one run, assertions and all") {
  const Folder folder;
  const std::string profile = folder.Write("tiny.json", kProfile);
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += "one two, three and " + std::to_string(i);
  const std::string corpus = folder.Write("text.txt", text);
  const auto compare = [&](const std::string& out,
                           const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"compare",   "--profile", profile,
                                          "--corpus",  corpus,      "--out",
                                          folder / out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Answer a = Saccade(arguments);
    REQUIRE_MESSAGE(a.code == kExitOk, a.err);
  };
  compare("whole", {});
  compare("a", {"--shard", "1/2"});
  compare("b", {"--shard=2/2"});
  const Run whole = Read(folder / "whole"), a = Read(folder / "a"),
            b = Read(folder / "b");
  CHECK(a.header.Text("shard") == "1/2");
  CHECK(Claims(a).empty());
  // Neither has it all, and no group is torn.
  for (const char* kind : {"speed", "train", "probe"})
    for (const Run* part : {&a, &b})
      CHECK(std::any_of(part->records.begin(), part->records.end(),
                        [&](const auto& r) { return r.kind() == kind; }));
  for (const Run* part : {&a, &b})
    for (const auto& [name, group] : Groups(*part))
      CHECK(group == Groups(whole)[name]);

  const Answer done =
      Saccade({"merge", folder / "b", folder / "a", "-o", folder / "merged"});
  REQUIRE_MESSAGE(done.code == kExitOk, done.err);
  CHECK(done.err.empty());
  const Run merged = Read(folder / "merged");
  CHECK(Measured(merged) == Measured(whole));
  CHECK(Claims(merged) == Claims(whole));
  CHECK(Claims(merged).size() == 15);
  CHECK(merged.records.back().ok());
  CHECK(!merged.header.Has("shard"));
  CHECK(Mentions(merged.header.Text("note"), "2 shards"));
  CHECK(!Mentions(merged.header.Text("command"), "shard"));
  CHECK(Mentions(merged.header.Text("command"), "tiny.json"));
  CHECK(Mentions(done.out, "report.html"));
}

// A shard as it might have been recorded.
Run Part(const std::string& shard, std::vector<Json> records,
         const Json& header = Json::object()) {
  Run run;
  Json fields = reports::Header();
  fields["shard"] = shard;
  fields.update(header);
  run.header = record::Record(fields);
  run.path = shard;
  records.push_back({{"kind", "end"}, {"seconds", 2}});
  for (const Json& r : records)
    run.records.emplace_back(r, std::ssize(run.records) + 2);
  return run;
}

Json Cell(int64_t length) {
  Json cell = reports::Speed("a.b", length, {1, 2, 3});
  cell["setting"] = "width 8";
  return cell;
}

void CheckRefused(const std::vector<Run>& shards, const std::string& what,
                  const MergeRules& rules = {}) {
  const Result<MergedRun> merged = MergeShards(shards, rules);
  REQUIRE_MESSAGE(!merged.ok(), what);
  CHECK_MESSAGE(Mentions(merged.status().message(), what),
                merged.status().message());
}

TEST_CASE("what does not belong together is refused, and why is said") {
  const Run one = Part("1/2", {Cell(1)}), two = Part("2/2", {Cell(2)});
  CHECK(MergeShards({one, two}, {}).ok());
  CHECK(MergeShards({two, one}, {}).ok());
  CheckRefused({one}, "shard 2/2 is missing");
  CheckRefused({one, two, two}, "is shard 2/2, and so is");
  CheckRefused({one, Part("2/3", {})}, "is one of 3 shards");
  CheckRefused({Part("", {}), two}, "is no shard");
  CheckRefused({one, Part("2/2", {Cell(1)})}, ":2: another shard has measured");
  for (const char* field : {"commit", "build", "options", "flags", "corpus"})
    CheckRefused({one, Part("2/2", {}, {{field, "another"}})}, "another");
  Run cut = two;
  cut.records.pop_back();
  CheckRefused({one, cut}, "did not come to its end");
  CheckRefused({}, "no shard");
}

TEST_CASE("a part of the shards is merged when that is wished, and says so") {
  const Run one = Part("1/3", {Cell(1)}), three = Part("3/3", {Cell(2)});
  const Result<MergedRun> merged = MergeShards({one, three}, {.partial = true});
  REQUIRE(merged.ok());
  CHECK(merged->missing == "shard 2/3 is missing");
  CHECK(merged->records.size() == 2);
  CHECK(merged->seconds == 4);
}

TEST_CASE("cells of different machines say which they are of") {
  const Run one = Part("1/2", {Cell(1)});
  const Run two = Part("2/2", {Cell(2)}, {{"cpu", "another processor"}});
  CheckRefused({one, two}, "the processor is \"a processor\" there");
  const Result<MergedRun> merged =
      MergeShards({one, two}, {.machines_differ = true});
  REQUIRE(merged.ok());
  CHECK(merged->records[0]["setting"] == "width 8, on a processor");
  CHECK(merged->records[1]["setting"] == "width 8, on another processor");
  CHECK(Mentions(merged->header["note"].get<std::string>(),
                 "different machines"));
  // Of one machine nothing is said, whatever was allowed.
  const Result<MergedRun> same =
      MergeShards({one, Part("2/2", {Cell(2)})}, {.machines_differ = true});
  REQUIRE(same.ok());
  CHECK(same->records[0]["setting"] == "width 8");
}

TEST_CASE("what failed a check in one shard has failed") {
  Json good = reports::Verify("a.b", "forward", 0);
  Json bad =
      reports::Failed(reports::Verify("a.b", "forward", 1), "fail", "no");
  for (const bool first : {true, false}) {
    const Result<MergedRun> merged = MergeShards(
        {Part("1/2", {first ? bad : good}), Part("2/2", {first ? good : bad})},
        {});
    REQUIRE(merged.ok());
    REQUIRE(merged->records.size() == 1);
    CHECK(merged->records[0]["status"] == "fail");
  }
}

TEST_CASE("merging never writes over a run") {
  const Folder folder;
  const auto write = [&](const Run& run, const std::string& name) {
    std::string text = run.header.fields().dump() + "\n";
    for (const record::Record& r : run.records)
      text += r.fields().dump() + "\n";
    return folder.Write(name, text);
  };
  const std::string one = write(Part("1/2", {Cell(1)}), "one.jsonl"),
                    two = write(Part("2/2", {Cell(2)}), "two.jsonl");
  CHECK(Saccade({"merge", one, two, "-o", folder / "out"}).code == kExitOk);
  const Answer again = Saccade({"merge", one, two, "-o", folder / "out"});
  CHECK(again.code == kExitUsage);
  CHECK(OneLine(again.err));
  CHECK(!Saccade({"merge", one, "-o", folder / "half"}).err.empty());
  CHECK(!std::filesystem::exists(folder / "half"));
  const Answer half =
      Saccade({"merge", one, "--partial", "-o", folder / "half"});
  CHECK(half.code == kExitOk);
  CHECK(Mentions(half.err, "shard 2/2 is missing"));
}

}  // namespace
}  // namespace saccade::bench
