// A command of the program, `saccade NAME ...`: what it is called, its options,
// and what it does.
#ifndef SACCADE_BENCH_COMMAND_H_
#define SACCADE_BENCH_COMMAND_H_

#include <functional>
#include <span>
#include <string>

#include "bench/host.h"
#include "saccade/status.h"

namespace CLI {
class App;
}

namespace saccade::bench {

/// A command line whose options were read.
struct Invocation {
  const Host& host;
  std::span<const std::string> arguments;  // all, without the program's name
  const CLI::App& app;                     // the command's own, parsed
};

/// Runs a command; returns an exit code.
using Action = std::function<int(const Invocation&)>;

/// To add a command: a file of bench/commands/ that defines one of these in
/// namespace commands, and a line in commands.def.
struct Command {
  const char* name;
  const char* about;     // a line, for the list of commands
  const char* examples;  // what stands below its options in --help
  /// Declares the options. What they are read into is kept by the action.
  Action (*declare)(CLI::App& app);
};

namespace commands {
#define SACCADE_COMMAND(name) extern const Command name;
#include "bench/commands/commands.def"
#undef SACCADE_COMMAND
}  // namespace commands

/// In the order of the list.
std::span<const Command* const> Commands();

/// Options that every command has: --quiet, --verbose, --config. All are in one
/// group, by which they can be told from the command's own.
inline constexpr char kEverywhere[] = "Of every command";
void DeclareEverywhere(CLI::App* command);

/// Says a status on host.err and returns kExitUsage.
int Complain(const Status& status, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COMMAND_H_
