// Files that are not what they should be, at every place where the program
// reads one: refused with a line that names the file, and never waited for.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "bench/corpus.h"
#include "bench/learn/checkpoint.h"
#include "bench/npy.h"
#include "bench/profile.h"
#include "record/file.h"
#include "record/record.h"
#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

struct Reader {
  const char* name;  // of the file that it reads
  std::function<Status(const std::string& path)> read;
};

const std::vector<Reader>& Readers() {
  static const std::vector<Reader> readers = {
      {"run.jsonl",
       [](const std::string& path) { return record::ReadRun(path).status(); }},
      {"training.state",
       [](const std::string& path) {
         return ReadCheckpoint(path, "us", 1).status();
       }},
      {"profile.json",
       [](const std::string& path) { return LoadProfile(path).status(); }},
      {"text.txt",
       [](const std::string& path) {
         return ReadCorpus(std::vector<std::string>{path}).status();
       }},
      {"array.npy",
       [](const std::string& path) { return ReadNpy(path).status(); }},
      {"options.toml",
       [](const std::string& path) {
         const Answer a = Saccade({"compare", "--config", path});
         CHECK(OneLine(a.err));
         return a.code == kExitOk ? Status() : Invalid(a.err);
       }},
  };
  return readers;
}

void CheckRefused(const Reader& reader, const std::string& path,
                  const std::string& says) {
  const Status status = reader.read(path);
  CAPTURE(status.message());
  CHECK(!status.ok());
  CHECK(status.message().find(reader.name) != std::string::npos);
  CHECK(status.message().find(says) != std::string::npos);
}

TEST_CASE("what is no file is refused and never waited for") {
  for (const Reader& reader : Readers()) {
    CAPTURE(reader.name);
    const Folder folder;
    const std::string path = folder / reader.name;
    CheckRefused(reader, path, "No such file");
    fs::create_directory(path);
    CheckRefused(reader, path,
                 reader.name == std::string("run.jsonl")
                     ? "folder"
                     : "is a folder, not a file");
    fs::remove(path);
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    CheckRefused(reader, path, "not a regular file");
    fs::remove(path);
    fs::create_symlink(path, path);
    CheckRefused(reader, path, "symbolic links");
  }
}

TEST_CASE("a device is no file, and neither is one that has no end of bytes") {
  for (const Reader& reader : Readers()) {
    CAPTURE(reader.name);
    const Folder folder;
    const std::string path = folder / reader.name;
    fs::create_symlink("/dev/zero", path);
    const Status status = reader.read(path);
    CAPTURE(status.message());
    CHECK(!status.ok());
    CHECK(status.message().find(reader.name) != std::string::npos);
  }
}

TEST_CASE("a line of a gigabyte is refused by its size or its first bytes") {
  for (const Reader& reader : Readers()) {
    if (reader.name == std::string("training.state")) continue;  // has a sum
    CAPTURE(reader.name);
    const Folder folder;
    const std::string path = folder / reader.name;
    std::ofstream(path).close();
    fs::resize_file(path, (uintmax_t{1} << 36) + 1);  // sparse
    CheckRefused(reader, path, "68719476737 bytes, more than");
  }
}

TEST_CASE("a file is read as far as it is asked for") {
  const Folder folder;
  const std::string path = folder.Write("a", "0123456789");
  CHECK(*record::ReadFile(path, 10) == "0123456789");
  CHECK(*record::ReadFile(path, 10, 4) == "0123");
  CHECK(record::ReadFile(path, 9, 4).status().code() == Code::kIo);
  // Zeros that begin a text of a gigabyte are all that is read of it.
  fs::resize_file(path, 0);
  fs::resize_file(path, uintmax_t{1} << 30);
  const Result<Corpus> corpus = ReadCorpus(std::vector<std::string>{path});
  CHECK(corpus.status().message().find("byte 0 is zero") != std::string::npos);
}

TEST_CASE("a run does not lead out of its folder") {
  const Folder secret, run;
  const std::string real = secret.Write("other.jsonl", "secret\n");
  fs::create_symlink(real, run / "run.jsonl");
  CheckRefused(Readers()[0], run / "run.jsonl", real);
  fs::create_symlink(real, run / "training.state");
  CheckRefused(Readers()[1], run / "training.state", real);
  const Answer a = Saccade({"report", run.path()});
  CHECK(a.code == kExitUsage);
  CHECK(OneLine(a.err));
  CHECK(a.err.find("is a link out of its folder") != std::string::npos);
  // Within it, and to it, links are as good as names.
  run.Write("first.jsonl", "x");
  fs::create_symlink("first.jsonl", run / "second.jsonl");
  CHECK(record::StaysInFolder(run / "second.jsonl").ok());
  fs::create_symlink(run.path(), secret / "latest");
  CHECK(record::StaysInFolder(secret / "latest/second.jsonl").ok());
  CHECK(!record::StaysInFolder(secret / "latest/run.jsonl").ok());
}

