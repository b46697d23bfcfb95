// Training on a probe and reading it: written once for all probes.
#ifndef SACCADE_BENCH_LEARN_PROBING_H_
#define SACCADE_BENCH_LEARN_PROBING_H_

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/train.h"
#include "bench/probes/probe.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// The probe's own model around an attention. Symbols are the probe's and BOS.
ModelOptions ProbeModel(const Probe& probe, const std::string& spec);

/// Sequences of the probe's training length, fresh at every step: token 0 is
/// BOS, token i + 1 is symbol i of the text, and the target at a mark's place
/// is the symbol there.
Batches ProbeBatches(const Probe& probe, uint64_t seed);

/// Sequences to read at `len` when `most` are read at `shortest`: fewer at
/// great lengths, where each costs more and asks as much.
int64_t SequencesAt(int64_t len, int64_t shortest, int64_t most);

/// Answers, and what theory says of them.
struct Score {
  int64_t right = 0, asked = 0;
  int64_t in_sight = 0;  // of those asked; see Facts
  Expectation expected = {};
};

/// What was read at one length.
struct ProbeReading {
  Score tokens;
  /// Answers all of whose symbols are right, each read behind the true ones
  /// before it: just those that greedy decoding would get right. Missing where
  /// every answer is one symbol.
  std::optional<Score> answers;
  std::map<int64_t, Score> buckets;  // of tokens
};

struct ProbeOptions {
  int64_t len = 64;
  int64_t sequences = 128;
};

/// Reads the same sequences for every model. Errors: as Draw and
/// ModelPass::Make. `tick` (may be empty) hears of tokens read and returns
/// false to stop.
Result<ProbeReading> ReadProbe(const Probe& probe, const Model& model,
                               const ProbeOptions& options, Exec& exec,
                               const std::function<bool(int64_t)>& tick);

/// A `probe` record for each score: tokens, whole answers, and tokens by
/// bucket. `base` has the fields that they share.
std::vector<nlohmann::json> ProbeRecords(const Probe& probe,
                                         const ProbeReading& reading,
                                         const nlohmann::json& base);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_PROBING_H_
