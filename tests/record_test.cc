// The record of a run: what is written is read again, and nothing that a file
// may hold makes the reader crash or lose what is whole.
#include "record/record.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "tests/folder.h"

namespace saccade::record {
namespace {

std::string Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void Save(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

Json Header() {
  return {{"cpu", "a processor"}, {"threads", 2},
          {"compiler", "g++ 12"}, {"commit", "0123abc"},
          {"command", "saccade"}, {"started", "2025-01-01T00:00:00Z"}};
}

Json Speed(double median_ns) {
  return {{"kind", "speed"},
          {"variant", "family.method"},
          {"pass", "forward"},
          {"q_len", 64},
          {"kv_len", 64},
          {"cache", "warm"},
          {"ns", {median_ns, 2 * median_ns}},
          {"median_ns", median_ns}};
}

std::string Line(const Json& json) { return json.dump() + "\n"; }

std::string HeaderLine() {
  Json header = {{"kind", "run"}, {"schema", kSchemaVersion}};
  header.update(Header());
  return Line(header);
}

Result<Run> ReadText(const Folder& folder, const std::string& text) {
  Save(folder / "run.jsonl", text);
  return ReadRun(folder / "run.jsonl");
}

bool Mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("What a run writes is read again") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  Result<RecordWriter> writer = RecordWriter::Create(path, Header());
  REQUIRE(writer.ok());
  REQUIRE(writer->Write(Speed(5)).ok());
  Json odd = Speed(6);
  odd["ns"] = {1.0, std::numeric_limits<double>::quiet_NaN()};
  odd["peak_share"] = std::numeric_limits<double>::infinity();
  odd["variant"] = "bytes \xff that are not UTF-8";
  REQUIRE(writer->Write(odd).ok());
  // On disk already, though nothing was closed.
  const Result<Run> run = ReadRun(path);
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  CHECK(run->header.Count("schema") == kSchemaVersion);
  CHECK(run->header.Text("cpu") == "a processor");
  REQUIRE(run->records.size() == 2);
  CHECK(run->records[0].Number("median_ns") == 5);
  CHECK(run->records[0].line() == 2);
  CHECK(run->records[0].ok());
  CHECK(std::isnan(run->records[1].Numbers("ns")[1]));
  CHECK_FALSE(run->records[1].Has("peak_share"));
  CHECK(run->records[1].Text("variant").ends_with("not UTF-8"));
  CHECK(writer->Close().ok());
  CHECK(writer->Write(Speed(7)).code() == Code::kInvalid);
}

TEST_CASE("A writer refuses what the schema does not know") {
  const Folder folder;
  Result<RecordWriter> writer =
      RecordWriter::Create(folder / "run.jsonl", Header());
  REQUIRE(writer.ok());
  Json typo = Speed(1);
  typo["medain_ns"] = 1;
  CHECK(Mentions(writer->Write(typo).message(), "medain_ns"));
  Json no_reason = Speed(1);
  no_reason["status"] = "skipped";
  CHECK(Mentions(writer->Write(no_reason).message(), "reason"));
  CHECK_FALSE(writer->Write({{"kind", "run"}}).ok());
  CHECK_FALSE(writer->Write({{"kind", "?"}}).ok());
  CHECK_FALSE(writer->Write(Json(3)).ok());
  const Result<Run> run = ReadRun(folder / "run.jsonl");
  REQUIRE(run.ok());
  CHECK(run->records.empty());
}

TEST_CASE("Measurements are never overwritten") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  Save(path, "kept");
  CHECK(RecordWriter::Create(path, Header()).status().code() == Code::kInvalid);
  CHECK(Load(path) == "kept");
}

TEST_CASE("Two writers cannot share a file") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  Result<RecordWriter> writer = RecordWriter::Create(path, Header());
  REQUIRE(writer.ok());
  const Result<Run> run = ReadRun(path);
  REQUIRE(run.ok());
  CHECK_FALSE(RecordWriter::Resume(*run).ok());
}

