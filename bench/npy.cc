#include "bench/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <new>
#include <optional>

#include "record/file.h"
#include "simd/bf16.h"

namespace saccade::bench {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 4096;  // eight sizes need 300 bytes
constexpr int64_t kMaxSize = int64_t{1} << 40;

struct Header {
  NpyType type = NpyType::kF32;
  bool big_endian = false;
  bool columns_first = false;
  std::vector<int64_t> shape;
};

int64_t BytesOf(NpyType type) {
  switch (type) {
    case NpyType::kBool:
      return 1;
    case NpyType::kF16:
    case NpyType::kBF16:
      return 2;
    case NpyType::kF32:
      return 4;
    case NpyType::kF64:
      return 8;
  }
  return 0;
}

// Without order: "f4".
std::string_view LetterOf(NpyType type) {
  constexpr std::string_view kLetters[] = {"f2", "V2", "f4", "f8", "b1"};
  return kLetters[static_cast<size_t>(type)];
}

// The dictionary of a header, and nothing else that Python would evaluate.
// After the first error everything reads as empty, and the error stays.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view file)
      : text_(text), file_(file) {}

  Result<Header> Parse() {
    Expect('{');
    while (status_.ok() && !Take('}')) {
      Entry();
      if (Take('}')) break;
      Expect(',');
    }
    SkipSpace();
    if (at_ != text_.size()) Fail("more text behind the dictionary");
    for (const std::string_view key : {"descr", "fortran_order", "shape"})
      if (std::find(seen_.begin(), seen_.end(), key) == seen_.end())
        Fail(fmt::format("no '{}'", key));
    if (!status_.ok()) return status_;
    return header_;
  }

 private:
  void Fail(std::string_view what, Code code = Code::kIo) {
    if (status_.ok())
      status_ = {code, fmt::format("{}: its header, at character {}: {}", file_,
                                   at_ + 1, what)};
  }
  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n'))
      ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (!status_.ok() || at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void Expect(char c) {
    if (!Take(c)) Fail(fmt::format("a '{}' is missing", c));
  }
  bool Word(std::string_view word) {
    SkipSpace();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  std::string_view Quoted() {
    const char quote = Take('\'') ? '\'' : '"';
    if (quote == '"' && !Take('"')) return Fail("a text is missing"), "";
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos)
      return Fail("a text without its end"), "";
    const std::string_view quoted = text_.substr(at_, end - at_);
    at_ = end + 1;
    return quoted;
  }

  void Entry() {
    const std::string_view key = Quoted();
    if (std::find(seen_.begin(), seen_.end(), key) != seen_.end())
      Fail(fmt::format("'{}' a second time", key));
    seen_.push_back(key);
    Expect(':');
    if (key == "descr") {
      Type();
    } else if (key == "fortran_order") {
      header_.columns_first = Word("True");
      if (!header_.columns_first && !Word("False"))
        Fail("'fortran_order' must be True or False");
    } else if (key == "shape") {
      Shape();
    } else {
      Fail("keys are 'descr', 'fortran_order' and 'shape'");
    }
  }

  void Type() {
    SkipSpace();
    if (at_ < text_.size() && text_[at_] == '[')
      return Fail("records of several fields are not read", Code::kUnsupported);
    const std::string_view descr = Quoted();
    if (!status_.ok()) return;
    const char order = descr.empty() ? '?' : descr[0];
    const std::string_view letter = descr.substr(descr.empty() ? 0 : 1);
    header_.big_endian = order == '>';
    for (const NpyType type : {NpyType::kF16, NpyType::kBF16, NpyType::kF32,
                               NpyType::kF64, NpyType::kBool}) {
      const bool either =
          (type == NpyType::kBF16 || type == NpyType::kBool) && order == '|';
      if (letter != LetterOf(type) || !(order == '<' || order == '>' || either))
        continue;
      header_.type = type;
      return;
    }
    std::string shown;
    for (const char c : descr.substr(0, 16))
      shown += c >= ' ' && c < 127 ? c : '?';
    Fail(fmt::format("elements of type '{}' are not read: write float16, "
                     "float32, float64, ml_dtypes.bfloat16 or bool",
                     shown),
         Code::kUnsupported);
  }

  void Shape() {
    Expect('(');
    while (status_.ok() && !Take(')')) {
      SkipSpace();
      int64_t size = -1;
      const auto [end, error] = std::from_chars(
          text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc() || text_[at_] == '-' || size > kMaxSize)
        return Fail("a size must be a whole number from 0 to 2^40");
      at_ = static_cast<size_t>(end - text_.data());
      header_.shape.push_back(size);
      if (header_.shape.size() > kMaxNpyRank)
        return Fail(fmt::format("more than {} sizes", kMaxNpyRank),
                    Code::kUnsupported);
      if (!Take(',')) {
        // (3) is a number in Python, not a tuple.
        if (header_.shape.size() < 2) Expect(',');
        Expect(')');
        return;
      }
    }
  }

  std::string_view text_;
  const std::string_view file_;
  size_t at_ = 0;
  Header header_;
  std::vector<std::string_view> seen_;
  Status status_;
};

// None when they are more than memory could ever hold.
std::optional<int64_t> ElementsOf(std::span<const int64_t> shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t elements = 1;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(elements, size, &elements) ||
        elements > kMaxSize)
      return {};
  return elements;
}