TEST_CASE("what is written replaces a link, and never what it leads to") {
  const Folder secret, run;
  const std::string real = secret.Write("precious", "old");
  fs::create_symlink(real, run / "report.md");
  fs::create_symlink(real, run / "report.md.part");
  REQUIRE(record::WriteFile(run / "report.md", "new").ok());
  CHECK(*record::ReadFile(real, 10) == "old");
  CHECK(*record::ReadFile(run / "report.md", 10) == "new");
  CHECK(!fs::is_symlink(fs::symlink_status(run / "report.md")));
  CHECK(!fs::exists(run / "report.md.part"));
  CHECK(record::WriteFile(run / "no/such/folder", "x").code() == Code::kIo);
}

TEST_CASE("values that no profile may have are named with their key") {
  const Folder folder;
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  for (const auto& [text, says] :
       std::vector<std::pair<std::string, std::string>>{
           {deep, "nested deeper"},
           {R"({"speed": )" + deep + "}", "nested deeper"},
           {R"({"about": "\ud800"})", "no valid JSON at byte"},
           {"{\"about\": \"\xff\"}", "no valid JSON at byte"},
           {R"({"seconds": {"speed": NaN}})", "no valid JSON at byte"},
           {R"({"seconds": {"speed": 1e999}})", "a number is out of range"},
           {R"({"seconds": {"speed": 1, "speed": 2}})",
            "the key \"speed\" stands twice"},
           {R"({"seconds": {"speed": "5"}})", "\"speed\" must be"},
           {R"({"seconds": {"verify": -5}})", "\"verify\" must be"},
           {R"({"shape": {"heads": -4}})", "\"heads\" must be"},
           {R"({"shape": {"heads": 18446744073709551615}})",
            "\"heads\" must be"},
           {R"({"shape": {"heads": 1.5}})", "\"heads\" must be"},
           {R"({"speed": {"lengths": "-4"}})", "'-4' is no count"},
           {R"({"speed": {"lengths": {"a": 1}}})", "\"lengths\" must be"},
           {R"({"speed": {"lengths": "1:16m:+1"}})", "more than 1000"}}) {
    CAPTURE(text.substr(0, 60));
    const std::string path = folder.Write("p.json", text);
    const Answer a =
        Saccade({"compare", "--profile", path, "--measure", "speed"});
    CAPTURE(a.err);
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK(a.err.find(says) != std::string::npos);
  }
}

TEST_CASE("values that no record may have cost their line, not the run") {
  const Folder folder;
  const std::string header =
      R"({"kind":"run","schema":1,"cpu":"c","threads":1,"compiler":"g",)"
      R"("commit":"0","command":"saccade","started":"2025-01-01T00:00:00Z"})";
  const std::string begin =
      R"({"kind":"speed","variant":"a.b","pass":"forward")";
  for (const std::string& rest : std::vector<std::string>{
           R"(,"q_len":-1,"kv_len":8,"median_ns":5})",
           R"(,"q_len":8.5,"kv_len":8,"median_ns":5})",
           R"(,"q_len":"8","kv_len":8,"median_ns":5})",
           R"(,"q_len":8,"kv_len":8,"median_ns":NaN})",
           R"(,"q_len":8,"kv_len":8,"median_ns":1e999})",
           R"(,"q_len":8,"kv_len":8,"median_ns":[5]})",
           R"(,"q_len":8,"q_len":9,"kv_len":8,"median_ns":5})",
           R"(,"q_len":8,"kv_len":18446744073709551615,"median_ns":5})",
           R"(,"q_len":8,"kv_len":8,"median_ns":5,"ns":[[[[[5]]]]]})",
           ",\"q_len\":8,\"kv_len\":8,\"median_ns\":5,\"reason\":\"\xff\"}"}) {
    CAPTURE(rest);
    const std::string good = begin + R"(,"q_len":8,"kv_len":8,"median_ns":5})";
    const std::string path = folder.Write(
        "run.jsonl", header + "\n" + begin + rest + "\n" + good + "\n");
    const Result<record::Run> run = record::ReadRun(path);
    REQUIRE_MESSAGE(run.ok(), run.status().message());
    CHECK(run->records.size() == 1);
    REQUIRE(run->warnings.size() == 1);
    CHECK(run->warnings[0].find("run.jsonl:2: ") != std::string::npos);
  }
}

}  // namespace
}  // namespace saccade::bench
