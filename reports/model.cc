#include "reports/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/order.h"
#include "reports/roster.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using record::Record;
using record::Run;

Outcome OutcomeOf(const Record& record) {
  Outcome outcome;
  const std::string status = record.status();
  if (status == "fail") outcome.kind = Outcome::Kind::kFail;
  if (status == "unsupported") {
    // A peer may not be installed, or not offer it: nobody's fault here.
    outcome.kind = record.kind() == "peer" ? Outcome::Kind::kAbsent
                                           : Outcome::Kind::kUnsupported;
  }
  if (status == "skipped" || status == "interrupted") {
    outcome.kind = Outcome::Kind::kSkipped;
  }
  outcome.reason = Clean(record.Text("reason"), 400);
  outcome.repeat = Clean(record.Text("repeat"), 400);
  return outcome;
}

bool ByFlops(const Record& record) { return record.Text("match") == "flops"; }

// What peers are checked on, in place of our targets.
constexpr char kOwnCode[] = "its own code";

class Builder {
 public:
  explicit Builder(Model& model) : model_(model) {
    for (size_t i = 0; i < model.entries.size(); ++i) {
      const Entry& entry = model.entries[i];
      places_[{entry.spec, entry.peer}] = static_cast<int>(i);
    }
  }

  void Take(const Record& record) {
    const std::string kind = record.kind();
    if (kind == "speed" || kind == "peer") TakeTime(record);
    if (kind == "peer" && record.Has("worst")) TakePeerCheck(record);
    if (kind == "memory") TakeMemory(record);
    if (kind == "extrapolation") {
      TakeCurve(record, "protocol", "bits_per_byte",
                ByFlops(record) ? model_.texts_by_flops : model_.texts,
                model_.protocols);
    }
    if (kind == "probe") TakeProbe(record);
    if (kind == "train") TakeTraining(record);
    if (kind == "anchor") TakeAnchor(record);
    if (kind == "lens") TakeLook(record);
    if (kind == "claim") TakeClaim(record);
    if (kind == "peak") TakePeak(record);
    if (kind == "noise") Note(Clean(record.Text("reason"), 400));
  }

  void TakeCheck(const Record& record) {
    Check check;
    check.outcome = OutcomeOf(record);
    check.cases = record.Count("cases");
    check.failures = record.Count("failures");
    check.kappa = record.Number("kappa");
    check.worst = record.Number("worst");
    if (check.outcome.ok() && check.failures > 0) {
      check.outcome.kind = Outcome::Kind::kFail;
    }
    if (check.outcome.kind == Outcome::Kind::kFail && check.cases > 0) {
      check.outcome.reason = fmt::format(
          "{} of {} cases beyond the error budget{}{}", check.failures,
          check.cases, check.outcome.reason.empty() ? "" : ": ",
          check.outcome.reason);
    }
    const CheckKey key = {EntryOf(record), Get(record, "pass"),
                          Get(record, "dtype")};
    model_.checks[key][Get(record, "target")] = check;
  }

  void Finish() {
    SortBy(model_.settings,
           [](const Setting& setting) { return -Cells(setting); });
    SortBy(model_.claims, [](const Claim& claim) { return claim.number; });
    // The headline protocol: one fixed set of bytes at every length.
    const auto headline = std::find(model_.protocols.begin(),
                                    model_.protocols.end(), "same-target");
    if (headline != model_.protocols.end()) {
      std::rotate(model_.protocols.begin(), headline, headline + 1);
    }
    for (auto* curves :
         {&model_.texts, &model_.texts_by_flops, &model_.probes}) {
      for (auto& [key, curve] : *curves) {
        Average(curve);
        DistrustCurve(key.entry, curve);
      }
    }
    for (auto& [key, lengths] : model_.probe_parts) {
      for (auto& [length, curve] : lengths) {
        Average(curve);
        DistrustCurve(key.entry, curve);
      }
    }
    ListGaps();
  }

