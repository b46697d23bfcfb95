// Facts about this machine and this build, and what disturbs timing on it.
#ifndef SACCADE_BENCH_MACHINE_H_
#define SACCADE_BENCH_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "record/schema.h"

namespace saccade::bench {

/// Processors that this process may use.
int UsableCores();

/// The fields of a run's header that say where it was made and with what: cpu,
/// cores, memory_bytes, caches, system, targets, target, compiler, flags,
/// libraries, version, commit, machine.
record::Json MachineFacts();

/// Now, as 2025-01-01T12:00:00Z.
std::string UtcNow();

/// One thing that makes timings less sure.
struct Noise {
  std::string reason;  // a sentence with the figure in it
  double value = 0;
};

/// Looks at the machine when made and when asked: load, time stolen by the
/// hypervisor, pressure, frequency scaling, builds without optimisation. What
/// the system does not tell is left out.
class NoiseWatch {
 public:
  NoiseWatch() : start_(Read()) {}

  /// What disturbs before anything of ours runs.
  std::vector<Noise> AtStart() const;

  /// What disturbed since the watch was made.
  std::vector<Noise> SinceStart() const;

 private:
  struct Ticks {
    double all = 0, steal = 0;
  };
  static Ticks Read();
  Ticks start_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_MACHINE_H_
