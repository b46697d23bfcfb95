// Length extrapolation: trains a tiny byte-level language model and probes for
// each variant at a short length, reads them at longer ones, and states the
// suite's claims with what was measured.
#ifndef SACCADE_BENCH_EXTRAPOLATION_H_
#define SACCADE_BENCH_EXTRAPOLATION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/probes/probe.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// What to train and how to read it. The defaults are the quick profile's.
struct LearnOptions {
  // Trained in the order of these lists, by turns.
  std::vector<std::string> specs;        // on text
  std::vector<std::string> probe_specs;  // on each of the probes
  std::vector<const Probe*> probes = {Probes().front()};
  std::vector<uint64_t> seeds = {1};

  int64_t width = 64, layers = 2, heads = 8;
  int64_t train_len = 128;  // tokens, the beginning-of-sequence one included
  int64_t steps = 400;
  int64_t tokens_per_step = 2048;
  double rate = 4e-3;                                 // AdamW's peak
  std::vector<int64_t> multiples = {1, 2, 4, 8, 16};  // of train_len
  int64_t test_bytes = 65536;  // read by `nonoverlap` and `tail`
  int64_t targets = 64;        // segments scored by `same-target`

  int64_t probe_max_len = 2048;  // longer ones are not read
  double probe_effort = 1;       // steps, as multiples of each probe's own
  int64_t probe_tokens_per_step = 2048;
  int64_t probe_sequences = 128;  // read at each length, fewer at great ones

  /// Files of text, the last one for testing; a lone file gives its last
  /// tenth. Empty: Jane Austen's novels, fetched through apt into the cache.
  std::vector<std::string> corpus;
  /// Where fetched text is kept. Empty: $XDG_CACHE_HOME/saccade, else
  /// ~/.cache/saccade.
  std::string cache;

  /// Seconds in all; 0: no limit. A model whose estimate is more than what is
  /// left when its turn comes is not trained, and recorded as skipped.
  double budget_seconds = 0;

  /// Which specs each claim is about, by role ("alibi", "rope", "window" ...).
  std::map<std::string, std::vector<std::string>> roles;
};

/// Reads the keys of a profile that concern training: "learn" and "probe"
/// (lists of spec strings), "probes" (a list of probes' names),
/// "learn_settings" (the numbers above by name) and "claims" (roles). Absent
/// keys leave defaults. kInvalid or kNotFound names the key.
Result<LearnOptions> LearnOptionsFrom(const nlohmann::json& profile);

/// How a run talks to its caller. All may be empty.
struct LearnHooks {
  /// Receives every record as it is made; an error stops the run.
  std::function<Status(const nlohmann::json&)> record;
  /// Share of the work done so far, in [0, 1], and what is being done.
  std::function<void(double fraction, std::string_view text)> progress;
  /// True when the records of this task ("text", or a probe's name) for this
  /// spec and seed exist already and need not be made again.
  std::function<bool(std::string_view task, std::string_view spec,
                     uint64_t seed)>
      have;
  /// Records that exist already; claims are judged on them too.
  std::vector<nlohmann::json> known;
  /// Set by the caller to stop at the next step; the run then returns ok with
  /// what it has recorded, claims excepted.
  const std::atomic<bool>* cancel = nullptr;
};

/// Trains and reads everything. Records: `train` (loss curve, parameters,
/// GFLOP/s, also one for the text's anchors), `extrapolation`, `probe`, and
/// twelve `claim`s. A spec that cannot be trained becomes a record with status
/// `unsupported` and its reason; the others go on. Errors: the corpus cannot
/// be had, an option is impossible, a record cannot be written.
Status RunExtrapolation(const LearnOptions& options, Exec& exec,
                        const LearnHooks& hooks);

/// Seconds that RunExtrapolation would take, from a calibration of about a
/// second; for plans and dry runs.
Result<double> EstimateExtrapolation(const LearnOptions& options, Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_EXTRAPOLATION_H_
