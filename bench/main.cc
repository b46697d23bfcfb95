// The `saccade` program.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "bench/cli.h"
#include "bench/interrupt.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0), argv + argc);
  saccade::bench::StopFlag stop{false};
  const saccade::bench::SignalStop signals(&stop);
  // What looks at the flag ends in good order before this is needed.
  const saccade::bench::StopWatchdog watchdog(
      &stop, std::chrono::milliseconds(1700),
      [] { std::_Exit(saccade::bench::kExitInterrupted); });
  // NO_COLOR asks for plain text; so does a terminal that cannot do more.
  const char* const plain = std::getenv("NO_COLOR");
  const char* const term = std::getenv("TERM");
  const bool terminal = isatty(STDERR_FILENO) && !(plain && *plain) && term &&
                        std::string(term) != "dumb";
  return saccade::bench::RunCommand(arguments, {std::cout, std::cerr, terminal,
                                                "/proc/self/exe", &stop, true});
}
