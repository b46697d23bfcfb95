// Two programs timed in turn, cell by cell.
#ifndef SACCADE_BENCH_VERSUS_H_
#define SACCADE_BENCH_VERSUS_H_

#include <array>
#include <string>

#include "bench/compare.h"
#include "bench/host.h"

namespace saccade::bench {

struct VersusOptions {
  std::array<std::string, 2> programs;  // paths: A, B
  CompareOptions cells;  // what is timed; out, note, seconds of "speed"
  double handicap = 0;   // each timed pass of B is made longer by this share
  uint64_t seed = 1;
};

/// The folders under `out` that the records of A and B go to.
inline constexpr std::array<const char*, 2> kVersusFolders = {"old", "new"};

/// Checks and times every cell in both programs. A cell has turns: in each both
/// programs are started anew, so that where code and memory came to lie is
/// another draw, as from run to run; set up; and sampled in the order A B B A
/// A B, one stopped while the other runs. A turn's time is the median of its
/// samples. Turns end when the ratio is known to one per cent or the cell's
/// share of the time is up.
///
/// Writes two runs whose headers have the same `pair`: time i of a cell of one
/// was taken beside time i of the other, which is what `saccade diff` takes
/// their ratios from. Returns an exit code; says on host.err what went wrong.
int Versus(const VersusOptions& options, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERSUS_H_
