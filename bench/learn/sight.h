// Which tokens a model can know of: what its attention may join, all layers
// together.
#ifndef SACCADE_BENCH_LEARN_SIGHT_H_
#define SACCADE_BENCH_LEARN_SIGHT_H_

#include <cstdint>
#include <vector>

#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Found by experiment, without a word about the variant: attention's weights
/// are its output where values are the identity, and a path through the layers
/// is a product of such matrices; where the model shifts, a token brings the
/// one before it. Positions are left out: they weigh tokens, and hide none.
class Sight {
 public:
  /// Of sequences of `len` tokens; n^3 work for variants that do not see all.
  /// Errors as MakePlan.
  static Result<Sight> Of(const Model& model, int64_t len, Exec& exec);

  /// Whether what stands at token `source` can matter at token `at`.
  bool Joins(int64_t source, int64_t at) const {
    if (source > at) return false;
    return all_ || (rows_[at * words_ + source / 64] >> (source % 64) & 1);
  }

  /// Whether every token can know of all before it.
  bool all() const { return all_; }

 private:
  bool all_ = false;
  int64_t words_ = 0;           // of a row
  std::vector<uint64_t> rows_;  // a bit for each source
};

/// Whether decoding carries a state of one size from token to token, however
/// many it may hold: by the plan's own footprint.
Result<bool> HasFixedState(const Model& model, int64_t len);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_SIGHT_H_
