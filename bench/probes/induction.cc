// induction: copying what followed last time, from ever farther away.
//
// 16 different names in 4 blocks of 4. Each block comes twice; the 8 are
// shuffled and set at random gaps of filler. From the second token on, a second
// copy can be foretold by whoever finds the first: those tokens are asked for.
// (Repeating a segment at a fixed distance would be no such test: it can be
// solved by position alone.)
//
// Source: induction heads are Olsson et al. 2022, arXiv:2209.11895; the random
// gaps are ours.
#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kFillers = 16, kNames = 48;  // symbols, in this order
constexpr int64_t kBlocks = 4, kBlockTokens = 4;
constexpr double kChance = 1.0 / kNames;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  constexpr int64_t kCopies = 2 * kBlocks;
  std::vector<int32_t>& text = sample->text;
  std::array<int32_t, kNames> names;
  std::iota(names.begin(), names.end(), static_cast<int32_t>(kFillers));
  random.Shuffle(names.data(), kNames);
  std::array<int64_t, kCopies> order, starts;
  for (int64_t i = 0; i < kCopies; ++i) order[i] = i % kBlocks;
  random.Shuffle(order.data(), kCopies);
  // Sorted places in the filler alone are random gaps.
  for (int64_t& s : starts) {
    s = random.Below(shape.len - kCopies * kBlockTokens + 1);
  }
  std::sort(starts.begin(), starts.end());
  for (int32_t& symbol : text) {
    symbol = static_cast<int32_t>(random.Below(kFillers));
  }
  std::array<int64_t, kBlocks> first;
  first.fill(-1);
  int64_t answer = 0;
  for (int64_t i = 0; i < kCopies; ++i) {
    const int64_t block = order[i], at = starts[i] + i * kBlockTokens;
    std::copy_n(&names[block * kBlockTokens], kBlockTokens, &text[at]);
    if (first[block] < 0) {
      first[block] = at;
      continue;
    }
    const auto distance = static_cast<uint64_t>(at - first[block]);
    for (int64_t m = 1; m < kBlockTokens; ++m) {
      sample->marks.push_back({at + m, first[block] + m, answer,
                               static_cast<int64_t>(std::bit_floor(distance))});
    }
    ++answer;
  }
}

}  // namespace

const Probe& induction() {
  static const Probe probe = {
      .name = "induction",
      .title =
          "4 blocks of 4 different names, each block twice at random gaps of "
          "filler; asked: how each second copy goes on",
      .source = "Olsson et al. 2022, arXiv:2209.11895",
      .expectation =
          "without positions or with a bias recall holds at any length; with "
          "RoPE it decays (half at 16 times); a window recalls what it sees",
      .bucket = "distance in tokens, from this to twice it",
      .symbols = kFillers + kNames,
      .chance = kChance,
      .lengths = {64, 128, 256, 512, 1024, 2048},
      .steps = 1400,
      .recall = true,
      .generate = Generate,
      .expect = [](const Facts& facts) { return Recall(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
