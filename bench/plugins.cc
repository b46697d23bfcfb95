#include "bench/plugins.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <filesystem>

#include "bench/cli_parse.h"
#include "saccade/plugin.h"

namespace saccade::bench {

Status LoadPlugins(const std::vector<std::string>& paths) {
  std::vector<std::string> loaded;
  for (const std::string& path : paths) {
    const Status status = LoadPlugin(path);
    if (!status.ok()) return status;
    std::error_code ignored;
    loaded.push_back(std::filesystem::absolute(path, ignored).string());
  }
  if (!loaded.empty())
    setenv(kPluginVariable, fmt::format("{}", fmt::join(loaded, ":")).c_str(),
           1);
  return {};
}

std::vector<std::string> PluginsOfParent() {
  const char* const paths = std::getenv(kPluginVariable);
  return Split(paths ? paths : "", ':');
}

}  // namespace saccade::bench
