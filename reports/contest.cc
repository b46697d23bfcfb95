#include "reports/contest.h"

#include <algorithm>
#include <set>

namespace saccade::reports {
namespace {

bool SameWork(const Timing& a, const Timing& b) {
  return std::abs(a.flops - b.flops) <= 1e-6 * b.flops;
}

// The entry of the variant that a peer names, unless it is the baseline, whose
// function others compute as well; -1: none.
int Named(const Model& model, const std::string& computes) {
  for (size_t i = 0; i < model.entries.size(); ++i) {
    const Entry& entry = model.entries[i];
    if (!entry.peer && !entry.baseline && entry.spec == computes)
      return static_cast<int>(i);
  }
  return -1;
}

const Timing* Rival(const Model& model, const ByEntry<Timing>& cells,
                    const Timing& peer, int64_t length) {
  const int named = Named(model, peer.computes);
  const Timing* best = nullptr;
  for (const auto& [entry, lengths] : cells) {
    if (model.at(entry).peer || (named >= 0 && entry != named)) continue;
    const auto it = lengths.find(length);
    if (it == lengths.end() || !it->second.outcome.ok()) continue;
    const Timing& timing = it->second;
    // Another amount of work is another function.
    if (named < 0 && !SameWork(timing, peer)) continue;
    if (best == nullptr || timing.ns.value < best->ns.value) best = &timing;
  }
  return best;
}

void AddContests(const Model& model, size_t setting, const std::string& pass,
                 std::vector<Contest>* contests) {
  const auto& times = model.settings[setting].times;
  const auto cells = times.find(pass);
  if (cells == times.end()) return;
  std::set<int64_t> all;
  for (const auto& [entry, lengths] : cells->second)
    for (const auto& [length, timing] : lengths) all.insert(length);
  for (const int64_t length : all) {
    for (const auto& [entry, lengths] : cells->second) {
      const auto it = lengths.find(length);
      if (!model.at(entry).peer || it == lengths.end()) continue;
      const Timing& theirs = it->second;
      if (!theirs.outcome.ok()) continue;
      const Timing* const ours = Rival(model, cells->second, theirs, length);
      if (ours == nullptr) continue;
      contests->push_back({setting, pass, length, entry, &theirs, ours});
    }
  }
}

std::vector<std::string> PartsOf(const std::string& name) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find(", ", at), name.size());
    parts.push_back(name.substr(at, end - at));
    at = end + 2;
  }
  return parts;
}

}  // namespace

std::vector<Contest> ContestsOf(const Model& model) {
  std::vector<Contest> contests;
  for (const char* const pass : kPasses)
    for (size_t i = 0; i < model.settings.size(); ++i)
      AddContests(model, i, pass, &contests);
  return contests;
}

size_t EndOfCell(const std::vector<Contest>& contests, size_t first) {
  const Contest& a = contests[first];
  size_t end = first;
  while (end < contests.size() && contests[end].pass == a.pass &&
         contests[end].setting == a.setting &&
         contests[end].length == a.length) {
    ++end;
  }
  return end;
}

Standing StandingOf(const std::vector<Contest>& contests) {
  Standing standing;
  for (size_t i = 0; i < contests.size();) {
    const size_t end = EndOfCell(contests, i);
    bool behind = false, tie = false;
    for (; i < end; ++i) {
      behind |= contests[i].behind();
      tie |= contests[i].tie();
    }
    ++standing.cells;
    standing.ahead += !behind && !tie;
    standing.tied += !behind && tie;
  }
  return standing;
}

double GeometricMean(const std::vector<double>& ratios) {
  double sum = 0;
  for (const double ratio : ratios) sum += std::log(ratio);
  return ratios.empty() ? kNaN
                        : std::exp(sum / static_cast<double>(ratios.size()));
}

std::vector<std::string> SettingLabels(const Model& model) {
  std::map<std::string, size_t> counts;
  for (const Setting& setting : model.settings) {
    const std::vector<std::string> parts = PartsOf(setting.name);
    for (const std::string& part : std::set(parts.begin(), parts.end()))
      ++counts[part];
  }
  std::vector<std::string> labels;
  for (const Setting& setting : model.settings) {
    std::string label;
    for (const std::string& part : PartsOf(setting.name)) {
      if (counts[part] == model.settings.size()) continue;
      label += (label.empty() ? "" : ", ") + part;
    }
    labels.push_back(label.empty() ? setting.name : label);
  }
  return labels;
}

std::string TitleIn(const Model& model, size_t i, const std::string& title) {
  if (model.settings.size() < 2) return title;
  return title + ", " + SettingLabels(model)[i];
}

}  // namespace saccade::reports
