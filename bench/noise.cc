#include "bench/noise.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "bench/clock.h"
#include "bench/statistics.h"

namespace saccade::bench {
namespace {

constexpr double kMuchLoad = 0.3;    // runnable threads a core, before we start
constexpr double kMuchSteal = 0.01;  // share of time
constexpr double kMuchBusy = 0.05;   // share of our processors' time
constexpr double kMuchWaiting = 0.05;   // share of time some thread waited
constexpr double kMuchWithheld = 0.01;  // share of time, by a quota
constexpr auto kLook = std::chrono::milliseconds(100);

// What waits for what, in the words of /proc/pressure.
constexpr std::pair<const char*, const char*> kPressures[] = {
    {"cpu", "a processor"}, {"memory", "memory"}, {"io", "storage"}};

// The number after `key` in a text such as "some avg10=1.5 total=7".
std::optional<double> After(const std::string& text, const std::string& key) {
  const size_t at = text.find(key);
  if (at == std::string::npos) return {};
  return std::atof(text.c_str() + at + key.size());
}

// "0-3,8" as 0, 1, 2, 3, 8.
std::vector<int> ReadList(const std::string& text) {
  std::vector<int> numbers;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    int first = 0, last = 0;
    char dash = ' ';
    std::istringstream range(part);
    if (!(range >> first)) continue;
    if (!(range >> dash >> last)) last = first;
    for (int i = first; i <= std::min(last, first + 4096); ++i)
      numbers.push_back(i);
  }
  return numbers;
}

bool Has(const std::vector<int>& numbers, int n) {
  return std::find(numbers.begin(), numbers.end(), n) != numbers.end();
}

void AddBuildNoise(std::vector<Noise>* noise) {
#if !defined(__OPTIMIZE__)
  noise->push_back({"build", "this build is not optimised", 0});
#endif
#if !defined(NDEBUG)
  noise->push_back({"build", "this build has assertions switched on", 0});
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  noise->push_back({"build", "this build runs under a sanitizer", 0});
#endif
  (void)noise;
}

}  // namespace

record::Json NoiseRecord(const Noise& noise) {
  return {{"kind", "noise"},
          {"noise", noise.name},
          {"reason", noise.reason},
          {"value", noise.value}};
}

void AddPeakDrift(int threads, std::span<const double> samples,
                  std::vector<Noise>* noise) {
  constexpr size_t kSpan = 5;
  double least = 0, most = 0;
  for (size_t i = 0; i + kSpan <= samples.size(); ++i) {
    const double peak = Median(samples.subspan(i, kSpan));
    least = i > 0 ? std::min(least, peak) : peak;
    most = std::max(most, peak);
  }
  if (least <= 0 || most - least <= kMuchDrift * most) return;
  noise->push_back(
      {"peak_drift",
       fmt::format("the arithmetic peak of {} thread{} moved between {:.0f} "
                   "and {:.0f} GFLOP/s: others, heat or frequencies",
                   threads, threads == 1 ? "" : "s", least * 1e-9, most * 1e-9),
       1 - least / most});
}

NoiseWatch::NoiseWatch(int threads, NoisePlace place)
    : threads_(threads), place_(std::move(place)) {
  for (const int p : place_.processors)
    for (const int s : ReadList(Text(fmt::format(
             "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list",
             p))))
      if (!Has(place_.processors, s) && !Has(siblings_, s))
        siblings_.push_back(s);
  start_ = Read();
}

std::string NoiseWatch::Text(const std::string& path) const {
  std::ifstream in(place_.root + path);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Folders of the group that this process belongs to and of those above it, in
// both versions of control groups.
std::vector<std::string> NoiseWatch::QuotaFolders() const {
  std::vector<std::string> folders;
  std::istringstream in(Text("/proc/self/cgroup"));
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string kinds = "," + line.substr(first + 1, second - first - 1);
    std::string base;
    if (kinds == ",") base = "/sys/fs/cgroup";
    if ((kinds + ",").find(",cpu,") != std::string::npos)
      base = "/sys/fs/cgroup/cpu";
    if (base.empty()) continue;
    for (std::string path = line.substr(second + 1);;) {
      folders.push_back(base + (path == "/" ? "" : path));
      if (path.size() <= 1) break;
      path.resize(std::max<size_t>(1, path.rfind('/')));
    }
  }
  return folders;
}

