// Going on with a run that was cut short.
#ifndef SACCADE_BENCH_RESUME_H_
#define SACCADE_BENCH_RESUME_H_

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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

/// Fields of a header that tell machines of different kinds apart.
inline constexpr std::array<std::string_view, 3> kMachineFields = {
    "cpu", "cores", "target"};

/// What two headers say differently.
struct HeaderDifference {
  std::string_view field, name;  // "cpu", "processor"
  std::string there, here;       // as JSON
};

/// The first of what makes measurements comparable that differs between two
/// headers, but for these fields: machine, build, settings, text.
std::optional<HeaderDifference> DifferenceOf(
    const record::Json& there, const record::Json& here,
    std::span<const std::string_view> but = {});

/// Ok when a run with this header may go on under that one: the same machine,
/// build, settings and text. kInvalid with the first that differs, and both
/// values.
Status CheckSameRun(const record::Record& before, const record::Json& now);

/// 64 bits that differ between files, as hexadecimal; "unknown" when it cannot
/// be read.
std::string DigestOfFile(const std::string& path);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_RESUME_H_
