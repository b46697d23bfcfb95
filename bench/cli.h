// The command line of the `saccade` program.
#ifndef SACCADE_BENCH_CLI_H_
#define SACCADE_BENCH_CLI_H_

#include <span>
#include <string>

#include "bench/compare.h"

namespace saccade::bench {

/// Runs a command: `arguments` without the program's name. Results go to
/// host.out, messages to host.err; returns the exit code.
int RunCommand(std::span<const std::string> arguments, const Host& host);

// The commands; each returns an exit code.

struct ListOptions {
  bool json = false;
  bool probes = false;     // which of the two is called
  bool positions = false;  // these, instead of variants
};
int ListVariants(const ListOptions& options, const Host& host);
int ListProbes(const ListOptions& options, const Host& host);

struct VerifyOptions {
  std::string only;    // globs; empty: all
  std::string target;  // empty: all that this machine runs
  std::string effort = "full";
  std::string one_case;  // not empty: this case alone
  int threads = 0;       // 0: all cores
};
int VerifyVariants(const VerifyOptions& options, const Host& host);

struct ReportOptions {
  std::vector<std::string> runs;  // files, or folders with a run.jsonl
  std::string out;                // empty: the folder of the first run
};
int MakeReport(const ReportOptions& options, const Host& host);

/// Says a status on host.err and returns kExitUsage.
int Complain(const Status& status, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CLI_H_
