#include "reports/repeat.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "reports/roster.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

constexpr char kPlainCharacters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.,:/+";

// The arguments of a command line, without their quotes.
std::vector<std::string> Arguments(std::string_view line) {
  std::vector<std::string> arguments;
  bool quoted = false, open = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ' ' && !quoted) {
      open = false;
      continue;
    }
    if (!open) arguments.emplace_back();
    open = true;
    if (line[i] == '\'') {
      quoted = !quoted;
    } else {
      if (line[i] == '\\' && !quoted && i + 1 < line.size()) ++i;
      arguments.back() += line[i];
    }
  }
  return arguments;
}

// Those options of a command, with their values, whose names are listed.
std::string Kept(const std::string& command,
                 const std::set<std::string>& names) {
  std::string kept;
  bool keep = false;
  for (const std::string& argument : Arguments(command)) {
    if (argument.starts_with('-')) {
      keep = names.contains(argument.substr(0, argument.find('=')));
    }
    if (keep) kept += " " + Quote(argument);
  }
  return kept;
}

// Peers by the name that --peers takes: what stands before a version.
std::string PeersOf(const Model& model, const std::set<int>& entries) {
  std::set<std::string> peers;
  for (const int entry : entries) {
    if (model.at(entry).peer) peers.insert(model.at(entry).name);
  }
  if (peers.empty()) return "";
  return fmt::format(" --peers {}",
                     Quote(fmt::format("{}", fmt::join(peers, ","))));
}

std::string OnlyOf(const Model& model, const std::set<int>& entries) {
  std::vector<std::string> specs;
  for (const int entry : entries) {
    if (!model.at(entry).peer) specs.push_back(model.at(entry).spec);
  }
  if (specs.empty()) return "";
  return fmt::format(" --only {}",
                     Quote(fmt::format("{}", fmt::join(specs, ","))));
}

// A command with what the run's own says of models, text and time. Of pooled
// runs that say different things, one for each of them.
std::string Command(const Model& model, const std::string& rest) {
  std::vector<std::string> commands;
  for (const record::Record& header : model.headers) {
    const std::string command =
        "saccade compare" +
        Kept(Clean(header.Text("command"), 2000),
             {"--profile", "--corpus", "--seed", "--longest"}) +
        rest;
    if (std::find(commands.begin(), commands.end(), command) ==
        commands.end()) {
      commands.push_back(command);
    }
  }
  return fmt::format("{}", fmt::join(commands, "\n"));
}

}  // namespace

std::string Quote(const std::string& argument) {
  if (!argument.empty() &&
      argument.find_first_not_of(kPlainCharacters) == std::string::npos) {
    return argument;
  }
  std::string quoted = "'";
  for (const char c : argument) {
    quoted += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return quoted + "'";
}

std::string CellFlags(const record::Record& record) {
  std::string flags = Kept(Clean(record.Text("repeat"), 1000),
                           {"-d", "--dim", "--heads", "--kv-heads", "--batch",
                            "--dtype", "--mask", "-t", "--threads", "--cache"});
  if (!flags.empty()) return flags;
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) flags += fmt::format(" {} {}", option, Quote(value));
  };
  const auto count = [&](const char* option, const char* field) {
    if (record.Count(field) > 0) {
      add(option, fmt::format("{}", record.Count(field)));
    }
  };
  count("-d", "qk_dim");
  count("--heads", "q_heads");
  if (record.Count("kv_heads") != record.Count("q_heads")) {
    count("--kv-heads", "kv_heads");
  }
  if (record.Count("batch") > 1) count("--batch", "batch");
  add("--dtype", Get(record, "dtype"));
  add("--mask", Get(record, "mask"));
  count("-t", "threads");
  return flags;
}

std::string RepeatCells(const Model& model, const Setting& setting,
                        const std::string& measure,
                        const std::vector<std::string>& passes,
                        const std::set<int>& entries,
                        const std::set<int64_t>& lengths) {
  return Command(model,
                 fmt::format(" --measure {}{}{} --pass {} -n {}{}", measure,
                             OnlyOf(model, entries), PeersOf(model, entries),
                             Quote(fmt::format("{}", fmt::join(passes, ","))),
                             fmt::join(lengths, ","), setting.flags));
}

std::string RepeatTraining(const Model& model,
                           const std::vector<std::string>& options,
                           const std::set<int>& entries) {
  std::string rest;
  for (const std::string& option : options) rest += " " + Quote(option);
  return Command(model, rest + OnlyOf(model, entries));
}

}  // namespace saccade::reports
