// Two programs timed in turn: what is recorded, what is refused, and how often
// the verdicts are wrong.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <random>
#include <thread>

#include "record/record.h"
#include "reports/paired.h"
#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

bool Mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> Tiny(const std::string& old_program,
                              const std::string& out) {
  return {"versus",   old_program,
          "--only",   std::string(Variants().front()->name),
          "-n",       "64",
          "-d",       "16",
          "--pass",   "forward,decode",
          "--dtype",  "f32",
          "-t",       "1",
          "--budget", "20s",
          "--out",    out};
}

record::Run RunOf(const std::string& folder) {
  Result<record::Run> run = record::ReadRun(record::RunFile(folder));
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  return std::move(*run);
}

// A script that stands for a program.
std::string Script(const Folder& folder, const std::string& text) {
  std::string path = folder.Write("program", "#!/bin/sh\n" + text + "\n");
  REQUIRE(chmod(path.c_str(), 0755) == 0);
  return path;
}

TEST_CASE("a program that is held back is slower than itself") {
  const Folder folder;
  std::vector<std::string> arguments = Tiny(SACCADE_PROGRAM, folder / "held");
  // Eleven times, whatever else runs.
  for (const char* more :
       {"--handicap", "1000%", "--fail-on", "slower>50%", "--note", "mine"})
    arguments.emplace_back(more);
  const Answer a = Saccade(arguments);
  CHECK_MESSAGE(a.code == kExitRegression, a.err);
  CHECK(Mentions(a.out, "slower"));
  CHECK(Mentions(a.out, "timed in turn"));
  const record::Run old_run = RunOf(folder / "held/old");
  const record::Run new_run = RunOf(folder / "held/new");
  CHECK(!old_run.header.Text("pair").empty());
  CHECK(old_run.header.Text("pair") == new_run.header.Text("pair"));
  CHECK(new_run.header.Text("note") ==
        "mine; every timed pass of B is held back by 1000%");
  size_t cells = 0, checks = 0;
  for (const record::Record& r : old_run.records) {
    checks += r.kind() == "verify" && r.ok();
    if (r.kind() != "speed") continue;
    ++cells;
    CHECK(r.ok());
    CHECK(r.Numbers("ns").size() >= 8);
    CHECK(r.Number("low_ns") <= r.Number("median_ns"));
    for (const record::Record& other : new_run.records)
      if (other.kind() == "speed" && other.Text("pass") == r.Text("pass")) {
        CHECK(other.Numbers("ns").size() == r.Numbers("ns").size());
        CHECK(other.Number("median_ns") > 3 * r.Number("median_ns"));
      }
  }
  CHECK(cells == 2);
  CHECK(checks > 0);
  // The same runs say the same again.
  const Answer again =
      Saccade({"diff", folder / "held/old", folder / "held/new"});
  CHECK(again.out == a.out);
}

TEST_CASE("what cannot be timed in turn is refused in a line") {
  const Folder folder;
  const auto refused = [&](const std::string& program, const char* why) {
    const Answer a = Saccade(Tiny(program, folder / "out"));
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK_MESSAGE(Mentions(a.err, why), a.err);
    CHECK(!std::filesystem::exists(folder / "out"));
  };
  refused(folder / "none", "there is no such program");
  refused(folder.path(), "there is no such program");
  refused(Script(folder, "exit 3"), "ended with code 3");
  refused(Script(folder, "echo hello; cat"), "no answer");
  refused(Script(folder, "echo '{\"cells\": 99}'; cat"), "do not understand");
  refused(
      Script(folder, "echo '{\"cells\": 1}'; echo '{\"error\": \"tired\"}'"),
      "tired");
  Answer a = Saccade({"versus", SACCADE_PROGRAM, "--handicap", "5"});
  CHECK(a.code == kExitUsage);
  CHECK(Mentions(a.err, "--handicap"));
  a = Saccade({"versus"});
  CHECK(a.code == kExitUsage);
  CHECK(Mentions(a.err, "OLD"));
}

TEST_CASE("timing in turn that is stopped leaves runs that can be read") {
  const Folder folder;
  std::vector<std::string> arguments = Tiny(SACCADE_PROGRAM, folder / "cut");
  StopFlag stop{false};
  std::thread later([&] {
    while (!std::filesystem::exists(folder / "cut/new/run.jsonl"))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop = true;
  });
  const Answer a = Saccade(arguments, &stop);
  later.join();
  CHECK(a.code == kExitInterrupted);
  for (const char* side : {"cut/old", "cut/new"}) {
    const record::Run run = RunOf(folder / side);
    REQUIRE(!run.records.empty());
    CHECK(run.records.back().kind() == "end");
    CHECK(run.records.back().status() == "interrupted");
  }
}

// Turns of a cell: where memory came to lie, and what disturbs one side.
struct Turns {
  std::mt19937_64 random{11};
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;

  reports::PairedCell Cell(int turns, double ratio) {
    std::exponential_distribution<double> tail(1 / 0.1);
    reports::PairedCell cell;
    cell.pass = "forward";
    for (int t = 0; t < turns; ++t) {
      const double both = 0.05 * normal(random);
      for (auto* side : {&cell.a, &cell.b}) {
        double log = both + 0.008 * normal(random);
        if (uniform(random) < 0.1) log += tail(random);
        side->push_back(1e6 * std::exp(log) * (side == &cell.b ? ratio : 1));
      }
    }
    return cell;
  }
};

TEST_CASE("turns tell five per cent and call equal programs equal") {
  constexpr int kCells = 200, kTables = 20;
  Turns turns;
  int wrong = 0, allowed = 0, found = 0, outside = 0;
  for (int t = 0; t < kTables; ++t) {
    std::vector<reports::PairedCell> equal, slower;
    for (int i = 0; i < kCells; ++i) {
      const int n = 8 + i % 8;
      equal.push_back(turns.Cell(n, 1));
      slower.push_back(turns.Cell(n, 1.05));
    }
    const reports::Shifts same = reports::ComparePaired(equal);
    for (const reports::TimeRatio& r : same.cells) wrong += r.p < 0.05;
    outside += !(same.all.ratio.low <= 1 && same.all.ratio.high >= 1);
    for (const reports::TimeRatio& r : reports::ComparePaired(slower).cells) {
      if (!(r.ratio.high - r.ratio.low < 0.04 * r.ratio.value)) continue;
      ++allowed;
      found += r.p < 0.05 && r.ratio.value > 1;
    }
  }
  CHECK(wrong <= kCells * kTables / 100);  // one per cent of cells at most
  CHECK(outside <= 3);                     // one in twenty is expected
  CHECK(allowed > kCells * kTables / 2);
  CHECK(found >= 0.9 * allowed);
}

TEST_CASE("few turns have no interval, and equal times a ratio of one") {
  const std::vector<double> two = {100, 110}, three = {100, 110, 120};
  CHECK(!reports::RatioOfTurns(two, two).ratio.bounded());
  const reports::TimeRatio r = reports::RatioOfTurns(three, three);
  CHECK(r.ratio.value == 1);
  CHECK(r.ratio.bounded());
  CHECK(r.p == 1);
  const std::vector<double> twice = {200, 220, 240};
  CHECK(reports::RatioOfTurns(three, twice).ratio.value == doctest::Approx(2));
  // A wild turn is left out of six.
  const std::vector<double> a = {100, 101, 99, 100, 100, 102},
                            b = {105, 106, 104, 105, 900, 107};
  CHECK(reports::RatioOfTurns(a, b).ratio.value ==
        doctest::Approx(1.05).epsilon(.01));
}

}  // namespace
}  // namespace saccade::bench
