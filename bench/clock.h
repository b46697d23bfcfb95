// Time as a value that tests can set.
#ifndef SACCADE_BENCH_CLOCK_H_
#define SACCADE_BENCH_CLOCK_H_

#include <chrono>
#include <functional>

namespace saccade::bench {

/// Seconds since some moment, never less than at the call before.
using Clock = std::function<double()>;

/// The machine's own.
inline double SteadySeconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CLOCK_H_
