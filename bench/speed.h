// Times passes of cells that are compared with each other.
#ifndef SACCADE_BENCH_SPEED_H_
#define SACCADE_BENCH_SPEED_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/cold.h"
#include "bench/interrupt.h"
#include "bench/peaks.h"
#include "bench/rounds.h"
#include "bench/workload.h"

namespace saccade::bench {

/// How long and how often. Seconds.
struct SpeedSettings {
  double sample_seconds = 0.005;  // a sample repeats shorter passes
  double cell_seconds = 0.25;     // spent on samples of a cell, about
  int least_rounds = 6;           // fewer give no 95 % interval of the median
  int most_rounds = 60;
  double tight = 0.01;         // enough: half the 95 % interval, of the median
  double longest_pass = 1;     // longer ones are skipped
  double longest_prefill = 3;  // likewise filling a context for decode
  double memory_share = 0.6;   // of what is available now
  uint64_t seed = 1;
};

/// What a pass will take, from what shorter ones took.
class TimeModel {
 public:
  /// `fma_peak`: FLOP/s of one thread.
  explicit TimeModel(double fma_peak) : fma_peak_(fma_peak) {}

  void Learn(const PlannedCell& cell, double seconds);

  /// What filling a decode cell's context took.
  void LearnPrefill(const PlannedCell& cell, double seconds);

  /// Seconds of one run: scaled from the nearest shorter length that was
  /// measured, by work or by bytes, whichever grew more; before that from a
  /// low share of peak.
  double Run(const PlannedCell& cell) const;

  /// Seconds to fill the context of a decode cell.
  double Prefill(const PlannedCell& cell) const;

  /// Seconds of one run with what must come before it.
  double Whole(const PlannedCell& cell) const;

 private:
  struct Seen {
    double flops, bytes, seconds;
  };
  double Scale(const std::string& key, int threads, double flops,
               double bytes) const;

  double fma_peak_;
  std::map<std::string, Seen> seen_;
};

/// What came of a cell.
struct SpeedResult {
  const PlannedCell* planned = nullptr;
  std::string status;  // ok, skipped, unsupported, fail
  std::string reason;
  LaneSummary times;
  double worst = -1;  // of a peer's check, in units of u * size; -1: none
};

/// Runs groups of cells that are to be compared with each other.
class SpeedBench {
 public:
  using Emit = std::function<Status(const SpeedResult&)>;
  using Tick = std::function<void(double seconds_done, std::string_view what)>;
  /// FLOP/s of a dtype, and bytes/s or 0: the machine's peaks at this moment.
  using PeakSample = std::function<void(DType, double flops, double stream)>;

  /// `stream` may be null: then stream_peak stays 0.
  SpeedBench(SpeedSettings settings, const StreamPeak* stream,
             const StopFlag* stop, TimeModel* model)
      : settings_(settings), stream_(stream), stop_(stop), model_(model) {}

  /// Seconds that a cell will take, set-up included; 0 when it is too long.
  double Estimate(const PlannedCell& cell) const;

  /// Why a cell would be skipped with so much time left; empty when it would
  /// not.
  std::string WhySkip(const PlannedCell& cell, double seconds_left) const;

  /// Runs a cell once or twice, for the model to learn its pace.
  void Try(const PlannedCell& cell, Exec& exec);

  /// Measures all cells in interleaved rounds (RunRounds), with the machine's
  /// peaks between. All cells must ask for the same number of threads, which
  /// `exec` has, and the same state of caches. Emits every cell once, unless
  /// stopped. The Status is emit's.
  Status RunGroup(const std::vector<const PlannedCell*>& cells, Exec& exec,
                  double seconds_left, const Emit& emit, const Tick& tick,
                  const PeakSample& peaks);

 private:
  struct Active;
  std::string TooLong(double seconds) const;
  Status RunBatch(const std::vector<const PlannedCell*>& cells, Exec& exec,
                  const Emit& emit, const Tick& tick, const PeakSample& peaks);
  Status Begin(Active* active, Exec& exec);
  Result<double> WarmUp(Active* active, Exec& exec);
  Result<double> WarmUpPeer(Active* active, Exec& exec);
  Result<double> Sample(Active* active, Exec& exec);
  Course Rounds(std::vector<Active>* batch, Exec& exec, const Tick& tick,
                const PeakSample& peaks);
  SpeedResult ResultOf(const Active& active, const Course& course,
                       size_t lane) const;
  bool stopped() const { return stop_ && stop_->load(); }

  SpeedSettings settings_;
  const StreamPeak* stream_;
  const StopFlag* stop_;
  TimeModel* model_;
  std::optional<CacheSweep> sweep_;  // once a cell asks for cold caches
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_SPEED_H_
