// Noise is found where a machine tells of it, and named.
#include "bench/noise.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/cli.h"
#include "bench/doctor.h"
#include "record/record.h"
#include "tests/folder.h"

namespace saccade::bench {
namespace {

// A machine of two processors, made of files.
class FakeMachine {
 public:
  FakeMachine() {
    Set("proc/loadavg", "0.01 0.01 0.01 1/100 1\n");
    for (const char* what : {"cpu", "memory", "io"})
      Set(std::string("proc/pressure/") + what,
          "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    Set("proc/self/cgroup", "0::/box\n");
    Set("proc/vmstat", "pswpin 10\npswpout 5\n");
    Set("proc/self/stat", Own(0));
    Set("proc/stat",
        "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 100 0 0 5000 0 0 0 0 0 0\n"
        "cpu1 100 0 0 5000 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0\n");
  }
  void Set(const std::string& path, const std::string& text) {
    const auto parent = std::filesystem::path(folder_ / path).parent_path();
    std::filesystem::create_directories(parent);
    folder_.Write(path, text);
  }
  // Ticks of each of our processors, of 1000 that have passed, and of their
  // neighbour.
  static std::string Stat(int busy, int stolen, int neighbour = 0) {
    std::ostringstream out;
    out << "cpu  1 1 1 1 1 1 1 1 0 0\n";
    for (const int p : {0, 1})
      out << "cpu" << p << " " << 100 + busy << " 0 0 "
          << 5000 + 1000 - busy - stolen << " 0 0 0 " << stolen << " 0 0\n";
    out << "cpu2 " << neighbour << " 0 0 0 0 0 0 0 0 0\n";
    return out.str();
  }
  static std::string Own(int ticks) {
    return "7 (a (strange) name) R 1 1 1 0 -1 4194304 9 9 9 9 " +
           std::to_string(ticks) + " 0 0 0 20 0 1 0\n";
  }
  NoisePlace place() const { return {folder_.path(), {0, 1}}; }

 private:
  Folder folder_;
};

std::vector<std::string> NamesOf(const std::vector<Noise>& noise) {
  std::vector<std::string> names;
  for (const Noise& n : noise) {
    // The tests themselves may be built with assertions or sanitizers.
    if (n.name != "build") names.push_back(n.name);
    CHECK(!n.reason.empty());
    CHECK(!AdviceOn(n.name).empty());
  }
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE("a quiet machine has no noise, and one that tells nothing neither") {
  FakeMachine machine;
  const NoiseWatch watch(2, machine.place());
  CHECK(NamesOf(watch.AtStart()) == Names{});
  CHECK(NamesOf(watch.SinceStart()) == Names{});
  const Folder empty;
  const NoiseWatch blind(2, {empty.path(), {0, 1}});
  CHECK(NamesOf(blind.AtStart()) == Names{});
  CHECK(NamesOf(blind.SinceStart()) == Names{});
}

TEST_CASE("what disturbs before the start is named") {
  FakeMachine machine;
  const auto found = [&machine](int threads = 2) {
    return NamesOf(NoiseWatch(threads, machine.place()).AtStart());
  };
  const std::string frequency = "sys/devices/system/cpu/cpu0/cpufreq/";
  SUBCASE("load") {
    machine.Set("proc/loadavg", "1.70 0.01 0.01 1/100 1\n");
    CHECK(found() == Names{"load"});
  }
  SUBCASE("pressure") {
    for (const std::string what : {"cpu", "memory", "io"}) {
      FakeMachine other;
      other.Set("proc/pressure/" + what,
                "some avg10=17.30 avg60=0.00 avg300=0.00 total=0\n");
      const auto noise = NoiseWatch(2, other.place()).AtStart();
      REQUIRE(NamesOf(noise) == Names{what + "_pressure"});
      CHECK(noise.back().reason.find("17 %") != std::string::npos);
      CHECK(noise.back().value == doctest::Approx(0.173));
    }
  }
  SUBCASE("governor and frequency") {
    machine.Set(frequency + "scaling_governor", "powersave\n");
    machine.Set(frequency + "scaling_max_freq", "1500000\n");
    machine.Set(frequency + "cpuinfo_max_freq", "3000000\n");
    CHECK(found() == Names{"governor", "frequency_limit"});
  }
  SUBCASE("a governor that is no trouble") {
    machine.Set(frequency + "scaling_governor", "performance\n");
    CHECK(found() == Names{});
  }
  SUBCASE("too few cores") {
    CHECK(found(3) == Names{"cores"});
    CHECK(found(1) == Names{});
  }
  SUBCASE("a quota") {
    machine.Set("sys/fs/cgroup/box/cpu.max", "150000 100000\n");
    CHECK(found() == Names{"quota"});
    CHECK(found(1) == Names{});
  }
  SUBCASE("no quota") {
    machine.Set("sys/fs/cgroup/box/cpu.max", "max 100000\n");
    CHECK(found() == Names{});
  }
  SUBCASE("a quota of a group above, of the first version") {
    machine.Set("proc/self/cgroup", "3:memory:/x\n2:cpu,cpuacct:/a/b\n");
    machine.Set("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    machine.Set("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    CHECK(found() == Names{});
    machine.Set("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n");
    machine.Set("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    CHECK(found(1) == Names{"quota"});
  }
}

TEST_CASE("what disturbs during the run is named, with how much") {
  FakeMachine machine;
  machine.Set("sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
              "0,2\n");
  const std::string heat =
      "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count";
  machine.Set(heat, "4\n");
  machine.Set("sys/fs/cgroup/cpu.stat", "throttled_usec 0\n");
  const NoiseWatch watch(2, machine.place());
  const auto found = [&] { return watch.SinceStart(); };
  SUBCASE("steal") {
    machine.Set("proc/stat", machine.Stat(0, 200));
    const auto noise = found();
    REQUIRE(NamesOf(noise) == Names{"steal"});
    CHECK(noise[0].value == doctest::Approx(0.2));
    CHECK(noise[0].reason.find("20.0 %") != std::string::npos);
  }
  SUBCASE("others' load, without ours") {
    machine.Set("proc/stat", machine.Stat(500, 0));
    machine.Set("proc/self/stat", machine.Own(400));
    const auto noise = found();
    REQUIRE(NamesOf(noise) == Names{"load"});
    CHECK(noise[0].value == doctest::Approx(0.3));
    machine.Set("proc/self/stat", machine.Own(1000));
    CHECK(NamesOf(found()) == Names{});
  }
  SUBCASE("neighbours on our cores") {
    machine.Set("proc/stat", machine.Stat(0, 0, 300));
    CHECK(NamesOf(found()) == Names{"siblings"});
  }
  SUBCASE("pressure") {
    machine.Set("proc/pressure/io",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=99999999\n");
    CHECK(NamesOf(found()) == Names{"io_pressure"});
  }
  SUBCASE("heat") {
    machine.Set(heat, "5\n");
    const auto noise = found();
    REQUIRE(NamesOf(noise) == Names{"throttling"});
    CHECK(noise[0].value == 1);
  }
  SUBCASE("swap") {
    machine.Set("proc/vmstat", "pswpin 10\npswpout 45\n");
    const auto noise = found();
    REQUIRE(NamesOf(noise) == Names{"swap"});
    CHECK(noise[0].value == 40);
  }
  SUBCASE("a quota that was used up") {
    machine.Set("sys/fs/cgroup/cpu.stat", "throttled_usec 90000000\n");
    CHECK(NamesOf(found()) == Names{"quota"});
  }
}

TEST_CASE("a peak that moves is noise, one that is disturbed once is not") {
  const auto names = [](std::vector<double> samples) {
    std::vector<Noise> noise;
    AddPeakDrift(2, samples, &noise);
    return NamesOf(noise);
  };
  CHECK(names({}) == Names{});
  CHECK(names({1e11, 1e11, 1e10}) == Names{});
  std::vector<double> samples(20, 1e11);
  samples[3] = samples[12] = 1e10;
  CHECK(names(samples) == Names{});
  std::fill(samples.begin() + 10, samples.end(), 0.9e11);
  CHECK(names(samples) == Names{"peak_drift"});
}

struct Said {
  int code;
  std::string out, err;
};

Said Do(const std::vector<std::string>& arguments,
        const std::string& root = "") {
  std::ostringstream out, err;
  Host host{out, err, false, SACCADE_PROGRAM, nullptr, false};
  host.root = root;
  const int code = RunCommand(arguments, host);
  return {code, out.str(), err.str()};
}

TEST_CASE("the doctor says what it looked at, in words and as JSON") {
  const Said said = Do({"doctor", "--json"});
  CHECK(said.code == kExitOk);
  const auto all = nlohmann::json::parse(said.out, nullptr, false);
  REQUIRE(all.is_object());
  CHECK(all["cores"] == UsableCores());
  for (const char* peak : {"fma", "stream"})
    CHECK(std::any_of(all["peaks"].begin(), all["peaks"].end(),
                      [&](const auto& p) { return p["peak"] == peak; }));
  for (const auto& record : all["peaks"])
    CHECK(record::Validate(record, record::Strictness::kStrict).ok());
  for (const auto& record : all["noise"])
    CHECK(record::Validate(record, record::Strictness::kStrict).ok());
  for (const char* subject :
       {"processor", "caches", "processors", "memory", "SIMD targets", "timer",
        "huge pages", "libraries", "peers", "browser"}) {
    CAPTURE(subject);
    CHECK(std::any_of(all["findings"].begin(), all["findings"].end(),
                      [&](const auto& f) { return f["subject"] == subject; }));
  }
  const Said strict = Do({"doctor", "--strict"});
  const bool noisy = strict.out.find("warning  noise: ") != std::string::npos;
  CHECK(strict.code == (noisy ? kExitNoisy : kExitOk));
  CHECK(strict.out.find("is chosen") != std::string::npos);
}

// More threads than there are cores is noise on any machine.
TEST_CASE("a strict run does not begin in noise") {
  const Folder folder;
  std::vector<std::string> arguments = {"compare",
                                        "--measure",
                                        "speed",
                                        "--only",
                                        "linear.elu",
                                        "-n",
                                        "16",
                                        "--pass",
                                        "forward",
                                        "-d",
                                        "8",
                                        "-t",
                                        std::to_string(UsableCores() + 1),
                                        "--out",
                                        folder / "run"};
  arguments.push_back("--strict");
  const Said strict = Do(arguments);
  CHECK(strict.code == kExitNoisy);
  CHECK(strict.err.find("threads share") != std::string::npos);
  CHECK(!std::filesystem::exists(folder / "run"));

  arguments.pop_back();
  const Said lax = Do(arguments);
  CHECK_MESSAGE(lax.code == kExitOk, lax.err);
  CHECK(lax.err.find("saccade: noise: ") == 0);
  CHECK(lax.out.find("Note:\n") == 0);
  CHECK(lax.out.find("threads share") != std::string::npos);
  const auto run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  const auto& records = run->records;
  CHECK(std::any_of(records.begin(), records.end(), [](const auto& r) {
    return r.kind() == "noise" && r.Text("noise") == "cores";
  }));
}

TEST_CASE(
    "noise that comes during a strict run ends it with 4, and its record") {
  const Folder folder;
  FakeMachine machine;
  const std::string file = folder / "run/run.jsonl";
  std::atomic<bool> over = false;
  std::thread trouble([&] {
    while (!over && !std::filesystem::exists(file))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    machine.Set("proc/vmstat", "pswpin 10\npswpout 45\n");
  });
  const Said strict = Do({"compare", "--measure", "speed", "--only",
                          "linear.elu", "-n", "16", "--pass", "forward", "-d",
                          "8", "-t", "1", "--strict", "--out", folder / "run"},
                         machine.place().root);
  over = true;
  trouble.join();
  CAPTURE(strict.err);
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__)
  CHECK(strict.code == kExitNoisy);
  CHECK(strict.err.find("40 pages went to or from swap") != std::string::npos);
  CHECK(strict.out.find("40 pages") != std::string::npos);
  const auto run = record::ReadRun(file);
  REQUIRE(run.ok());
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().ok());
#else
  CHECK(strict.code == kExitNoisy);  // such a build does not begin
#endif
}

}  // namespace
}  // namespace saccade::bench
