#include "bench/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "bench/compare_records.h"
#include "bench/machine.h"
#include "bench/memory_block.h"
#include "bench/peaks.h"
#include "bench/statistics.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

constexpr int kFmaSamples = 20;
constexpr int kStreamSamples = 5;
constexpr double kLittleMemory = 0x1p31;  // bytes; less than this is a note
constexpr double kCoarseTimer = 1e-6;     // seconds
constexpr double kGoodScaling = 0.8;      // of threads times one thread's peak

std::string LineOf(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string TextOf(const Json& facts, const char* key) {
  return facts.at(key).get<std::string>();
}

std::string ListOf(const Json& facts, const char* key) {
  return fmt::format(
      "{}", fmt::join(facts.at(key).get<std::vector<std::string>>(), ", "));
}

Finding Memory(const Json& facts) {
  const auto all = facts.at("memory_bytes").get<double>();
  const auto now = static_cast<double>(AvailableMemory());
  Finding f = {"memory", Level::kOk,
               fmt::format("{:.1f} GiB, {:.1f} of them free", all * 0x1p-30,
                           now * 0x1p-30),
               ""};
  if (now < kLittleMemory) {
    f.level = Level::kNote;
    f.advice = "cells that need more than 60 % of it are skipped";
  }
  return f;
}

// Cores, and threads that share one.
Finding Cores() {
  std::set<std::string> cores;
  const std::vector<int> processors = UsableProcessors();
  for (const int p : processors)
    cores.insert(LineOf(fmt::format(
        "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", p)));
  Finding f = {"processors", Level::kOk,
               fmt::format("{} to be used", processors.size()), ""};
  if (cores.contains("")) return f;
  f.what +=
      fmt::format(", on {} core{}", cores.size(), cores.size() == 1 ? "" : "s");
  if (cores.size() < processors.size()) {
    f.level = Level::kNote;
    f.advice = fmt::format(
        "-t {} gives each thread a core; more share one's vector units",
        cores.size());
  }
  return f;
}

Finding HugePages() {
  const std::string modes =
      LineOf("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t open = modes.find('['), close = modes.find(']');
  if (open == std::string::npos || close == std::string::npos)
    return {"huge pages", Level::kNote, "the system does not tell", ""};
  const std::string mode = modes.substr(open + 1, close - open - 1);
  if (mode != "never") return {"huge pages", Level::kOk, mode, ""};
  return {"huge pages", Level::kWarning,
          "never: times depend on where small pages fall",
          "as root: echo madvise > "
          "/sys/kernel/mm/transparent_hugepage/enabled"};
}

Finding Timer() {
  using Steady = std::chrono::steady_clock;
  constexpr int kCalls = 20'000;
  double step = 1;
  const auto begin = Steady::now();
  auto last = begin;
  for (int i = 0; i < kCalls; ++i) {
    const auto now = Steady::now();
    if (now != last)
      step = std::min(step, std::chrono::duration<double>(now - last).count());
    last = now;
  }
  const double call =
      std::chrono::duration<double>(last - begin).count() / kCalls;
  const std::string source = LineOf(
      "/sys/devices/system/clocksource/clocksource0/current_clocksource");
  Finding f = {"timer", Level::kOk,
               fmt::format("steps of {:.0f} ns, {:.0f} ns a call{}", step * 1e9,
                           call * 1e9, source.empty() ? "" : ", " + source),
               ""};
  if (std::max(step, call) > kCoarseTimer) {
    f.level = Level::kWarning;
    f.advice =
        "samples of passes are longer than that, but a slow clock source "
        "(hpet, acpi_pm) is a sign of an unsteady processor clock";
  }
  return f;
}

// Samples peaks with `threads` threads, adds their records, and what the FMA
// peak did meanwhile.
Finding Peak(int threads, const StreamPeak* stream, Json* peaks,
             std::vector<Noise>* noise) {
  std::vector<double> fma, bf16, rates;
  for (int i = 0; i < kFmaSamples; ++i) {
    fma.push_back(SampleFmaPeak(threads));
    if (MultipliesBF16()) bf16.push_back(SampleFmaPeak(threads, DType::kBF16));
  }
  for (int i = 0; i < kStreamSamples && stream; ++i)
    rates.push_back(stream->Sample(threads));
  AddPeakDrift(threads, fma, noise);
  Finding f = {
      fmt::format("peaks, {} thread{}", threads, threads == 1 ? "" : "s"),
      Level::kOk, fmt::format("{:.1f} GFLOP/s f32", Median(fma) * 1e-9), ""};
  peaks->push_back(PeakRecord("fma", threads, fma));
  if (!bf16.empty()) {
    f.what += fmt::format(", {:.1f} bf16", Median(bf16) * 1e-9);
    peaks->push_back(PeakRecord("bf16", threads, bf16));
  }
  if (!rates.empty()) {
    f.what += fmt::format(", {:.1f} GB/s read", Median(rates) * 1e-9);
    peaks->push_back(PeakRecord("stream", threads, rates));
  }
  return f;
}

void AddPeaks(Examination* e) {
  const Result<StreamPeak> stream = StreamPeak::Make();
  const StreamPeak* const reads = stream.ok() ? &*stream : nullptr;
  const int all = UsableCores();
  e->peaks = Json::array();
  e->findings.push_back(Peak(1, reads, &e->peaks, &e->noise));
  if (all == 1) return;
  const double one = e->peaks[0]["gflops"];
  const size_t at = e->peaks.size();
  Finding f = Peak(all, reads, &e->peaks, &e->noise);
  const double scaling = e->peaks[at]["gflops"].get<double>() / one / all;
  f.what += fmt::format(", {:.0f} % of {} times one", 100 * scaling, all);
  if (scaling < kGoodScaling) {
    f.level = Level::kNote;
    f.advice = "processors share cores, slow down together, or others use them";
  }
  e->findings.push_back(f);
}

// The first of some programs that a shell would find; empty for none.
std::string FindProgram(const std::vector<std::string>& names) {
  const char* const path = std::getenv("PATH");
  std::istringstream in(path ? path : "");
  for (std::string folder; std::getline(in, folder, ':');)
    for (const std::string& name : names) {
      std::error_code ignored;
      if (std::filesystem::exists(folder + "/" + name, ignored))
        return folder + "/" + name;
    }
  return {};
}

void AddInstalled(const Host& host, const Json& facts,
                  std::vector<Finding>* findings) {
  findings->push_back(
      {"libraries", Level::kOk, ListOf(facts, "libraries"), ""});
  std::error_code ignored;
  if (std::filesystem::exists(host.places.python, ignored)) {
    findings->push_back(
        {"peers", Level::kOk, "installed; `saccade compare --peers all`", ""});
  } else {
    findings->push_back({"peers", Level::kNote, "only OpenBLAS",
                         "bash bench/peers/setup.sh installs the others"});
  }
  const std::string browser =
      FindProgram({"chromium", "chromium-browser", "google-chrome", "chrome"});
  if (!browser.empty()) {
    findings->push_back({"browser", Level::kOk, browser, ""});
  } else {
    findings->push_back({"browser", Level::kNote, "no Chromium here",
                         "reports need none to be made, only to be looked at"});
  }
}

}  // namespace

std::string_view NameOf(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kNote:
      return "note";
    case Level::kWarning:
      return "warning";
  }
  return "";
}

