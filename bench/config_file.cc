#include "bench/config_file.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "nearest.h"
#include "record/file.h"

namespace saccade::bench {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 16;
constexpr size_t kMaxSection = 64;
constexpr std::string_view kOption = "--config";

// What CLI11's reader does not look at itself: a section's name costs it the
// square of its dots, and bytes that are no text end up in messages.
Status CheckText(const std::string& path, const std::string& text) {
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto wrong = [&](std::string_view what) {
      return Invalid(fmt::format("{}:{}: {}", path, number, what));
    };
    if (line.find('\0') != std::string::npos) return wrong("a zero byte");
    const size_t begin = line.find_first_not_of(" \t");
    if (begin != std::string::npos && line[begin] == '[' &&
        line.size() - begin > kMaxSection)
      return wrong(
          fmt::format("a section of more than {} characters", kMaxSection));
  }
  return {};
}

// The long options of a command that take part in files.
std::vector<std::string_view> NamesOf(const CLI::App& command) {
  std::vector<std::string_view> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames())
      if (name != "help" && "--" + name != kOption) names.push_back(name);
  return names;
}

const CLI::Option* FindOption(const CLI::App& command,
                              const std::string& name) {
  for (const CLI::Option* option : command.get_options())
    if (option->check_lname(name)) return option;
  return nullptr;
}

// Whether the option stands among the arguments, in a long or a short form.
bool IsTyped(const CLI::Option& option, std::span<const std::string> typed) {
  for (const std::string& argument : typed) {
    if (argument == "--") return false;
    const std::string name = argument.substr(0, argument.find('='));
    for (const std::string& l : option.get_lnames())
      if (name == "--" + l) return true;
    for (const std::string& s : option.get_snames())
      if (argument.starts_with("-" + s)) return true;
  }
  return false;
}

// "--name=value" for each value of a list that the option takes apart itself,
// else one with commas.
Status AddArguments(const CLI::Option& option, const std::string& name,
                    const CLI::ConfigItem& item,
                    std::vector<std::string>* arguments) {
  if (option.get_expected_max() == 0) {
    const std::string value = item.inputs.empty() ? "" : item.inputs[0];
    if (item.inputs.size() != 1 || (value != "true" && value != "false"))
      return Invalid(fmt::format("{} is true or false", name));
    if (value == "true") arguments->push_back("--" + name);
    return {};
  }
  if (option.get_allow_extra_args()) {
    for (const std::string& input : item.inputs)
      arguments->push_back(fmt::format("--{}={}", name, input));
  } else {
    arguments->push_back(
        fmt::format("--{}={}", name, fmt::join(item.inputs, ",")));
  }
  return {};
}

std::string CommandIn(std::span<const std::string> arguments) {
  for (const std::string& argument : arguments)
    if (!argument.starts_with('-')) return argument;
  return {};
}

// What the file says for a command, less what is typed.
Result<std::vector<std::string>> ArgumentsOf(
    const CLI::App& app, const CLI::App& command,
    const std::vector<CLI::ConfigItem>& items,
    std::span<const std::string> typed) {
  std::vector<std::string_view> commands;
  for (const CLI::App* sub : app.get_subcommands({}))
    commands.push_back(sub->get_name());
  std::vector<std::string> arguments;
  for (const CLI::ConfigItem& item : items) {
    if (item.name == "++" || item.name == "--") continue;  // a section's ends
    const std::string section = item.parents.empty() ? "" : item.parents[0];
    if (!section.empty() && section != command.get_name()) {
      if (item.parents.size() == 1 &&
          std::find(commands.begin(), commands.end(), section) !=
              commands.end())
        continue;  // another command's
      return NotFound(fmt::format("there is no command '{}'{}",
                                  fmt::join(item.parents, "."),
                                  DidYouMean(section, commands)));
    }
    const auto has = [&item](const CLI::App* sub) {
      return FindOption(*sub, item.name) != nullptr;
    };
    const CLI::Option* const option = FindOption(command, item.name);
    const std::vector<const CLI::App*> all = app.get_subcommands({});
    if (section.empty() && !option && std::any_of(all.begin(), all.end(), has))
      continue;  // of commands that have it
    const std::vector<std::string_view> names = NamesOf(command);
    if (item.parents.size() > 1 || !option ||
        std::find(names.begin(), names.end(), item.name) == names.end())
      return NotFound(fmt::format("saccade {} has no option '{}'{}",
                                  command.get_name(), item.fullname(),
                                  DidYouMean(item.name, names)));
    if (IsTyped(*option, typed)) continue;
    const Status status = AddArguments(*option, item.name, item, &arguments);
    if (!status.ok()) return status;
  }
  return arguments;
}

}  // namespace

Result<std::vector<std::string>> TakeConfig(
    const CLI::App& app, std::span<const std::string> arguments) {
  std::vector<std::string> typed;
  std::string path;
  bool given = false;
  size_t i = 0;
  for (; i < arguments.size() && arguments[i] != "--"; ++i) {
    const bool joined = arguments[i].starts_with(std::string(kOption) + "=");
    if (arguments[i] != kOption && !joined) {
      typed.push_back(arguments[i]);
      continue;
    }
    if (given) return Invalid("--config is given twice");
    given = true;
    if (!joined && i + 1 == arguments.size())
      return Invalid("--config: a file is missing");
    path = joined ? arguments[i].substr(kOption.size() + 1) : arguments[++i];
  }
  const std::span<const std::string> rest = arguments.subspan(i);
  const CLI::App* command = nullptr;
  for (const CLI::App* sub : app.get_subcommands({}))
    if (sub->get_name() == CommandIn(typed)) command = sub;
  // Without a command the parser has the better message.
  if (!given || !command)
    return std::vector<std::string>(arguments.begin(), arguments.end());
  const Result<std::string> text = record::ReadFile(path, kMaxFile);
  if (!text.ok())
    return Status(text.status().code(), "--config: " + text.status().message());
  const Status fine = CheckText(path, *text);
  if (!fine.ok()) return fine;
  std::istringstream in(*text);
  Result<std::vector<std::string>> more = Invalid("");
  try {
    more = ArgumentsOf(app, *command, CLI::ConfigTOML().from_config(in), typed);
  } catch (const CLI::Error& e) {
    more = Invalid(e.what());
  }
  if (!more.ok())
    return Status(more.status().code(),
                  fmt::format("{}: {}", path, more.status().message()));
  typed.insert(typed.end(), more->begin(), more->end());
  typed.insert(typed.end(), rest.begin(), rest.end());
  return typed;
}

}  // namespace saccade::bench
