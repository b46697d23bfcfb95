// Arrays: what is read is written and read again as the same bits.
#include "bench/npy.h"

#include <cstring>

#include "tests/fuzz/input.h"

namespace saccade::bench {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Result<NpyArray> array =
      ParseNpy(fuzz::TextOf(data, size), "input.npy");
  fuzz::RequireClear(array.status());
  if (!array.ok()) return 0;
  const Result<std::string> bytes =
      FormatNpy(NpyType::kF32, array->shape, array->values);
  fuzz::Require(bytes.ok());
  const Result<NpyArray> again = ParseNpy(*bytes, "again.npy");
  fuzz::Require(again.ok() && again->shape == array->shape &&
                again->values.size() == array->values.size());
  fuzz::Require(array->values.empty() ||
                std::memcmp(again->values.data(), array->values.data(),
                            array->values.size() * sizeof(float)) == 0);
  return 0;
}

}  // namespace saccade::bench
