// A comparison under way: its state, and the steps of it. For compare*.cc
// alone.
#ifndef SACCADE_BENCH_COMPARISON_H_
#define SACCADE_BENCH_COMPARISON_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bench/compare.h"
#include "bench/compare_records.h"
#include "bench/noise.h"
#include "bench/peaks.h"
#include "bench/progress.h"
#include "bench/resume.h"
#include "bench/speed.h"

namespace saccade::bench {

inline constexpr double kChildStart = 0.15;  // seconds, of a child process
inline constexpr std::string_view kTraining = "training";  // a phase

/// Whether a measure is made by training models.
inline bool Trains(std::string_view measure) {
  return measure == "extrapolation" || measure == "probes";
}

class Comparison {
 public:
  Comparison(const CompareOptions& options, const Host& host)
      : o_(options),
        host_(host),
        watch_(MostThreads(), {host.root}),
        progress_(host.err, host.terminal, host.talk == Talk::kQuiet) {}

  int Run();

 private:
  using Clock = std::chrono::steady_clock;
  using PlannedGroup = std::vector<PlannedCell>;

  bool Wants(std::string_view measure) const {
    return o_.measures.contains(measure);
  }
  bool stopped() const { return host_.stop && host_.stop->load(); }
  double Elapsed() const { return Since(start_); }
  static double Since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  }
  Exec& ExecOf(int threads);
  int MostThreads() const;

  Status CheckCorpus();
  Status MeasureAll();
  Status Describe();
  std::vector<std::string> AllSpecs() const;
  Status Peaks();
  Status Gate();
  Status Speed();
  Status SpeedOf(const Part& part, const std::function<double()>& seconds_left);
  Status Memory();
  Status MemoryCell(const Part& part, const CellSpec& cell,
                    double seconds_left);
  Status Lenses();
  Status Learn();
  double TrainingSeconds() const;
  Status Write(const record::Json& record);
  void SamplePeaks(int count);
  Status WritePeaks();
  Status LastPeaks();
  bool QuietEnough();
  void SayNoise();
  Status WriteNoise(const std::vector<Noise>& noise);
  void NoteDrift(const SpeedResult& result);
  Result<PlannedGroup> PlanGroup(const std::vector<CellSpec>& cells,
                                 std::string_view kind);
  void FindPeers();
  Result<PlannedCell> PlanPeer(const OpenedPeer& one, const CellSpec& cell);
  Status PlanPeers(const CellSpec& like, PlannedGroup* group);
  bool Verified(std::string_view name, Pass pass, DType dtype);
  const std::string* GateFailure(const CellSpec& cell) const;
  int DryRun();
  void Calibrate();
  void ForetellSpeed();
  void ForetellMemory();
  Status ForetellTrainings();
  void Foretell(std::string_view measure, int count, double seconds,
                double most);
  Status Begin();
  Status OpenRecord();
  void SayInterrupted();
  int Report(const Status& measured);

  const CompareOptions& o_;
  const Host& host_;
  const Clock::time_point start_ = Clock::now();
  const NoiseWatch watch_;
  std::vector<Noise> noise_;  // found so far
  Progress progress_;
  record::Json header_;
  std::unique_ptr<RecordSink> sink_;
  Recorded recorded_;                  // of the run that this one goes on with
  std::vector<nlohmann::json> looks_;  // through lenses: claims build on them
  std::map<int, std::unique_ptr<Exec>> execs_;
  std::optional<StreamPeak> stream_;
  std::optional<TimeModel> model_;
  std::map<int, std::vector<double>> fma_, bf16_, stream_rates_;  // by threads
  Noise drift_;  // the most within a group's rounds
  std::map<std::string, std::string> failures_;  // by variant, pass, dtype
  bool failed_ = false;
  std::string foretold_;  // a dry run's last lines
  std::string corpus_;
  uint64_t text_ = 0;  // its digest
  std::vector<OpenedPeer> peers_;
  std::map<std::string, Status> offers_;  // by peer and what was asked for
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COMPARISON_H_