TEST_CASE("A resumed run goes on after the last whole record") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  const std::string whole = HeaderLine() + Line(Speed(1));
  std::string tail;
  SUBCASE("ended with a newline") {}
  SUBCASE("cut off inside a line") { tail = R"({"kind":"spe)"; }
  SUBCASE("cut off before the newline") {
    tail = Line(Speed(2));
    tail.pop_back();
  }
  Save(path, whole + tail);
  const Result<Run> before = ReadRun(path);
  REQUIRE(before.ok());
  Result<RecordWriter> writer = RecordWriter::Resume(*before);
  REQUIRE(writer.ok());
  REQUIRE(writer->Write(Speed(3)).ok());
  const Result<Run> after = ReadRun(path);
  REQUIRE(after.ok());
  CHECK(after->warnings.empty());
  REQUIRE(after->records.size() == before->records.size() + 1);
  CHECK(after->records.back().Number("median_ns") == 3);
}

TEST_CASE("A full disk is said clearly and loses nothing") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  Result<RecordWriter> writer = RecordWriter::Create(path, Header());
  REQUIRE(writer.ok());
  REQUIRE(writer->Write(Speed(1)).ok());
  // A limit on the size of files fails inside a record, as a full disk does.
  const std::string before = Load(path);
  rlimit saved = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &saved) == 0);
  rlimit tight = saved;
  tight.rlim_cur = before.size() + 20;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const Status status = writer->Write(Speed(2));
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &saved) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(status.code() == Code::kExhausted);
  CHECK(Mentions(status.message(), path));
  CHECK(Load(path) == before);
  CHECK(writer->Write(Speed(2)).ok());
  CHECK(ReadRun(path)->records.size() == 2);
}

TEST_CASE("A place where nothing can be written is named") {
  const Folder folder;
  const std::string path = folder / "missing/run.jsonl";
  const auto writer = RecordWriter::Create(path, Header());
  CHECK(writer.status().code() == Code::kIo);
  CHECK(Mentions(writer.status().message(), path));
}

TEST_CASE("What is no run is refused in one line that names the place") {
  const Folder folder;
  const std::string path = folder / "run.jsonl";
  std::string text;
  SUBCASE("empty") { text = ""; }
  SUBCASE("not JSON") { text = "hello\n"; }
  SUBCASE("an array") { text = "[1,2]\n"; }
  SUBCASE("no header") { text = Line(Speed(1)); }
  SUBCASE("a schema to come") {
    text = Line({{"kind", "run"}, {"schema", kSchemaVersion + 1}});
  }
  SUBCASE("a schema before all") {
    text = Line({{"kind", "run"}, {"schema", kOldestSchema - 1}});
  }
  SUBCASE("a schema that is no number") {
    text = R"({"kind":"run","schema":"one"})";
  }
  SUBCASE("a header with a field missing") {
    text = R"({"kind":"run","schema":1})";
  }
  SUBCASE("absurd nesting") { text = std::string(1 << 19, '[') + "\n"; }
  SUBCASE("one endless line") { text = std::string(kMaxLineBytes + 9, ' '); }
  SUBCASE("binary") {
    text = std::string(
        "\x7f"
        "ELF\0\0\xff\xfe\n",
        9);
  }
  const Result<Run> run = ReadText(folder, text);
  REQUIRE_FALSE(run.ok());
  CHECK(run.status().code() == Code::kIo);
  CHECK(Mentions(run.status().message(), path));
  CHECK_FALSE(Mentions(run.status().message(), "\n"));
  CHECK(run.status().message().size() < 300);
}

TEST_CASE("A missing file, a folder and a huge file are told apart") {
  const Folder folder;
  CHECK(ReadRun(folder / "no").status().code() == Code::kNotFound);
  CHECK(ReadRun(folder / "").status().code() == Code::kIo);
  const std::string huge = folder / "huge";
  Save(huge, "x");
  std::filesystem::resize_file(huge, kMaxFileBytes + 1);  // sparse
  CHECK(Mentions(ReadRun(huge).status().message(), "more than"));
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(ReadRun(pipe).status().code() == Code::kIo);
}

