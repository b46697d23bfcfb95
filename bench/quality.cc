#include "bench/quality.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "bench/probes/probe.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

using record::Record;
using record::Run;

// Of the protocols the one that a recommendation goes by where it was read.
constexpr char kHeadline[] = "same-target";

constexpr char kPlain[] = "plain";
constexpr double kWorthwhile = 0.01;  // bits a byte, or share of answers

bool AsksRecall(const std::string& probe) {
  const Result<const Probe*> found = FindProbe(probe);
  return found.ok() && (*found)->recall;
}

// Whether a reading at one length says more about what is wanted than one at
// another: the least that is no shorter, else the greatest.
bool Nearer(int64_t length, int64_t other, double wanted) {
  const bool reaches = static_cast<double>(length) >= wanted;
  if (reaches != (static_cast<double>(other) >= wanted)) return reaches;
  return reaches ? length < other : length > other;
}

double Mean(const std::map<int64_t, double>& by_seed) {
  double sum = 0;
  for (const auto& [seed, value] : by_seed) sum += value;
  return sum / static_cast<double>(by_seed.size());
}

}  // namespace

Quality::Quality(const Run& run) : source_(run.path) {
  // Protocols are not to be mixed: the headline, or else the first there is.
  std::string protocol;
  for (const Record& r : run.records)
    if (r.kind() == "extrapolation" &&
        (protocol.empty() || r.Text("protocol") == kHeadline))
      protocol = r.Text("protocol");
  if (!protocol.empty()) protocols_.insert(protocol);
  for (const Record& r : run.records) {
    // Matched by FLOPs is another question; buckets are parts of an answer.
    if (!r.ok() || r.Has("match") || r.Has("bucket")) continue;
    if (r.kind() == "extrapolation" && r.Text("protocol") == protocol)
      Take(r, protocol, "bits_per_byte", &language_);
    if (r.kind() == "probe" && !r.Has("metric") && AsksRecall(r.Text("probe")))
      Take(r, r.Text("probe"), "accuracy", &recall_);
    if (r.kind() == "train" && r.Text("task") == "text")
      models_.insert(fmt::format("{}, {:.3g} thousand parameters",
                                 r.Text("model"), r.Number("params") * 1e-3));
  }
  // A probe that some were spared tells nothing between those and the others.
  for (const auto& [spec, readings] : recall_)
    for (const std::string& task : TasksOf(readings)) probes_.insert(task);
  for (const auto& [spec, readings] : recall_) {
    const std::set<std::string> own = TasksOf(readings);
    std::erase_if(probes_,
                  [&](const auto& task) { return !own.contains(task); });
  }
}

std::set<std::string> Quality::TasksOf(const Readings& readings) {
  std::set<std::string> names;
  for (const auto& [change, by_times] : readings.values)
    for (const auto& [times, tasks] : by_times)
      for (const auto& [task, seeds] : tasks) names.insert(task);
  return names;
}

void Quality::Take(const Record& r, const std::string& task, const char* value,
                   BySpec* to) {
  const auto train_len = static_cast<double>(r.Count("train_len"));
  if (!(train_len > 0)) return;
  Readings& readings = (*to)[r.Text("variant")];
  readings.train_len = r.Count("train_len");
  const double times = static_cast<double>(r.Count("eval_len")) / train_len;
  readings.values[r.Text("switch")][times][task][r.Count("seed")] =
      r.Number(value);
}

const Quality::BySpec::value_type* Quality::Find(const BySpec& all,
                                                 std::string_view spec) {
  const auto exact = all.find(std::string(spec));
  if (exact != all.end()) return &*exact;
  const auto like = std::find_if(all.begin(), all.end(), [&](const auto& r) {
    return reports::BaseName(r.first) == reports::BaseName(spec);
  });
  return like == all.end() ? nullptr : &*like;
}

