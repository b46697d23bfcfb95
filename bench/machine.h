// Facts about this machine and this build.
#ifndef SACCADE_BENCH_MACHINE_H_
#define SACCADE_BENCH_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "record/schema.h"

namespace saccade::bench {

/// Numbers of the processors that this process may use; one at least.
std::vector<int> UsableProcessors();

/// How many they are.
int UsableCores();

/// Bytes of the largest cache that the system tells of; 0 when it tells of
/// none.
size_t LargestCacheBytes();

/// The fields of a run's header that say where it was made and with what: cpu,
/// cores, memory_bytes, caches, system, targets, target, compiler, flags,
/// libraries, version, commit, machine.
record::Json MachineFacts();

/// Now, as 2025-01-01T12:00:00Z.
std::string UtcNow();

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_MACHINE_H_
