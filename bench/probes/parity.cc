// parity: whether there is an odd number of ones.
//
// Source: Hahn 2020, arXiv:1906.06755: one bit of n moves what layers of soft
// attention say by a share that falls as 1/n.
#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int32_t kEquals = 2;
constexpr double kChance = 0.5;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t n = SizeOf(random, shape, shape.len - 2);
  std::vector<int32_t> question(n + 1, kEquals);
  int32_t odd = 0;
  for (int64_t i = 0; i < n; ++i) {
    question[i] = static_cast<int32_t>(random.Below(2));
    odd ^= question[i];
  }
  const Answered answer[] = {{odd, 0}};
  Ask(question, answer, sample);
}

// Which bit is out of sight makes no difference: nobody counts them.
Expectation Expect(const Facts&) {
  return {0.4, 0.6, "one bit of many moves attention too little"};
}

}  // namespace

const Probe& parity() {
  static const Probe probe = {
      .name = "parity",
      .title = "1 to 40 bits; asked: whether the number of ones is odd",
      .source = "Hahn 2020, arXiv:1906.06755",
      .expectation = "near chance for all attention at any length",
      .bucket = "nothing",
      .symbols = kEquals + 1,
      .chance = kChance,
      .lengths = {42, 82, 162, 502},
      .generate = Generate,
      .expect = Expect,
  };
  return probe;
}

}  // namespace saccade::bench::probes
