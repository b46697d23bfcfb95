// Which variant to take for a problem: by time foretold from measurements of
// this machine, among those that fit and whose quality is known to do.
#ifndef SACCADE_BENCH_RECOMMEND_H_
#define SACCADE_BENCH_RECOMMEND_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bench/predict.h"
#include "bench/quality.h"
#include "bench/workload.h"

namespace saccade::bench {

/// A model that needs this much more of bits a byte than the best is not one to
/// choose for language, and one that recalls this much less not for recall.
inline constexpr double kWorseLanguage = 0.05;  // share
inline constexpr double kWorseRecall = 0.1;     // of answers

/// What its models must be able to do.
enum class Need : uint8_t { kAny, kLanguage, kRecall };

inline constexpr Need kNeeds[] = {Need::kAny, Need::kLanguage, Need::kRecall};

/// "any", "language", "recall".
const char* NameOf(Need need);

/// What is wanted.
struct Wish {
  CellSpec cell;  // its spec is left open
  Need need = Need::kAny;
  double memory = 0;      // bytes at most, of all layers; 0: no limit
  int64_t layers = 1;     // that each keep a state, or what backward needs
  int64_t train_len = 0;  // tokens the model is trained at; 0: the length
  /// Multiple of the training length that is read.
  double times() const;
};

/// Exact bytes of the pass: what each layer keeps, and what all share.
struct PassBytes {
  size_t kept = 0;     // state, or saved for backward; of all layers
  size_t scratch = 0;  // of one pass
  size_t io = 0;       // inputs and outputs of one pass
  double all() const { return static_cast<double>(kept + scratch + io); }
};

/// A variant that will do, or why it will not.
struct Candidate {
  std::string spec;
  std::string rejected;           // one reason; empty: it will do
  std::optional<double> seconds;  // foretold, of a pass (a token, decoding)
  bool timed = false;             // with these very knobs and positions
  PassBytes bytes;
  std::optional<Reading> language, recall;
  std::optional<double> measured;  // seconds, just now, when checked
};

/// All candidates: those that will do first, the fastest first; then the
/// others in report order.
struct Recommendation {
  std::vector<Candidate> candidates;
  HeldOut held_out;      // of the variants that will do, or of all
  bool of_rest = false;  // the former
};

/// Judges `specs`. `failed` are names of variants whose check failed in the
/// pass; `quality` may be null: then nothing is known, and only Need::kAny can
/// be met.
Recommendation Recommend(const Wish& wish,
                         const std::vector<std::string>& specs,
                         const TimePredictor& times, const Quality* quality,
                         const std::set<std::string>& failed);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_RECOMMEND_H_
