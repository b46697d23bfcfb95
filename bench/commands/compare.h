// How recorded comparisons were begun, from the command in their header.
#ifndef SACCADE_BENCH_COMMANDS_COMPARE_H_
#define SACCADE_BENCH_COMMANDS_COMPARE_H_

#include <span>
#include <string>
#include <string_view>

#include "bench/compare.h"
#include "record/record.h"

namespace saccade::bench {

/// What the command line of a recorded run said. kInvalid when it cannot be
/// read.
Result<CompareOverrides> RecordedOverrides(const record::Run& run);

/// What a shell would take for these arguments, after the program's name.
std::string CommandLine(std::span<const std::string> arguments);

/// The command that measures in one run what this one measured a shard of, as
/// a shell would take it; into no particular folder.
std::string WholeCommand(std::string_view command);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COMMANDS_COMPARE_H_
