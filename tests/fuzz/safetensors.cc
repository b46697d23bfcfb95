// Saved tensors: what is read is written and read again as the same bits.
#include "bench/safetensors.h"

#include <cstring>

#include "tests/fuzz/input.h"

namespace saccade::bench {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Result<Safetensors> file =
      ParseSafetensors(fuzz::TextOf(data, size), "input.safetensors");
  fuzz::RequireClear(file.status());
  if (!file.ok()) return 0;
  const Result<std::string> bytes = FormatSafetensors(*file);
  fuzz::Require(bytes.ok());
  const Result<Safetensors> again = ParseSafetensors(*bytes, "again");
  fuzz::Require(again.ok() && again->about == file->about &&
                again->tensors.size() == file->tensors.size());
  size_t elements = 0;
  for (size_t i = 0; i < file->tensors.size(); ++i) {
    const NamedTensor& t = file->tensors[i];
    elements += t.values.size();
    if (t.values.empty()) continue;  // those may change places
    bool found = false;
    for (const NamedTensor& other : again->tensors)
      found |= other.name == t.name && other.shape == t.shape &&
               other.values.size() == t.values.size() &&
               std::memcmp(other.values.data(), t.values.data(),
                           t.values.size() * sizeof(float)) == 0;
    fuzz::Require(found);
  }
  fuzz::Require(elements * sizeof(float) <= size);
  return 0;
}

}  // namespace saccade::bench