// Processors' worth of time that control groups allow; 0: no limit.
double NoiseWatch::QuotaCores() const {
  double least = 0;
  const auto take = [&least](double quota, double period) {
    if (quota > 0 && period > 0)
      least = least > 0 ? std::min(least, quota / period) : quota / period;
  };
  for (const std::string& folder : QuotaFolders()) {
    double quota = 0, period = 0;
    std::istringstream(Text(folder + "/cpu.max")) >> quota >> period;
    take(quota, period);
    take(std::atof(Text(folder + "/cpu.cfs_quota_us").c_str()),
         std::atof(Text(folder + "/cpu.cfs_period_us").c_str()));
  }
  return least;
}

// What processors did, and what of it was ours.
void NoiseWatch::ReadProcessors(Vitals* vitals) const {
  Vitals& v = *vitals;
  const auto hertz = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::istringstream stat(Text("/proc/stat"));
  for (std::string line; std::getline(stat, line);) {
    if (!line.starts_with("cpu") || line.starts_with("cpu ")) continue;
    const int processor = std::atoi(line.c_str() + 3);
    const bool ours = Has(place_.processors, processor);
    if (!ours && !Has(siblings_, processor)) continue;
    // user nice system idle iowait irq softirq steal
    std::istringstream in(line.substr(line.find(' ')));
    double ticks[8] = {};
    double all = 0;
    for (double& t : ticks) in >> t, all += t;
    const double idle = ticks[3] + ticks[4];
    if (!ours) {
      v.siblings += (all - idle - ticks[7]) / hertz;
      continue;
    }
    v.all += all / hertz;
    v.idle += idle / hertz;
    v.steal += ticks[7] / hertz;
  }
  // utime, stime, cutime and cstime: 12 fields after the name in brackets.
  const std::string self = Text("/proc/self/stat");
  std::istringstream in(
      self.substr(std::min(self.size(), self.rfind(')') + 1)));
  std::string skipped;
  for (int i = 0; i < 11; ++i) in >> skipped;
  for (double ticks = 0, i = 0; i < 4 && in >> ticks; ++i)
    v.own += ticks / hertz;
}

NoiseWatch::Vitals NoiseWatch::Read() const {
  Vitals v;
  v.at = SteadySeconds();
  ReadProcessors(&v);
  for (const auto& [resource, words] : kPressures)
    if (const auto total =
            After(Text(std::string("/proc/pressure/") + resource), "total="))
      v.stalls[resource] = *total * 1e-6;
  for (const int p : place_.processors)
    if (const std::string count =
            Text(fmt::format("/sys/devices/system/cpu/cpu{}/thermal_throttle/"
                             "core_throttle_count",
                             p));
        !count.empty())
      v.throttles = v.throttles.value_or(0) + std::atof(count.c_str());
  const std::string pages = Text("/proc/vmstat");
  for (const char* key : {"pswpin ", "pswpout "})
    if (const auto n = After(pages, key)) v.swaps = v.swaps.value_or(0) + *n;
  for (const std::string& folder : QuotaFolders()) {
    const std::string stats = Text(folder + "/cpu.stat");
    if (const auto us = After(stats, "throttled_usec "))
      v.withheld = v.withheld.value_or(0) + *us * 1e-6;
    if (const auto ns = After(stats, "throttled_time "))
      v.withheld = v.withheld.value_or(0) + *ns * 1e-9;
  }
  return v;
}

std::vector<Noise> NoiseWatch::Standing() const {
  std::vector<Noise> noise;
  AddBuildNoise(&noise);
  const auto cores = static_cast<double>(place_.processors.size());
  if (threads_ > cores)
    noise.push_back({"cores",
                     fmt::format("{} threads share {} core{}", threads_, cores,
                                 cores == 1 ? "" : "s"),
                     cores});
  if (const double quota = QuotaCores(); quota > 0 && quota < threads_)
    noise.push_back(
        {"quota",
         fmt::format("a control group allows {:.3g} processors' time to {} "
                     "thread{}",
                     quota, threads_, threads_ == 1 ? "" : "s"),
         quota});
  const int first = place_.processors.empty() ? 0 : place_.processors.front();
  const std::string frequency =
      fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/", first);
  const std::string governor = Text(frequency + "scaling_governor");
  if (!governor.empty() && governor != "performance")
    noise.push_back(
        {"governor",
         fmt::format("the frequency governor is {}, not performance", governor),
         0});
  const double limit = std::atof(Text(frequency + "scaling_max_freq").c_str());
  const double most = std::atof(Text(frequency + "cpuinfo_max_freq").c_str());
  if (limit > 0 && limit < most)
    noise.push_back(
        {"frequency_limit",
         fmt::format("the frequency is kept at {:.2f} GHz or less, where the "
                     "processor could do {:.2f}",
                     limit * 1e-6, most * 1e-6),
         limit / most});
  return noise;
}

