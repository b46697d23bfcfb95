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
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/protocols.h"
#include "bench/learn/switches.h"
#include "bench/probes/probe.h"
#include "bench/shard.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Trainings to drop when time is short: all that match. Empty: any.
struct DropRule {
  std::string task;      // "text" or a probe's name
  std::string variants;  // a glob over spec strings
  std::optional<uint64_t> seed;
};

/// Trainings of one task for some variants only.
struct FurtherTask {
  std::string task;  // "text" or a probe's name
  std::vector<std::string> specs;
  std::vector<uint64_t> seeds;  // of LearnOptions::seeds; empty: all
};

/// What to train and how to read it. The defaults are the quick profile's.
struct LearnOptions {
  // Trained seed by seed in the order of these lists, by turns. All models of a
  // seed start alike and read the same data in the same order.
  std::vector<std::string> specs;        // on text
  std::vector<std::string> probe_specs;  // on each of the probes
  std::vector<const Probe*> probes = {Probes().front()};
  std::vector<uint64_t> seeds = {1};
  /// Behind these lists, with each seed.
  std::vector<FurtherTask> further;

  /// Specs that are trained on text once more, after all others, with the steps
  /// that make their FLOPs those of the reference: the first of `specs` where
  /// that is empty.
  std::vector<std::string> flop_matched;
  std::string flop_reference;

  int64_t width = 64, layers = 2, heads = 8;
  int64_t train_len = 128;  // tokens, the beginning-of-sequence one included
  int64_t steps = 400;
  int64_t warmup = 50;  // of them, to reach the rate; of text
  int64_t tokens_per_step = 2048;
  double rate = 4e-3;                                 // AdamW's peak
  std::vector<int64_t> multiples = {1, 2, 4, 8, 16};  // of train_len
  std::vector<const Protocol*> protocols = AllProtocols();
  /// Each model of text is read under those that it allows.
  std::vector<const Switch*> switches = {&Switches()[0], &Switches()[1]};
  bool look = false;           // through all lenses at each, once trained
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

  /// Seconds in all; 0: no limit. What is foretold to go beyond is dropped
  /// before anything is trained, by these rules in turn, and recorded as
  /// skipped; so is a model whose time is short when its turn comes after all.
  double budget_seconds = 0;
  std::vector<DropRule> drops;

  /// A folder for the models of text, each in a .safetensors file that `saccade
  /// generate` reads. Empty: none.
  std::string save_models;

  /// Seconds between checkpoints: what a killed run loses at most.
  double checkpoint_seconds = 15;

  /// Of several that share the trainings; claims are judged when they are put
  /// together.
  Shard shard;

  /// Which specs each claim is about, by role ("alibi", "rope", "window" ...).
  std::map<std::string, std::vector<std::string>> roles;
};

/// Reads the keys of a profile that concern training: "learn", "flop_matched"
/// and "probe" (lists of spec strings), "probes", "protocols" and "switches"
/// (lists of names), "further" (a list of objects: "task", "variants", and
/// "seeds" where not all), "learn_settings" (the numbers above by name), "drop"
/// (a list of objects: "task", "variants", "seed") and "claims" (roles). Absent
/// keys leave defaults. kInvalid or kNotFound names the key.
Result<LearnOptions> LearnOptionsFrom(const nlohmann::json& profile);

/// How a run talks to its caller. All may be empty.
struct LearnHooks {
  /// Receives every record as it is made; an error stops the run.
  std::function<Status(const nlohmann::json&)> record;
  /// Seconds since the start, seconds to go as far as is known, and what is
  /// being done.
  std::function<void(double spent, double rest, std::string_view text)>
      progress;
  /// Sentences worth keeping: a model is trained, some are dropped.
  std::function<void(const std::string& sentence)> note;
  /// Records that exist already. What is in them is not trained again; claims
  /// are judged on them too.
  std::vector<nlohmann::json> known;
  /// A file for the state of the training under way; a run with the same
  /// options goes on from it, to the same bits. Empty: none.
  std::string checkpoint;
  /// Set by the caller to stop at the next step; the run then returns ok with
  /// what it has recorded, claims excepted.
  const std::atomic<bool>* cancel = nullptr;
};

/// Trains and reads everything. Records: `train` (loss curve, parameters,
/// GFLOP/s, also one for the text's anchors), `extrapolation`, `probe`, `lens`
/// and fifteen `claim`s. A spec that cannot be trained becomes a record with
/// status `unsupported` and its reason; the others go on. Errors: the corpus
/// cannot be had, an option is impossible, a record cannot be written.
Status RunExtrapolation(const LearnOptions& options, Exec& exec,
                        const LearnHooks& hooks);

/// A training as it is planned.
struct PlannedTraining {
  std::string task, spec;
  uint64_t seed = 0;
  bool by_flops = false;  // steps matched to another's FLOPs
  double flops = 0;       // of training: see Model::FlopsPerToken
  double gflops = 0;      // a second, measured on this machine just now
  double seconds = 0;     // with reading
  Status status = {};     // why it will not run
};

/// What RunExtrapolation would train, and what of it its budget drops. Takes
/// about half a second for each small model.
Result<std::vector<PlannedTraining>> PlanTrainings(const LearnOptions& options,
                                                   Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_EXTRAPOLATION_H_
