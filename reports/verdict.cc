#include "reports/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/order.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

// The cells that a verdict tells times by.
const ByEntry<Timing>* TimesOf(const Verdict& verdict) {
  if (verdict.setting == nullptr) return nullptr;
  const auto it = verdict.setting->times.find(verdict.pass);
  return it == verdict.setting->times.end() ? nullptr : &it->second;
}

// The variant speed-ups are told against: the one that says so, else the
// first that was timed.
int BaselineOf(const Model& model, const Verdict& verdict) {
  const ByEntry<Timing>* times = TimesOf(verdict);
  if (times == nullptr) return -1;
  int first = -1;
  for (const auto& [entry, lengths] : *times) {
    if (model.at(entry).peer) continue;
    if (model.at(entry).baseline) return entry;
    if (first < 0) first = entry;
  }
  return first;
}

// The longest length at which the baseline and at least half of the others
// have a time; without such, the length with most times.
int64_t ReferenceLength(const Model& model, const Verdict& verdict) {
  const ByEntry<Timing>* times = TimesOf(verdict);
  if (times == nullptr) return 0;
  std::map<int64_t, size_t> counts;
  std::set<int64_t> of_baseline;
  size_t variants = 0;
  for (const auto& [entry, lengths] : *times) {
    if (model.at(entry).peer) continue;
    ++variants;
    for (const auto& [length, timing] : lengths) {
      if (!timing.outcome.ok()) continue;
      ++counts[length];
      if (entry == verdict.baseline) of_baseline.insert(length);
    }
  }
  int64_t most = 0, reference = 0;
  size_t best = 0;
  for (const auto& [length, count] : counts) {
    if (of_baseline.contains(length) && 2 * count >= variants) {
      reference = length;
    }
    if (count >= best) {
      best = count;
      most = length;
    }
  }
  return reference > 0 ? reference : most;
}

// The longest length up to the reference at which memory was measured; above
// it, the shortest.
int64_t WeighedLength(const Verdict& verdict) {
  if (verdict.setting == nullptr) return 0;
  std::set<int64_t> lengths;
  for (const auto& [pass, cells] : verdict.setting->weights) {
    for (const auto& [entry, weights] : cells) {
      for (const auto& [length, weight] : weights) {
        if (weight.outcome.ok()) lengths.insert(length);
      }
    }
  }
  const auto above = lengths.upper_bound(verdict.length);
  if (above != lengths.begin()) return *std::prev(above);
  return lengths.empty() ? 0 : *above;
}

void SetFocus(const Model& model, const Focus& focus, Verdict& verdict) {
  if (focus.setting < model.settings.size()) {
    verdict.setting = &model.settings[focus.setting];
  }
  if (!focus.pass.empty()) verdict.pass = focus.pass;
  for (const char* const pass : kPasses) {
    if (!focus.pass.empty() || TimesOf(verdict) != nullptr) break;
    verdict.pass = pass;
  }
  if (TimesOf(verdict) == nullptr) verdict.pass = kPasses[0];
  verdict.baseline = BaselineOf(model, verdict);
  verdict.length =
      focus.length > 0 ? focus.length : ReferenceLength(model, verdict);
  verdict.weighed = WeighedLength(verdict);
}

template <class Cell>
const Cell* At(const std::map<std::string, ByEntry<Cell>>& passes,
               const std::string& pass, int entry, int64_t length) {
  const auto cells = passes.find(pass);
  if (cells == passes.end()) return nullptr;
  const auto lengths = cells->second.find(entry);
  if (lengths == cells->second.end()) return nullptr;
  const auto cell = lengths->second.find(length);
  return cell == lengths->second.end() ? nullptr : &cell->second;
}

// Entries by whether they were timed (first) and trained (second).
std::pair<std::set<int>, std::set<int>> Measured(const Model& model,
                                                 const Setting* setting) {
  std::pair<std::set<int>, std::set<int>> measured;
  if (setting != nullptr) {
    for (const auto& [pass, cells] : setting->times) {
      for (const auto& [entry, lengths] : cells) measured.first.insert(entry);
    }
  }
  for (const auto* curves : {&model.texts, &model.probes}) {
    for (const auto& [key, curve] : *curves) measured.second.insert(key.entry);
  }
  return measured;
}

VerdictRow Row(int timed, int trained) {
  VerdictRow row;
  row.timed = timed;
  row.trained = trained;
  return row;
}

