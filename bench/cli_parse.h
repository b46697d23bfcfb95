// The small languages of the command line: sweeps, lists, globs, durations.
#ifndef SACCADE_BENCH_CLI_PARSE_H_
#define SACCADE_BENCH_CLI_PARSE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// A positive whole number with an optional k (1024) or m (1024 k): "16k".
Result<int64_t> ParseCount(std::string_view text);

/// Items separated by commas, each a count or a sweep first:last:xFACTOR or
/// first:last:+STEP, ends included: "256:16k:x2", "100,1k:4k:+1k". Ascending,
/// without repeats. At most 1000 numbers. kInvalid says at which character.
Result<std::vector<int64_t>> ParseSweep(std::string_view text);

/// What --help says of sweeps.
inline constexpr char kSweepHelp[] = R"(
Numbers are written as lists and sweeps, in any mixture:
  512,16k,1m         each by itself; k is 1024, m is 1024 k
  256:16k:x2         from 256 to 16k, each twice the last: 256, 512, ..., 16k
  1k:4k:+1k          from 1k to 4k in steps of 1k: 1k, 2k, 3k, 4k
  128,1k:8k:x2,10k   several of these, put in order, each once
The last number of a sweep is taken only where a step ends on it.)";

/// Seconds from "90", "90s", "5m", "1.5h"; positive.
Result<double> ParseDuration(std::string_view text);

/// Bytes from "512", "64KiB", "1.5GiB" or "2GB"; positive.
Result<double> ParseBytes(std::string_view text);

/// "42 s", "12:30 min", "1:02:03 h"; what is left of a second counts as one.
std::string FormatDuration(double seconds);

/// Parts between separators, spaces trimmed, empty parts dropped.
std::vector<std::string> Split(std::string_view text, char separator);

/// Parts between commas, except before knob=value, which goes on with a spec:
/// "a.b:size=4,sinks=2,c.d" are two.
std::vector<std::string> SplitSpecs(std::string_view text);

/// Whether `name` matches a pattern in which * stands for any text and ? for
/// any one character.
bool GlobMatches(std::string_view pattern, std::string_view name);

/// Whether one of the patterns matches a spec string, or its variant's name
/// alone. An empty spec is matched by none.
bool AnyMatches(const std::vector<std::string>& patterns,
                std::string_view spec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CLI_PARSE_H_
