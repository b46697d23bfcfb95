// The command line of the `saccade` program.
#ifndef SACCADE_BENCH_CLI_H_
#define SACCADE_BENCH_CLI_H_

#include <map>
#include <memory>
#include <span>
#include <string>

#include "bench/command.h"
#include "bench/host.h"

namespace saccade::bench {

/// The program's options and commands, ready to parse a command line.
struct CommandLineParser {
  std::unique_ptr<CLI::App> app;
  std::map<std::string, Action> actions;  // by command
};
CommandLineParser MakeParser();

/// Runs a command: `arguments` without the program's name. Results go to
/// host.out, messages to host.err; returns the exit code.
int RunCommand(std::span<const std::string> arguments, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CLI_H_
