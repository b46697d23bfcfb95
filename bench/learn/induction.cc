#include "bench/learn/induction.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <numeric>

#include "bench/learn/pass.h"

namespace saccade::bench {

void InductionSequence(Random& random, std::span<int32_t> tokens,
                       std::span<int32_t> targets,
                       std::span<int32_t> distances) {
  constexpr int64_t kNames = kInductionSymbols - 1 - kFillers;
  constexpr int64_t kCopies = 2 * kBlocks;
  const auto len = static_cast<int64_t>(tokens.size());
  std::array<int32_t, kNames> names;
  std::iota(names.begin(), names.end(), static_cast<int32_t>(kFillers));
  random.Shuffle(names.data(), kNames);
  std::array<int64_t, kCopies> order, starts;
  for (int64_t i = 0; i < kCopies; ++i) order[i] = i % kBlocks;
  random.Shuffle(order.data(), kCopies);
  // Sorted places in the filler alone are random gaps.
  for (int64_t& s : starts) s = random.Below(len - kInductionLeast + 1);
  std::sort(starts.begin(), starts.end());

  std::vector<int32_t> text(len);
  for (int32_t& symbol : text) {
    symbol = static_cast<int32_t>(random.Below(kFillers));
  }
  std::fill(targets.begin(), targets.end(), -1);
  std::fill(distances.begin(), distances.end(), 0);
  std::array<int64_t, kBlocks> first;
  first.fill(-1);
  for (int64_t i = 0; i < kCopies; ++i) {
    const int64_t block = order[i], at = starts[i] + i * kBlockTokens;
    for (int64_t m = 0; m < kBlockTokens; ++m) {
      text[at + m] = names[block * kBlockTokens + m];
      if (first[block] < 0 || m == 0) continue;
      targets[at + m] = text[at + m];
      if (!distances.empty()) {
        distances[at + m] = static_cast<int32_t>(at - first[block]);
      }
    }
    first[block] = at;
  }
  tokens[0] = kInductionSymbols - 1;
  std::copy(text.begin(), text.end() - 1, tokens.begin() + 1);
}

Batches InductionBatches(int64_t len, uint64_t seed) {
  return
      [=](int64_t step, std::span<int32_t> tokens, std::span<int32_t> targets) {
        Random random(seed, fmt::format("induction {}", step));
        for (size_t at = 0; at < tokens.size(); at += len) {
          InductionSequence(random, tokens.subspan(at, len),
                            targets.subspan(at, len), {});
        }
      };
}

namespace {

// What is read at one length: the same for every model.
Random TestRandom(int64_t len) {
  return Random(1, fmt::format("induction test {}", len));
}

}  // namespace

int64_t SequencesAt(int64_t len, int64_t shortest, int64_t most) {
  constexpr int64_t kLeast = 16;  // 192 answers
  return std::max(std::min(most, 4 * most * shortest / len),
                  std::min(most, kLeast));
}

double InductionShare(const InductionOptions& o, int64_t reach) {
  std::vector<int32_t> tokens(o.len), targets(o.len), far(o.len);
  Random random = TestRandom(o.len);
  int64_t within = 0, asked = 0;
  for (int64_t i = 0; i < o.sequences; ++i) {
    InductionSequence(random, tokens, targets, far);
    for (const int32_t distance : far) {
      asked += distance > 0;
      within += distance > 0 && distance <= reach;
    }
  }
  return static_cast<double>(within) / static_cast<double>(asked);
}

Result<InductionReading> ReadInduction(
    const Model& model, const InductionOptions& o, Exec& exec,
    const std::function<bool(int64_t tokens)>& tick) {
  if (o.len < kInductionLeast) {
    return Invalid(fmt::format("the induction probe needs {} tokens, not {}",
                               kInductionLeast, o.len));
  }
  constexpr int64_t kTokens = 4096;  // a pass
  const int64_t batch = std::clamp<int64_t>(kTokens / o.len, 1, o.sequences);
  Result<std::unique_ptr<Pass>> made = Pass::Make(
      model, {.batch = batch, .len = o.len, .window = o.window}, exec);
  if (!made.ok()) return made.status();
  Pass& pass = **made;
  std::vector<int32_t> tokens(batch * o.len), targets(tokens), far(tokens);
  Random random = TestRandom(o.len);
  InductionReading reading;
  for (int64_t done = 0; done < o.sequences; done += batch) {
    for (int64_t b = 0; b < batch; ++b) {
      InductionSequence(random, std::span(tokens).subspan(b * o.len, o.len),
                        std::span(targets).subspan(b * o.len, o.len),
                        std::span(far).subspan(b * o.len, o.len));
    }
    const Status status = pass.Forward(model, tokens, targets);
    if (!status.ok()) return status;
    const int64_t here = std::min(batch, o.sequences - done) * o.len;
    for (int64_t i = 0; i < here; ++i) {
      if (targets[i] < 0) continue;
      const size_t k = std::bit_width(static_cast<uint32_t>(far[i])) - 1;
      if (reading.buckets.size() <= k) reading.buckets.resize(k + 1);
      for (auto* bucket : {&reading.buckets[k], &reading.all}) {
        bucket->asked += 1;
        bucket->right += pass.hits()[i];
      }
    }
    if (tick && !tick(here)) break;
  }
  return reading;
}

}  // namespace saccade::bench
