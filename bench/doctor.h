// Looks at this machine: whether what is timed on it can be trusted, and what
// to do about it.
#ifndef SACCADE_BENCH_DOCTOR_H_
#define SACCADE_BENCH_DOCTOR_H_

#include <string>
#include <string_view>
#include <vector>

#include "bench/host.h"
#include "bench/noise.h"
#include "record/schema.h"

namespace saccade::bench {

enum class Level : uint8_t { kOk, kNote, kWarning };
std::string_view NameOf(Level level);  // "ok", "note", "warning"

/// One thing that was looked at.
struct Finding {
  std::string subject;  // "memory"
  Level level = Level::kOk;
  std::string what;    // what was found, with its figures
  std::string advice;  // what to do about it; empty when there is nothing
};

struct Examination {
  std::vector<Finding> findings;
  std::vector<Noise> noise;  // warnings among the findings
  record::Json facts;        // as in a run's header
  record::Json peaks;        // as records of kind peak
};

/// Takes a second or two, most of it for the peaks on one and on all threads.
Examination Examine(const Host& host);

/// What to do about noise of that name; empty for one that is not known.
std::string_view AdviceOn(std::string_view noise);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_DOCTOR_H_