// What others did on our processors from one moment to another.
void NoiseWatch::AddBusy(const Vitals& from, const Vitals& to,
                         const std::string& when,
                         std::vector<Noise>* noise) const {
  const double all = to.all - from.all;
  if (all <= 0) return;
  const double steal = (to.steal - from.steal) / all;
  if (steal > kMuchSteal)
    noise->push_back(
        {"steal",
         fmt::format("the hypervisor took {:.1f} % of the time for others {}",
                     100 * steal, when),
         steal});
  const double busy = all - (to.idle - from.idle) - (to.steal - from.steal);
  const double others = (busy - (to.own - from.own)) / all;
  if (others > kMuchBusy)
    noise->push_back({"load",
                      fmt::format("other processes had {:.0f} % of the "
                                  "processors' time {}",
                                  100 * others, when),
                      others});
  const double beside =
      siblings_.empty() ? 0
                        : (to.siblings - from.siblings) /
                              (all * static_cast<double>(siblings_.size()) /
                               static_cast<double>(place_.processors.size()));
  if (beside > kMuchBusy)
    noise->push_back({"siblings",
                      fmt::format("processors that share our cores were busy "
                                  "{:.0f} % of the time {}",
                                  100 * beside, when),
                      beside});
}

std::vector<Noise> NoiseWatch::AtStart() const {
  std::vector<Noise> noise = Standing();
  double load = 0;
  std::istringstream(Text("/proc/loadavg")) >> load;
  const auto cores = static_cast<double>(place_.processors.size());
  if (load > kMuchLoad * cores)
    noise.push_back(
        {"load",
         fmt::format("other work was running at the start or just before, such "
                     "as a build: a load of {:.2f} on {} cores over the last "
                     "minute",
                     load, cores),
         load});
  for (const auto& [resource, words] : kPressures) {
    const auto share =
        After(Text(std::string("/proc/pressure/") + resource), "avg10=");
    if (share && *share > 100 * kMuchWaiting)
      noise.push_back({std::string(resource) + "_pressure",
                       fmt::format("threads waited for {} {:.0f} % of the ten "
                                   "seconds before the start",
                                   words, *share),
                       *share / 100});
  }
  const Vitals before = Read();
  std::this_thread::sleep_for(kLook);
  AddBusy(before, Read(), "just before the start", &noise);
  return noise;
}

std::vector<Noise> NoiseWatch::SinceStart() const {
  std::vector<Noise> noise;
  const Vitals now = Read();
  AddBusy(start_, now, "during the run", &noise);
  const double seconds = now.at - start_.at;
  for (const auto& [resource, words] : kPressures) {
    const auto then = start_.stalls.find(resource);
    const auto late = now.stalls.find(resource);
    if (then == start_.stalls.end() || late == now.stalls.end()) continue;
    const double share = (late->second - then->second) / seconds;
    if (share > kMuchWaiting)
      noise.push_back({std::string(resource) + "_pressure",
                       fmt::format("threads waited for {} {:.0f} % of the run",
                                   words, 100 * share),
                       share});
  }
  const auto grown = [](const std::optional<double>& from,
                        const std::optional<double>& to) {
    return from && to ? *to - *from : 0;
  };
  if (const double n = grown(start_.throttles, now.throttles); n > 0)
    noise.push_back(
        {"throttling",
         fmt::format("cores were slowed {:.0f} time{} for their heat", n,
                     n == 1 ? "" : "s"),
         n});
  if (const double n = grown(start_.swaps, now.swaps); n > 0)
    noise.push_back(
        {"swap", fmt::format("{:.0f} pages went to or from swap", n), n});
  if (const double share = grown(start_.withheld, now.withheld) / seconds;
      share > kMuchWithheld)
    noise.push_back(
        {"quota",
         fmt::format("a control group withheld processors for {:.0f} % of the "
                     "run",
                     100 * share),
         share});
  return noise;
}

}  // namespace saccade::bench