  void Note(const std::string& note) {
    if (note.empty()) return;
    auto& notes = model_.notes;
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) {
      notes.push_back(note);
    }
  }

 private:
  int EntryOf(const Record& record) const {
    const bool peer = record.kind() == "peer";
    return places_.at({peer ? PeerName(record) : Get(record, "variant"), peer});
  }

  static int64_t Cells(const Setting& setting) {
    int64_t cells = 0;
    for (const auto& [pass, entries] : setting.times) {
      for (const auto& [entry, lengths] : entries) {
        cells += static_cast<int64_t>(lengths.size());
      }
    }
    return cells;
  }

  Setting& PlaceOf(const Record& record) {
    Setting fresh = SettingOf(record);
    for (Setting& setting : model_.settings) {
      if (setting.name == fresh.name) return setting;
    }
    model_.settings.push_back(std::move(fresh));
    return model_.settings.back();
  }

  void TakeTime(const Record& record) {
    const int entry = EntryOf(record);
    Timing timing;
    timing.outcome = OutcomeOf(record);
    if (record.kind() == "peer") timing.computes = Get(record, "variant");
    if (timing.outcome.ok()) {
      timing.ns = Median(record.Numbers("ns"));
      const double median = record.Number("median_ns");
      if (!std::isnan(median)) timing.ns.value = median;
      if (record.Has("low_ns") && record.Has("high_ns")) {
        timing.ns.low = record.Number("low_ns");
        timing.ns.high = record.Number("high_ns");
      }
      timing.flops = record.Number("flops");
      timing.bytes = record.Number("bytes");
      timing.peak_share = record.Number("peak_share");
      timing.bandwidth_share = record.Number("bandwidth_share");
      if (!(timing.ns.value > 0)) {
        timing.outcome = {Outcome::Kind::kFail,
                          "the record has no time above zero", ""};
      }
      if (!model_.at(entry).peer) {
        Distrust(record, entry, timing.outcome);
      }
    }
    PlaceOf(record).times[Get(record, "pass")][entry][record.Count("kv_len")] =
        timing;
  }

  // Every cell of a peer is checked by itself.
  void TakePeerCheck(const Record& record) {
    const CheckKey key = {EntryOf(record), Get(record, "pass"),
                          Get(record, "dtype")};
    Check& check = model_.checks[key][kOwnCode];
    ++check.cases;
    check.kappa = record.Number("kappa");
    const double worst = record.Number("worst");
    if (check.cases == 1 || worst > check.worst) check.worst = worst;
    if (!(worst > check.kappa)) return;
    ++check.failures;
    check.outcome = OutcomeOf(record);
  }

  void TakeMemory(const Record& record) {
    Weight weight;
    weight.outcome = OutcomeOf(record);
    weight.scratch = record.Number("scratch_bytes");
    weight.saved = record.Number("saved_bytes");
    weight.state = record.Number("state_bytes");
    weight.io = record.Number("io_bytes");
    weight.growth = record.Number("rss_growth_bytes");
    PlaceOf(record)
        .weights[Get(record, "pass")][EntryOf(record)][record.Count("kv_len")] =
        weight;
  }

  void TakeCurve(const Record& record, std::string_view what,
                 std::string_view value, std::map<CurveKey, Curve>& curves,
                 std::vector<std::string>& names) {
    const std::string name = Get(record, what);
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
    const bool whole = record.Text("metric") == "answer";
    Curve& curve =
        curves[{name, EntryOf(record), whole ? kWhole : Get(record, "switch")}];
    const int64_t x =
        record.Count(record.Has("bucket") ? "bucket" : "eval_len");
    TakePoint(record, value, x, curve);
  }

  void TakeProbe(const Record& record) {
    if (record.Has("bucket")) {
      const CurveKey key = {Get(record, "probe"), EntryOf(record),
                            Get(record, "switch")};
      Curve& part = model_.probe_parts[key][record.Count("eval_len")];
      TakePoint(record, "accuracy", record.Count("bucket"), part);
      return;
    }
    TakeCurve(record, "probe", "accuracy", model_.probes, model_.probe_names);
  }

  static void TakePoint(const Record& record, std::string_view value, int64_t x,
                        Curve& curve) {
    const Outcome outcome = OutcomeOf(record);
    if (!outcome.ok()) {
      if (curve.seeds.empty()) curve.outcome = outcome;
      return;
    }
    curve.outcome = {};
    curve.train_len = record.Count("train_len");
    curve.chance = record.Number("chance");
    curve.seeds[x][record.Count("seed")] = {
        record.Number(value), record.Number("low"), record.Number("high"), 1};
    if (!record.Has("predicted_low") && !record.Has("predicted_high")) return;
    curve.foretold[x] = {record.Number("predicted_low"),
                         record.Number("predicted_high"),
                         Get(record, "expected")};
  }

  static void Average(Curve& curve) {
    for (const auto& [x, seeds] : curve.seeds) {
      std::vector<Estimate> readings;
      for (const auto& [seed, reading] : seeds) readings.push_back(reading);
      curve.points[x] = MeanOverSeeds(readings);
    }
  }

  void TakeTraining(const Record& record) {
    Training training;
    training.entry = EntryOf(record);
    training.task = Get(record, "task");
    training.model = Get(record, "model");
    training.by_flops = ByFlops(record);
    training.seed = record.Count("seed");
    if (record.Has("expected")) {
      model_.probe_texts[training.task] = {
          Clean(record.Text("title"), 400), Get(record, "source"),
          Clean(record.Text("expected"), 400), Get(record, "bucket_is")};
    }
    if (!record.ok()) {
      model_.gaps.push_back(
          {training.entry,
           fmt::format("training on {}{}", training.task,
                       training.by_flops ? ", matched by FLOPs" : ""),
           OutcomeOf(record), 1, true});
      return;
    }
    training.params = record.Count("params");
    training.steps = record.Count("steps");
    training.tokens = record.Count("tokens");
    training.train_len = record.Count("train_len");
    training.flops = record.Number("flops");
    training.seconds = record.Number("seconds");
    training.gflops = record.Number("gflops");
    training.final_loss = record.Number("final_loss");
    training.loss = record.Numbers("loss");
    for (Training& other : model_.trainings) {
      if (other.entry == training.entry && other.task == training.task &&
          other.by_flops == training.by_flops && other.seed == training.seed) {
        other = std::move(training);
        return;
      }
    }
    model_.trainings.push_back(std::move(training));
  }

  void TakeAnchor(const Record& record) {
    if (!record.ok()) return;
    const std::string name = Get(record, "anchor");
    const double bits = record.Number("bits_per_byte");
    for (auto& [other, value] : model_.anchors) {
      if (other != name) continue;
      value = bits;
      return;
    }
    model_.anchors.emplace_back(name, bits);
  }

  void TakeLook(const Record& record) {
    const int entry = EntryOf(record);
    const std::string lens = Get(record, "lens");
    const std::string subject = Get(record, "subject");
    if (!record.ok()) {
      model_.gaps.push_back({entry, fmt::format("lens {}, {}", lens, subject),
                             OutcomeOf(record)});
      return;
    }
    auto found = std::find_if(
        model_.looks.begin(), model_.looks.end(), [&](const Look& look) {
          return look.entry == entry && look.lens == lens &&
                 look.subject == subject;
        });
    if (found == model_.looks.end()) {
      Look look = {entry, lens, subject, Clean(record.Text("title"), 600),
                   Clean(record.Text("expected"), 600)};
      look.picture = Clean(record.Text("picture"), kMostPixels);
      look.size = record.Count("q_len");
      look.curve = record.Numbers("curve");
      found = model_.looks.insert(found, std::move(look));
    }
    found->seeds[record.Count("seed")] = record.Number("value");
  }

  void TakeClaim(const Record& record) {
    Claim claim = {record.Count("number"),
                   Clean(record.Text("claim"), 600),
                   Clean(record.Text("expected"), 600),
                   Clean(record.Text("measured"), 600),
                   Get(record, "verdict"),
                   Get(record, "variant")};
    for (Claim& other : model_.claims) {
      if (other.claim != claim.claim || other.variant != claim.variant) {
        continue;
      }
      other = std::move(claim);
      return;
    }
    model_.claims.push_back(std::move(claim));
  }

  void TakePeak(const Record& record) {
    if (!record.ok()) return;
    Peak peak = {Get(record, "peak"), Get(record, "target"),
                 record.Count("threads"), record.Number("gflops"),
                 record.Number("gbps")};
    for (Peak& other : model_.peaks) {
      if (other.name == peak.name && other.target == peak.target &&
          other.threads == peak.threads) {
        other = std::move(peak);
        return;
      }
    }
    model_.peaks.push_back(std::move(peak));
  }

  // Checks are taken before all else, so that a cell can be refused when it
  // is taken. A check that names no storage or target speaks for all.
  void Distrust(const Record& cell, int entry, Outcome& outcome) const {
    const std::string pass = Get(cell, "pass");
    const std::string dtype = Get(cell, "dtype");
    const std::string target = Get(cell, "target");
    for (const auto& [key, targets] : model_.checks) {
      if (key.pass != pass || !SameName(key.entry, entry)) continue;
      if (!key.dtype.empty() && !dtype.empty() && key.dtype != dtype) continue;
      for (const auto& [name, check] : targets) {
        if (!name.empty() && !target.empty() && name != target) continue;
        if (check.outcome.kind == Outcome::Kind::kFail) {
          outcome = check.outcome;
        }
      }
    }
  }

  bool SameName(int a, int b) const {
    return model_.at(a).name == model_.at(b).name;
  }

  // What was learned through a pass that fails its check means nothing.
  void DistrustCurve(int entry, Curve& curve) const {
    for (const auto& [key, targets] : model_.checks) {
      if (key.pass == "decode" || !SameName(key.entry, entry)) continue;
      for (const auto& [name, check] : targets) {
        if (check.outcome.kind == Outcome::Kind::kFail) {
          curve.outcome = check.outcome;
        }
      }
    }
  }

  // Cells of an entry that are missing for one reason make one line.
  struct Missing {
    Outcome outcome;
    std::set<size_t> settings;
    std::set<std::string> passes;
    std::set<int64_t> lengths;
    int cells = 0;
  };
  using MissingKey = std::pair<int, std::string>;  // entry, reason

  template <class Cell>
  void Collect(size_t setting, const std::string& pass,
               const ByEntry<Cell>& cells,
               std::map<MissingKey, Missing>& missing) const {
    for (const auto& [entry, lengths] : cells) {
      for (const auto& [length, cell] : lengths) {
        if (cell.outcome.ok()) continue;
        const std::string reason = ReasonClass(cell.outcome);
        const auto [it, fresh] = missing.try_emplace({entry, reason});
        Missing& m = it->second;
        if (fresh) m.outcome = cell.outcome;
        if (m.outcome.reason != cell.outcome.reason) m.outcome.reason = reason;
        m.settings.insert(setting);
        m.passes.insert(pass);
        m.lengths.insert(length);
        ++m.cells;
      }
    }
  }

  void AddGaps(const std::string& what,
               const std::map<MissingKey, Missing>& missing) {
    for (const auto& [key, m] : missing) {
      std::vector<std::string> passes;
      for (const char* const pass : kPasses)
        if (m.passes.contains(pass)) passes.emplace_back(pass);
      std::string text = what + ", " + JoinNames(passes) + ", n = ";
      for (const int64_t length : m.lengths)
        text +=
            (length == *m.lengths.begin() ? "" : ", ") + FormatLength(length);
      const size_t all = model_.settings.size();
      if (all > 1)
        text +=
            m.settings.size() > 1
                ? fmt::format(" (in {} of {} settings)", m.settings.size(), all)
                : " (" + model_.settings[*m.settings.begin()].name + ")";
      model_.gaps.push_back({key.first, text, m.outcome, m.cells});
    }
  }

  void ListGaps() {
    std::map<MissingKey, Missing> times, weights;
    for (size_t i = 0; i < model_.settings.size(); ++i) {
      for (const auto& [pass, cells] : model_.settings[i].times)
        Collect(i, pass, cells, times);
      for (const auto& [pass, cells] : model_.settings[i].weights)
        Collect(i, pass, cells, weights);
    }
    AddGaps("time", times);
    AddGaps("memory", weights);
    for (const auto* curves : {&model_.texts, &model_.probes}) {
      for (const auto& [key, curve] : *curves) {
        if (curve.outcome.ok()) continue;
        model_.gaps.push_back(
            {key.entry, key.what + ", " + key.change, curve.outcome});
      }
    }
    SortBy(model_.gaps, [](const Gap& gap) { return gap.entry; });
  }

  static constexpr size_t kMostPixels = 256 * 256;
  Model& model_;
  std::map<std::pair<std::string, bool>, int> places_;  // of entries
};