float FromF16(uint16_t half) {
  const uint32_t sign = uint32_t{half} >> 15 << 31;
  const int exponent = half >> 10 & 31;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  const float size =
      exponent == 0
          ? std::ldexp(static_cast<float>(fraction), -24)
          : std::ldexp(static_cast<float>(fraction | 0x400), exponent - 25);
  return sign ? -size : size;
}

// To nearest, ties to even, which nearbyint is as the program runs.
uint16_t ToF16(float x) {
  const auto sign =
      static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 31 << 15);
  if (std::isnan(x)) return sign | 0x7e00;
  const float size = std::fabs(x);
  if (size == 0) return sign;
  if (size >= 65520) return sign | 0x7c00;  // half-way to what would be 2^16
  int exponent = 0;
  std::frexp(size, &exponent);                    // size < 2^exponent
  const int unit = std::max(exponent, -13) - 11;  // of the last place: 2^unit
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(size, -unit)));
  // Rounding up to 2048 carries into the exponent as it should.
  return static_cast<uint16_t>(sign | (((unit + 24) << 10) + steps));
}

uint64_t Word(const char* from, int64_t size, bool big_endian) {
  uint64_t word = 0;
  for (int64_t i = 0; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(from[big_endian ? i : size - 1 - i]);
    word = word << 8 | byte;
  }
  return word;
}

float Element(NpyType type, uint64_t word) {
  switch (type) {
    case NpyType::kF16:
      return FromF16(static_cast<uint16_t>(word));
    case NpyType::kBF16:
      return ToFloat(BF16{static_cast<uint16_t>(word)});
    case NpyType::kF32:
      return std::bit_cast<float>(static_cast<uint32_t>(word));
    case NpyType::kBool:
      return word == 0 ? 0 : 1;
    case NpyType::kF64:
      break;
  }
  return static_cast<float>(std::bit_cast<double>(word));
}

uint64_t WordOf(NpyType type, float value) {
  switch (type) {
    case NpyType::kF16:
      return ToF16(value);
    case NpyType::kBF16:
      return ToBF16(value).bits;
    case NpyType::kF32:
      return std::bit_cast<uint32_t>(value);
    case NpyType::kBool:
      return value == 0 ? 0 : 1;
    case NpyType::kF64:
      break;
  }
  return std::bit_cast<uint64_t>(static_cast<double>(value));
}

// How far apart neighbours along each dimension are in the file, in elements.
std::vector<int64_t> StepsOf(const Header& header) {
  std::vector<int64_t> steps(header.shape.size());
  int64_t step = 1;
  for (size_t i = 0; i < steps.size(); ++i) {
    const size_t dim = header.columns_first ? i : steps.size() - 1 - i;
    steps[dim] = step;
    step *= header.shape[dim];
  }
  return steps;
}

void TakeElements(const Header& header, const char* data,
                  std::vector<float>* values) {
  const int64_t size = BytesOf(header.type);
  const std::vector<int64_t> steps = StepsOf(header);
  std::vector<int64_t> index(header.shape.size());
  int64_t at = 0;
  for (float& value : *values) {
    value =
        Element(header.type, Word(data + at * size, size, header.big_endian));
    for (size_t dim = index.size(); dim-- > 0;) {
      at += steps[dim];
      if (++index[dim] < header.shape[dim]) break;
      at -= steps[dim] * header.shape[dim];
      index[dim] = 0;
    }
  }
}

}  // namespace

