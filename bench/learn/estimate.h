// How long a run of the trainer will take, from a short calibration.
#ifndef SACCADE_BENCH_LEARN_ESTIMATE_H_
#define SACCADE_BENCH_LEARN_ESTIMATE_H_

#include <cstdint>

#include "bench/learn/model.h"
#include "bench/learn/switches.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Seconds that pieces of work take with one model on one Exec.
struct Speed {
  double step = 0;        // of training
  double near_token = 0;  // of reading, at the training length
  double far_token = 0;   // and at the longest
  int64_t near = 1, far = 1;

  /// Reading one token among `len`: between the two it grows linearly, as all
  /// attention does at most.
  double Token(int64_t len) const {
    if (far == near) return near_token;
    const double share =
        static_cast<double>(len - near) / static_cast<double>(far - near);
    return near_token + share * (far_token - near_token);
  }
};

/// Times a step of `batch` sequences of `len` tokens and one pass at `len` and
/// at `longest` (0.1 to 0.5 s for a small model). Errors as ModelPass::Make.
Result<Speed> Calibrate(const ModelOptions& options, int64_t batch, int64_t len,
                        int64_t longest, Exec& exec);

/// Seconds a token of reading `len` tokens at once, changed as it says; the
/// model has values. Errors as ModelPass::Make.
Result<double> TimeReading(Model& model, int64_t len, const Changes& changes,
                           Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_ESTIMATE_H_
