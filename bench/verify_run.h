// Runs passes of a plan in guarded memory, and compares.
#ifndef SACCADE_BENCH_VERIFY_RUN_H_
#define SACCADE_BENCH_VERIFY_RUN_H_

#include <array>
#include <deque>
#include <string>
#include <vector>

#include "bench/verify_data.h"
#include "bench/verify_reference.h"

namespace saccade::bench {

/// Inputs in guarded memory.
class Operands {
 public:
  Operands(const Variant& variant, const Problem& problem, const Data& data,
           Layout layout);
  Inputs inputs() const;
  /// Whether the inputs hold, to the bit, what they were made with.
  bool Unchanged() const;

 private:
  std::deque<Tensor> tensors_;  // q, k, v, then the extras
  std::deque<Tensor> bias_;     // one, or none
  std::deque<MaskTensor> mask_;
  std::vector<std::vector<std::byte>> before_;
};

/// What a run wrote, in [B, H, T, D] order.
struct Written {
  std::vector<double> out, lse;
  std::array<std::vector<double>, kBias + 1> gradients;
  /// A refusal, or memory touched that is not the pass's: why, in a line.
  std::string trouble;
};

/// Runs a case's pass once on `data`, on `exec` instead of the case's slots.
/// `problem` is the resolved one of the whole sequence. All memory that is
/// written is poisoned before.
Written RunPass(const CheckCase& c, const Plan& plan, const Problem& problem,
                const Data& data, Exec& exec);

/// Runs a case against its reference.
CheckResult RunCase(const CheckCase& c, const Reference& reference);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERIFY_RUN_H_