// Pairs what was timed with what was trained: the same spec, or what is left
// of a name when only one of its specs was timed.
std::vector<VerdictRow> PairUp(const Model& model, const Setting* setting) {
  const auto [timed, trained] = Measured(model, setting);
  std::map<std::string, std::pair<std::vector<int>, std::vector<int>>> names;
  std::vector<VerdictRow> rows;
  for (int entry = 0; entry < static_cast<int>(model.entries.size()); ++entry) {
    auto& [times, trains] = names[model.at(entry).name];
    if (timed.contains(entry) && trained.contains(entry)) {
      rows.push_back(Row(entry, entry));
    } else if (timed.contains(entry)) {
      times.push_back(entry);
    } else if (trained.contains(entry)) {
      trains.push_back(entry);
    }
  }
  for (const auto& [name, lists] : names) {
    const auto& [times, trains] = lists;
    const bool pair = times.size() == 1 && !trains.empty();
    if (pair) rows.push_back(Row(times[0], trains[0]));
    const size_t rest = pair ? 1 : 0;
    for (size_t i = rest; i < times.size(); ++i) {
      rows.push_back(Row(times[i], -1));
    }
    for (size_t i = rest; i < trains.size(); ++i) {
      rows.push_back(Row(-1, trains[i]));
    }
  }
  return rows;
}

// What only its check or its absence tells of still gets its row.
void AddUnmeasured(const Model& model, std::vector<VerdictRow>& rows) {
  std::set<std::string> seen;
  for (const VerdictRow& row : rows) {
    seen.insert(model.at(row.entry()).name);
  }
  const auto add = [&](int entry) {
    const Entry& who = model.at(entry);
    if (seen.insert(who.name).second) {
      rows.push_back(Row(entry, -1));
    }
  };
  for (const auto& [key, targets] : model.checks) add(key.entry);
  for (const Gap& gap : model.gaps) add(gap.entry);
}

void JudgeCheck(const Model& model, VerdictRow& row) {
  const std::string& name = model.at(row.entry()).name;
  for (const auto& [key, targets] : model.checks) {
    if (model.at(key.entry).name != name) continue;
    for (const auto& [target, check] : targets) {
      if (check.outcome.kind == Outcome::Kind::kFail) {
        row.checked = true;
        row.check = check.outcome;
        if (row.failed.find(key.pass) == std::string::npos) {
          row.failed += (row.failed.empty() ? "" : ", ") + key.pass;
        }
      }
      if (!check.outcome.ok()) continue;
      row.checked = true;
      if (std::isnan(row.worst) || check.worst > row.worst) {
        row.worst = check.worst;
      }
      row.kappa = check.kappa;
    }
  }
}

void JudgeSpeed(const Verdict& verdict, VerdictRow& row) {
  if (row.timed < 0 || verdict.setting == nullptr) return;
  const Setting& setting = *verdict.setting;
  row.time = At(setting.times, verdict.pass, row.timed, verdict.length);
  row.weight = At(setting.weights, verdict.pass, row.timed, verdict.weighed);
  row.decode = At(setting.weights, "decode", row.timed, verdict.weighed);
  const Timing* base =
      At(setting.times, verdict.pass, verdict.baseline, verdict.length);
  if (base != nullptr && row.time != nullptr && base->outcome.ok() &&
      row.time->outcome.ok() && row.time->ns.value > 0) {
    row.speedup = base->ns.value / row.time->ns.value;
    row.tied_with_baseline =
        row.timed != verdict.baseline && Overlap(base->ns, row.time->ns);
  }
  const ByEntry<Timing>* times = TimesOf(verdict);
  if (times == nullptr) return;
  const auto lengths = times->find(row.timed);
  if (lengths == times->end()) return;
  row.growth = GrowthOf(lengths->second);
}

const Curve* FindCurve(const std::map<CurveKey, Curve>& curves,
                       const std::string& what, int entry,
                       const std::string& change) {
  const auto it = curves.find({what, entry, change});
  return it == curves.end() ? nullptr : &it->second;
}

Estimate PointAt(const Curve* curve, int64_t x) {
  if (curve == nullptr || !curve->outcome.ok()) return {};
  const auto it = curve->points.find(x);
  return it == curve->points.end() ? Estimate{} : it->second;
}

// The multiples of the training length that the headline protocol was read at.
void SetMultiples(const Model& model, Verdict& verdict) {
  if (model.protocols.empty()) return;
  verdict.protocol = model.protocols.front();
  for (const auto& [key, curve] : model.texts) {
    if (key.what != verdict.protocol || curve.train_len <= 0) continue;
    verdict.window |= key.change == kWindow;
    for (const auto& [x, point] : curve.points) {
      const int64_t multiple = x / curve.train_len;
      if (verdict.near_multiple == 0) verdict.near_multiple = multiple;
      verdict.near_multiple = std::min(verdict.near_multiple, multiple);
      verdict.far_multiple = std::max(verdict.far_multiple, multiple);
    }
  }
}

