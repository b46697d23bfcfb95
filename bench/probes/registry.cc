// The list of probes, from probes.def, and what their files share.
#include <fmt/format.h>

#include <algorithm>

#include "bench/named.h"
#include "bench/probes/probe.h"

namespace saccade::bench {
namespace probes {
#define SACCADE_PROBE(id) const Probe& id();
#include "bench/probes/probes.def"
#undef SACCADE_PROBE
}  // namespace probes

std::span<const Probe* const> Probes() {
  static const Probe* const all[] = {
#define SACCADE_PROBE(id) &probes::id(),
#include "bench/probes/probes.def"
#undef SACCADE_PROBE
  };
  return all;
}

Result<const Probe*> FindProbe(std::string_view name) {
  for (const Probe* probe : Probes())
    if (probe->name == name) return probe;
  return FindProbes({std::string(name)}).status();
}

Result<std::vector<const Probe*>> FindProbes(
    const std::vector<std::string>& names) {
  const auto all = Probes();
  return FindNamed("probe", std::vector(all.begin(), all.end()), names);
}

Status Draw(const Probe& probe, Random& random, const SampleShape& shape,
            Sample* sample) {
  if (shape.len < probe.train_len()) {
    return Invalid(fmt::format("the {} probe needs {} tokens, not {}",
                               probe.name, probe.train_len(), shape.len));
  }
  sample->text.assign(shape.len, 0);
  sample->marks.clear();
  probe.generate(random, shape, sample);
  return {};
}

int64_t SizeOf(Random& random, const SampleShape& shape, int64_t most) {
  return shape.train ? 1 + random.Below(most) : most;
}

void Ask(std::span<const int32_t> question, std::span<const Answered> answer,
         Sample* sample) {
  std::copy(question.begin(), question.end(), sample->text.begin());
  auto at = std::ssize(question);
  for (const Answered& one : answer) {
    sample->text[at] = one.symbol;
    sample->marks.push_back({at++, one.source, 0, one.bucket});
  }
}

Expectation InSight(const Facts& f, double chance) {
  Expectation e;
  e.high = f.in_sight + (1 - f.in_sight) * chance;
  if (f.in_sight < 1) e.why = "what no layer can see is guessed";
  return e;
}

Expectation Learned(const Facts& f, double chance) {
  Expectation e = InSight(f, chance);
  if (f.in_sight < 1) return e;
  if (f.fixed_state) {
    e.why = "sees all, but keeps it in a state of one size";
  } else if (f.len == f.train_len) {
    e.low = 0.9;
    e.why = "sees and keeps all";
  }
  return e;
}

Expectation Recall(const Facts& f, double chance) {
  Expectation e = Learned(f, chance);
  if (f.in_sight < 1) return e;
  if (f.new_positions) {
    // Half were right at 16 times the training length in the pilot.
    if (f.times() >= 16) e.high = 0.6;
    e.why = "meets positions that training never had";
  } else if (f.no_positions && !f.fixed_state && f.len > f.train_len) {
    e.low = 0.8;
    e.why = "has no positions to be surprised by";
  }
  return e;
}

}  // namespace saccade::bench
