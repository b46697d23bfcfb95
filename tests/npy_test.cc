// Arrays in NumPy's format. The files of tests/fuzz/seeds/npy were written by
// NumPy itself.
#include "bench/npy.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "tests/folder.h"

namespace saccade::bench {
namespace {

using Shape = std::vector<int64_t>;
using Values = std::vector<float>;

const std::string kSeeds =
    std::string(SACCADE_SOURCE_DIR) + "/tests/fuzz/seeds/npy/";

// A file of version 1.0 with such a header, not padded.
std::string File(const std::string& header, const std::string& data = "") {
  std::string bytes = "\x93NUMPY";
  bytes += '\x01';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + data;
}

std::string Header(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr +
         "', 'fortran_order': False, 'shape': " + shape + ", }\n";
}

TEST_CASE("what NumPy wrote is read, in every type, order and version") {
  for (const auto& [name, type] :
       {std::pair<const char*, NpyType>{"f2", NpyType::kF16},
        {"f4", NpyType::kF32},
        {"f8", NpyType::kF64}})
    for (const char* order : {"le_", "be_"}) {
      CAPTURE(order);
      CAPTURE(name);
      const Result<NpyArray> a = ReadNpy(kSeeds + order + name);
      REQUIRE(a.ok());
      CHECK(a->type == type);
      CHECK(a->shape == Shape{2, 3});
      for (const size_t exact : {0, 1, 2, 3})
        CHECK(a->values[exact] == Values{0, 1, -2.5, 65504}[exact]);
      // A half's last place is 2^-24 here.
      const float slack = type == NpyType::kF16 ? 0x1p-25f : 1e-12f;
      CHECK(std::fabs(a->values[4] - 6e-5f) <= slack);
      CHECK(std::fabs(a->values[5] - 1e-7f) <= slack);
    }
  const Result<NpyArray> columns = ReadNpy(kSeeds + "columns_first");
  REQUIRE(columns.ok());
  CHECK(columns->shape == Shape{2, 3});
  CHECK(columns->values == Values{0, 1, 2, 3, 4, 5});
  for (const char* version : {"version2", "version3"}) {
    const Result<NpyArray> a = ReadNpy(kSeeds + version);
    REQUIRE(a.ok());
    CHECK(a->values == Values{0, 1, 2});
  }
  const Result<NpyArray> bf16 = ReadNpy(kSeeds + "bf16");
  REQUIRE(bf16.ok());
  CHECK(bf16->type == NpyType::kBF16);
  CHECK(bf16->values == Values{1, -2, 3.140625});
  const Result<NpyArray> scalar = ReadNpy(kSeeds + "scalar");
  REQUIRE(scalar.ok());
  CHECK(scalar->shape.empty());
  CHECK(scalar->values == Values{3.5});
  const Result<NpyArray> empty = ReadNpy(kSeeds + "empty");
  REQUIRE(empty.ok());
  CHECK(empty->shape == Shape{2, 0, 3});
  const Result<NpyArray> deep = ReadNpy(kSeeds + "rank8");
  REQUIRE(deep.ok());
  CHECK(deep->shape == Shape(8, 2));
  CHECK(deep->values[255] == 255);
}

TEST_CASE("what is written is what NumPy writes") {
  const auto load = [](const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  const Folder folder;
  const std::string path = folder / "a.npy";
  const Values values = {0, 1, -2.5, 65504, 6e-5f, 1e-7f};
  const Shape shape = {2, 3};
  for (const auto& [name, type] :
       {std::pair<const char*, NpyType>{"le_f2", NpyType::kF16},
        {"le_f4", NpyType::kF32}}) {
    REQUIRE(WriteNpy(path, type, shape, values).ok());
    CHECK(load(path) == load(kSeeds + name));
  }
  for (const NpyType type :
       {NpyType::kF16, NpyType::kBF16, NpyType::kF32, NpyType::kF64}) {
    const Values exact = {1, -0.5, 384};
    const Shape three = {3};
    REQUIRE(WriteNpy(path, type, three, exact).ok());
    const Result<NpyArray> again = ReadNpy(path);
    REQUIRE(again.ok());
    CHECK(again->type == type);
    CHECK(again->values == exact);
  }
  CHECK(FormatNpy(NpyType::kF32, shape, Values{1}).status().code() ==
        Code::kInvalid);
}

TEST_CASE("every half is read and written as itself, and rounding is to even") {
  std::string data;
  for (int half = 0; half < 1 << 16; ++half) {
    data += static_cast<char>(half & 0xff);
    data += static_cast<char>(half >> 8);
  }
  const Result<NpyArray> all =
      ParseNpy(File(Header("<f2", "(65536,)"), data), "all.npy");
  REQUIRE(all.ok());
  const Result<std::string> bytes =
      FormatNpy(NpyType::kF16, all->shape, all->values);
  REQUIRE(bytes.ok());
  const std::string written = bytes->substr(bytes->size() - data.size());
  int strays = 0;
  for (size_t i = 0; i < data.size(); i += 2)
    if (!std::isnan(all->values[i / 2]))
      strays += written.compare(i, 2, data, i, 2) != 0;
  CHECK(strays == 0);
  const float step = 0x1p-10f;  // between halves from 1 to 2
  const Values between = {
      1 + step / 2, 1 + 3 * step / 2, 1 + step * 0.51f, 65519.9f,
      65520.0f,     0x1p-25f,         0x1.8p-24f,       -0.0f,
      0x1.ffep-15f};
  const Values rounded = {1,        1 + 2 * step, 1 + step,
                          65504,    INFINITY,     0,
                          0x1p-23f, -0.0f,        0x1p-14f};
  const Shape shape = {static_cast<int64_t>(between.size())};
  const Result<NpyArray> a =
      ParseNpy(*FormatNpy(NpyType::kF16, shape, between), "rounded.npy");
  REQUIRE(a.ok());
  for (size_t i = 0; i < rounded.size(); ++i) {
    CAPTURE(between[i]);
    CHECK(std::bit_cast<uint32_t>(a->values[i]) ==
          std::bit_cast<uint32_t>(rounded[i]));
  }
}

TEST_CASE(
    "what is no array of numbers is refused with one line and its place") {
  const std::string good = Header("<f4", "(1,)");
  const std::string four(4, '\0');
  REQUIRE(ParseNpy(File(good, four), "x").ok());
  std::string second = File(good, four);
  second[6] = '\x04';
  const std::string huge = "(1099511627776, 1099511627776, 1099511627776)";
  for (const auto& [bytes, says] :
       std::vector<std::pair<std::string, const char*>>{
           {"", "not a .npy file"},
           {"PK\x03\x04", "not a .npy file"},
           {"\x93NUMPY", "version"},
           {second, "version 4.0"},
           {std::string("\x93NUMPY\x01\0", 8), "ends before its header"},
           {File(good).substr(0, 40), "ends in its header"},
           {std::string("\x93NUMPY\x02\0\xff\xff\xff\xff", 12), "4294967295"},
           {File(good), "0 bytes"},
           {File(good, four + "x"), "5 bytes"},
           {File(Header("<f4", huge), four), "does not fit"},
           {File(Header("<f4", "(0, " + huge.substr(1)), four), "4 bytes"},
           {File(Header("<f4", "(-1,)"), four), "character"},
           {File(Header("<f4", "(1e3,)"), four), "character"},
           {File(Header("<f4", "(99999999999999999999,)"), four), "2^40"},
           {File(Header("<f4", "(1)"), four), "','"},
           {File(Header("<f4", "[1]"), four), "'('"},
           {File(Header("<f4", "(1,1,1,1,1,1,1,1,1)"), four), "more than 8"},
           {File(Header("<i8", "(1,)"), four + four), "'<i8'"},
           {File(Header("|O", "(1,)"), four), "'|O'"},
           {File(Header("=f4", "(1,)"), four), "'=f4'"},
           {File(Header("\x1b[31m", "(1,)"), four), "'?[31m'"},
           {File("{'descr': [('a', '<f4')], 'fortran_order': False, "
                 "'shape': (1,), }",
                 four),
            "several fields"},
           {File("{'descr': '<f4', 'shape': (1,), }", four), "fortran_order"},
           {File("{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", four),
            "second time"},
           {File("{'descr': '<f4', 'eval': 1}", four), "keys are"},
           {File("__import__('os')", four), "'{'"},
           {File(good + "0", four), "behind the dictionary"},
           {File("{'descr': '<f4", four), "without its end"},
           {File(std::string(5000, '{'), four), "5000 bytes"}}) {
    CAPTURE(bytes);
    const Result<NpyArray> a = ParseNpy(bytes, "bad.npy");
    REQUIRE(!a.ok());
    const std::string& message = a.status().message();
    CAPTURE(message);
    CHECK(message.starts_with("bad.npy: "));
    CHECK(message.find(says) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.find('\x1b') == std::string::npos);
  }
  CHECK(ReadNpy(kSeeds + "i8").status().code() == Code::kUnsupported);
  CHECK(ReadNpy(kSeeds + "fields").status().code() == Code::kUnsupported);
  CHECK(ReadNpy(kSeeds + "object").status().code() == Code::kUnsupported);
}

}  // namespace
}  // namespace saccade::bench
