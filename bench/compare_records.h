// What a comparison writes into its record, field by field.
#ifndef SACCADE_BENCH_COMPARE_RECORDS_H_
#define SACCADE_BENCH_COMPARE_RECORDS_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "bench/speed.h"
#include "bench/verify.h"
#include "bench/workload.h"
#include "record/record.h"

namespace saccade::bench {

/// The file of a run, written by the work and, when it is cut short, by a
/// watchdog.
class RecordSink {
 public:
  /// Makes the folder and starts `out`/run.jsonl. kInvalid when there is a run
  /// already, kExhausted when the disk has no room for one, kIo.
  static Result<std::unique_ptr<RecordSink>> Create(const std::string& out,
                                                    const record::Json& header);

  /// Goes on with the file of a run that was read.
  static Result<std::unique_ptr<RecordSink>> Resume(const record::Run& run);

  /// Appends; the file is valid after every call. After Finish it refuses.
  Status Write(const record::Json& record);

  /// The last record: how the run ended. Only the first call counts.
  Status Finish(std::string_view status, std::string_view reason,
                double seconds);

  const std::string& path() const { return path_; }

 private:
  explicit RecordSink(record::RecordWriter writer)
      : writer_(std::move(writer)), path_(writer_.path()) {}

  std::mutex mutex_;
  record::RecordWriter writer_;
  std::string path_;
  bool finished_ = false;
};

/// A record of that kind about a cell: what was run, and the command that
/// repeats it alone. `planned` may be null where planning failed.
record::Json CellRecord(std::string_view kind, const CellSpec& cell,
                        const PlannedCell* planned);

/// Marks a record as anything but ok.
record::Json WithStatus(record::Json record, std::string_view status,
                        std::string_view reason);

record::Json SpeedRecord(const SpeedResult& result);

/// Of a peer's cell that computes that spec. `version` and `computes` may be
/// empty where the peer was never heard of, `planned` null.
record::Json PeerRecord(const CellSpec& cell, const PlannedCell* planned,
                        const std::string& version,
                        const std::string& computes);
record::Json VerifyRecord(const VerifySummary& summary, double seconds);
record::Json VariantRecord(const std::string& spec);

/// `samples` in FLOP/s for "fma" and "bf16", in bytes/s for "stream".
record::Json PeakRecord(std::string_view peak, int threads,
                        std::span<const double> samples);

/// A record in a line, for whoever watches: what was measured, what came of it.
/// Empty for what is no measurement.
std::string Brief(const record::Json& record);

/// The command that checks again what failed.
std::string RepeatCheck(const VerifySummary& summary);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COMPARE_RECORDS_H_