std::string_view AdviceOn(std::string_view noise) {
  constexpr std::pair<std::string_view, std::string_view> kAdvice[] = {
      {"steal", "the host is shared: measure at another hour, or elsewhere"},
      {"load", "stop other work; `top` shows it"},
      {"siblings", "stop the work there, or run with whole cores"},
      {"cpu_pressure", "stop other work, or use fewer threads (-t)"},
      {"memory_pressure", "stop what uses much memory"},
      {"io_pressure", "wait for what reads or writes much"},
      {"throttling", "cool it better, or fix a lower frequency"},
      {"frequency_limit", "plug it in; cpupower frequency-info says why"},
      {"governor", "as root: cpupower frequency-set -g performance"},
      {"quota", "allow the container more processors, or use fewer threads"},
      {"swap", "stop what uses much memory, or measure shorter lengths"},
      {"cores", "-t with no more threads than cores"},
      {"drift", "let it come to rest before the next run"},
      {"peak_drift", "stop other work; on a laptop, fix the frequency"},
      {"build", "cmake --preset release"}};
  for (const auto& [name, advice] : kAdvice)
    if (name == noise) return advice;
  return {};
}

Examination Examine(const Host& host) {
  Examination e;
  const NoiseWatch watch(UsableCores(), {host.root});
  e.noise = watch.AtStart();
  e.facts = MachineFacts();
  auto& findings = e.findings;
  findings.push_back({"processor", Level::kOk, TextOf(e.facts, "cpu"), ""});
  findings.push_back({"caches", Level::kOk, ListOf(e.facts, "caches"), ""});
  findings.push_back(Cores());
  findings.push_back(Memory(e.facts));
  findings.push_back({"system", Level::kOk, TextOf(e.facts, "system"), ""});
  findings.push_back(
      {"SIMD targets", Level::kOk,
       fmt::format("{}; {} is chosen", ListOf(e.facts, "targets"),
                   TextOf(e.facts, "target")),
       ""});
  AddPeaks(&e);
  findings.push_back(Timer());
  findings.push_back(HugePages());
  findings.push_back(
      {"build", Level::kOk,
       fmt::format("{}, commit {}, {}", TextOf(e.facts, "version"),
                   TextOf(e.facts, "commit"), TextOf(e.facts, "compiler")),
       ""});
  AddInstalled(host, e.facts, &findings);
  for (const Noise& n : watch.SinceStart())
    if (std::none_of(e.noise.begin(), e.noise.end(),
                     [&n](const Noise& o) { return o.name == n.name; }))
      e.noise.push_back(n);
  for (const Noise& n : e.noise)
    findings.push_back({"noise: " + n.name, Level::kWarning, n.reason,
                        std::string(AdviceOn(n.name))});
  if (e.noise.empty())
    findings.push_back({"noise", Level::kOk, "none was found", ""});
  return e;
}

}  // namespace saccade::bench
