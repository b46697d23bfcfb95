// Options from a file, for command lines that are too long to type.
#ifndef SACCADE_BENCH_CONFIG_FILE_H_
#define SACCADE_BENCH_CONFIG_FILE_H_

#include <span>
#include <string>
#include <vector>

#include "saccade/status.h"

namespace CLI {
class App;
}

namespace saccade::bench {

/// The arguments of a command line with "--config FILE" replaced by what the
/// file says for that command:
///
///   threads = 2                 # of every command that has it
///   [compare]
///   only = "softmax.*,linear.elu"
///   length = "512:8k:x2"
///   dry-run = true
///
/// TOML or INI, as CLI11 reads them. Keys are the long options; what is also
/// typed is left to what is typed. So a record says all that was asked for,
/// and repeats without the file. Unchanged where there is no --config. The
/// errors of record::ReadFile; kInvalid or kNotFound with the file, the section
/// and the nearest option.
Result<std::vector<std::string>> TakeConfig(
    const CLI::App& app, std::span<const std::string> arguments);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CONFIG_FILE_H_
