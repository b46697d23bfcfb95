// What a report says before it shows anything.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "reports/contest.h"
#include "reports/text.h"
#include "reports/verdict.h"

namespace saccade::reports {
namespace {

using Names = std::vector<std::string>;

const std::string& SpecOf(const Model& model, int entry) {
  return model.at(entry).spec;
}

const VerdictRow* RowAt(const Verdict& verdict, int place) {
  return place < 0 ? nullptr : &verdict.rows[static_cast<size_t>(place)];
}

// "; a tie with a, b and c", of the other rows with the mark.
template <class Name>
std::string Ties(const Verdict& verdict, const VerdictRow& best,
                 bool VerdictRow::*mark, const Name& name) {
  constexpr size_t kNamed = 4;
  Names ties;
  for (const VerdictRow& row : verdict.rows) {
    if (&row != &best && row.*mark) ties.push_back(name(row));
  }
  if (ties.empty()) return "";
  if (ties.size() > kNamed) {
    const size_t more = ties.size() - kNamed + 1;
    ties.resize(kNamed - 1);
    ties.push_back(fmt::format("{} others", more));
  }
  return "; a tie with " + JoinNames(ties);
}

std::string Fastest(const Model& model, const Verdict& verdict) {
  constexpr double kScatter =
      1.25;  // upper end of the interval over the median
  const VerdictRow* best = RowAt(verdict, verdict.fastest);
  if (best == nullptr) return "";
  std::string text =
      fmt::format("Fastest {} pass at n = {}: {}, {}", verdict.pass,
                  FormatLength(verdict.length), SpecOf(model, best->timed),
                  FormatTime(best->time->ns.value));
  if (best->timed != verdict.baseline && !std::isnan(best->speedup)) {
    text += fmt::format(", {} the speed of {}", FormatRatio(best->speedup),
                        SpecOf(model, verdict.baseline));
  }
  const std::string ties =
      Ties(verdict, *best, &VerdictRow::fastest,
           [&](const VerdictRow& row) { return SpecOf(model, row.timed); });
  const Estimate& ns = best->time->ns;
  if (!ties.empty() && ns.high > kScatter * ns.value) {
    text += fmt::format("; its samples leave the median between {} and {}",
                        FormatTime(ns.low), FormatTime(ns.high));
  }
  return text + ties + ".";
}

std::string Lightest(const Model& model, const Verdict& verdict) {
  const auto name = [&](const VerdictRow& row) {
    return SpecOf(model, row.timed);
  };
  std::string text;
  const VerdictRow* scratch = RowAt(verdict, verdict.least_scratch);
  if (scratch != nullptr) {
    text +=
        fmt::format("Least scratch memory in a {} pass at n = {}: {}, {}{}.",
                    verdict.pass, FormatLength(verdict.weighed), name(*scratch),
                    FormatBytes(scratch->weight->scratch),
                    Ties(verdict, *scratch, &VerdictRow::least_scratch, name));
  }
  const VerdictRow* state = RowAt(verdict, verdict.least_state);
  if (state != nullptr) {
    text += fmt::format("{}Least state in decoding after {} tokens: {}, {}{}.",
                        text.empty() ? "" : " ", FormatLength(verdict.weighed),
                        name(*state), FormatBytes(state->decode->state),
                        Ties(verdict, *state, &VerdictRow::least_state, name));
  }
  return text;
}

std::string Growth(const Model& model, const Verdict& verdict) {
  Names linear, between, square;
  for (const VerdictRow& row : verdict.rows) {
    if (!row.growth.known() || model.at(row.timed).peer) continue;
    const double exponent = row.growth.exponent;
    (exponent < 1.25   ? linear
     : exponent < 1.75 ? between
                       : square)
        .push_back(
            fmt::format("{} ({:.2f})", SpecOf(model, row.timed), exponent));
  }
  std::string text;
  const auto add = [&](const Names& names, std::string_view how) {
    if (names.empty()) return;
    text += fmt::format("{}{} for {}", text.empty() ? "" : "; ", how,
                        JoinNames(names));
  };
  add(linear, "about linearly");
  add(between, "between linearly and quadratically");
  add(square, "about quadratically");
  return text.empty() ? "" : "Time grows " + text + ".";
}

std::string Text(const Model& model, const Verdict& verdict) {
  Names broken;
  for (const VerdictRow& row : verdict.rows) {
    if (row.near.known() && row.far.known() &&
        row.far.value - row.near.value >= 0.5) {
      broken.push_back(SpecOf(model, row.trained));
    }
  }
  const VerdictRow* best = RowAt(verdict, verdict.best_text);
  if (best == nullptr) return "";
  // Which of its two readings made a row one of the best.
  const auto name = [&](const VerdictRow& row) {
    const bool window = !row.far.known() || BestFar(row).value < row.far.value;
    return SpecOf(model, row.trained) + (window ? " under a test window" : "");
  };
  std::string text = fmt::format(
      "Best on text at {} times the training length: {}, {:.2f} bits a byte{}",
      verdict.far_multiple, name(*best), BestFar(*best).value,
      Ties(verdict, *best, &VerdictRow::best_text, name));
  if (!broken.empty()) {
    text += fmt::format(
        ". Worse there by half a bit or more without a test window: {}",
        JoinNames(broken));
  }
  return text + ".";
}

std::string Recall(const Model& model, const Verdict& verdict) {
  Names able, unable, untaught;
  for (const VerdictRow& row : verdict.rows) {
    if (!row.recall.known()) continue;
    const std::string name = fmt::format(
        "{} ({:.2f})", SpecOf(model, row.trained), row.recall.value);
    if (!row.learned_probe) {
      untaught.push_back(SpecOf(model, row.trained));
    } else if (row.recall.value >= 0.9) {
      able.push_back(name);
    } else if (row.recall.value < 0.3) {
      unable.push_back(name);
    }
  }
  Names parts;
  if (!able.empty()) parts.push_back("kept by " + JoinNames(able));
  if (!unable.empty()) parts.push_back("lost by " + JoinNames(unable));
  if (!untaught.empty()) {
    parts.push_back(
        "not learned at the training length, in this training, by " +
        JoinNames(untaught));
  }
  if (parts.empty()) return "";
  return fmt::format("Recall of what stood far back ({}, {} tokens): {}.",
                     verdict.probe, FormatLength(verdict.probe_length),
                     fmt::join(parts, "; "));
}

std::string Memory(const Model& model) {
  if (model.setting() == nullptr) return "";
  const auto passes = model.setting()->weights.find("forward");
  if (passes == model.setting()->weights.end()) return "";
  Names growing;
  int steady = 0;
  for (const auto& [entry, lengths] : passes->second) {
    const Weight *first = nullptr, *last = nullptr;
    for (const auto& [length, weight] : lengths) {
      if (!weight.outcome.ok()) continue;
      if (first == nullptr) first = &weight;
      last = &weight;
    }
    if (first == last) continue;
    // Doubling once over the whole range is still no growth to speak of.
    if (last->working() > 2 * std::max(first->working(), 65536.0)) {
      growing.push_back(SpecOf(model, entry));
    } else {
      ++steady;
    }
  }
  if (growing.empty() && steady == 0) return "";
  if (growing.empty()) {
    return "Beyond inputs and outputs, no variant's forward memory grows with "
           "length.";
  }
  return fmt::format(
      "Beyond inputs and outputs, forward memory grows with length for {}, and "
      "not for {}.",
      JoinNames(growing),
      steady == 0 ? "any other" : fmt::format("the other {}", steady));
}

std::string Peers(const Model& model) {
  const Standing standing = StandingOf(ContestsOf(model));
  if (standing.cells == 0) return "";
  return fmt::format(
      "Against outside implementations of the same function, ours is ahead of "
      "all in {} of {} cells{}.",
      standing.ahead, standing.cells,
      standing.tied == 0
          ? ""
          : fmt::format(" and tied with the fastest of them in {}",
                        standing.tied));
}

std::string Checks(const Model& model, const Verdict& verdict) {
  Names wrong;
  size_t checked = 0;
  for (const VerdictRow& row : verdict.rows) {
    checked += row.checked;
    if (row.check.kind == Outcome::Kind::kFail) {
      wrong.push_back(SpecOf(model, row.entry()));
    }
  }
  if (!wrong.empty()) {
    return fmt::format(
        "Not correct here: {}. What failed its check shows FAIL and no figure, "
        "and is never called best; its case stands under What is missing.",
        JoinNames(wrong));
  }
  if (checked == 0) return "";
  return fmt::format(
      "Correct: all {} rows that were checked agree with their "
      "float64 oracles.",
      checked);
}

std::string Claims(const Model& model) {
  if (model.claims.empty()) return "";
  int pass = 0, rest = 0;
  Names failed;
  for (const Claim& claim : model.claims) {
    if (claim.verdict == "fail") {
      failed.push_back(fmt::format("{} ({})", claim.number, claim.claim));
    } else {
      ++(claim.verdict == "pass" ? pass : rest);
    }
  }
  return fmt::format(
      "Assertions from theory and the literature: hold here {}, do not {}, "
      "not judged {}.{}",
      pass, failed.size(), rest,
      failed.empty() ? "" : " Not seen here: " + JoinNames(failed) + ".");
}

}  // namespace

std::vector<std::string> MakeFindings(const Model& model,
                                      const Verdict& verdict) {
  std::vector<std::string> findings = {
      Checks(model, verdict), Fastest(model, verdict),  Peers(model),
      Growth(model, verdict), Lightest(model, verdict), Memory(model),
      Text(model, verdict),   Recall(model, verdict),   Claims(model)};
  std::erase(findings, "");
  return findings;
}

}  // namespace saccade::reports
