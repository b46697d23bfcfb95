#include "bench/rdata.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <optional>

namespace saccade::bench {
namespace {

using ByteSpan = std::span<const uint8_t>;

// Nothing we read is larger; a hostile length stops here.
constexpr size_t kMaxIndex = size_t{1} << 20;
constexpr size_t kMaxRecord = size_t{1} << 26;
// zlib cannot expand a byte to more than this, so a record that claims to be
// larger lies, and is refused before memory is asked for.
constexpr size_t kMaxExpansion = 1032;
constexpr int kMaxDepth = 16;
// Of lists and vectors: a list of millions of nothings is small on disk only.
constexpr int kMaxObjects = 1 << 16;

uint32_t BigEndian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 |
         uint32_t{p[3]};
}

// Inflates a whole zlib or gzip stream of at most `limit` bytes.
std::optional<std::vector<uint8_t>> Inflate(ByteSpan in, size_t limit) {
  limit = std::min(limit, in.size() * kMaxExpansion);
  std::vector<uint8_t> out(limit);
  z_stream stream = {};
  constexpr int kAnyHeader = 32;
  if (inflateInit2(&stream, MAX_WBITS + kAnyHeader) != Z_OK) return {};
  stream.next_in = const_cast<uint8_t*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  inflateEnd(&stream);
  if (result != Z_STREAM_END) return {};
  return out;
}

// The few kinds of R objects that a database of text is made of.
enum RType : uint32_t {
  kSymbol = 1,
  kPairList = 2,
  kString = 9,
  kLogicals = 10,
  kIntegers = 13,
  kStrings = 16,
  kList = 19,
  kNil = 254,
  kReference = 255,
};

struct Value {
  uint32_t type = kNil;
  std::vector<int32_t> integers;
  std::vector<std::string> strings;
  std::vector<Value> list;
  std::vector<std::string> names;
};

// Reads one serialised object. After the first error every read returns zeros
// and `error` keeps its reason.
class Reader {
 public:
  explicit Reader(ByteSpan in) : in_(in) {}

  Result<Value> Read() {
    Value value;
    if (Header()) value = Object(0);
    if (error_.empty() && at_ != in_.size()) Fail("has bytes left over");
    if (!error_.empty()) return IoError(error_);
    return value;
  }

 private:
  size_t left() const { return in_.size() - at_; }
  bool ok() const { return error_.empty(); }
  void Fail(std::string_view why) {
    if (ok()) error_ = fmt::format("{} at byte {}", why, at_);
  }

  uint32_t Word() {
    if (!ok() || left() < 4) return Fail("ends early"), 0;
    at_ += 4;
    return BigEndian(&in_[at_ - 4]);
  }

  // A number of elements, of at least `size` bytes each.
  size_t Count(size_t size) {
    const uint32_t n = Word();
    if (n > left() / size) return Fail("claims more than it holds"), 0;
    return n;
  }

  std::string Characters() {
    constexpr uint32_t kMissing = 0xffffffff;
    if (left() >= 4 && BigEndian(&in_[at_]) == kMissing) return Word(), "";
    const size_t n = Count(1);
    std::string text(reinterpret_cast<const char*>(in_.data()) + at_, n);
    at_ += n;
    return text;
  }

  bool Header() {
    if (left() < 2 || in_[0] != 'X' || in_[1] != '\n') {
      return Fail("is no R object in XDR format"), false;
    }
    at_ = 2;
    const uint32_t version = Word();
    Word(), Word();  // the R that wrote it, the oldest R that reads it
    if (version == 3) {
      Characters();  // the native encoding
    } else if (version != 2) {
      Fail("is of an unknown version");
    }
    return ok();
  }

  std::string String() {
    const uint32_t flags = Word();
    if ((flags & 0xff) != kString || (flags & kHasAttributes)) {
      return Fail("holds no string"), "";
    }
    return Characters();
  }

