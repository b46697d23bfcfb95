// What people read: a row a benchmark, then the passes' shares of peak side by
// side, and where the forward passes' time went.
#ifndef SACCADE_BENCH_KERNELS_TABLE_H_
#define SACCADE_BENCH_KERNELS_TABLE_H_

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "bench/kernels/measure.h"

namespace saccade::bench::kernels {

class TableReporter : public benchmark::BenchmarkReporter {
 public:
  /// `cases`: all that may run; they outlive the reporter.
  explicit TableReporter(const std::vector<Case>& cases) : cases_(cases) {}

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

 private:
  struct Result {
    double time = 0;   // see TimeOf
    double share = 0;  // % of peak, or of stream bandwidth
  };
  void PrintShares() const;
  void PrintSplit(const Case& pass) const;
  /// Multiply-adds that the target's peak makes in the time of a case's fastest
  /// run: a measure of time that the clock's changes leave alone. 0: not run.
  double TimeOf(const Case& c) const;

  const std::vector<Case>& cases_;
  std::map<std::string, Result> results_;  // by name
  int width_ = 0;                          // of names
};

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_TABLE_H_
