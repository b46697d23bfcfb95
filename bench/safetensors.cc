#include "bench/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "record/file.h"
#include "record/json.h"

namespace saccade::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlign = 8;
constexpr size_t kMaxRank = 8;
constexpr int kMaxDepth = 3;  // the header, a tensor, its shape
constexpr char kAbout[] = "__metadata__";

static_assert(std::endian::native == std::endian::little,
              "elements are copied as they lie");

struct Place {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // in the elements' bytes
};

// The size, and none where it is no whole number from 0 to 2^40.
std::optional<uint64_t> SizeIn(const Json& number) {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  if (!number.is_number_unsigned() || number.get<uint64_t>() > kMost) return {};
  return number.get<uint64_t>();
}

// Bytes of f32 elements; none when they are more than memory could hold.
std::optional<uint64_t> BytesOf(const std::vector<int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  uint64_t bytes = sizeof(float);
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes) ||
        bytes > static_cast<uint64_t>(kMaxSafetensorsBytes))
      return {};
  return bytes;
}

// What stands in a header for one tensor, held against `room` bytes of data.
class PlaceReader {
 public:
  PlaceReader(std::string_view file, const std::string& name)
      : file_(file), name_(name) {}

  Result<Place> Read(const Json& entry, uint64_t room) {
    if (!entry.is_object()) return Wrong("no object");
    for (const auto& [key, value] : entry.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        return Wrong("keys are 'dtype', 'shape' and 'data_offsets'");
    if (entry.size() != 3)
      return Wrong("'dtype', 'shape' and 'data_offsets' are wanted");
    if (Status s = CheckType(entry["dtype"]); !s.ok()) return s;
    Place place{name_, {}, 0, 0};
    if (Status s = ReadShape(entry["shape"], &place); !s.ok()) return s;
    if (Status s = ReadOffsets(entry["data_offsets"], room, &place); !s.ok())
      return s;
    return place;
  }

 private:
  Status Wrong(std::string_view what, Code code = Code::kIo) const {
    return {code, fmt::format("{}: tensor '{:.60}': {}", file_, name_, what)};
  }
  Status CheckType(const Json& dtype) const {
    if (!dtype.is_string()) return Wrong("its 'dtype' is no text");
    const std::string& type = dtype.get_ref<const std::string&>();
    if (type == "F32") return {};
    return Wrong(fmt::format("of type '{:.16}'; F32 is read", type),
                 Code::kUnsupported);
  }
  Status ReadShape(const Json& shape, Place* place) const {
    if (!shape.is_array()) return Wrong("its 'shape' is no list");
    if (shape.size() > kMaxRank)
      return Wrong(fmt::format("more than {} sizes", kMaxRank),
                   Code::kUnsupported);
    for (const Json& size : shape) {
      const std::optional<uint64_t> whole = SizeIn(size);
      if (!whole) return Wrong("a size must be a whole number from 0 to 2^40");
      place->shape.push_back(static_cast<int64_t>(*whole));
    }
    return {};
  }
  Status ReadOffsets(const Json& offsets, uint64_t room, Place* place) const {
    if (!offsets.is_array() || offsets.size() != 2)
      return Wrong("its 'data_offsets' are not two numbers");
    const std::optional<uint64_t> begin = SizeIn(offsets[0]);
    const std::optional<uint64_t> end = SizeIn(offsets[1]);
    if (!begin || !end || *begin > *end || *end > room)
      return Wrong(
          fmt::format("its 'data_offsets' do not lie in the {} bytes of "
                      "elements",
                      room));
    const std::optional<uint64_t> bytes = BytesOf(place->shape);
    if (!bytes || *bytes != *end - *begin)
      return Wrong(
          fmt::format("its shape [{}] of F32 does not fit its {} bytes",
                      fmt::join(place->shape, ", "), *end - *begin));
    place->begin = *begin;
    place->end = *end;
    return {};
  }

  const std::string_view file_;
  const std::string& name_;
};

Result<std::map<std::string, std::string>> ReadAbout(const Json& about,
                                                     std::string_view file) {
  std::map<std::string, std::string> words;
  if (!about.is_object())
    return IoError(fmt::format("{}: '{}' is no object", file, kAbout));
  for (const auto& [key, value] : about.items()) {
    if (!value.is_string())
      return IoError(fmt::format("{}: '{}' has '{:.60}', which is no text",
                                 file, kAbout, key));
    words[key] = value.get<std::string>();
  }
  return words;
}

// Sorts them by where they lie, and wants each byte to be of one.
Status CheckCover(std::vector<Place>& places, uint64_t room,
                  std::string_view file) {
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const Place& p : places) {
    if (p.begin < at)
      return IoError(
          fmt::format("{}: tensor '{:.60}' overlaps another", file, p.name));
    if (p.begin > at) break;
    at = p.end;
  }
  if (at == room) return {};
  return IoError(
      fmt::format("{}: byte {} of the elements is of no tensor", file, at));
}

