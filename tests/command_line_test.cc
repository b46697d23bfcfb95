// What makes long command lines bearable: files of options, completion, the
// manual page, and how much is said.
#include <doctest/doctest.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/cli.h"
#include "bench/cli_parse.h"
#include "bench/config_file.h"
#include "bench/learn/switches.h"
#include "record/record.h"
#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

using Arguments = std::vector<std::string>;

bool Mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What a shell prints; its messages are let through.
std::string Shell(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"),
                                                   pclose);
  REQUIRE(pipe);
  std::string text;
  char block[4096];
  while (const size_t n = fread(block, 1, sizeof block, pipe.get()))
    text.append(block, n);
  return text;
}

Result<Arguments> WithConfig(const Arguments& arguments) {
  const CommandLineParser parser = MakeParser();
  return TakeConfig(*parser.app, arguments);
}

TEST_CASE("a file of options stands for its options, and what is typed wins") {
  const Folder folder;
  const std::string path = folder.Write("sweep.toml", R"(# a comment
threads = 2
json = true     # of another command: not compare's

[compare]
only = "softmax.*,linear.elu"
length = "512:8k:x2"
pass = ["forward", "decode"]
corpus = ["a.txt", "b.txt"]
seed = [1, 2]
dry-run = true
quiet = false

[verify]
effort = "quick"
)");
  const auto typed = WithConfig({"compare", "--config", path, "-t", "1"});
  REQUIRE_MESSAGE(typed.ok(), typed.status().message());
  CHECK(*typed == Arguments{"compare", "-t", "1", "--only=softmax.*,linear.elu",
                            "--length=512:8k:x2", "--pass=forward,decode",
                            "--corpus=a.txt", "--corpus=b.txt", "--seed=1,2",
                            "--dry-run"});
  const auto other = WithConfig({"verify", "--config=" + path});
  REQUIRE(other.ok());
  CHECK(*other == Arguments{"verify", "--threads=2", "--effort=quick"});
  const Arguments none = {"compare", "--only", "x"};
  CHECK(*WithConfig(none) == none);
  // The program takes it from there.
  const Answer a = Saccade({"compare", "--config", path, "--only", "sofmax"});
  CHECK(a.code == kExitUsage);
  CHECK(Mentions(a.err, "sofmax"));
}

TEST_CASE("what is wrong with a file of options is said with its place") {
  const Folder folder;
  for (const auto& [text, says] :
       std::vector<std::pair<std::string, std::string>>{
           {"[compare]\nlenght = 4\n", "did you mean length"},
           {"lenght = 4\n", "no option 'lenght'"},
           {"[comapre]\nonly = \"x\"\n", "did you mean compare?"},
           {"[compare.more]\nonly = \"x\"\n", "more"},
           {"[compare]\ndry-run = perhaps\n", "dry-run is true or false"},
           {"[compare]\nconfig = \"self.toml\"\n",
            "no option 'compare.config'"},
           {"\n[" + std::string(40000, '.') + "]\n", ":2: a section"},
           {std::string("only = \0", 8), ":1: a zero byte"},
           {std::string(1 << 17, '#'), "131072 bytes"}}) {
    CAPTURE(says);
    const std::string path = folder.Write("c.toml", text);
    const Answer a = Saccade({"compare", "--config", path});
    CAPTURE(a.err);
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK(Mentions(a.err, "c.toml"));
    CHECK(Mentions(a.err, says));
  }
  CHECK(
      Mentions(Saccade({"compare", "--config", folder / "none"}).err, "none"));
  CHECK(Mentions(Saccade({"compare", "--config"}).err, "a file is missing"));
}

TEST_CASE("a record says what a file of options said, and repeats without it") {
  const Folder folder;
  const std::string path =
      folder.Write("c.toml",
                   "[compare]\nmeasure = \"speed\"\nlength = 16\ndim = 8\n"
                   "pass = \"forward\"\nheads = 1\nthreads = 1\n");
  const std::string name(Variants().front()->name);
  const Answer a = Saccade({"compare", "--config", path, "--only", name,
                            "--out", folder / "run", "--verbose"});
  CAPTURE(a.err);
  REQUIRE(a.code == kExitOk);
  CHECK(Mentions(a.err, "saccade: speed " + name + " forward"));
  CHECK(Mentions(a.err, "saccade: verify " + name + " forward"));
  const Result<record::Run> run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  const std::string command = run->header.Text("command");
  CHECK(Mentions(command, "--length=16 --dim=8"));
  CHECK(!Mentions(command, "--config"));
  std::filesystem::remove(path);
  const Answer again = Saccade({"compare", "--resume", folder / "run", "-q"});
  CAPTURE(again.err);
  CHECK(again.code == kExitOk);
  CHECK(again.err.empty());
}

TEST_CASE("quiet leaves results and errors") {
  const Answer fine =
      Saccade({"verify", "--only", std::string(Variants().front()->name),
               "--effort", "quick", "--quiet"});
  CHECK(fine.code == kExitOk);
  CHECK(!fine.out.empty());
  CHECK(fine.err.empty());
  const Answer wrong = Saccade({"compare", "-q", "--only", "nothing"});
  CHECK(wrong.code == kExitUsage);
  CHECK(OneLine(wrong.err));
  CHECK(Saccade({"compare", "-q", "-v"}).code == kExitUsage);
}

