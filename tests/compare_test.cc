// The program as its users meet it: what it says, what it leaves behind, how it
// ends.
#include "bench/compare.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "bench/profile.h"
#include "record/record.h"
#include "tests/folder.h"
#include "tests/program.h"

extern char** environ;

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

std::vector<record::Record> OfKind(const record::Run& run,
                                   std::string_view kind) {
  std::vector<record::Record> some;
  for (const record::Record& r : run.records)
    if (r.kind() == kind) some.push_back(r);
  return some;
}

// The first variant of the list, whatever it is.
std::string AnyName() { return std::string(Variants().front()->name); }

TEST_CASE("every built-in profile is whole, and names variants by data only") {
  REQUIRE(!BuiltInProfiles().empty());
  for (const BuiltInProfile& p : BuiltInProfiles()) {
    CAPTURE(p.name);
    CompareOverrides over;
    over.profile = p.name;
    const Result<CompareOptions> options = MakeCompareOptions(over);
    INFO(options.status().message());
    REQUIRE(options.ok());
    // The quick one has to stay quick: it names its own.
    if (std::string_view(p.name) == "quick")
      CHECK(options->specs.size() < Variants().size());
    else
      CHECK(options->specs.size() == Variants().size());
    CHECK(options->measures.size() == std::size(kMeasures));
  }
}

TEST_CASE("seeds and protocols of the command line stand for the profile's") {
  const auto learn = [](const CompareOverrides& over) {
    const Result<CompareOptions> options = MakeCompareOptions(over);
    REQUIRE_MESSAGE(options.ok(), options.status().message());
    return options->learn;
  };
  CompareOverrides over;
  over.profile = "standard";
  CHECK(learn(over).seeds.size() > 1);
  CHECK(learn(over).protocols.size() == Protocols().size());
  CHECK(over.seed() == 1);
  over.seeds = {1};
  CHECK(learn(over).seeds == std::vector<uint64_t>{1});
  over.seeds = {5, 2, 5};
  over.protocols = "tail,nonoverlap";
  CHECK(learn(over).seeds == std::vector<uint64_t>{5, 2});
  CHECK(over.seed() == 5);
  REQUIRE(learn(over).protocols.size() == 2);
  CHECK(learn(over).protocols[0]->name == "tail");
  CHECK(MakeCompareOptions(over)->lenses.seed == 5);
}

TEST_CASE("a slip in a profile is named, with its place") {
  const Folder folder;
  const auto complaint = [&](const std::string& text) {
    const std::string path = folder / "p.json";
    std::ofstream(path) << text;
    CompareOverrides over;
    over.profile = path;
    const Result<CompareOptions> options = MakeCompareOptions(over);
    CHECK(!options.ok());
    CHECK(options.status().message().find("p.json") != std::string::npos);
    return options.status().message();
  };
  CHECK(complaint("{").find("byte 2") != std::string::npos);
  CHECK(complaint("[]").find("object") != std::string::npos);
  CHECK(complaint(R"({"sped": {}})").find("speed") != std::string::npos);
  CHECK(complaint(R"({"speed": 3})").find("speed") != std::string::npos);
  CHECK(complaint(R"({"speed": {"cell_seconds": "x"}})").find("cell_seconds") !=
        std::string::npos);
  CHECK(complaint(R"({"variants": "nothing.*"})").find("nothing") !=
        std::string::npos);
  CHECK(complaint(R"({"seconds": {"speed": -1}})").find("seconds") !=
        std::string::npos);
  CHECK(complaint(R"({"measures": ["extrapolation"], "learn": ["linear.elu"],
                      "flop_matched": ["softmax.flash"]})")
            .find("\"flop_matched\": softmax.flash is not among") !=
        std::string::npos);
}

