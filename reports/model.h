// What the records of one or more runs say, put in order: who was compared,
// and each measurement where a table or a curve will look for it.
#ifndef SACCADE_REPORTS_MODEL_H_
#define SACCADE_REPORTS_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "record/record.h"
#include "reports/stats.h"

namespace saccade::reports {

/// A variant by its full spec, or a peer. Entries are numbered in the order in
/// which tables and legends show them.
struct Entry {
  std::string spec;                   // or the peer's name and version
  std::string name;                   // what stands before ':' or '+'
  std::string title, source, family;  // of a peer: what ran, and how
  int64_t order = 0;
  bool baseline = false;
  bool peer = false;
  int colour = 0;  // place in the palette
  int shape = 0;   // of points: one a family
};

/// Why there is a figure, or why there is none.
struct Outcome {
  enum class Kind : uint8_t { kOk, kFail, kSkipped, kUnsupported, kAbsent };
  Kind kind = Kind::kOk;
  std::string reason, repeat;
  bool ok() const { return kind == Kind::kOk; }
};

/// The passes, in the order of reports.
inline constexpr const char* kPasses[] = {"forward", "backward", "decode"};

/// A reason without its numbers, which differ from cell to cell: what stands
/// before ": " when it was skipped.
std::string ReasonClass(const Outcome& outcome);

/// Time of a pass at one length.
struct Timing {
  Outcome outcome;
  std::string computes;  // of a peer: the variant whose function; or empty
  Estimate ns;
  double flops = kNaN, bytes = kNaN;
  double peak_share = kNaN, bandwidth_share = kNaN;
};

/// Memory of a pass at one length, bytes.
struct Weight {
  Outcome outcome;
  double scratch = kNaN, saved = kNaN, state = kNaN, io = kNaN, growth = kNaN;
  /// Beyond inputs and outputs.
  double working() const { return scratch + saved + state; }
};

template <class Cell>
using ByLength = std::map<int64_t, Cell>;  // tokens of kv_len
template <class Cell>
using ByEntry = std::map<int, ByLength<Cell>>;

/// One thing that the cells of a setting have in common: dtype, "bf16".
struct Facet {
  std::string name, value;
};

/// Cells that were measured with all else equal.
struct Setting {
  std::string name;  // "causal, f32, 8 heads of 64, 2 threads, AVX3"
  std::vector<Facet> facets;
  int64_t threads = 0;
  std::string flags;  // of a command that measures in it
  std::map<std::string, ByEntry<Timing>> times;    // by pass
  std::map<std::string, ByEntry<Weight>> weights;  // by pass
};

/// The setting that a record of time or memory belongs to, without cells.
Setting SettingOf(const record::Record& record);

/// One variant held against its oracle in one pass and storage.
struct Check {
  Outcome outcome;
  int64_t cases = 0, failures = 0;
  double kappa = kNaN, worst = kNaN;
};
struct CheckKey {
  int entry = 0;
  std::string pass, dtype;
  auto operator<=>(const CheckKey&) const = default;
};

/// What theory foretold of an accuracy: that it lies in [low, high].
struct Foretold {
  double low = kNaN, high = kNaN;
  std::string why;
  bool known() const { return low > 0 || high < 1; }
};

/// Changes at test time that the report speaks of; others it only shows.
inline constexpr char kPlain[] = "plain", kWindow[] = "window";
/// In place of a change at test time: whole answers of a probe, not symbols.
inline constexpr char kWhole[] = "whole answers";

/// A reading against length: of text (bits a byte) or of a probe (accuracy).
struct CurveKey {
  std::string what;  // the protocol or the probe
  int entry = 0;
  std::string change;  // at test time: plain, window, ...; kWhole
  /// By protocol and entry; as trained first, then under a window.
  bool operator<(const CurveKey& other) const {
    const auto rank = [](const std::string& c) {
      return c == kPlain ? 0 : c == kWindow ? 1 : 2;
    };
    return std::tuple(what, entry, rank(change), change) <
           std::tuple(other.what, other.entry, rank(other.change),
                      other.change);
  }
};
struct Curve {
  Outcome outcome;
  int64_t train_len = 0;
  double chance = kNaN;
  std::map<int64_t, BySeed> seeds;       // by x
  std::map<int64_t, Estimate> points;    // by x: over seeds
  std::map<int64_t, Foretold> foretold;  // by x: of a probe
};

/// What a probe is, in its own words.
struct ProbeText {
  std::string title, source, expected, bucket;
};

struct Training {
  int entry = 0;
  std::string task, model;
  bool by_flops = false;  // see record/schema.h: match
  int64_t seed = 0, params = 0, steps = 0, tokens = 0, train_len = 0;
  double flops = kNaN, seconds = kNaN, gflops = kNaN, final_loss = kNaN;
  std::vector<double> loss;
};

/// What a lens read of a variant by itself, or in a model.
struct Look {
  int entry = 0;
  std::string lens;
  std::string subject;        // inputs, fresh, trained
  std::string how, expected;  // see record/schema.h: title, expected
  std::map<int64_t, double> seeds = {};
  std::string picture = {};  // [size, size] characters; of the first seed
  int64_t size = 0;
  std::vector<double> curve = {};  // by distance; of the first seed
  double value() const;            // mean over seeds
};

struct Claim {
  int64_t number = 0;
  std::string claim, expected, measured, verdict, variant;
};

/// Measurements that are missing, and why.
struct Gap {
  int entry = 0;
  std::string what;  // "time, forward, n = 8k, 16k"
  Outcome outcome;
  int cells = 1;
  bool training = false;  // of a model, not a cell
};

struct Peak {
  std::string name, target;
  int64_t threads = 0;
  double gflops = kNaN, gbps = kNaN;
};

struct Model {
  std::vector<record::Record> headers;
  std::vector<Entry> entries;
  std::vector<Setting> settings;  // the one with most cells first
  std::map<CheckKey, std::map<std::string, Check>> checks;  // by target
  std::map<CurveKey, Curve> texts, probes;
  std::map<CurveKey, Curve> texts_by_flops;  // of models matched by FLOPs
  /// By probe, entry and length: accuracy against the bucket.
  std::map<CurveKey, std::map<int64_t, Curve>> probe_parts;
  std::map<std::string, ProbeText> probe_texts;
  std::vector<std::string> protocols, probe_names;  // the headline first
  std::vector<std::pair<std::string, double>> anchors;
  std::vector<Training> trainings;
  std::vector<Look> looks;  // in the order of the records
  std::vector<Claim> claims;
  std::vector<Gap> gaps;
  std::vector<Peak> peaks;
  std::vector<std::string> notes;     // noise, notes of headers
  std::vector<std::string> warnings;  // lines that could not be read
  bool finished = true;               // all runs came to their end
  std::string end_reason;

  const Entry& at(int entry) const {
    return entries[static_cast<size_t>(entry)];
  }
  const Setting* setting() const {
    return settings.empty() ? nullptr : &settings.front();
  }
};

/// Pools the records of runs; a later record of the same cell counts. Cells of
/// a variant that failed its check in the same pass become failures. All texts
/// are Clean.
Model MakeModel(const std::vector<record::Run>& runs);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_MODEL_H_
