// selective-copy: data at random places of noise, to be told in their order.
//
// Source: Gu and Dao 2023, arXiv:2312.00752, section 3.1, after Jing et al.
// 2019.
#include <algorithm>
#include <array>
#include <numeric>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kSymbols = 16, kData = 16;  // to choose from, to be copied
constexpr int32_t kNoise = kSymbols, kEnd = kNoise + 1;
constexpr double kChance = 1.0 / kSymbols;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  std::vector<int32_t> question(shape.len - kData, kNoise);
  question.back() = kEnd;
  std::vector<int64_t> places(question.size() - 1);
  std::iota(places.begin(), places.end(), int64_t{0});
  random.Shuffle(places.data(), std::ssize(places));
  std::sort(places.begin(), places.begin() + kData);
  std::array<Answered, kData> data;
  for (int64_t i = 0; i < kData; ++i) {
    data[i] = {static_cast<int32_t>(random.Below(kSymbols)), places[i], i};
    question[places[i]] = data[i].symbol;
  }
  Ask(question, data, sample);
}

}  // namespace

const Probe& selective_copy() {
  static const Probe probe = {
      .name = "selective-copy",
      .title =
          "16 symbols of 16 at random places of noise; asked: all of them in "
          "their order, at the end",
      .source = "Gu and Dao 2023, arXiv:2312.00752, section 3.1",
      .expectation =
          "softmax and states that choose what to keep learn it; plain linear "
          "attention and a fixed decay do not",
      .bucket = "place in the order, from 0",
      .symbols = kEnd + 1,
      .chance = kChance,
      .lengths = {64, 128, 256, 512, 1024},
      .generate = Generate,
      .expect = [](const Facts& facts) { return Learned(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
