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

}  // namespace

std::vector<int> UsableProcessors() {
  std::vector<int> processors;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) processors.push_back(i);
  if (!processors.empty()) return processors;
  // More processors than a mask holds.
  const unsigned all = std::max(1u, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < all; ++i) processors.push_back(static_cast<int>(i));
  return processors;
}

int UsableCores() { return static_cast<int>(UsableProcessors().size()); }

size_t LargestCacheBytes() {
  size_t largest = 0;
  for (int i = 0; i < 8; ++i) {
    std::istringstream in(FirstLine(
        fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", i)));
    size_t size = 0;
    char unit = ' ';
    if (!(in >> size)) continue;
    in >> unit;
    largest = std::max(largest, size << (unit == 'M' ? 20 : 10));
  }
  return largest;
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

}  // namespace saccade::bench
