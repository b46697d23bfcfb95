// addition: two numbers of as many digits each, lowest first, and their sum's
// digits of the same places. (The last carry would be a coin, not a digit.)
//
// Source: Lee et al. 2023, arXiv:2307.03381 (reversed digits).
#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kDigits = 10;
constexpr int32_t kPlus = kDigits, kEquals = kPlus + 1;
constexpr double kChance = 1.0 / kDigits;

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t n = SizeOf(random, shape, (shape.len - 2) / 3);
  std::vector<int32_t> question(2 * n + 2);
  for (int32_t& digit : question) {
    digit = static_cast<int32_t>(random.Below(kDigits));
  }
  question[n] = kPlus;
  question.back() = kEquals;
  std::vector<Answered> answer(n);
  int32_t carry = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t sum = question[i] + question[n + 1 + i] + carry;
    answer[i] = {sum % 10, i, i};
    carry = sum / 10;
  }
  Ask(question, answer, sample);
}

Expectation Expect(const Facts& facts) {
  Expectation e = Learned(facts, kChance);
  if (facts.times() >= 2.5 && e.high > 0.5) {
    e.high = 0.5;
    e.why = "digits are not lined up beyond the lengths trained";
  }
  return e;
}

}  // namespace

const Probe& addition() {
  static const Probe probe = {
      .name = "addition",
      .title =
          "two numbers of 1 to 5 digits, lowest first; asked: their sum's "
          "digits of the same places",
      .source = "Lee et al. 2023, arXiv:2307.03381",
      .expectation =
          "learned at the training length; fails at three times the digits",
      .bucket = "digit, 0 the lowest",
      .symbols = kEquals + 1,
      .chance = kChance,
      .lengths = {17, 32, 47},
      .generate = Generate,
      .expect = Expect,
  };
  return probe;
}

}  // namespace saccade::bench::probes