TEST_CASE("the command line says what is wrong in one line and exits with 2") {
  struct Case {
    std::vector<std::string> arguments;
    std::string says;
  };
  const Folder folder;
  std::ofstream(folder / "empty.txt");
  for (const Case& c : std::vector<Case>{
           {{}, "--help"},
           {{"lsit"}, "did you mean list?"},
           {{"compare", "--onyl", "x"}, "--only"},
           {{"compare", "--only", "softmax.naiev"}, "did you mean"},
           {{"compare", "--only", AnyName() + ":nothing=1"}, "nothing"},
           {{"compare", "-n", "5:x"}, "sweep"},
           {{"compare", "-n"}, "--length"},
           {{"compare", "--profile", "quik"}, "did you mean quick?"},
           {{"compare", "--measure", "sped"}, "did you mean speed?"},
           {{"compare", "--dtype", "f16"}, "f32"},
           {{"compare", "--pass", "sideways"}, "forward"},
           {{"compare", "--mask", "most"}, "causal"},
           {{"compare", "--heads", "3", "--kv-heads", "2"}, "--kv-heads"},
           {{"compare", "--heads", "0"}, "--heads"},
           {{"compare", "-t", "-2"}, "threads"},
           {{"compare", "--budget", "soon"}, "--budget"},
           {{"compare", "--seed", "1,x"}, "--seed"},
           {{"compare", "--seed", "-1"}, "--seed"},
           {{"compare", "--seed", "1", "2"}, "2"},
           {{"compare", "--protocols", "slidding"}, "did you mean sliding?"},
           {{"compare", "--protocols", ","}, "--protocols"},
           {{"compare", "--measure", "speed", "--protocols", "tail"},
            "--protocols"},
           {{"compare", "--out", "/proc/nowhere", "--measure", "speed"},
            "/proc/nowhere"},
           {{"compare", "--resume", folder / "nowhere"}, "nowhere"},
           {{"compare", "--resume", "a", "--out", "b"}, "--resume"},
           {{"compare", "--corpus", folder / "missing.txt"}, "missing.txt"},
           {{"compare", "--corpus", folder / "empty.txt"}, "empty.txt"},
           {{"verify", "--only", "sofmax.naive"}, "did you mean"},
           {{"verify", "--target", "NEON9"}, "none of"},
           {{"verify", "--case", "nothing.here"}, "--case"},
           {{"report", folder / "nowhere"}, "nowhere"},
           {{"report"}, "RUN"}}) {
    const Answer a = Saccade(c.arguments);
    CAPTURE(a.err);
    CHECK(a.code == kExitUsage);
    CHECK(a.out.empty());
    CHECK(OneLine(a.err));
    CHECK(a.err.find(c.says) != std::string::npos);
  }
}

TEST_CASE("help has examples and goes to the results") {
  for (const char* command : {"compare", "verify", "report"}) {
    const Answer a = Saccade({command, "--help"});
    CHECK(a.code == kExitOk);
    CHECK(a.err.empty());
    CHECK(a.out.find("Example") != std::string::npos);
    CHECK(a.out.find(std::string("saccade ") + command) != std::string::npos);
  }
}

TEST_CASE("list shows every variant, also as JSON") {
  const Answer text = Saccade({"list"});
  const Answer json = Saccade({"list", "--json"});
  CHECK(text.code == kExitOk);
  const auto parsed = nlohmann::json::parse(json.out);
  REQUIRE(parsed.size() == Variants().size());
  for (size_t i = 0; i < parsed.size(); ++i) {
    const Variant& v = *Variants()[i];
    CHECK(parsed[i]["name"] == v.name);
    CHECK(parsed[i]["knobs"].size() == v.knobs.size());
    CHECK(text.out.find(v.name) != std::string::npos);
    CHECK(text.out.find(v.source) != std::string::npos);
  }
}

std::vector<std::string> TinyCompare(const std::string& out) {
  return {"compare",  "--measure", "verify,speed,memory",
          "--only",   AnyName(),   "-n",
          "32",       "-d",        "8",
          "--heads",  "2",         "-t",
          "1",        "--pass",    "forward,backward",
          "--budget", "10m",       "--out",
          out};
}

TEST_CASE("a comparison leaves a whole record and a report") {
  const Folder folder;
  const Answer a = Saccade(TinyCompare(folder / "run"));
  CAPTURE(a.err);
  REQUIRE(a.code == kExitOk);
  CHECK(a.out.find("report.html") != std::string::npos);
  CHECK(fs::exists(folder / "run/report.html"));
  const Result<record::Run> run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  for (const char* field : {"cpu", "compiler", "flags", "commit", "command",
                            "started", "target", "machine"})
    CHECK(!run->header.Text(field).empty());
  CHECK(run->header.Text("command").starts_with("saccade compare --measure"));
  CHECK(!OfKind(*run, "peak").empty());
  CHECK(OfKind(*run, "variant").size() == 1);
  CHECK(OfKind(*run, "verify").size() == 2);
  const auto speed = OfKind(*run, "speed");
  REQUIRE(speed.size() == 2);
  for (const record::Record& r : speed) {
    CHECK(r.ok());
    CHECK(r.Numbers("ns").size() >= 6);
    CHECK(r.Number("low_ns") <= r.Number("median_ns"));
    CHECK(r.Number("median_ns") <= r.Number("high_ns"));
    CHECK(r.Number("flops") > 0);
    CHECK(r.Number("peak_share") > 0);
    CHECK(r.Number("bandwidth_share") > 0);
    CHECK(r.Count("q_heads") == 2);
    CHECK(r.Count("threads") == 1);
  }
  const auto memory = OfKind(*run, "memory");
  REQUIRE(memory.size() == 2);
  for (const record::Record& r : memory) {
    CHECK(r.ok());
    CHECK(r.Has("rss_growth_bytes"));
    CHECK(r.Count("io_bytes") > 0);
  }
  REQUIRE(OfKind(*run, "end").size() == 1);
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().ok());

  SUBCASE("which is never written over") {
    const Answer again = Saccade(TinyCompare(folder / "run"));
    CHECK(again.code == kExitUsage);
    CHECK(OneLine(again.err));
    CHECK(again.err.find("exists") != std::string::npos);
  }
  SUBCASE("from which the report can be made again") {
    const Answer again =
        Saccade({"report", folder / "run", "-o", folder / "again"});
    CHECK(again.code == kExitOk);
    CHECK(fs::exists(folder / "again/report.html"));
  }
}

