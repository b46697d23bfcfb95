#include "bench/learn/probing.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "bench/learn/pass.h"
#include "bench/learn/sight.h"
#include "bench/learn/statistics.h"
#include "position.h"

namespace saccade::bench {
namespace {

// A sample as tokens and targets of a pass.
void Lay(const Probe& probe, const Sample& sample, std::span<int32_t> tokens,
         std::span<int32_t> targets) {
  tokens[0] = static_cast<int32_t>(probe.symbols);
  std::copy(sample.text.begin(), sample.text.end() - 1, tokens.begin() + 1);
  std::fill(targets.begin(), targets.end(), -1);
  for (const Mark& mark : sample.marks) targets[mark.at] = sample.text[mark.at];
}

Facts FactsOf(const Probe& probe, const Model& model, int64_t len,
              bool fixed_state) {
  const std::vector<Position>& positions = model.spec().positions;
  const bool turns = PositionOf(positions, PositionKind::kRotary);
  const bool absolute = PositionOf(positions, PositionKind::kEmbedding);
  const bool clipped = FindIn(positions, "rerope");
  Facts facts;
  facts.train_len = probe.train_len();
  facts.len = len;
  facts.fixed_state = fixed_state;
  facts.width = model.units().front().heads * model.units().front().qk_dim;
  facts.new_positions =
      len > probe.train_len() && ((turns && !clipped) || absolute);
  facts.no_positions = !turns && !absolute;
  return facts;
}

double ShareInSight(const Score& score) {
  return static_cast<double>(score.in_sight) / static_cast<double>(score.asked);
}

// Theory speaks of buckets; of all it says the mean, for the reason it has for
// the hardest.
void Foretell(const Probe& probe, Facts facts, ProbeReading* reading) {
  Expectation& all = reading->tokens.expected;
  all = {0, 0, ""};
  for (auto& [bucket, score] : reading->buckets) {
    facts.bucket = bucket;
    facts.in_sight = ShareInSight(score);
    score.expected = probe.expect(facts);
    const double share = static_cast<double>(score.asked) /
                         static_cast<double>(reading->tokens.asked);
    all.low += share * score.expected.low;
    all.high += share * score.expected.high;
    if (!score.expected.why.empty()) all.why = score.expected.why;
  }
  all.high = std::min(all.high, 1.0);
  if (!reading->answers) return;
  // A whole answer is right less often than its symbols are.
  reading->answers->expected.high = all.high;
  reading->answers->expected.why = all.why;
}

// Adds what a pass made of one sample; `hits` are of its tokens.
void Tally(const Sample& sample, const Sight& sight, const uint8_t* hits,
           ProbeReading* reading) {
  Score answer;
  for (size_t i = 0; i < sample.marks.size(); ++i) {
    const Mark& mark = sample.marks[i];
    const bool seen = sight.Joins(mark.source + 1, mark.at);
    for (Score* score :
         {&reading->tokens, &reading->buckets[mark.bucket], &answer}) {
      score->asked += 1;
      score->right += hits[mark.at];
      score->in_sight += seen;
    }
    if (i + 1 < sample.marks.size() &&
        sample.marks[i + 1].answer == mark.answer) {
      continue;
    }
    reading->answers->asked += 1;
    reading->answers->right += answer.right == answer.asked;
    reading->answers->in_sight += answer.in_sight == answer.asked;
    answer = {};
  }
}

}  // namespace

ModelOptions ProbeModel(const Probe& probe, const std::string& spec) {
  return {.spec = spec,
          .width = probe.model_width,
          .layers = 2,
          .heads = probe.heads,
          .symbols = probe.symbols + 1,
          .train_len = probe.train_len(),
          .shift = probe.shift};
}

Batches ProbeBatches(const Probe& probe, uint64_t seed) {
  return
      [&probe, seed, sample = Sample()](int64_t step, std::span<int32_t> tokens,
                                        std::span<int32_t> targets) mutable {
        const int64_t len = probe.train_len();
        Random random(seed, fmt::format("{} {}", probe.name, step));
        for (size_t at = 0; at < tokens.size(); at += len) {
          // The training length is never too short.
          (void)Draw(probe, random, {.len = len, .train = true}, &sample);
          Lay(probe, sample, tokens.subspan(at, len), targets.subspan(at, len));
        }
      };
}

int64_t SequencesAt(int64_t len, int64_t shortest, int64_t most) {
  constexpr int64_t kLeast = 16;
  return std::max(std::min(most, 4 * most * shortest / len),
                  std::min(most, kLeast));
}

Result<ProbeReading> ReadProbe(const Probe& probe, const Model& model,
                               const ProbeOptions& o, Exec& exec,
                               const std::function<bool(int64_t)>& tick) {
  constexpr int64_t kTokens = 4096;  // a pass
  const int64_t batch = std::clamp<int64_t>(kTokens / o.len, 1, o.sequences);
  Result<std::unique_ptr<ModelPass>> made =
      ModelPass::Make(model, {.batch = batch, .len = o.len}, exec);
  if (!made.ok()) return made.status();
  const Result<Sight> sight = Sight::Of(model, o.len, exec);
  if (!sight.ok()) return sight.status();
  const Result<bool> fixed = HasFixedState(model, o.len);
  if (!fixed.ok()) return fixed.status();
  ModelPass& pass = **made;
  std::vector<int32_t> tokens(batch * o.len), targets(tokens);
  std::vector<Sample> samples(batch);
  Random random(1, fmt::format("{} test {}", probe.name, o.len));
  ProbeReading reading;
  reading.answers.emplace();
  for (int64_t done = 0; done < o.sequences; done += batch) {
    for (int64_t b = 0; b < batch; ++b) {
      const Status drawn = Draw(probe, random, {.len = o.len}, &samples[b]);
      if (!drawn.ok()) return drawn;
      Lay(probe, samples[b], std::span(tokens).subspan(b * o.len, o.len),
          std::span(targets).subspan(b * o.len, o.len));
    }
    const Status status = pass.Forward(model, tokens, targets);
    if (!status.ok()) return status;
    const int64_t here = std::min(batch, o.sequences - done);
    for (int64_t b = 0; b < here; ++b) {
      Tally(samples[b], *sight, &pass.hits()[b * o.len], &reading);
    }
    if (tick && !tick(here * o.len)) break;
  }
  if (reading.answers->asked == reading.tokens.asked) reading.answers.reset();
  Foretell(probe, FactsOf(probe, model, o.len, *fixed && sight->all()),
           &reading);
  return reading;
}

std::vector<nlohmann::json> ProbeRecords(const Probe& probe,
                                         const ProbeReading& reading,
                                         const nlohmann::json& base) {
  std::vector<nlohmann::json> records;
  const auto add = [&](const Score& score, nlohmann::json more) {
    const Interval95 share = Wilson(score.right, score.asked);
    nlohmann::json& record = records.emplace_back(base);
    record.update({{"accuracy", share.value},
                   {"low", share.low},
                   {"high", share.high},
                   {"successes", score.right},
                   {"trials", score.asked},
                   {"predicted_low", score.expected.low},
                   {"predicted_high", score.expected.high}});
    if (!score.expected.why.empty()) record["expected"] = score.expected.why;
    record.update(more);
  };
  add(reading.tokens, {{"chance", probe.chance}});
  if (reading.answers) add(*reading.answers, {{"metric", "answer"}});
  for (const auto& [bucket, score] : reading.buckets) {
    add(score, {{"chance", probe.chance}, {"bucket", bucket}});
  }
  return records;
}

}  // namespace saccade::bench
