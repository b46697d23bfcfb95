#include "bench/machine.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <hwy/base.h>
#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "simd/target.h"

namespace saccade::bench {
namespace {

constexpr double kMuchLoad = 0.3;    // runnable threads a core, before we start
constexpr double kMuchSteal = 0.01;  // share of time
constexpr double kMuchPressure = 5;  // per cent of time some thread waited

std::string FirstLine(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string CpuName() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown";
}

int64_t MemoryBytes() {
  std::istringstream line(FirstLine("/proc/meminfo"));
  std::string name;
  int64_t kib = 0;
  line >> name >> kib;
  return kib * 1024;
}

std::vector<std::string> Caches() {
  std::vector<std::string> caches;
  for (int i = 0; i < 8; ++i) {
    const std::string at =
        fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", i);
    const std::string level = FirstLine(at + "level");
    const std::string type = FirstLine(at + "type");
    if (level.empty() || type == "Instruction") continue;
    caches.push_back(fmt::format("L{}{} {}", level, type == "Data" ? "d" : "",
                                 FirstLine(at + "size")));
  }
  return caches;
}

std::string System() {
  std::string name;
  std::ifstream in("/etc/os-release");
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with("PRETTY_NAME=") && line.size() > 14)
      name = line.substr(13, line.size() - 14);
  utsname kernel{};
  if (uname(&kernel) == 0)
    name += fmt::format("{}{} {}", name.empty() ? "" : ", ", kernel.sysname,
                        kernel.release);
  return name;
}

std::string Compiler() {
#if defined(__clang__)
  return fmt::format("clang++ {}.{}.{}", __clang_major__, __clang_minor__,
                     __clang_patchlevel__);
#elif defined(__GNUC__)
  return fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__,
                     __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

std::vector<std::string> Libraries() {
  std::vector<std::string> libraries;
  std::istringstream in(SACCADE_LIBRARIES);
  for (std::string one; std::getline(in, one, ',');) libraries.push_back(one);
  return libraries;
}

void AddBuildNoise(std::vector<Noise>* noise) {
#if !defined(__OPTIMIZE__)
  noise->push_back({"this build is not optimised", 0});
#endif
#if !defined(NDEBUG)
  noise->push_back({"this build has assertions switched on", 0});
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  noise->push_back({"this build runs under a sanitizer", 0});
#endif
  (void)noise;
}

}  // namespace

int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

record::Json MachineFacts() {
  const std::string cpu = CpuName();
  const int cores = UsableCores();
  const int64_t memory = MemoryBytes();
  record::Json targets = record::Json::array();
  for (const std::string_view t : TargetNames()) targets.push_back(t);
  ChooseTarget();
  record::Json facts;
  facts["machine"] =
      fmt::format("{}, {} core{}, {:.0f} GiB", cpu, cores,
                  cores == 1 ? "" : "s", static_cast<double>(memory) * 0x1p-30);
  facts["cpu"] = cpu;
  facts["cores"] = cores;
  facts["memory_bytes"] = memory;
  facts["caches"] = Caches();
  facts["system"] = System();
  facts["targets"] = targets;
  facts["target"] = ChosenTarget();
  facts["compiler"] = Compiler();
  facts["flags"] = SACCADE_FLAGS;
  facts["libraries"] = Libraries();
  facts["version"] = SACCADE_VERSION;
  facts["commit"] = SACCADE_COMMIT;
  return facts;
}

std::string UtcNow() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

NoiseWatch::Ticks NoiseWatch::Read() {
  // user nice system idle iowait irq softirq steal
  std::istringstream line(FirstLine("/proc/stat"));
  std::string name;
  line >> name;
  Ticks ticks;
  double value = 0;
  for (int i = 0; i < 8 && line >> value; ++i) {
    ticks.all += value;
    if (i == 7) ticks.steal = value;
  }
  return ticks;
}

std::vector<Noise> NoiseWatch::AtStart() const {
  std::vector<Noise> noise;
  AddBuildNoise(&noise);
  double load = 0;
  std::istringstream(FirstLine("/proc/loadavg")) >> load;
  if (load > kMuchLoad * UsableCores())
    noise.push_back(
        {fmt::format("other work was running at the start: a load of {:.2f} on "
                     "{} cores over the last minute",
                     load, UsableCores()),
         load});
  const std::string pressure = FirstLine("/proc/pressure/cpu");
  const size_t at = pressure.find("avg10=");
  if (at != std::string::npos) {
    const double share = std::atof(pressure.c_str() + at + 6);
    if (share > kMuchPressure)
      noise.push_back(
          {fmt::format("threads waited for a processor {:.0f} % of the ten "
                       "seconds before the start",
                       share),
           share});
  }
  const std::string governor =
      FirstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  if (!governor.empty() && governor != "performance")
    noise.push_back(
        {fmt::format("the frequency governor is {}, not performance", governor),
         0});
  return noise;
}

std::vector<Noise> NoiseWatch::SinceStart() const {
  std::vector<Noise> noise;
  const Ticks now = Read();
  const double all = now.all - start_.all;
  const double share = all > 0 ? (now.steal - start_.steal) / all : 0;
  if (share > kMuchSteal)
    noise.push_back(
        {fmt::format("the hypervisor took {:.1f} % of the time for others",
                     100 * share),
         share});
  return noise;
}

}  // namespace saccade::bench
