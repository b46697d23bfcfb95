// Going on with a run that was cut short.
#ifndef SACCADE_BENCH_RESUME_H_
#define SACCADE_BENCH_RESUME_H_

#include <string>
#include <unordered_map>

#include "record/record.h"
#include "saccade/status.h"

namespace saccade::bench {

/// What a run recorded before it was cut short; empty for a new run.
class Recorded {
 public:
  Recorded() = default;
  explicit Recorded(record::Run run);

  /// The record of the same measurement, whatever came of it; null when it is
  /// still to be made.
  const record::Record* Find(const record::Json& like) const;

  const record::Run& run() const { return run_; }

  /// Whether it ended by itself.
  bool Complete() const;

 private:
  record::Run run_;
  std::unordered_map<std::string, size_t> places_;  // by identity
};

/// Whether the folder holds a run that was killed before anything of it was
/// recorded, not even how it began.
bool NothingBegun(const std::string& folder);

/// Ok when a run with this header may go on under that one: the same machine,
/// build, settings and text. kInvalid with the first that differs, and both
/// values.
Status CheckSameRun(const record::Record& before, const record::Json& now);

/// 64 bits that differ between files, as hexadecimal; "unknown" when it cannot
/// be read.
std::string DigestOfFile(const std::string& path);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_RESUME_H_
