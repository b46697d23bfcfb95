// Measures what a pass adds to a process's memory, in a fresh process.
#ifndef SACCADE_BENCH_MEMORY_H_
#define SACCADE_BENCH_MEMORY_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "bench/interrupt.h"
#include "bench/workload.h"

namespace saccade::bench {

/// The name of the program's hidden command that runs MeasureGrowth.
inline constexpr char kMemoryCommand[] = "measure-memory";

/// A cell as JSON for the command line of a child, and back. kInvalid.
nlohmann::json ToJson(const CellSpec& cell);
Result<CellSpec> CellFromJson(std::string_view text);

/// Bytes that the plan says a run of the cell needs beyond its tensors, and
/// what is learned, which a plan holds as it is before training: what the
/// growth is to agree with.
size_t PlannedBytes(const PlannedCell& cell);

/// In a process that has done nothing else: allocates and fills the tensors,
/// wakes the threads on a tiny problem, then plans, allocates and runs the
/// pass with what must come before it (forward for backward, the whole context
/// for decode) and returns by how many bytes the peak resident memory grew.
Result<int64_t> MeasureGrowth(const CellSpec& cell, uint64_t seed);

/// The same in a child process: `program` with the hidden command. The child
/// is ended when `stop` is set (kInvalid), or after `longest` seconds (kIo).
/// kIo too when it could not be run or ended without an answer, kExhausted when
/// it says why there is none.
Result<int64_t> MeasureGrowthInChild(const std::string& program,
                                     const CellSpec& cell, double longest,
                                     const StopFlag* stop);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_MEMORY_H_