void SetProbe(const Model& model, Verdict& verdict) {
  if (model.probe_names.empty()) return;
  verdict.probe = model.probe_names.front();
  for (const auto& [key, curve] : model.probes) {
    if (key.what != verdict.probe || curve.points.empty()) continue;
    const int64_t last = curve.points.rbegin()->first;
    if (last <= verdict.probe_length) continue;
    verdict.probe_length = last;
    verdict.probe_multiple = curve.train_len > 0 ? last / curve.train_len : 0;
  }
}

void JudgeQuality(const Model& model, const Verdict& verdict, VerdictRow& row) {
  if (row.trained < 0) return;
  const Curve* plain =
      FindCurve(model.texts, verdict.protocol, row.trained, kPlain);
  if (plain != nullptr) {
    row.learned = plain->outcome;
    const int64_t unit = plain->train_len;
    row.near = PointAt(plain, verdict.near_multiple * unit);
    row.far = PointAt(plain, verdict.far_multiple * unit);
    const Curve* window =
        FindCurve(model.texts, verdict.protocol, row.trained, kWindow);
    row.far_window = PointAt(window, verdict.far_multiple * unit);
    const bool cut =
        row.far_window.known() && BestFar(row).value == row.far_window.value;
    if (BestFar(row).known()) {
      row.best_far =
          &(cut ? window : plain)->seeds.at(verdict.far_multiple * unit);
    }
  }
  const Curve* probe =
      FindCurve(model.probes, verdict.probe, row.trained, kPlain);
  if (probe == nullptr) return;
  row.recall = PointAt(probe, verdict.probe_length);
  for (const auto& [length, point] : probe->points) {
    row.learned_probe |= length <= probe->train_len && point.value >= 0.5;
  }
  if (row.learned.ok() && !probe->outcome.ok()) {
    row.learned = probe->outcome;
    row.learned.reason = verdict.probe + ": " + row.learned.reason;
  }
}

// Marks the row where `value` is least, and those tied with it; the place of
// the first, or -1. What fails its check wins nothing.
template <class Value, class Tied>
int MarkLeast(std::vector<VerdictRow>& rows, bool VerdictRow::*mark,
              const Value& value, const Tied& tied) {
  const auto candidate = [&](const VerdictRow& row) {
    return row.check.kind != Outcome::Kind::kFail && value(row).known();
  };
  int best = -1;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!candidate(rows[i])) continue;
    if (best < 0 ||
        value(rows[i]).value < value(rows[static_cast<size_t>(best)]).value) {
      best = static_cast<int>(i);
    }
  }
  if (best < 0) return best;
  const Estimate least = value(rows[static_cast<size_t>(best)]);
  for (VerdictRow& row : rows) {
    row.*mark = candidate(row) && tied(value(row), least);
  }
  return best;
}

// Text is compared by seeds: much of what differs between two of them is the
// same for all variants.
void MarkBestText(Verdict& verdict) {
  const auto alone = [](const Estimate&, const Estimate&) { return false; };
  verdict.best_text =
      MarkLeast(verdict.rows, &VerdictRow::best_text, BestFar, alone);
  if (verdict.best_text < 0) return;
  VerdictRow& best = verdict.rows[static_cast<size_t>(verdict.best_text)];
  best.best_text = true;
  std::vector<VerdictRow*> rows;
  std::vector<const BySeed*> readings;
  for (VerdictRow& row : verdict.rows) {
    if (&row == &best || row.best_far == nullptr) continue;
    rows.push_back(&row);
    readings.push_back(row.best_far);
  }
  const std::vector<Difference> differences =
      DifferencesFrom(*best.best_far, readings);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i]->behind = differences[i];
    rows[i]->best_text =
        differences[i].tie && rows[i]->check.kind != Outcome::Kind::kFail;
  }
}

Estimate BytesOf(const Weight* weight, double Weight::*bytes) {
  if (weight == nullptr || !weight->outcome.ok()) return {};
  return {weight->*bytes};
}

