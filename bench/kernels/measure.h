// Times kernels beside the peaks of their target: Google Benchmark's loop.
#ifndef SACCADE_BENCH_KERNELS_MEASURE_H_
#define SACCADE_BENCH_KERNELS_MEASURE_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "bench/kernels/parts.h"
#include "bench/kernels/passes.h"
#include "bench/peaks.h"

namespace saccade::bench::kernels {

/// One benchmark: a kernel, or a part of it, on a target and a width.
struct Case {
  /// tile_forward.scores/causal/AVX2/d64/n1024/f32; a pass has no ".scores".
  std::string Name() const;

  const Kernel* kernel = nullptr;
  const PartEntry* part = nullptr;  // null: the whole pass
  std::string_view target;
  int64_t width = 0;
};

/// Counters of a benchmark. Its label is the unit of its rate.
constexpr std::string_view kFastest = "fastest";  // seconds of the fastest run
constexpr std::string_view kMedian = "median";    // run, likewise
constexpr std::string_view kRate = "rate";        // of the fastest run
constexpr std::string_view kPeak = "peak";        // FLOP/s of the same target
constexpr std::string_view kOfPeak = "of_peak";   // 0 to 1
constexpr std::string_view kOfMachine = "of_machine";  // of the best target's
constexpr std::string_view kOfStream = "of_stream";    // of stream bandwidth

/// Runs cases one after the other. Google Benchmark calls Run more than once
/// for a case: what it runs on is made once.
class Meter {
 public:
  void Run(const Case& c, benchmark::State& state);

 private:
  const Status& MakeReady(const Case& c);
  void Warm();

  std::string at_hand_;  // the name of the case whose work is below
  Result<Work> work_ = Invalid("nothing to run yet");
  int together_ = 1;  // runs that are timed together: an iteration
  std::optional<Result<StreamPeak>> stream_;  // made when first needed
};

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_MEASURE_H_
