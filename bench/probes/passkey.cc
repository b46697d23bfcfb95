// passkey: five digits somewhere in filler, asked for at the end.
//
// Source: Mohtashami and Jaggi 2023, arXiv:2305.16300, whose
// filler is text; ours are random symbols.
#include <array>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kDigits = 10, kFillers = 16, kKeyDigits = 5;
constexpr int32_t kKey = kDigits + kFillers, kAsk = kKey + 1;
constexpr double kChance = 1.0 / kDigits;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  constexpr int64_t kTenths = 10;
  std::vector<int32_t> question(shape.len - kKeyDigits);
  for (int32_t& symbol : question) {
    symbol = static_cast<int32_t>(kDigits + random.Below(kFillers));
  }
  question.back() = kAsk;
  const int64_t places = std::ssize(question) - 1 - kKeyDigits;
  const int64_t at = random.Below(places);
  question[at] = kKey;
  std::array<Answered, kKeyDigits> key;
  for (int64_t i = 0; i < kKeyDigits; ++i) {
    key[i] = {static_cast<int32_t>(random.Below(kDigits)), at + 1 + i,
              kTenths * at / places};
    question[at + 1 + i] = key[i].symbol;
  }
  Ask(question, key, sample);
}

}  // namespace

const Probe& passkey() {
  static const Probe probe = {
      .name = "passkey",
      .title =
          "5 digits behind a mark at a random depth of filler; asked: the "
          "digits, at the end",
      .source = "Mohtashami and Jaggi 2023, arXiv:2305.16300",
      .expectation =
          "as induction: without positions or with a bias it holds, with RoPE "
          "it decays, a window finds what it sees",
      .bucket = "depth in tenths of the filler, 0 the farthest",
      .symbols = kAsk + 1,
      .chance = kChance,
      .lengths = {64, 128, 256, 512, 1024, 2048},
      .steps = 400,
      .recall = true,
      .generate = Generate,
      .expect = [](const Facts& facts) { return Recall(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
