// mqar: multi-query associative recall. Pairs of a key and a value, then the
// same keys again, at gaps, each to be followed by its value.
//
// Keys and values are drawn without replacement, so that nothing but the pair
// tells the answer. The place of a query among the S free places of two tokens
// is drawn without replacement by p(g) ~ g^-.99, g = 1 .. S: most come soon, as
// in text. What is left is blank.
//
// The models shift tokens (Probe::shift), as the source's have short
// convolutions: a pair is then one thing to look for. Without, a model must
// first learn to join a key to the token behind it, and at 16 wide none did.
//
// Source: Arora et al. 2023, arXiv:2312.04927.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "bench/probes/probe.h"

namespace saccade::bench::probes {
namespace {

constexpr int64_t kKeys = 32, kValues = 32;  // symbols, in this order
constexpr int32_t kBlank = kKeys + kValues;
constexpr double kChance = 1.0 / kValues;
constexpr double kExponent = -0.99;  // of the law of gaps

// Pairs of a sequence, those of its length.
constexpr int64_t kPairs[] = {4, 8, 14, 30};
int64_t Choices(int64_t len) { return len >= 128 ? 4 : 3; }

// `count` of the places 0 .. places - 1 in the order they are drawn. Draws one
// by one without replacement are the order of exponential waiting times with
// the weights as rates.
std::vector<int64_t> DrawPlaces(Random& random, int64_t places, int64_t count) {
  std::vector<std::pair<double, int64_t>> waits(places);
  for (int64_t g = 0; g < places; ++g) {
    const double weight = std::pow(static_cast<double>(g + 1), kExponent);
    waits[g] = {-std::log(1 - random.Uniform()) / weight, g};
  }
  std::partial_sort(waits.begin(), waits.begin() + count, waits.end());
  std::vector<int64_t> drawn(count);
  for (int64_t i = 0; i < count; ++i) drawn[i] = waits[i].second;
  return drawn;
}

void Generate(Random& random, const SampleShape& shape, Sample* sample) {
  const int64_t pairs = kPairs[random.Below(Choices(shape.len))];
  std::array<int32_t, kKeys> keys;
  std::array<int32_t, kValues> values;
  std::iota(keys.begin(), keys.end(), 0);
  std::iota(values.begin(), values.end(), static_cast<int32_t>(kKeys));
  random.Shuffle(keys.data(), kKeys);
  random.Shuffle(values.data(), kValues);
  std::vector<int32_t>& text = sample->text;
  std::fill(text.begin(), text.end(), kBlank);
  const std::vector<int64_t> places =
      DrawPlaces(random, shape.len / 2 - pairs, pairs);
  for (int64_t i = 0; i < pairs; ++i) {
    for (const int64_t at : {2 * i, 2 * (pairs + places[i])}) {
      text[at] = keys[i];
      text[at + 1] = values[i];
    }
    sample->marks.push_back({2 * (pairs + places[i]) + 1, 2 * i + 1, 0, pairs});
  }
  std::sort(sample->marks.begin(), sample->marks.end(),
            [](const Mark& a, const Mark& b) { return a.at < b.at; });
  for (int64_t i = 0; i < pairs; ++i) sample->marks[i].answer = i;
}

// A state of keys that are at right angles holds as many as keys are wide
// (Schlag et al. 2021, arXiv:2102.11174, section 4.1); what it cannot hold is
// guessed.
Expectation Expect(const Facts& facts) {
  Expectation e = Recall(facts, kChance);
  if (facts.fixed_state && facts.bucket > facts.width) {
    const double held =
        static_cast<double>(facts.width) / static_cast<double>(facts.bucket);
    e.high = held + (1 - held) * kChance;
    e.why = "its state holds fewer pairs than are asked for";
  }
  return e;
}

Probe OfWidth(std::string_view name, int64_t width) {
  return {
      .name = name,
      .title =
          "4, 8 or 14 pairs of key and value (30 too from 128 tokens on), then "
          "the keys again at gaps g by p(g) ~ g^-.99; asked: their values",
      .source = "Arora et al. 2023, arXiv:2312.04927",
      .expectation =
          "softmax solves it; a state of one size holds no more pairs than its "
          "keys are wide; a window fails",
      .bucket = "pairs in the sequence",
      .symbols = kKeys + kValues + 1,
      .chance = kChance,
      .lengths = {64, 128, 256, 512, 1024},
      .model_width = width,
      .heads = 1,
      .steps = 1500,
      .shift = true,
      .recall = true,
      .generate = Generate,
      .expect = Expect,
  };
}

}  // namespace

const Probe& mqar() {
  static const Probe probe = OfWidth("mqar", 16);
  return probe;
}

/// The same for a model twice as wide: what a state holds grows with it.
const Probe& mqar_wide() {
  static const Probe probe = OfWidth("mqar_wide", 32);
  return probe;
}

}  // namespace saccade::bench::probes