TEST_CASE("no cell of the quick profile's shape is lost: each is a record") {
  const Folder folder;
  const Answer a =
      Saccade({"compare", "--measure", "speed", "-n", "16,48", "-d", "8",
               "--heads", "2", "-t", "1", "--pass", "decode", "--budget", "1s",
               "--out", folder / "run"});
  CAPTURE(a.err);
  const Result<record::Run> run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  const auto speed = OfKind(*run, "speed");
  CompareOverrides quick;
  quick.profile = "quick";
  CHECK(speed.size() == 2 * MakeCompareOptions(quick)->specs.size());
  for (const record::Record& r : speed)
    if (!r.ok()) CHECK(!r.Text("reason").empty());
}

TEST_CASE("a dry run says what it would do and writes nothing") {
  const Folder folder;
  std::vector<std::string> arguments = TinyCompare(folder / "run");
  arguments.push_back("--dry-run");
  const Answer a = Saccade(arguments);
  CHECK(a.code == kExitOk);
  CHECK(a.out.find("speed forward 32 f32") != std::string::npos);
  CHECK(!fs::exists(folder / "run"));
}

TEST_CASE("an interrupt ends a comparison with a valid record") {
  const Folder folder;
  StopFlag stop{true};
  const Answer a = Saccade(TinyCompare(folder / "run"), &stop);
  CHECK(a.code == kExitInterrupted);
  CHECK(a.err.find("interrupted") != std::string::npos);
  const Result<record::Run> run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  REQUIRE(!run->records.empty());
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().status() == "interrupted");
}

TEST_CASE("so does a signal in the middle of the program's work") {
  const Folder folder;
  std::vector<std::string> arguments = TinyCompare(folder / "run");
  arguments.insert(arguments.begin(), SACCADE_PROGRAM);
  arguments[arguments.size() - 1] = folder / "run";
  // Long enough to be in the middle of.
  for (std::string& a : arguments) {
    if (a == "32") a = "1k:16k:+64";
    if (a == AnyName()) a = "*";
  }
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  for (const int fd : {1, 2})
    posix_spawn_file_actions_addopen(&quiet, fd, "/dev/null", O_WRONLY, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    fs::remove_all(folder / "run");
    pid_t pid = 0;
    REQUIRE(posix_spawn(&pid, SACCADE_PROGRAM, &quiet, nullptr, argv.data(),
                        environ) == 0);
    // Until the first record of a measurement is there.
    for (int i = 0; i < 3000; ++i) {
      std::ifstream in(folder / "run/run.jsonl");
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      if (text.find("\"kind\":\"verify\"") != std::string::npos) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    kill(pid, signal);
    int how = 0;
    REQUIRE(waitpid(pid, &how, 0) == pid);
    CHECK(WIFEXITED(how));
    CHECK(WEXITSTATUS(how) == kExitInterrupted);
    const Result<record::Run> run = record::ReadRun(folder / "run/run.jsonl");
    REQUIRE(run.ok());
    CHECK(run->warnings.empty());
    CHECK(OfKind(*run, "verify").size() >= 1);
    CHECK(run->records.back().status() == "interrupted");
  }
  posix_spawn_file_actions_destroy(&quiet);
}

TEST_CASE("verify says ok, row by row, and a single case can be repeated") {
  const std::string name = AnyName();
  const Answer all = Saccade({"verify", "--only", name, "--effort", "quick"});
  CAPTURE(all.out);
  CHECK(all.code == kExitOk);
  CHECK(all.out.find(" ok\n") != std::string::npos);
  CHECK(all.out.find("FAIL") == std::string::npos);
  const Answer one =
      Saccade({"verify", "--case", name + " pass=forward len=17/17 dim=8/8"});
  CAPTURE(one.err);
  CHECK(one.code == kExitOk);
  CHECK(one.out.find("worst") != std::string::npos);
}

}  // namespace
}  // namespace saccade::bench
