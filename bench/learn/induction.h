// The induction-distance probe: copying what followed last time, from ever
// farther away.
//
// A sequence holds 16 different names in 4 blocks of 4. Each block comes twice;
// the 8 are shuffled and set at random gaps of filler. From the second token
// on, a second copy can be foretold by whoever finds the first: those tokens
// are scored. (Repeating a segment at a fixed distance would be no such test:
// it can be solved by position alone.)
#ifndef SACCADE_BENCH_LEARN_INDUCTION_H_
#define SACCADE_BENCH_LEARN_INDUCTION_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/random.h"
#include "bench/learn/statistics.h"
#include "bench/learn/train.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

constexpr int64_t kFillers = 16;               // symbols 0 .. 15
constexpr int64_t kInductionSymbols = 65;      // and names 16 .. 63, and BOS
constexpr double kInductionChance = 1.0 / 48;  // a name at random
constexpr int64_t kBlocks = 4, kBlockTokens = 4;
constexpr int64_t kInductionLeast = 2 * kBlocks * kBlockTokens;  // tokens

/// One sequence of tokens.size() >= kInductionLeast. targets: the symbol where
/// it is scored, else -1; distances (may be empty): how far back the first copy
/// of a scored token stands, else 0. tokens are behind BOS, as in TextSequence.
void InductionSequence(Random& random, std::span<int32_t> tokens,
                       std::span<int32_t> targets,
                       std::span<int32_t> distances);

/// Sequences of `len`, fresh at every step.
Batches InductionBatches(int64_t len, uint64_t seed);

/// Answers at one length, by distance: bucket k holds distances in
/// [2^k, 2^(k+1)).
struct InductionReading {
  struct Bucket {
    int64_t right = 0, asked = 0;
  };
  std::vector<Bucket> buckets;
  Bucket all;
};

struct InductionOptions {
  int64_t len = 64;
  int64_t sequences = 128;
  int64_t window = 0;  // as PassOptions
};

/// Sequences to read at `len` when `most` are read at `shortest`: fewer at
/// great lengths, where each costs more and asks as much.
int64_t SequencesAt(int64_t len, int64_t shortest, int64_t most);

/// The share of the answers asked for by ReadInduction whose first copy stands
/// at most `reach` tokens back. N layers with windows of W keys join pairs at
/// most N (W - 1) + 1 apart: the answer stands one place behind its cue.
double InductionShare(const InductionOptions& options, int64_t reach);

/// The same sequences for every model.
Result<InductionReading> ReadInduction(
    const Model& model, const InductionOptions& options, Exec& exec,
    const std::function<bool(int64_t tokens)>& tick);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_INDUCTION_H_