TEST_CASE("messages quote hostile names without speaking to the terminal") {
  for (const Arguments& arguments :
       std::vector<Arguments>{{"compare", "--only", "\x1b[31mred\n\xff"},
                              {"compare", "--pass",
                               "\x9b"
                               "31m"},
                              {"compare", "--\x1b]0;title\x07"},
                              {"\x1b[2J"},
                              {"report", "no\nsuch\nfile"}}) {
    const Answer a = Saccade(arguments);
    CAPTURE(a.err);
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    for (const char c : a.err)
      CHECK((c == '\n' || static_cast<unsigned char>(c) >= ' '));
  }
}

TEST_CASE("names that nobody knows are answered with the nearest") {
  for (const auto& [arguments, nearest] :
       std::vector<std::pair<Arguments, std::string>>{
           {{"compare", "--pass", "foward"}, "forward"},
           {{"compare", "--dtype", "bf61"}, "bf16"},
           {{"compare", "--mask", "casual"}, "causal"},
           {{"compare", "--peers", "opneblas"}, "openblas"},
           {{"compare", "--measure", "probs"}, "probes"},
           {{"compare", "--measure", "probes", "--probes", "indcution"},
            "induction"},
           {{"compare", "--measure", "extrapolation", "--protocols", "tial"},
            "tail"},
           {{"compare", "--profile", "standrad"}, "standard"},
           {{"compare", "--only", "softmax.naiv*x,softmax.naive"},
            "softmax.naive"},
           {{"compare", "--only", "softmax.naive+roep"}, "rope"},
           {{"compare", "--only", "softmax.window:sise=3"}, "size"},
           {{"verify", "--effort", "quikc"}, "quick"},
           {{"verify", "--target", "AXV2"}, "AVX2"},
           {{"verfiy"}, "verify"},
           {{"verify", "--efort", "quick"}, "--effort"},
           {{"completion", "bahs"}, "bash"}}) {
    const Answer a = Saccade(arguments);
    CAPTURE(a.err);
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK(Mentions(a.err, "did you mean " + nearest));
  }
}

TEST_CASE("a sweep that is none is shown its place, and help has the grammar") {
  for (const auto& [text, says] :
       std::vector<std::pair<std::string, std::string>>{
           {"1k,2q", "'2q' is no count"},
           {"1k,2q", "at character 4 of '1k,2q'"},
           {"256:16k:x1", "at character 9 of"},
           {"256:16k:*2", "'*2' is no step"},
           {"8,4k:1k:+1k", "at character 3 of"},
           {"256:16k", "is no sweep"},
           {"1,1:16m:+1", "at character 3 of"}}) {
    const Result<std::vector<int64_t>> sweep = ParseSweep(text);
    REQUIRE(!sweep.ok());
    CAPTURE(sweep.status().message());
    CHECK(Mentions(sweep.status().message(), says));
  }
  const std::string help = Saccade({"compare", "--help"}).out;
  CHECK(Mentions(help, "256:16k:x2"));
  CHECK(Mentions(help, "1k:4k:+1k"));
  CHECK(Mentions(help, "forward,backward,decode"));
}

TEST_CASE("switches are listed with what they do") {
  const Answer text = Saccade({"list", "--switches"});
  const auto json =
      nlohmann::json::parse(Saccade({"list", "--switches", "--json"}).out);
  REQUIRE(json.size() == Switches().size());
  for (size_t i = 0; i < json.size(); ++i) {
    CHECK(json[i]["name"] == Switches()[i].name);
    CHECK(Mentions(text.out, std::string(Switches()[i].does)));
  }
}

// What bash offers for the last of the words, one a line.
std::string Offered(const Folder& folder, const std::string& words) {
  const std::string script =
      folder.Write("c.bash", Saccade({"completion", "bash"}).out);
  return Shell("bash -c 'source " + script + "; COMP_WORDS=(" + words +
               "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _saccade; "
               "printf \"%s\\n\" \"${COMPREPLY[@]}\"'");
}

TEST_CASE("bash completes commands, options, names in lists and files") {
  const Folder folder;
  CHECK(Offered(folder, "saccade com") == "compare\ncompletion\n");
  CHECK(Offered(folder, "saccade compare --pr") ==
        "--profile\n--probes\n--protocols\n");
  CHECK(Offered(folder, "saccade compare --pass back") == "backward\n");
  CHECK(Offered(folder, "saccade compare --pass forward,d") ==
        "forward,decode\n");
  CHECK(Offered(folder, "saccade compare --only softmax.na") ==
        "softmax.naive\n");
  CHECK(Offered(folder, "saccade compare -q --dtype = b") == "bf16\n");
  CHECK(Offered(folder, "saccade verify --effort q") == "quick\n");
  folder.Write("text.txt", "");
  CHECK(Offered(folder, "saccade compare --corpus " + folder.path() + "/t") ==
        folder / "text.txt\n");
  CHECK(Offered(folder, "saccade completion z") == "zsh\n");
}

TEST_CASE("every option of every command is completed and in the manual") {
  const CommandLineParser parser = MakeParser();
  const std::string manual = Saccade({"man"}).out;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Answer script = Saccade({"completion", shell});
    CHECK(script.code == kExitOk);
    const CLI::App& app = *parser.app;
    for (const CLI::App* command :
         app.get_subcommands([](const CLI::App*) { return true; })) {
      CHECK(Mentions(script.out, command->get_name()));
      CHECK(Mentions(manual, ".SS saccade " + command->get_name() + "\n"));
      for (const CLI::Option* option : command->get_options())
        for (const std::string& name : option->get_lnames()) {
          CAPTURE(name);
          CHECK(Mentions(script.out, name));
          std::string roff;
          for (const char c : name)
            roff += c == '-' ? "\\-" : std::string(1, c);
          CHECK(Mentions(manual, "\\-\\-" + roff));
        }
    }
  }
}

}  // namespace
}  // namespace saccade::bench