void MarkBest(Verdict& verdict) {
  // What plans say is exact.
  const auto equal = [](const Estimate& a, const Estimate& b) {
    return a.value == b.value;
  };
  verdict.fastest = MarkLeast(
      verdict.rows, &VerdictRow::fastest,
      [](const VerdictRow& row) {
        const bool timed = row.time != nullptr && row.time->outcome.ok();
        return timed ? row.time->ns : Estimate{};
      },
      Overlap);
  verdict.least_scratch = MarkLeast(
      verdict.rows, &VerdictRow::least_scratch,
      [](const VerdictRow& row) {
        return BytesOf(row.weight, &Weight::scratch);
      },
      equal);
  verdict.least_state = MarkLeast(
      verdict.rows, &VerdictRow::least_state,
      [](const VerdictRow& row) { return BytesOf(row.decode, &Weight::state); },
      equal);
  MarkBestText(verdict);
  verdict.most_recall = MarkLeast(
      verdict.rows, &VerdictRow::best_recall,
      [](const VerdictRow& row) -> Estimate {
        const Estimate& recall = row.recall;
        return {-recall.value, -recall.high, -recall.low, recall.count};
      },
      Overlap);
}

// How quality holds beyond the training length, in a few words.
std::string TextWords(const Verdict& verdict, const VerdictRow& row) {
  if (!row.near.known() || !row.far.known()) return "";
  const double change = row.far.value - row.near.value;
  if (change <= 0.05) {
    return fmt::format("stays level to {}×", verdict.far_multiple);
  }
  std::string words =
      change < 0.5
          ? fmt::format("loses {:.2f} bit by {}×", change, verdict.far_multiple)
          : fmt::format("breaks down at {}× (+{:.2f} bit)",
                        verdict.far_multiple, change);
  if (row.far_window.known() && row.far_window.value - row.near.value <= 0.05) {
    words += ", level under a test window";
  }
  return words;
}

std::string RecallWords(const Verdict& verdict, const VerdictRow& row) {
  if (!row.recall.known()) return "";
  if (!row.learned_probe) return "did not learn the probe in this training";
  const std::string where = fmt::format("at {}×", verdict.probe_multiple);
  if (row.recall.value >= 0.9) return "recalls " + where;
  if (row.recall.value < 0.3) return "does not recall " + where;
  return fmt::format("recalls {:.0f} % {}", 100 * row.recall.value, where);
}

std::string Words(const Verdict& verdict, const VerdictRow& row) {
  if (row.check.kind == Outcome::Kind::kFail) {
    // The case and the command that repeats it are among what is missing.
    const std::string& reason = row.check.reason;
    return fmt::format("{} is wrong: {}", row.failed,
                       reason.substr(0, reason.find(": ")));
  }
  std::vector<std::string> parts;
  if (row.fastest) {
    const auto fastest =
        std::count_if(verdict.rows.begin(), verdict.rows.end(),
                      [](const VerdictRow& other) { return other.fastest; });
    parts.push_back(fastest > 1 ? "tied for fastest" : "fastest here");
  }
  if (row.time != nullptr && !row.time->outcome.ok()) {
    parts.push_back(row.time->outcome.reason);
  }
  if (!row.learned.ok()) parts.push_back(row.learned.reason);
  parts.push_back(TextWords(verdict, row));
  parts.push_back(RecallWords(verdict, row));
  std::string words;
  for (const std::string& part : parts) {
    if (!part.empty()) words += (words.empty() ? "" : "; ") + part;
  }
  return words;
}

}  // namespace

Estimate BestFar(const VerdictRow& row) {
  if (!row.far_window.known()) return row.far;
  if (!row.far.known()) return row.far_window;
  return row.far_window.value < row.far.value ? row.far_window : row.far;
}

PowerFit GrowthOf(const ByLength<Timing>& lengths) {
  std::vector<std::pair<int64_t, double>> points;
  for (const auto& [length, timing] : lengths) {
    if (timing.outcome.ok()) points.emplace_back(length, timing.ns.value);
  }
  return FitPower(points);
}

Verdict MakeVerdict(const Model& model, const Focus& focus) {
  Verdict verdict;
  SetFocus(model, focus, verdict);
  SetMultiples(model, verdict);
  SetProbe(model, verdict);
  verdict.rows = PairUp(model, verdict.setting);
  AddUnmeasured(model, verdict.rows);
  SortBy(verdict.rows, [](const VerdictRow& row) { return row.entry(); });
  for (VerdictRow& row : verdict.rows) {
    JudgeCheck(model, row);
    JudgeSpeed(verdict, row);
    JudgeQuality(model, verdict, row);
  }
  MarkBest(verdict);
  for (VerdictRow& row : verdict.rows) row.words = Words(verdict, row);
  verdict.findings = MakeFindings(model, verdict);
  return verdict;
}

}  // namespace saccade::reports