// One malformed line between two good ones.
std::string Spoilt(std::string_view field, const Json& value) {
  Json json = Speed(1);
  json[std::string(field)] = value;
  return json.dump();
}

TEST_CASE("A malformed line is dropped with its number, the others stay") {
  const Folder folder;
  std::string bad;
  SUBCASE("not JSON") { bad = "{]"; }
  SUBCASE("not an object") { bad = "7"; }
  SUBCASE("no kind") { bad = "{}"; }
  SUBCASE("unknown kind") { bad = R"({"kind":"\u001b[31m"})"; }
  SUBCASE("a second header") {
    bad = HeaderLine();
    bad.pop_back();
  }
  SUBCASE("a wrong type") { bad = Spoilt("q_len", "many"); }
  SUBCASE("a negative count") { bad = Spoilt("q_len", -1); }
  SUBCASE("a huge count") { bad = Spoilt("q_len", ~uint64_t{0}); }
  SUBCASE("a negative time") { bad = Spoilt("median_ns", -1.0); }
  SUBCASE("a huge number") {
    bad = R"({"kind":"peak","peak":"fma","threads":1,"gflops":1e999})";
  }
  SUBCASE("not a number") {
    bad = R"({"kind":"peak","peak":"fma","threads":1,"gflops":NaN})";
  }
  SUBCASE("a word out of its list") { bad = Spoilt("pass", "sideways"); }
  SUBCASE("a failure without a reason") { bad = Spoilt("status", "fail"); }
  SUBCASE("nested too deep") {
    bad = R"({"kind":"end","x":)" + std::string(1 << 19, '[');
  }
  SUBCASE("too long an array") {
    bad = Spoilt("ns", std::vector<int>(kMaxArrayItems + 1, 1));
  }
  const Result<Run> run = ReadText(
      folder, HeaderLine() + Line(Speed(1)) + bad + "\n\n" + Line(Speed(2)));
  REQUIRE(run.ok());
  REQUIRE(run->records.size() == 2);
  CHECK(run->records[1].Number("median_ns") == 2);
  CHECK(run->records[1].line() == 5);
  REQUIRE(run->warnings.size() == 1);
  CHECK(Mentions(run->warnings[0], run->path + ":3: "));
  CHECK_FALSE(Mentions(run->warnings[0], "\x1b"));
  CHECK(run->warnings[0].size() < 300);
}

TEST_CASE("Fields of later versions are let be") {
  const Folder folder;
  Json json = Speed(1);
  json["invented_later"] = {{"deep", 1}};
  const Result<Run> run = ReadText(folder, HeaderLine() + Line(json));
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  CHECK(run->records.size() == 1);
}

TEST_CASE("A run of the schema before is read, and not written to") {
  const std::string path = SACCADE_SOURCE_DIR "/tests/data/run_small.jsonl";
  const Result<Run> run = ReadRun(path);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(run->schema == 1);
  int timed = 0;
  for (const Record& r : run->records) {
    const bool times = r.kind() == "speed" || r.kind() == "peer";
    timed += times;
    CHECK(r.Text("cache") == (times ? "warm" : ""));
  }
  CHECK(timed > 0);
  const Result<RecordWriter> writer = RecordWriter::Resume(*run);
  CHECK(writer.status().code() == Code::kInvalid);
  CHECK(Mentions(writer.status().message(), "schema 1"));
  // What a version demands is not supplied to its own files.
  const Folder folder;
  Json bare = Speed(5);
  bare.erase("cache");
  const Result<Run> now = ReadText(folder, HeaderLine() + Line(bare));
  REQUIRE(now.ok());
  CHECK(now->records.empty());
  CHECK(Mentions(now->warnings.at(0), "cache"));
}

TEST_CASE("A measurement is known by what was measured, not by what came") {
  Json fast = {{"kind", "speed"}, {"variant", "a"},  {"pass", "forward"},
               {"q_len", 16},     {"kv_len", 16},    {"median_ns", 5},
               {"ns", {5, 5}},    {"peak_share", 1}, {"status", "ok"}};
  Json slow = fast;
  slow.update({{"median_ns", 7}, {"ns", {7}}, {"status", "skipped"}});
  slow["reason"] = "too long";
  CHECK(IdentityOf(fast) == IdentityOf(slow));
  for (const char* field : {"variant", "pass", "kind", "dtype", "cache"}) {
    Json other = fast;
    other[field] = "b";
    CHECK(IdentityOf(other) != IdentityOf(fast));
  }
  Json longer = fast;
  longer["kv_len"] = 17;
  CHECK(IdentityOf(longer) != IdentityOf(fast));
}

TEST_CASE("Many malformed lines make few warnings") {
  const Folder folder;
  std::string text = HeaderLine();
  for (int i = 0; i < 1000; ++i) text += "?\n";
  const Result<Run> run = ReadText(folder, text);
  REQUIRE(run.ok());
  CHECK(run->warnings.size() == 21);
  CHECK(Mentions(run->warnings.back(), "980 more"));
}

TEST_CASE("A run killed at any byte keeps all whole lines") {
  const Folder folder;
  std::string text = HeaderLine();
  const size_t header = text.size() - 1;  // the newline may be missing
  for (int i = 1; i <= 3; ++i) text += Line(Speed(i));
  for (size_t size = 0; size <= text.size(); ++size) {
    CAPTURE(size);
    const std::string cut = text.substr(0, size);
    const Result<Run> run = ReadText(folder, cut);
    REQUIRE(run.ok() == (size >= header));
    if (!run.ok()) continue;
    const auto newlines = std::count(cut.begin(), cut.end(), '\n');
    const auto records = static_cast<std::ptrdiff_t>(run->records.size());
    CHECK(records >= newlines - 1);
    CHECK(records <= newlines);
    CHECK(run->warnings.size() <= 1);
    for (std::ptrdiff_t i = 0; i < records; ++i) {
      CHECK(run->records[static_cast<size_t>(i)].Number("median_ns") ==
            static_cast<double>(i + 1));
    }
  }
}

TEST_CASE("Bytes changed at random never crash the reader") {
  const Folder folder;
  std::string text = HeaderLine();
  for (int i = 1; i <= 3; ++i) text += Line(Speed(i));
  std::mt19937 random(20240517);
  int read = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string mutant = text;
    const size_t changes = 1 + random() % 4;
    for (size_t i = 0; i < changes; ++i) {
      mutant[random() % mutant.size()] = static_cast<char>(random());
    }
    const Result<Run> run = ReadText(folder, mutant);
    if (!run.ok()) continue;
    ++read;
    for (const Record& record : run->records) {
      CHECK(Validate(record.fields(), Strictness::kLenient).ok());
    }
  }
  CHECK(read > 100);  // the test reaches beyond the header
}

TEST_CASE("The page about the schema is that of the table") {
  const std::string page =
      Load(std::string(SACCADE_SOURCE_DIR) + "/reports/SCHEMA.md");
  CHECK_MESSAGE(page.ends_with("\n\n" + SchemaMarkdown()),
                "replace the tables of reports/SCHEMA.md by:\n",
                SchemaMarkdown());
}

TEST_CASE("Kinds speak only of fields in the table, fields are all used") {
  std::string used = " kind status reason ";
  for (const Kind& kind : Kinds()) {
    for (const std::string_view list :
         {kind.identity, kind.result, kind.optional}) {
      std::istringstream names{std::string(list)};
      for (std::string name; names >> name;) {
        CAPTURE(name);
        CHECK(FindField(name) != nullptr);
        used += name + " ";
      }
    }
  }
  for (const Field& field : Fields()) {
    CAPTURE(field.name);
    CHECK(Mentions(used, " " + std::string(field.name) + " "));
  }
}

}  // namespace
}  // namespace saccade::record
