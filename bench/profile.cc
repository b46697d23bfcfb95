#include "bench/profile.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "nearest.h"

namespace saccade::bench {
namespace {

Result<nlohmann::json> Parse(std::string_view name, std::string_view text) {
  try {
    nlohmann::json profile = nlohmann::json::parse(text);
    if (profile.is_object()) return profile;
    return Invalid(fmt::format("{}: a profile is a JSON object", name));
  } catch (const nlohmann::json::parse_error& e) {
    return Invalid(fmt::format("{}: no JSON at byte {}", name, e.byte));
  }
}

}  // namespace

Result<nlohmann::json> LoadProfile(const std::string& name) {
  if (name.ends_with(".json")) {
    std::ifstream in(name, std::ios::binary);
    if (!in) return IoError(fmt::format("{}: cannot be read", name));
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return Parse(name, text);
  }
  std::vector<std::string_view> names;
  for (const BuiltInProfile& p : BuiltInProfiles()) {
    if (p.name == name) return Parse(p.name, p.text);
    names.push_back(p.name);
  }
  return NotFound(
      fmt::format("there is no profile '{}'{}", name, DidYouMean(name, names)));
}

}  // namespace saccade::bench
