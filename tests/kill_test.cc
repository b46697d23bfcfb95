// A run that is killed or interrupted, whenever that is, loses nothing.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bench/host.h"
#include "record/record.h"
#include "tests/folder.h"
#include "tests/process.h"

namespace saccade::bench {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

void Sleep(double seconds) {
  std::this_thread::sleep_for(duration<double>(seconds));
}

double Since(steady_clock::time_point t) {
  return duration<double>(steady_clock::now() - t).count();
}

constexpr char kSmall[] = R"({
  "measures": ["speed", "memory", "lenses"],
  "variants": "linear.elu,softmax.flash,softmax.window",
  "shape": {"heads": 2, "dims": "8", "threads": "1"},
  "speed": {"lengths": "16,32,64", "passes": "forward,backward,decode",
            "sample_seconds": 1e-4, "cell_seconds": 2e-3},
  "memory": {"lengths": "16", "passes": "forward"},
  "lenses": ["linear.elu"]
})";

// Names of all measurements, each of which is made once.
std::vector<std::string> Measured(const std::string& file) {
  const Result<record::Run> run = record::ReadRun(file);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(run->warnings.empty());
  std::vector<std::string> all;
  for (const record::Record& r : run->records)
    if (r.kind() != "peak" && r.kind() != "noise" && r.kind() != "end")
      all.push_back(record::IdentityOf(r.fields()));
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
  REQUIRE(!run->records.empty());
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().ok());
  return all;
}

// SACCADE_KILLS=50 asks for more of them than there is time for every day.
int Kills() {
  const char* const wanted = std::getenv("SACCADE_KILLS");
  return wanted ? std::atoi(wanted) : 5;
}

TEST_CASE("kills at random moments leave the cells of an undisturbed run") {
  const int kills = Kills();
  const Folder folder;
  const std::string profile = folder.Write("small.json", kSmall);
  const auto begin = [&](const std::string& out) {
    return std::vector<std::string>{"compare", "--profile", profile, "--out",
                                    out};
  };
  const auto start = steady_clock::now();
  REQUIRE(Process(begin(folder / "whole")).Wait() == kExitOk);
  const double whole = Since(start);
  const std::string file = folder / "cut/run.jsonl";
  std::mt19937 rng(7);
  std::uniform_real_distribution<double> moment(0, 0.5 * whole);
  int hit = 0;
  for (int i = 0; i < kills; ++i) {
    std::error_code ignored;
    const bool begun =
        std::filesystem::file_size(file, ignored) > 0 && !ignored;
    Process process(
        begun ? std::vector<std::string>{"compare", "--resume", folder / "cut"}
              : begin(folder / "cut"));
    Sleep(moment(rng));
    hit += process.Running();
    process.Kill();
  }
  MESSAGE(hit, " of ", kills, " kills hit a run that was under way");
  CHECK(hit > 0);
  const bool begun = LinesOf(file) > 0;
  REQUIRE(Process(begun ? std::vector<std::string>{"compare", "--resume",
                                                   folder / "cut"}
                        : begin(folder / "cut"))
              .Wait() == kExitOk);
  CHECK(Measured(file) == Measured(folder / "whole/run.jsonl"));
}

// Long enough in each phase to be met there.
constexpr char kLong[] = R"({{
  "measures": ["{}"], "variants": "{}",
  "shape": {{"heads": 4, "dims": "64", "threads": "2"}},
  "speed": {{"lengths": "256:4k:x2", "passes": "{}", "cell_seconds": 10,
            "most_rounds": 1000, "tight": 0}},
  "memory": {{"lengths": "64:4k:+64", "passes": "forward"}},
  "probe": ["linear.elu"], "probes": ["induction"],
  "learn_settings": {{"probe_effort": 10}}
}})";

// Under way after so many records of a kind.
struct Phase {
  const char* measure;
  const char* variants;
  const char* passes;
  const char* kind;
  size_t records;
};

size_t CountOf(const std::string& path, const std::string& kind) {
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string mark = fmt::format("{{\"kind\":\"{}\"", kind);
  size_t count = 0;
  for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; ++at)
    ++count;
  return count;
}

// Seconds from the signal to the end.
double Interrupt(const Phase& phase, int signal, double after) {
  const Folder folder;
  const std::string profile = folder.Write(
      "long.json",
      fmt::format(kLong, phase.measure, phase.variants, phase.passes));
  const std::string file = folder / "out/run.jsonl";
  Process process({"compare", "--profile", profile, "--out", folder / "out",
                   "--budget", "1h"});
  while (process.Running() && CountOf(file, phase.kind) < phase.records)
    Sleep(0.01);
  Sleep(after);
  REQUIRE(process.Running());
  process.Signal(signal);
  const auto start = steady_clock::now();
  // So long only where nothing would end it.
  while (process.Running() && Since(start) < 60) Sleep(0.005);
  const double took = Since(start);
  REQUIRE(!process.Running());
  CHECK(process.Wait() == kExitInterrupted);
  const Result<record::Run> run = record::ReadRun(file);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(run->warnings.empty());
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().status() == "interrupted");
  return took;
}

TEST_CASE("Ctrl-C in any phase ends soon, with a valid record") {
  const Phase phases[] = {
      {"verify", "*", "forward,backward,decode", "verify", 1},
      {"speed", "linear.elu", "forward", "verify", 1},
      {"memory", "linear.elu", "forward", "memory", 1},
      {"lenses", "*", "forward", "lens", 1},
      {"probes", "linear.elu", "forward", "peak", 2}};
  std::mt19937 rng(11);
  std::uniform_real_distribution<double> moment(0, 0.4);
  double slowest = 0;
  for (int i = 0; i < std::max(1, Kills() / 5); ++i)
    for (const Phase& phase : phases) {
      const int signal = rng() % 2 ? SIGINT : SIGTERM;
      CAPTURE(std::string(phase.measure));
      CAPTURE(signal);
      slowest = std::max(slowest, Interrupt(phase, signal, moment(rng)));
    }
  MESSAGE("the slowest took ", slowest, " s");
}

// With the report under way nothing is left to measure: the record is whole.
TEST_CASE("an interrupt at the very end leaves a whole record") {
  const Folder folder;
  const std::string profile = folder.Write("small.json", kSmall);
  const std::string file = folder / "out/run.jsonl";
  Process process({"compare", "--profile", profile, "--out", folder / "out"});
  while (process.Running() && CountOf(file, "end") == 0) Sleep(0.001);
  process.Signal(SIGINT);
  const int code = process.Wait();
  CHECK((code == kExitOk || code == kExitInterrupted));
  const Result<record::Run> run = record::ReadRun(file);
  REQUIRE(run.ok());
  CHECK(run->records.back().ok());
  CHECK(Process({"compare", "--resume", folder / "out"}).Wait() == kExitOk);
  CHECK(std::filesystem::exists(folder / "out/report.html"));
}

}  // namespace
}  // namespace saccade::bench