// Whether the run says that it ended, and how.
void TakeEnd(const Run& run, Model& model) {
  const Record* end = nullptr;
  for (const Record& record : run.records) {
    if (record.kind() == "end") end = &record;
  }
  if (end != nullptr && end->ok()) return;
  model.finished = false;
  model.end_reason = end == nullptr ? "it was killed, or is still going on"
                                    : Clean(end->Text("reason"), 400);
}

// Warnings name the file only: a report does not depend on where it was made.
std::string WithoutFolder(const std::string& warning, const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || !warning.starts_with(path)) return warning;
  return warning.substr(slash + 1);
}

}  // namespace

double Look::value() const {
  double sum = 0;
  for (const auto& [seed, value] : seeds) sum += value;
  return sum / static_cast<double>(seeds.size());
}

std::string ReasonClass(const Outcome& outcome) {
  if (outcome.kind != Outcome::Kind::kSkipped) return outcome.reason;
  return outcome.reason.substr(0, outcome.reason.find(": "));
}

Model MakeModel(const std::vector<Run>& runs) {
  Model model;
  Roster roster;
  for (const Run& run : runs) {
    for (const Record& record : run.records) roster.Take(record);
  }
  model.entries = roster.Finish();
  Builder builder(model);
  for (const Run& run : runs) {
    model.headers.push_back(run.header);
    builder.Note(Clean(run.header.Text("note"), 4000));
    for (const std::string& warning : run.warnings) {
      model.warnings.push_back(Clean(WithoutFolder(warning, run.path), 400));
    }
    TakeEnd(run, model);
    for (const Record& record : run.records) {
      if (record.kind() == "verify") builder.TakeCheck(record);
    }
  }
  for (const Run& run : runs) {
    for (const Record& record : run.records) builder.Take(record);
  }
  builder.Finish();
  return model;
}

}  // namespace saccade::reports
