// copy: the items of a list once more, in their order.
//
// Lists of all lengths up to the longest are trained on, so that no item stands
// a fixed way back. Its items repeat, so that what stands before one does not
// tell which it is.
//
// Source: Kazemnejad et al. 2023, arXiv:2305.19466.
#include <bit>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kItems = 32;  // to choose from
constexpr int32_t kEnd = kItems;
constexpr double kChance = 1.0 / kItems;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t n = SizeOf(random, shape, (shape.len - 1) / 2);
  std::vector<int32_t> question(n + 1, kEnd);
  for (int64_t i = 0; i < n; ++i) {
    question[i] = static_cast<int32_t>(random.Below(kItems));
  }
  std::vector<Answered> answer(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t source = i;
    const auto place = static_cast<uint64_t>(i);
    answer[i] = {question[source], source,
                 static_cast<int64_t>(std::bit_floor(place))};
  }
  Ask(question, answer, sample);
}

}  // namespace

const Probe& copy() {
  static const Probe probe = {
      .name = "copy",
      .title =
          "a list of 1 to 20 items of 32, then an end mark; asked: the list "
          "again",
      .source = "Kazemnejad et al. 2023, arXiv:2305.19466",
      .expectation =
          "learned at the training length; beyond it without positions is "
          "best, "
          "then ALiBi, then RoPE",
      .bucket = "place in the answer, from this to twice it",
      .symbols = kItems + 1,
      .chance = kChance,
      .lengths = {41, 81, 161, 321},
      .steps = 500,
      .generate = Generate,
      .expect = [](const Facts& facts) { return Learned(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
