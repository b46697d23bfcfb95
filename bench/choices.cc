#include "bench/choices.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/cli_parse.h"
#include "nearest.h"
#include "saccade/variant.h"

namespace saccade::bench {

CLI::Option* TakesOneOf(CLI::Option* option,
                        const std::vector<std::string_view>& names) {
  const std::vector<std::string> known(names.begin(), names.end());
  return option->type_name(fmt::format("{}", fmt::join(names, "|")))
      ->check(CLI::Validator(
          [known](const std::string& name) -> std::string {
            if (std::find(known.begin(), known.end(), name) != known.end())
              return {};
            return fmt::format("'{}' is none of {}{}", name,
                               fmt::join(known, ", "),
                               DidYouMean(name, {known.begin(), known.end()}));
          },
          ""));
}

CLI::Option* TakesListOf(CLI::Option* option,
                         const std::vector<std::string_view>& names) {
  return option->type_name(fmt::format("{}", fmt::join(names, ",")));
}

Completion CompletionOf(const CLI::Option& option) {
  using Kind = Completion::Kind;
  if (option.get_expected_max() == 0) return {};
  const std::string type = option.get_type_name();
  if (type == kFile) return {Kind::kFile, {}, false};
  if (type == kFolder) return {Kind::kFolder, {}, false};
  if (type == kVariants) {
    Completion variants{Kind::kNames, {}, true};
    for (const Variant* v : Variants()) variants.names.emplace_back(v->name);
    return variants;
  }
  for (const char separator : {'|', ','})
    if (type.find(separator) != std::string::npos)
      return {Kind::kNames, Split(type, separator), separator == ','};
  return {};
}

}  // namespace saccade::bench