  std::string Symbol(uint32_t flags) {
    if ((flags & 0xff) == kSymbol) {
      symbols_.push_back(String());
      return symbols_.back();
    }
    if ((flags & 0xff) != kReference) return Fail("holds no symbol"), "";
    const size_t index = flags >> 8 ? flags >> 8 : Word();
    if (index == 0 || index > symbols_.size()) {
      return Fail("refers to no symbol"), "";
    }
    return symbols_[index - 1];
  }

  // Attributes are a chain of (tag, value) that ends in nil.
  void Attributes(Value& owner, int depth) {
    for (;;) {
      const uint32_t flags = Word();
      if (!ok() || (flags & 0xff) == kNil) return;
      if ((flags & 0xff) != kPairList || !(flags & kHasTag) ||
          (flags & kHasAttributes)) {
        return Fail("has malformed attributes");
      }
      const std::string tag = Symbol(Word());
      Value value = Object(depth + 1);
      if (tag == "names") owner.names = std::move(value.strings);
    }
  }

  Value Object(int depth) {
    Value value;
    if (depth > kMaxDepth || ++objects_ > kMaxObjects) {
      return Fail("is too deep or too large a tree"), value;
    }
    const uint32_t flags = Word();
    value.type = flags & 0xff;
    switch (value.type) {
      case kNil:
        return value;
      case kLogicals:
      case kIntegers:
        value.integers.resize(Count(4));
        for (int32_t& x : value.integers) x = static_cast<int32_t>(Word());
        break;
      case kStrings:
        value.strings.resize(Count(8));
        for (std::string& s : value.strings) s = String();
        break;
      case kList:
        // Grown as it is read: an element may be far larger here than there.
        for (size_t n = Count(4); n > 0 && ok(); --n) {
          value.list.push_back(Object(depth + 1));
        }
        break;
      default:
        return Fail(fmt::format("holds type {}", value.type)), value;
    }
    if (flags & kHasAttributes) Attributes(value, depth);
    return value;
  }

  static constexpr uint32_t kHasAttributes = 0x200, kHasTag = 0x400;

  ByteSpan in_;
  size_t at_ = 0;
  int objects_ = 0;
  std::string error_;
  std::vector<std::string> symbols_;
};

Result<Value> ReadRecord(ByteSpan record) {
  if (record.size() < 4) return IoError("ends early");
  const size_t raw = BigEndian(record.data());
  if (raw > kMaxRecord || raw > record.size() * kMaxExpansion) {
    return IoError(fmt::format("claims {} bytes", raw));
  }
  const auto bytes = Inflate(record.subspan(4), raw);
  if (!bytes || bytes->size() != raw) return IoError("does not decompress");
  return Reader(*bytes).Read();
}

}  // namespace

Result<std::vector<RText>> ReadLazyLoad(ByteSpan index, ByteSpan data) {
  const auto bytes = Inflate(index, kMaxIndex);
  if (!bytes) return IoError("the R index does not decompress");
  const Result<Value> root = Reader(*bytes).Read();
  if (!root.ok()) return IoError("the R index " + root.status().message());
  // The list's first element, "variables": name -> (offset, length).
  if (root->list.empty() ||
      root->list[0].names.size() != root->list[0].list.size()) {
    return IoError("the R index names no variables");
  }
  std::vector<RText> texts;
  for (size_t i = 0; i < root->list[0].list.size(); ++i) {
    const std::string& name = root->list[0].names[i];
    const std::vector<int32_t>& place = root->list[0].list[i].integers;
    if (place.size() != 2 || place[0] < 0 || place[1] < 0 ||
        static_cast<size_t>(place[0]) > data.size() ||
        static_cast<size_t>(place[1]) > data.size() - place[0]) {
      return IoError(fmt::format("the R data end before record '{}'", name));
    }
    Result<Value> value = ReadRecord(data.subspan(place[0], place[1]));
    if (!value.ok()) {
      return IoError(
          fmt::format("the R record '{}' {}", name, value.status().message()));
    }
    if (value->type == kStrings) {
      texts.push_back({name, std::move(value->strings)});
    }
  }
  return texts;
}

}  // namespace saccade::bench
