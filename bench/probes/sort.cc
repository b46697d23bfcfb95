// sort: the items of a list in rising order.
//
// All items of a list are different, and there are many to choose from: were
// there few, an item of a long list would mostly be the one before it.
//
// Source: Kazemnejad et al. 2023, arXiv:2305.19466.
#include <algorithm>
#include <bit>
#include <numeric>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kItems = 256;  // to choose from
constexpr int32_t kEnd = kItems;
constexpr double kChance = 1.0 / kItems;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t n = SizeOf(random, shape, (shape.len - 1) / 2);
  std::vector<int32_t> items(kItems);
  std::iota(items.begin(), items.end(), 0);
  random.Shuffle(items.data(), kItems);
  std::vector<int32_t> question(items.begin(), items.begin() + n);
  question.push_back(kEnd);
  std::vector<Answered> answer(n);
  for (int64_t i = 0; i < n; ++i) answer[i] = {question[i], i};
  std::sort(
      answer.begin(), answer.end(),
      [](const Answered& a, const Answered& b) { return a.symbol < b.symbol; });
  for (int64_t i = 0; i < n; ++i) {
    answer[i].bucket =
        static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(i)));
  }
  Ask(question, answer, sample);
}

}  // namespace

const Probe& sort() {
  static const Probe probe = {
      .name = "sort",
      .title =
          "a list of 1 to 20 different items of 256, then an end mark; asked: "
          "the list in rising order",
      .source = "Kazemnejad et al. 2023, arXiv:2305.19466",
      .expectation =
          "needs comparisons, not places: learned at the training length, and "
          "lost slowly beyond it",
      .bucket = "place in the answer, from this to twice it",
      .symbols = kItems + 1,
      .chance = kChance,
      .lengths = {41, 81, 161, 321},
      .steps = 1000,
      .generate = Generate,
      .expect = [](const Facts& facts) { return Learned(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