std::string_view NameOf(NpyType type) {
  constexpr std::string_view kNames[] = {"f16", "bf16", "f32", "f64", "bool"};
  return kNames[static_cast<size_t>(type)];
}

std::string TupleOf(std::span<const int64_t> shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "),
                     shape.size() == 1 ? "," : "");
}

Result<NpyArray> ParseNpy(std::string_view bytes, std::string_view name) {
  const auto wrong = [&](std::string_view what) {
    return IoError(fmt::format("{}: {}", name, what));
  };
  if (!bytes.starts_with(kMagic))
    return wrong("not a .npy file: it does not begin with \\x93NUMPY");
  const size_t version_at = kMagic.size();
  if (bytes.size() < version_at + 2) return wrong("ends within its version");
  const int major = static_cast<uint8_t>(bytes[version_at]);
  const int minor = static_cast<uint8_t>(bytes[version_at + 1]);
  if (major < 1 || major > 3 || minor != 0)
    return Unsupported(
        fmt::format("{}: .npy version {}.{}; 1.0, 2.0 and 3.0 are read", name,
                    major, minor));
  const size_t length_at = version_at + 2;
  const int64_t width = major == 1 ? 2 : 4;
  const size_t header_at = length_at + static_cast<size_t>(width);
  if (bytes.size() < header_at) return wrong("ends before its header");
  const uint64_t length = Word(&bytes[length_at], width, false);
  if (length > kMaxHeader)
    return wrong(fmt::format("a header of {} bytes, more than {} allowed",
                             length, kMaxHeader));
  if (length > bytes.size() - header_at) return wrong("ends in its header");
  const Result<Header> header =
      HeaderParser(bytes.substr(header_at, length), name).Parse();
  if (!header.ok()) return header.status();
  const std::string_view data = bytes.substr(header_at + length);
  const std::optional<int64_t> elements = ElementsOf(header->shape);
  const int64_t size = BytesOf(header->type);
  if (!elements || static_cast<uint64_t>(*elements * size) != data.size())
    return wrong(
        fmt::format("shape {} of {} does not fit its {} bytes of elements",
                    TupleOf(header->shape), NameOf(header->type), data.size()));
  NpyArray array{header->type, header->shape, {}};
  try {
    array.values.resize(static_cast<size_t>(*elements));
  } catch (const std::bad_alloc&) {
    return Exhausted(
        fmt::format("{}: no memory for its {} numbers", name, *elements));
  }
  TakeElements(*header, data.data(), &array.values);
  return array;
}

Result<NpyArray> ReadNpy(const std::string& path) {
  const Result<std::string> bytes = record::ReadFile(path, kMaxNpyBytes);
  return bytes.ok() ? ParseNpy(*bytes, path) : bytes.status();
}

Result<std::string> FormatNpy(NpyType type, std::span<const int64_t> shape,
                              std::span<const float> values) {
  const std::optional<int64_t> elements = ElementsOf(shape);
  if (shape.size() > kMaxNpyRank || !elements ||
      static_cast<uint64_t>(*elements) != values.size())
    return Invalid(fmt::format("a .npy file of shape {} for {} values",
                               TupleOf(shape), values.size()));
  std::string header =
      fmt::format("{{'descr': '<{}', 'fortran_order': False, 'shape': {}, }}",
                  LetterOf(type), TupleOf(shape));
  constexpr size_t kAlign = 64;  // of the elements; the header ends a line
  const size_t before = kMagic.size() + 4;
  header.append(kAlign - 1 - (before + header.size()) % kAlign, ' ');
  header += '\n';
  std::string bytes(kMagic);
  bytes += '\x01';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  bytes.reserve(bytes.size() +
                values.size() * static_cast<size_t>(BytesOf(type)));
  for (const float value : values) {
    uint64_t word = WordOf(type, value);
    for (int64_t i = 0; i < BytesOf(type); ++i, word >>= 8)
      bytes += static_cast<char>(word & 0xff);
  }
  return bytes;
}

Status WriteNpy(const std::string& path, NpyType type,
                std::span<const int64_t> shape, std::span<const float> values) {
  const Result<std::string> bytes = FormatNpy(type, shape, values);
  return bytes.ok() ? record::WriteFile(path, *bytes) : bytes.status();
}

}  // namespace saccade::bench