Result<NamedTensor> Take(const Place& place, std::string_view data,
                         std::string_view file) {
  NamedTensor tensor{place.name, place.shape, {}};
  tensor.values.resize((place.end - place.begin) / sizeof(float));
  // A tensor of no elements has no memory to copy to.
  if (!tensor.values.empty())
    std::memcpy(tensor.values.data(), data.data() + place.begin,
                place.end - place.begin);
  const auto bad = std::find_if_not(tensor.values.begin(), tensor.values.end(),
                                    [](float x) { return std::isfinite(x); });
  if (bad != tensor.values.end())
    return IoError(fmt::format("{}: tensor '{:.60}': element {} is not finite",
                               file, place.name, bad - tensor.values.begin()));
  return tensor;
}

Result<Safetensors> ParseHeader(std::string_view header, std::string_view data,
                                std::string_view file) {
  if (!header.starts_with('{'))
    return IoError(fmt::format("{}: its header does not begin with {{", file));
  const Result<Json> json = record::ParseJson<Json>(header, kMaxDepth);
  if (!json.ok())
    return IoError(
        fmt::format("{}: its header: {}", file, json.status().message()));
  Safetensors all;
  std::vector<Place> places;
  for (const auto& [name, entry] : json->items()) {
    if (name == kAbout) {
      auto about = ReadAbout(entry, file);
      if (!about.ok()) return about.status();
      all.about = std::move(*about);
      continue;
    }
    Result<Place> place = PlaceReader(file, name).Read(entry, data.size());
    if (!place.ok()) return place.status();
    places.push_back(std::move(*place));
  }
  if (Status s = CheckCover(places, data.size(), file); !s.ok()) return s;
  for (const Place& place : places) {
    Result<NamedTensor> tensor = Take(place, data, file);
    if (!tensor.ok()) return tensor.status();
    all.tensors.push_back(std::move(*tensor));
  }
  return all;
}

}  // namespace

Result<Safetensors> ParseSafetensors(std::string_view bytes,
                                     std::string_view name) {
  if (bytes.size() < kLengthBytes)
    return IoError(fmt::format(
        "{}: not a .safetensors file: it ends within its length", name));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const std::string_view rest = bytes.substr(kLengthBytes);
  if (length > rest.size())
    return IoError(
        fmt::format("{}: not a .safetensors file: a header of {} bytes, and {} "
                    "are left",
                    name, length, rest.size()));
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader))
    return Unsupported(
        fmt::format("{}: a header of {} bytes; up to {} are read", name, length,
                    kMaxSafetensorsHeader));
  try {
    return ParseHeader(rest.substr(0, length), rest.substr(length), name);
  } catch (const std::bad_alloc&) {
    return Exhausted(fmt::format("{}: no memory for its tensors", name));
  }
}

Result<Safetensors> ReadSafetensors(const std::string& path) {
  const Result<std::string> bytes =
      record::ReadFile(path, kMaxSafetensorsBytes);
  return bytes.ok() ? ParseSafetensors(*bytes, path) : bytes.status();
}

Result<std::string> FormatSafetensors(const Safetensors& file) {
  Json header = Json::object();
  if (!file.about.empty()) header[kAbout] = file.about;
  uint64_t at = 0;
  for (const NamedTensor& t : file.tensors) {
    const std::optional<uint64_t> bytes = BytesOf(t.shape);
    if (header.contains(t.name) || t.name == kAbout ||
        t.shape.size() > kMaxRank || !bytes ||
        *bytes != t.values.size() * sizeof(float) ||
        !std::all_of(t.values.begin(), t.values.end(),
                     [](float x) { return std::isfinite(x); }))
      return Invalid(fmt::format("tensor '{}' cannot be written", t.name));
    header[t.name] = {{"dtype", "F32"},
                      {"shape", t.shape},
                      {"data_offsets", {at, at + *bytes}}};
    at += *bytes;
  }
  std::string text = record::Dump(header);
  text.resize((text.size() + kAlign - 1) / kAlign * kAlign, ' ');
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char*>(&length), kLengthBytes);
  bytes.reserve(bytes.size() + text.size() + at);
  bytes += text;
  for (const NamedTensor& t : file.tensors)
    bytes.append(reinterpret_cast<const char*>(t.values.data()),
                 t.values.size() * sizeof(float));
  return bytes;
}

Status WriteSafetensors(const std::string& path, const Safetensors& file) {
  const Result<std::string> bytes = FormatSafetensors(file);
  return bytes.ok() ? record::WriteFile(path, *bytes) : bytes.status();
}

}  // namespace saccade::bench
