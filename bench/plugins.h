// Plug-ins of a command line, which child processes load as well.
#ifndef SACCADE_BENCH_PLUGINS_H_
#define SACCADE_BENCH_PLUGINS_H_

#include <string>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// The variable of the environment that names plug-ins, separated by colons.
inline constexpr char kPluginVariable[] = "SACCADE_PLUGIN";

/// Loads each and tells child processes of them. Statuses of LoadPlugin.
Status LoadPlugins(const std::vector<std::string>& paths);

/// What LoadPlugins told, in a child process.
std::vector<std::string> PluginsOfParent();

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PLUGINS_H_
