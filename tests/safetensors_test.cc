// Tensors in .safetensors files: what is written is read, and what is hostile
// is refused in one line that says what and where.
#include "bench/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <utility>

#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

// A file of that header and `floats` numbers.
std::string File(const std::string& header, size_t floats = 0) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes + header + std::string(floats * sizeof(float), '\0');
}

std::string Entry(const std::string& name, const std::string& shape, int begin,
                  int end, const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(end) + "]}";
}

std::string Refusal(const std::string& bytes) {
  const Result<Safetensors> file = ParseSafetensors(bytes, "x.safetensors");
  CHECK_FALSE(file.ok());
  return file.ok() ? "" : file.status().message();
}

TEST_CASE("tensors are read as they were written") {
  Safetensors file;
  file.about = {{"spec", "a \"quoted\" word"}, {"steps", "400"}};
  file.tensors = {{"b", {2, 3}, {1, -2, 0.5f, 1e-40f, 3e38f, -0.0f}},
                  {"a", {1}, {7}},
                  {"none", {0, 4}, {}},
                  {"number", {}, {9}}};
  const Result<std::string> bytes = FormatSafetensors(file);
  REQUIRE(bytes.ok());
  uint64_t length = 0;
  std::memcpy(&length, bytes->data(), sizeof length);
  CHECK(length % 8 == 0);
  CHECK((*bytes)[8] == '{');
  const Result<Safetensors> again = ParseSafetensors(*bytes, "x");
  REQUIRE_MESSAGE(again.ok(), again.status().message());
  CHECK(again->about == file.about);
  REQUIRE(again->tensors.size() == file.tensors.size());
  for (size_t i = 0; i < file.tensors.size(); ++i) {
    // Those of no elements lie where the next begins.
    const NamedTensor& want = file.tensors[i];
    const NamedTensor& got = again->tensors[i];
    CHECK(got.name == want.name);
    CHECK(got.shape == want.shape);
    CHECK(got.values == want.values);
  }
}

TEST_CASE("a header in any order, padded, is read") {
  const std::string header = "{" + Entry("late", "[2]", 4, 12) + "," +
                             Entry("early", "[1]", 0, 4) +
                             ",\"__metadata__\":{\"k\":\"v\"}}   ";
  const Result<Safetensors> file = ParseSafetensors(File(header, 3), "x");
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  CHECK(file->tensors[0].name == "early");
  CHECK(file->about.at("k") == "v");
  CHECK(ParseSafetensors(File("{}"), "x").ok());
}

