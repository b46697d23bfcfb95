#include "bench/recommend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "reports/text.h"

namespace saccade::bench {
namespace {

using reports::FormatBytes;
using reports::FormatLength;

PassBytes BytesOf(const PlannedCell& planned, int64_t layers) {
  const Needs needs = planned.needs();
  return {(needs.state + needs.saved) * static_cast<size_t>(layers),
          needs.scratch, planned.TensorBytes()};
}

// What decoding would carry at that context; nothing where it does not decode.
std::optional<size_t> StateAt(CellSpec cell, int64_t context) {
  cell.pass = Pass::kDecode;
  cell.shape.mask = Mask::kCausal;
  cell.length = context;
  const Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) return {};
  return planned->needs().state;
}

// Whatever it was trained on, a state of one size cannot hold all of a longer
// context.
std::string Forgets(const CellSpec& cell) {
  if (cell.length < 2) return {};
  const std::optional<size_t> whole = StateAt(cell, cell.length);
  const std::optional<size_t> half = StateAt(cell, cell.length / 2);
  if (!whole || !half || *whole == 0 || *whole != *half) return {};
  return fmt::format(
      "forgets: its state has one size, {} for {} tokens as for {}",
      FormatBytes(static_cast<double>(*whole)), FormatLength(cell.length),
      FormatLength(cell.length / 2));
}

std::string AtLength(const Reading& r) {
  return fmt::format("{} tokens, trained at {}{}", FormatLength(r.eval_len),
                     FormatLength(r.train_len),
                     r.change == "plain" ? "" : ", switch " + r.change);
}

std::string LacksLanguage(const Candidate& c, const Quality* quality,
                          double times) {
  if (!c.language) return "no evidence: no model of it was trained on text";
  const double best = *quality->BestLanguage(times);
  if (c.language->value <= (1 + kWorseLanguage) * best) return {};
  return fmt::format(
      "reads text worse: {:.2f} bits a byte ({}), where the best has {:.2f}",
      c.language->value, AtLength(*c.language), best);
}

std::string LacksRecall(const Candidate& c, const CellSpec& cell,
                        const Quality* quality, double times) {
  const std::string forgets = Forgets(cell);
  if (!forgets.empty()) return forgets;
  if (!c.recall) return "no evidence: no model of it was trained to recall";
  const double best = *quality->BestRecall(times);
  if (c.recall->value >= best - kWorseRecall) return {};
  return fmt::format("recalls less: {:.2f} ({}), where the best has {:.2f}",
                     c.recall->value, AtLength(*c.recall), best);
}

// Why a planned candidate will not do; or empty.
std::string WhyNot(const Wish& wish, const CellSpec& cell, const Candidate& c,
                   const Quality* quality,
                   const std::set<std::string>& failed) {
  if (failed.contains(reports::BaseName(c.spec)))
    return "its check against the oracle failed";
  if (wish.memory > 0 && c.bytes.all() > wish.memory)
    return fmt::format(
        "needs {} of memory, more than {}: {} kept{}, {} scratch, {} inputs "
        "and outputs",
        FormatBytes(c.bytes.all()), FormatBytes(wish.memory),
        FormatBytes(static_cast<double>(c.bytes.kept)),
        wish.layers > 1 ? fmt::format(" by {} layers", wish.layers) : "",
        FormatBytes(static_cast<double>(c.bytes.scratch)),
        FormatBytes(static_cast<double>(c.bytes.io)));
  std::string why;
  if (wish.need == Need::kLanguage)
    why = LacksLanguage(c, quality, wish.times());
  if (wish.need == Need::kRecall)
    why = LacksRecall(c, cell, quality, wish.times());
  if (why.empty() && !c.seconds)
    why = "no time of it was measured in this pass";
  return why;
}

Candidate Judge(const Wish& wish, const std::string& spec,
                const TimePredictor& times, const Quality* quality,
                const std::set<std::string>& failed) {
  Candidate c;
  c.spec = spec;
  CellSpec cell = wish.cell;
  cell.spec = spec;
  if (quality != nullptr) {
    c.language = quality->Language(spec, wish.times());
    c.recall = quality->Recall(spec, wish.times());
  }
  const Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) {
    c.rejected = planned.status().message();
    return c;
  }
  c.bytes = BytesOf(*planned, wish.layers);
  c.seconds = times.Seconds(Wanted(*planned));
  c.timed = times.Knows(Wanted(*planned));
  c.rejected = WhyNot(wish, cell, c, quality, failed);
  return c;
}

}  // namespace

const char* NameOf(Need need) {
  switch (need) {
    case Need::kAny:
      return "any";
    case Need::kLanguage:
      return "language";
    case Need::kRecall:
      return "recall";
  }
  return "";
}

double Wish::times() const {
  return train_len > 0
             ? static_cast<double>(cell.length) / static_cast<double>(train_len)
             : 1;
}

Recommendation Recommend(const Wish& wish,
                         const std::vector<std::string>& specs,
                         const TimePredictor& times, const Quality* quality,
                         const std::set<std::string>& failed) {
  Recommendation r;
  std::set<std::string> fit, all;
  for (const std::string& spec : specs) {
    r.candidates.push_back(Judge(wish, spec, times, quality, failed));
    all.insert(reports::BaseName(spec));
    if (r.candidates.back().rejected.empty())
      fit.insert(reports::BaseName(spec));
  }
  std::vector<std::tuple<bool, double, size_t>> order;
  for (size_t i = 0; i < r.candidates.size(); ++i) {
    const Candidate& c = r.candidates[i];
    order.emplace_back(!c.rejected.empty(), c.rejected.empty() ? *c.seconds : 0,
                       i);
  }
  std::sort(order.begin(), order.end());
  std::vector<Candidate> sorted;
  for (const auto& [rejected, seconds, i] : order)
    sorted.push_back(std::move(r.candidates[i]));
  r.candidates = std::move(sorted);
  r.of_rest = fit.size() > 1;
  r.held_out = times.LeaveOneOut(
      NameOf(wish.cell.pass), NameOf(wish.cell.dtype), r.of_rest ? fit : all);
  if (r.of_rest && r.held_out.shapes == 0) {
    r.of_rest = false;
    r.held_out =
        times.LeaveOneOut(NameOf(wish.cell.pass), NameOf(wish.cell.dtype), all);
  }
  return r;
}

}  // namespace saccade::bench
