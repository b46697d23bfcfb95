// R's databases of text. Mutated streams hardly ever decompress, so that the
// first byte says what is compressed here first: 0 nothing, else the index of
// records (1) or one record that a sound index points to (2).
#include "bench/rdata.h"

#include <zlib.h>

#include "tests/fuzz/input.h"

namespace saccade::bench {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Compressed(std::span<const uint8_t> in) {
  uLongf size = compressBound(in.size());
  Bytes out(size);
  fuzz::Require(compress2(out.data(), &size, in.data(), in.size(), 1) == Z_OK);
  out.resize(size);
  return out;
}

void PutWord(uint32_t word, Bytes* out) {
  for (const int shift : {24, 16, 8, 0})
    out->push_back(static_cast<uint8_t>(word >> shift));
}

void PutText(std::string_view text, Bytes* out) {
  PutWord(9, out);
  PutWord(static_cast<uint32_t>(text.size()), out);
  out->insert(out->end(), text.begin(), text.end());
}

// list(variables = list(text = c(0L, size))), serialised.
Bytes IndexOf(size_t size) {
  constexpr uint32_t kAttributes = 0x200, kTag = 0x400;
  Bytes out = {'X', '\n'};
  for (const uint32_t word : {2u, 0x40000u, 0x20300u}) PutWord(word, &out);
  const auto names = [&out](std::string_view name) {
    PutWord(2 | kTag, &out);
    PutWord(1, &out);
    PutText("names", &out);
    PutWord(16, &out), PutWord(1, &out);
    PutText(name, &out);
    PutWord(254, &out);
  };
  PutWord(19 | kAttributes, &out), PutWord(1, &out);
  PutWord(19 | kAttributes, &out), PutWord(1, &out);
  PutWord(13, &out), PutWord(2, &out);
  PutWord(0, &out), PutWord(static_cast<uint32_t>(size), &out);
  names("text");
  names("variables");
  return out;
}

void Try(std::span<const uint8_t> index, std::span<const uint8_t> data) {
  fuzz::RequireClear(ReadLazyLoad(index, data).status());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> rest(data + 1, size - 1);
  if (data[0] == 1) {
    Try(Compressed(rest), rest);
  } else if (data[0] == 2) {
    Bytes record;
    PutWord(static_cast<uint32_t>(rest.size()), &record);
    const Bytes stream = Compressed(rest);
    record.insert(record.end(), stream.begin(), stream.end());
    Try(Compressed(IndexOf(record.size())), record);
  } else {
    Try(rest.first(rest.size() / 2), rest.subspan(rest.size() / 2));
  }
  return 0;
}

}  // namespace saccade::bench