TEST_CASE("what is hostile is refused, with its place") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::string spoilt = File("{" + Entry("a", "[2]", 0, 8) + "}", 2);
  std::memcpy(&spoilt[spoilt.size() - 4], &nan, sizeof nan);
  std::string long_header = File("{}");
  long_header[7] = '\x7f';
  const std::string deep(100000, '[');
  for (const auto& [bytes, says] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "length"},
           {"\x01\x02", "length"},
           {long_header, "a header of"},
           {File("[]"), "begin with {"},
           {File(""), "begin with {"},
           {File("{\"a\":"), "no valid JSON"},
           {File("{\"a\":" + deep), "deeper"},
           {File("{\"a\":" + deep + std::string(deep.size(), ']') + "}"),
            "deeper"},
           {File("{\"a\":1}"), "no object"},
           {File("{\"a\":{}}"), "wanted"},
           {File("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"offsets\":[0,4]}}"),
            "keys are"},
           {File("{" + Entry("a", "[2]", 0, 4, "F16") + "}", 1), "F16"},
           {File("{" + Entry("a", "[2]", 0, 4) + "}", 1), "does not fit"},
           {File("{" + Entry("a", "[-1]", 0, 4) + "}", 1), "whole number"},
           {File("{" + Entry("a", "[1.5]", 0, 4) + "}", 1), "whole number"},
           {File("{" + Entry("a", "[1e30]", 0, 4) + "}", 1), "whole number"},
           {File("{" + Entry("a", "\"1\"", 0, 4) + "}", 1), "no list"},
           {File("{" + Entry("a", "[1099511627776,1099511627776]", 0, 4) + "}",
                 1),
            "does not fit"},
           {File("{" + Entry("a", "[1,1,1,1,1,1,1,1,1]", 0, 4) + "}", 1),
            "more than 8"},
           {File("{" + Entry("a", "[1]", 4, 8) + "}", 1), "do not lie"},
           {File("{" + Entry("a", "[1]", 4, 0) + "}", 1), "do not lie"},
           {File("{" + Entry("a", "[1]", -4, 0) + "}", 1), "do not lie"},
           {File("{" + Entry("a", "[1]", 0, 4) + "," + Entry("b", "[1]", 0, 4) +
                     "}",
                 1),
            "overlaps"},
           {File("{" + Entry("a", "[2]", 0, 8) + "," + Entry("b", "[1]", 4, 8) +
                     "}",
                 2),
            "overlaps"},
           {File("{" + Entry("a", "[1]", 0, 4) + "," + Entry("a", "[1]", 4, 8) +
                     "}",
                 2),
            "twice"},
           {File("{" + Entry("a", "[1]", 4, 8) + "}", 2), "of no tensor"},
           {File("{" + Entry("a", "[1]", 0, 4) + "}", 2), "of no tensor"},
           {File("{\"__metadata__\":[]}"), "no object"},
           {File("{\"__metadata__\":{\"k\":1}}"), "no text"},
           {spoilt, "element 1 is not finite"}}) {
    CAPTURE(bytes.substr(0, 100));
    const std::string refusal = Refusal(bytes);
    CHECK_MESSAGE(refusal.find(says) != std::string::npos, refusal);
    CHECK(refusal.starts_with("x.safetensors: "));
    CHECK(refusal.size() < 300);
  }
}

TEST_CASE("what could not be read is not written") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const NamedTensor& t :
       std::vector<NamedTensor>{{"a", {2}, {1}},
                                {"a", {-1}, {1}},
                                {"a", {1}, {inf}},
                                {"__metadata__", {1}, {1}}})
    CHECK_FALSE(FormatSafetensors({{}, {t}}).ok());
  CHECK_FALSE(FormatSafetensors({{}, {{"a", {}, {1}}, {"a", {}, {1}}}}).ok());
}

TEST_CASE("a file cut anywhere is refused") {
  const std::string whole =
      *FormatSafetensors({{{"k", "v"}}, {{"a", {2}, {1, 2}}}});
  for (size_t size = 0; size < whole.size(); ++size)
    Refusal(whole.substr(0, size));
}

TEST_CASE("generate refuses what is no model, in one line") {
  const Folder folder;
  const std::string text = folder.Write("text", "just some text, long enough");
  const std::string other = folder.Write(
      "other", *FormatSafetensors({{{"k", "v"}}, {{"a", {2}, {1, 2}}}}));
  const std::string huge =
      folder.Write("huge", *FormatSafetensors({{{"spec", "softmax.flash"},
                                                {"width", "8192"},
                                                {"layers", "64"},
                                                {"heads", "64"},
                                                {"symbols", "257"},
                                                {"train_len", "128"}},
                                               {{"a", {2}, {1, 2}}}}));
  for (const auto& [path, says] :
       std::vector<std::pair<std::string, std::string>>{
           {text, "not a .safetensors file"},
           {other, "metadata has no good 'spec'"},
           {huge, "too few"},
           {folder / "none", "none"},
           {folder.path(), "folder"}}) {
    const Answer a = Saccade({"generate", path});
    CHECK(a.code == kExitUsage);
    CHECK(OneLine(a.err));
    CHECK_MESSAGE(a.err.find(says) != std::string::npos, a.err);
    CHECK(a.out.empty());
  }
}

}  // namespace
}  // namespace saccade::bench