std::optional<Reading> Quality::Read(const BySpec& all,
                                     const std::set<std::string>& tasks,
                                     std::string_view spec, double times,
                                     bool greatest) {
  const auto* const found = Find(all, spec);
  if (found == nullptr || tasks.empty()) return {};
  const double wanted = times * static_cast<double>(found->second.train_len);
  std::optional<Reading> best;
  for (const auto& [change, by_times] : found->second.values) {
    auto at = by_times.lower_bound(times);
    if (at == by_times.end()) --at;
    Reading reading = {
        found->first,
        change,
        0,
        0,
        found->second.train_len,
        static_cast<int64_t>(at->first *
                             static_cast<double>(found->second.train_len))};
    bool whole = true;
    for (const std::string& task : tasks) {
      const auto seeds = at->second.find(task);
      whole &= seeds != at->second.end();
      if (!whole) break;
      reading.value += Mean(seeds->second) / static_cast<double>(tasks.size());
      reading.seeds =
          std::max(reading.seeds, static_cast<int>(seeds->second.size()));
    }
    if (!whole) continue;
    const double better = !best      ? 0
                          : greatest ? reading.value - best->value
                                     : best->value - reading.value;
    const int64_t length = reading.eval_len;
    // As it was trained, unless something else is worth the trouble.
    const bool plain = reading.change == kPlain;
    if (!best || Nearer(length, best->eval_len, wanted) ||
        (length == best->eval_len &&
         better > (plain                    ? -kWorthwhile
                   : best->change == kPlain ? kWorthwhile
                                            : 0)))
      best = reading;
  }
  return best;
}

std::optional<double> Quality::Best(const BySpec& all,
                                    const std::set<std::string>& tasks,
                                    double times, bool greatest) {
  std::optional<double> best;
  for (const auto& [spec, readings] : all) {
    const std::optional<Reading> r = Read(all, tasks, spec, times, greatest);
    if (r && (!best || (greatest ? r->value > *best : r->value < *best)))
      best = r->value;
  }
  return best;
}

std::optional<Reading> Quality::Language(std::string_view spec,
                                         double times) const {
  return Read(language_, protocols_, spec, times, false);
}

std::optional<Reading> Quality::Recall(std::string_view spec,
                                       double times) const {
  return Read(recall_, probes_, spec, times, true);
}

std::optional<double> Quality::BestLanguage(double times) const {
  return Best(language_, protocols_, times, false);
}

std::optional<double> Quality::BestRecall(double times) const {
  return Best(recall_, probes_, times, true);
}

std::string Quality::Trained(const BySpec& all) {
  std::set<int64_t> lengths;
  size_t least = SIZE_MAX, most = 0;
  for (const auto& [spec, readings] : all) {
    lengths.insert(readings.train_len);
    for (const auto& [change, by_times] : readings.values)
      for (const auto& [times, tasks] : by_times)
        for (const auto& [task, seeds] : tasks) {
          least = std::min(least, seeds.size());
          most = std::max(most, seeds.size());
        }
  }
  return fmt::format("{}{} seed{}, trained at {} tokens", least,
                     least == most ? "" : fmt::format(" to {}", most),
                     most == 1 ? "" : "s", fmt::join(lengths, " and "));
}

std::string Quality::LanguageSource() const {
  if (language_.empty()) return {};
  return fmt::format("bits a byte by protocol {}, {}, models of {}; {}",
                     fmt::join(protocols_, ", "), Trained(language_),
                     fmt::join(models_, " and "), source_);
}

std::string Quality::RecallSource() const {
  if (recall_.empty() || probes_.empty()) return {};
  return fmt::format("mean share of right answers to {}, {}; {}",
                     fmt::join(probes_, ", "), Trained(recall_), source_);
}

std::vector<std::string> Quality::Specs() const {
  std::set<std::string> specs;
  for (const BySpec* all : {&language_, &recall_})
    for (const auto& [spec, readings] : *all) specs.insert(spec);
  return {specs.begin(), specs.end()};
}

}  // namespace saccade::bench
