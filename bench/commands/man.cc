// saccade man: the manual page, from what --help says.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <sstream>

#include "bench/cli.h"
#include "bench/command.h"
#include "saccade/version.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Examples:
  saccade man | man -l -
  saccade man >/usr/local/share/man/man1/saccade.1)";

// Text that roff shows as it stands: dashes and quotes typed as in a shell, a
// first dot or quote no request.
std::string Roff(std::string_view text) {
  std::string roff;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) roff += "\\&";
    begins = c == '\n';
    if (c == '\\') {
      roff += "\\e";
    } else if (c == '-') {
      roff += "\\-";
    } else if (c == '\'') {
      roff += "\\(aq";
    } else if (c == '`') {
      roff += "\\(ga";
    } else if (c == '^') {
      roff += "\\(ha";
    } else if (c == '~') {
      roff += "\\(ti";
    } else {
      roff += c;
    }
  }
  return roff;
}

// "\fB\-n\fR, \fB\-\-length\fR \fITEXT\fR"
std::string Heading(const CLI::Option& option) {
  std::string text;
  const auto add = [&text](const std::string& flag) {
    text += (text.empty() ? "" : ", ") + ("\\fB" + Roff(flag) + "\\fR");
  };
  for (const std::string& s : option.get_snames()) add("-" + s);
  for (const std::string& l : option.get_lnames()) add("--" + l);
  if (text.empty()) return "\\fI" + Roff(option.get_name()) + "\\fR...";
  if (option.get_expected_max() > 0) {
    // Long lists of names may break behind each.
    std::string type;
    for (const char c : Roff(option.get_type_name())) {
      type += c;
      if (c == ',' || c == '|') type += "\\:";
    }
    text += " \\fI" + type + "\\fR";
  }
  return text;
}

// Blank lines begin paragraphs; indented lines, and those below "Examples:",
// stand as they are.
void PrintFooter(const std::string& footer, std::ostream& out) {
  std::istringstream lines(footer);
  std::string line;
  bool verbatim = false;
  while (std::getline(lines, line)) {
    const bool indented = line.starts_with("  ");
    if (indented != verbatim)
      fmt::print(out, "{}", indented ? ".PP\n.RS 4\n.nf\n" : ".fi\n.RE\n");
    verbatim = indented;
    const bool first = lines.tellg() <= 1;
    if (line.empty() && first) continue;
    if (line.empty()) {
      fmt::print(out, ".PP\n");
    } else {
      fmt::print(out, "{}\n", Roff(indented ? line.substr(2) : line));
    }
  }
  if (verbatim) fmt::print(out, ".fi\n.RE\n");
}

void PrintCommand(const CLI::App& command, std::ostream& out) {
  fmt::print(out, ".SS saccade {}\n{}.\n", command.get_name(),
             Roff(command.get_description()));
  for (const CLI::Option* option : command.get_options())
    if (!option->get_group().empty())  // else --help has it not either
      fmt::print(out, ".TP\n{}\n{}.\n", Heading(*option),
                 Roff(option->get_description()));
  PrintFooter(command.get_footer(), out);
}

constexpr char kEnd[] = R"(.SH ENVIRONMENT
.TP
.B NO_COLOR
When it is set and not empty, progress is plain lines, with no bar redrawn.
.TP
.B SACCADE_TARGET
The SIMD target to use in place of the best that this machine runs.
.TP
.B XDG_CACHE_HOME
Where texts that were fetched are kept, in \fIsaccade\fR; else \fI\(ti/.cache\fR.
.SH FILES
.TP
.I run.jsonl
What a run measured, a line each, in the folder of the run.
.TP
.I report.html\fR, \fIreport.md
What is made of it.
.TP
.I training.state
Where a training under way goes on after a kill.
)";

int PrintManual(const Host& host) {
  const CommandLineParser parser = MakeParser();
  const CLI::App& app = *parser.app;
  std::ostream& out = host.out;
  fmt::print(
      out,
      ".TH SACCADE 1 \"\" \"saccade {}\" \"User Commands\"\n"
      ".SH NAME\nsaccade \\- compare attention variants on this "
      "machine\n.SH SYNOPSIS\n.B saccade\n.I command\n[\\fIoptions\\fR]\n"
      ".SH DESCRIPTION\n{}\n.SH COMMANDS\n",
      SACCADE_VERSION_TEXT, Roff(app.get_description()));
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App*) { return true; }))
    PrintCommand(*command, out);
  fmt::print(out, ".SH EXAMPLES AND EXIT CODES\n");
  PrintFooter(app.get_footer(), out);
  fmt::print(out, "{}", kEnd);
  return kExitOk;
}

Action Declare(CLI::App&) {
  return [](const Invocation& call) { return PrintManual(call.host); };
}

}  // namespace

namespace commands {
const Command man = {"man", "Print the manual page", kExamples, Declare};
}

}  // namespace saccade::bench
