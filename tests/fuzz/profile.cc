// Profiles that people write, and what a comparison makes of them.
#include "bench/profile.h"

#include "bench/compare.h"
#include "tests/fuzz/input.h"

namespace saccade::bench {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::InputFile file("mine.json");
  CompareOverrides overrides;
  overrides.profile = file.Write(fuzz::TextOf(data, size));
  fuzz::RequireClear(MakeCompareOptions(overrides).status());
  overrides.measures = "verify,speed,memory,lenses,extrapolation,probes";
  fuzz::RequireClear(MakeCompareOptions(overrides).status());
  return 0;
}

}  // namespace saccade::bench
