// AdamW (Loshchilov & Hutter 2019) with warm-up, a cosine and clipping.
#ifndef SACCADE_BENCH_LEARN_OPTIMISER_H_
#define SACCADE_BENCH_LEARN_OPTIMISER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "bench/learn/parameters.h"
#include "saccade/exec.h"

namespace saccade::bench {

struct OptimiserOptions {
  double rate = 4e-3;  // at the end of the warm-up
  int64_t steps = 400;
  int64_t warmup = 50;      // steps
  double last_rate = 0.05;  // share of rate left at the last step
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8;
  double decay = 0.1;  // of matrices; vectors do not decay
  double clip = 1;     // largest norm of the whole gradient
};

/// What an optimiser remembers of the steps it took.
struct Moments {
  int64_t step = 0;  // steps taken
  std::vector<float> first, second;
};

class Optimiser {
 public:
  Optimiser(const Parameters& parameters, const OptimiserOptions& options)
      : options_(options),
        moments_{0, std::vector<float>(parameters.count()),
                 std::vector<float>(parameters.count())} {}

  /// Goes on from another's moments, of as many parameters.
  Optimiser(Moments moments, const OptimiserOptions& options)
      : options_(options), moments_(std::move(moments)) {}

  /// Takes one step down the gradients; returns their norm before clipping.
  double Step(Parameters& parameters, Exec& exec);

  /// The learning rate of a step, from 0.
  double Rate(int64_t step) const;

  const Moments& moments() const { return moments_; }

 private:
  OptimiserOptions options_;
  Moments moments_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_OPTIMISER_H_
