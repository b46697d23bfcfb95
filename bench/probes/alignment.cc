// alignment: a list told in other words, by one of three rules: word for word;
// neighbours change places; two words for each. Which rule, says the mark that
// ends the list.
//
// The words are fixed permutations of the items, as a dictionary would have
// them: what the probe asks for is the place to look at.
//
// Source: the task of Bahdanau et al. 2014, arXiv:1409.0473; the rules are
// those that tell alignments apart (Raffel et al. 2017, arXiv:1704.00784: hard
// monotonic attention has the first only).
#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kItems = 16, kRules = 3;
constexpr int32_t kWords = kItems, kMarks = 2 * kItems;  // first of each
constexpr double kChance = 1.0 / kItems;

enum Rule : int64_t { kMonotone, kSwapped, kExpanded };

// Multipliers prime to 16 permute.
int32_t WordOf(int32_t item) { return kWords + (5 * item + 3) % 16; }
int32_t SecondWordOf(int32_t item) { return kWords + (11 * item + 7) % 16; }

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t rule = random.Below(kRules);
  const int64_t words = rule == kExpanded ? 2 : 1;  // for each item
  // Pairs of items, so that all have a neighbour.
  const int64_t n =
      2 * SizeOf(random, shape, (shape.len - 1) / (1 + words) / 2);
  std::vector<int32_t> question(n + 1);
  for (int32_t& item : question) {
    item = static_cast<int32_t>(random.Below(kItems));
  }
  question.back() = static_cast<int32_t>(kMarks + rule);
  std::vector<Answered> answer;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t source = rule == kSwapped ? i ^ 1 : i;
    answer.push_back({WordOf(question[source]), source, rule});
    if (rule != kExpanded) continue;
    answer.push_back({SecondWordOf(question[source]), source, rule});
  }
  Ask(question, answer, sample);
}

}  // namespace

const Probe& alignment() {
  static const Probe probe = {
      .name = "alignment",
      .title =
          "a list of 2 to 20 items of 16, then a mark for one of three rules; "
          "asked: each item's word, in order, with neighbours swapped, or two "
          "words for each",
      .source =
          "Bahdanau et al. 2014, arXiv:1409.0473; Raffel et al. 2017, "
          "arXiv:1704.00784",
      .expectation =
          "additive and dot-product scores learn all three rules; a hard "
          "diagonal only the first",
      .bucket = "rule: 0 in order, 1 neighbours swapped, 2 two words for each",
      .symbols = kMarks + kRules,
      .chance = kChance,
      .lengths = {41, 81, 161, 321},
      .steps = 1200,
      .generate = Generate,
      .expect = [](const Facts& facts) { return Learned(facts, kChance); },
  };
  return probe;
}

}  // namespace saccade::bench::probes
