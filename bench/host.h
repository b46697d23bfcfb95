// Where a command runs, and how it ends.
#ifndef SACCADE_BENCH_HOST_H_
#define SACCADE_BENCH_HOST_H_

#include <iosfwd>
#include <string>
#include <string_view>

#include "bench/interrupt.h"
#include "bench/peer.h"

namespace saccade::bench {

/// Exit codes of the program.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRegression = 1;  // of two runs that were compared
inline constexpr int kExitUsage = 2;  // also what cannot be read or written
inline constexpr int kExitFailedCheck = 3;
inline constexpr int kExitNoisy = 4;  // with --strict
inline constexpr int kExitInterrupted = 130;

/// How much is said on the way to the results.
enum class Talk {
  kQuiet,    // errors alone
  kNormal,   // progress and notes
  kVerbose,  // and each measurement as it is made
};

/// Where a command runs: its streams and what it may touch of the process.
struct Host {
  std::ostream& out;                       // results
  std::ostream& err;                       // messages
  bool terminal = false;                   // whether err is one
  std::string program = "/proc/self/exe";  // for child processes
  StopFlag* stop = nullptr;
  /// Ends the process when work goes on too long after an interrupt.
  bool may_exit = false;
  PeerPlaces places = DefaultPeerPlaces();
  std::string root = {};  // before /proc and /sys, where noise is looked for
  Talk talk = Talk::kNormal;
};

/// A message on host.err, as one line; characters that would speak to a
/// terminal are replaced, whoever is quoted.
void Say(const Host& host, std::string_view message);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_HOST_H_
