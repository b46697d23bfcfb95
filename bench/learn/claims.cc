#include "bench/learn/claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

#include "bench/learn/evidence.h"

namespace saccade::bench {
namespace {

using nlohmann::json;
using reports::BySeed;
using reports::Estimate;

constexpr int64_t kFar = 16;  // times the training length
constexpr char kAttentionAtStart[] = "attention branch";
constexpr char kAttentionOnText[] = "attention branch, on text";
constexpr char kMlpAtStart[] = "mlp branch";
constexpr char kInduction[] = "induction", kMqar[] = "mqar",
               kWideMqar[] = "mqar_wide", kAlignment[] = "alignment";

const Probe* ProbeOf(std::string_view name) {
  const Result<const Probe*> probe = FindProbe(name);
  return probe.ok() ? *probe : nullptr;
}

// bits at 16x minus 1x as trained, plain or under a switch.
Estimate Worsening(const Evidence& e, const std::string& spec,
                   std::string_view change) {
  return Change(e.Bits(spec, "nonoverlap", "plain", 1),
                e.Bits(spec, "nonoverlap", change, kFar));
}

bool Within(const Estimate& e, double low, double high) {
  return e.value >= low && e.value <= high;
}

// Claims 1 and 4.
void SayLevel(const Evidence& e, const std::string& spec, Finding& finding) {
  const Estimate change = Worsening(e, spec, "plain");
  if (!change.known()) return;
  finding.Say(Within(change, -0.06, 0.03),
              fmt::format("{}: {} bit at 16x", spec, ShowSigned(change)));
}

json AlibiHolds(const Evidence& e) {
  Finding finding;
  for (const std::string& spec : e.Role("alibi")) {
    SayLevel(e, spec, finding);
    std::vector<double> bits;
    for (const int64_t r : e.options().multiples) {
      const Estimate b = MeanOf(e.Bits(spec, "same-target", "plain", r));
      if (b.known()) bits.push_back(b.value);
    }
    if (bits.size() < 2) continue;
    const auto [low, high] = std::minmax_element(bits.begin(), bits.end());
    finding.Say(*high - *low <= 0.02,
                fmt::format("same-target spans {:.3f} bit", *high - *low));
  }
  return finding.Record(1, "ALiBi extrapolates",
                        "16x minus 1x within [-.06, +.03] bit; same-target "
                        "flat within .02 bit");
}

json RopeFails(const Evidence& e) {
  Finding finding;
  for (const char* role : {"rope", "sinusoidal"}) {
    for (const std::string& spec : e.Role(role)) {
      const Estimate change = Worsening(e, spec, "plain");
      if (!change.known()) continue;
      finding.Say(change.value >= 0.5,
                  fmt::format("{}: {} bit at 16x", spec, ShowSigned(change)));
    }
  }
  return finding.Record(2, "RoPE and sinusoidal positions do not, without help",
                        "at least +.5 bit at 16x");
}

json WindowRescues(const Evidence& e) {
  Finding finding;
  for (const std::string& spec : e.Role("rope")) {
    const Estimate change = Worsening(e, spec, "window");
    if (!change.known()) continue;
    finding.Say(change.value <= 0.01,
                fmt::format("{}: {} bit at 16x under a window of L", spec,
                            ShowSigned(change)));
  }
  return finding.Record(3, "A test-time window of L rescues RoPE",
                        "16x minus 1x at most +.01 bit");
}

json WindowsAreFlat(const Evidence& e) {
  Finding finding;
  const Probe& probe = *ProbeOf(kInduction);
  for (const std::string& spec : e.Role("window")) {
    SayLevel(e, spec, finding);
    for (const int64_t len : probe.lengths) {
      const Estimate got = MeanOf(e.Accuracy(spec, kInduction, len));
      const Estimate share = MeanOf(e.Allowed(spec, kInduction, len));
      if (!got.known() || !share.known()) continue;
      const std::string found = fmt::format(
          "induction at {} tokens: {} right, {:.2f} in reach or guessed", len,
          Show(got, 2), share.value);
      // Whoever recalls nothing recalls nothing beyond the window either.
      if (len == probe.train_len() && got.value < share.value / 2) {
        finding.Remark(found + ", so too little was learned to judge");
        break;
      }
      finding.Say(got.value <= share.value + 0.05, found);
    }
  }
  return finding.Record(
      4, "Models trained with a window stay flat and recall only inside it",
      "16x minus 1x within [-.06, +.03] bit; induction accuracy at most .05 "
      "above the share of pairs in reach of all layers' windows together");
}

// Says what a lens read, if it did, of every spec of a role.
template <class Agrees>
void SayLens(const Evidence& e, const std::string& role, const char* lens,
             const char* subject, const Agrees& agrees, Finding& finding) {
  for (const std::string& spec : e.Role(role)) {
    const Estimate value = MeanOf(e.Lens(spec, lens, subject));
    if (!value.known()) continue;
    finding.Say(agrees(value),
                fmt::format("{}: {} {}", spec, lens, Show(value, 3)));
  }
}

json LinearConcentratesLeast(const Evidence& e) {
  Finding finding;
  const auto within = [](double low, double high) {
    return [=](const Estimate& s) { return Within(s, low, high); };
  };
  constexpr char kSparsity[] = "sparsity";
  SayLens(e, "linear", kSparsity, "inputs", within(0.95, 1), finding);
  SayLens(e, "softmax", kSparsity, "inputs", within(0.57, 0.63), finding);
  SayLens(e, "gau", kSparsity, "inputs", within(0.39, 0.43), finding);
  for (const std::string& softmax : e.Role("softmax")) {
    for (const std::string& linear : e.Role("linear")) {
      const BySeed a = e.Lens(softmax, kSparsity, "trained");
      const BySeed b = e.Lens(linear, kSparsity, "trained");
      if (a.empty() || b.empty()) continue;
      finding.Say(MeanOf(a).value < MeanOf(b).value,
                  fmt::format("after training {} {}, {} {}", softmax,
                              Show(MeanOf(a), 2), linear, Show(MeanOf(b), 2)));
    }
  }
  return finding.Record(
      5, "Linear attention concentrates least",
      "sparsity of weights for unit scores >= .95 for elu, .60 +- .03 for "
      "softmax, .41 +- .02 for squared relu; after training softmax below "
      "linear");
}

json EntropyRises(const Evidence& e) {
  Finding finding;
  const auto one = [](const Estimate& s) { return Within(s, 0.9, 1.1); };
  SayLens(e, "softmax", "entropy slope", "inputs", one, finding);
  const auto flatter = [](const Estimate& s) { return s.value < 0.9; };
  SayLens(e, "logn", "entropy slope", "inputs", flatter, finding);
  return finding.Record(6, "Entropy of normal scores rises as ln n",
                        "slope 1 +- .1 in ln n for softmax of unit scores; "
                        "below .9 with log-n scaling");
}

json SoftmaxShrugsOffNoise(const Evidence& e) {
  Finding finding;
  SayLens(
      e, "softmax", "noise slope", "inputs",
      [](const Estimate& s) { return Within(s, -0.6, -0.4); }, finding);
  SayLens(
      e, "softmax", "noise bias", "inputs",
      [](const Estimate& s) { return std::abs(s.value) < 0.01; }, finding);
  SayLens(
      e, "gau", "noise bias", "inputs",
      [](const Estimate& s) { return s.value > 0.1; }, finding);
  return finding.Record(
      7, "Softmax shrugs off score noise",
      "error / sd(v) falls with slope -.5 +- .1 against the number of keys "
      "that count; squared relu keeps a bias (t^2 = .25), softmax none");
}

json GauStartsSmall(const Evidence& e) {
  Finding finding;
  const auto first = [&](const char* lens) -> std::optional<double> {
    for (const std::string& spec : e.Role("softmax")) {
      const Estimate value = MeanOf(e.Lens(spec, lens, "fresh"));
      if (value.known()) return value.value;
    }
    return std::nullopt;
  };
  const auto attention = first(kAttentionAtStart), mlp = first(kMlpAtStart);
  for (const std::string& spec : e.Role("gau")) {
    const Estimate gau = MeanOf(e.Lens(spec, kAttentionAtStart, "fresh"));
    if (!gau.known()) continue;
    finding.Say(Within(gau, 0.015, 0.06),
                fmt::format("{}: {:.3f} of its input, which has no byte twice",
                            spec, gau.value));
    if (attention) {
      finding.Say(*attention >= 4 * gau.value,
                  fmt::format("attention {:.3f}", *attention));
    }
    if (mlp) {
      finding.Say(*mlp >= 10 * gau.value, fmt::format("MLP {:.3f}", *mlp));
    }
    const Estimate text = MeanOf(e.Lens(spec, kAttentionOnText, "fresh"));
    if (text.known()) {
      finding.Remark(fmt::format(
          "on text {:.3f}: bytes repeat there, and equal keys add up",
          text.value));
    }
  }
  return finding.Record(
      8, "GAU's branch is small at start",
      "rms(GAU(x)) / rms(x) in [.015, .06] causal with 1/n, at least 4x below "
      "attention and 10x below the MLP; for x without repeats");
}

json LinearRecallIsBounded(const Evidence& e) {
  Finding finding;
  const Probe* probe = ProbeOf(kMqar);
  const std::vector<int64_t> pairs = probe == nullptr
                                         ? std::vector<int64_t>()
                                         : e.Buckets(kMqar, probe->train_len());
  for (const std::string& softmax : e.Role("softmax")) {
    for (const std::string& linear : e.Role("linear")) {
      if (pairs.empty()) continue;
      const int64_t len = probe->train_len(), most = pairs.back();
      const BySeed a = e.Accuracy(linear, kMqar, len, most);
      const BySeed b = e.Accuracy(softmax, kMqar, len, most);
      const Estimate ahead = Change(a, b);
      if (!ahead.known()) continue;
      const std::string found =
          fmt::format("{} pairs, keys {} wide: {} {}, {} {}, {} ahead", most,
                      probe->model_width, softmax, Show(MeanOf(b), 2), linear,
                      Show(MeanOf(a), 2), Show(ahead, 2));
      if (MeanOf(b).value < 0.5) {
        finding.Remark(found + "; softmax learned too little to judge");
        continue;
      }
      finding.Say(ahead.value > 0.25, found);
    }
  }
  for (const std::string& linear : e.Role("linear")) {
    const Probe* const wide = ProbeOf(kWideMqar);
    if (pairs.empty() || wide == nullptr) continue;
    const int64_t len = probe->train_len(), most = pairs.back();
    const BySeed a = e.Accuracy(linear, kMqar, len, most);
    const BySeed b = e.Accuracy(linear, kWideMqar, len, most);
    const Estimate gained = Change(a, b);
    if (!gained.known()) continue;
    finding.Say(gained.value > 0,
                fmt::format("{}, keys {} wide: {}, {} more than {} wide",
                            linear, wide->model_width, Show(MeanOf(b), 2),
                            Show(gained, 2), probe->model_width));
  }
  return finding.Record(
      9, "Linear attention's recall is bounded by its width",
      "MQAR: softmax minus linear > .25 where pairs are nearly as many as keys "
      "are wide; accuracy monotone in width");
}

// The share of a run between the plateau of a loss curve and its end, if it
// got there: below a fifth of the plateau over .8 of the answers are right.
std::optional<double> ChangeShare(const std::vector<double>& curve,
                                  double plateau) {
  const auto solved =
      std::find_if(curve.begin(), curve.end(),
                   [=](double loss) { return loss < 0.2 * plateau; });
  if (solved == curve.end()) return std::nullopt;
  const auto left =
      std::find_if(std::make_reverse_iterator(solved), curve.rend(),
                   [=](double loss) { return loss > 0.9 * plateau; });
  return static_cast<double>(solved - left.base() + 1) /
         static_cast<double>(curve.size());
}

json InductionIsSharp(const Evidence& e) {
  Finding finding;
  const double plateau = -std::log(ProbeOf(kInduction)->chance);  // nats
  size_t curves = 0;
  for (const std::string& spec : e.options().probe_specs) {
    for (const auto& curve : e.Curves(spec, kInduction)) {
      ++curves;
      const auto share = ChangeShare(curve, plateau);
      if (!share) continue;
      finding.Say(*share <= 0.25,
                  fmt::format("{}: {:.0f} % of the run", spec, 100 * *share));
    }
  }
  if (!finding.judged() && curves > 0) {
    finding.Remark("no model of this run reached it");
  }
  return finding.Record(10, "The induction phase change is sharp",
                        "from the plateau ln 48 to over .8 within a quarter of "
                        "the run (judged by the loss, .9 to .2 of ln 48)");
}

// Of two roles on text: b is at most `most`, and more than `more`, above a.
void SayAbove(const Evidence& e, const char* a, const char* b, double more,
              double most, Finding& finding) {
  bool said = false;
  for (const std::string& lower : e.Role(a)) {
    for (const std::string& upper : e.Role(b)) {
      const Estimate above = Change(e.Bits(lower, "nonoverlap", "plain", 1),
                                    e.Bits(upper, "nonoverlap", "plain", 1));
      if (!above.known()) continue;
      said = true;
      finding.Say(
          above.value > more && above.value <= most,
          fmt::format("{} {} bit beside {}", upper, ShowSigned(above), lower));
    }
  }
  if (!said) finding.Remark(fmt::format("{} beside {}: not run", b, a));
}

// What guessing one of the values that a sequence holds gets right: weights
// without content can still tell which those are. There are as many sequences
// of each number of pairs, and a value is asked for each pair.
double ValueChance(const Evidence& e, const Probe& probe) {
  const std::vector<int64_t> pairs = e.Buckets(probe.name, probe.train_len());
  const int64_t asked = std::accumulate(pairs.begin(), pairs.end(), int64_t{0});
  return asked == 0
             ? probe.chance
             : static_cast<double>(pairs.size()) / static_cast<double>(asked);
}

json ContentFreeCannotRecall(const Evidence& e) {
  constexpr double kAny = std::numeric_limits<double>::infinity();
  Finding finding;
  SayAbove(e, "dot", "dense_dot", -kAny, 0.02, finding);
  SayAbove(e, "dot", "dense", 0.02, kAny, finding);
  SayAbove(e, "dense", "random", 0, kAny, finding);
  const Probe& probe = *ProbeOf(kMqar);
  const double chance = ValueChance(e, probe);
  bool recalled = false;
  for (const std::string& spec : e.Role("content-free")) {
    const Estimate got = MeanOf(e.Accuracy(spec, kMqar, probe.train_len()));
    if (!got.known()) continue;
    recalled = true;
    finding.Say(got.value <= chance + 0.05,
                fmt::format("{}: MQAR {}, guessing gives {:.2f}", spec,
                            Show(got, 2), chance));
  }
  if (!recalled) finding.Remark("content-free weights on MQAR: not run");
  return finding.Record(11, "Content-free weights cannot recall",
                        "dense + dot <= dot + .02 < dense < random; "
                        "content-free forms at chance on MQAR: one of the "
                        "values that stand there (+ .05)");
}

json LinearStaysNearBigrams(const Evidence& e) {
  Finding finding;
  const Estimate bigram = MeanOf(e.Anchor("order 1"));
  const Estimate trigram = MeanOf(e.Anchor("order 2"));
  for (const char* role : {"linear", "nope"}) {
    for (const std::string& spec : e.Role(role)) {
      const Estimate bits = MeanOf(e.Bits(spec, "nonoverlap", "plain", 1));
      if (!bits.known() || !bigram.known()) continue;
      const bool near = std::abs(bits.value - bigram.value) <= 0.2;
      finding.Say(near, fmt::format("{}: {}, bigrams {:.3f} bits a byte", spec,
                                    Show(bits), bigram.value));
      if (near || !trigram.known()) continue;
      finding.Remark(fmt::format(
          "that is {:.0f} % of the way to trigrams ({:.3f}); the range is of a "
          "pilot, 64 wide, which is {} here",
          100 * (bigram.value - bits.value) / (bigram.value - trigram.value),
          trigram.value, e.options().width));
    }
  }
  return finding.Record(
      12, "NoPE and linear attention without positions stay near bigrams",
      "within .2 bit of the order-1 anchor at this budget");
}

// Accuracies by rule, one of 0, 1, 2; all of them are known, or none are given.
std::vector<Estimate> Alignments(const Evidence& e, const std::string& spec) {
  const int64_t len = ProbeOf(kAlignment)->train_len();
  std::vector<Estimate> rules;
  for (const int64_t rule : {0, 1, 2}) {
    rules.push_back(MeanOf(e.Accuracy(spec, kAlignment, len, rule)));
    if (!rules.back().known()) return {};
  }
  return rules;
}

json DiagonalAlignsOneRule(const Evidence& e) {
  Finding finding;
  const auto say = [&](const std::string& spec, bool agrees,
                       const std::vector<Estimate>& rules) {
    finding.Say(agrees, fmt::format("{}: {}, {}, {}", spec, Show(rules[0], 2),
                                    Show(rules[1], 2), Show(rules[2], 2)));
  };
  const double chance = ProbeOf(kAlignment)->chance;
  for (const std::string& spec : e.Role("diagonal")) {
    const auto rules = Alignments(e, spec);
    if (rules.empty()) continue;
    // Of two words for an item, the second is known by the first.
    say(spec,
        rules[0].value > rules[1].value + 0.25 &&
            rules[1].value <= chance + 0.1 && rules[2].value <= 0.6,
        rules);
  }
  for (const char* role : {"additive", "dot"}) {
    for (const std::string& spec : e.Role(role)) {
      const auto rules = Alignments(e, spec);
      if (rules.empty()) continue;
      say(spec,
          rules[0].value > 0.5 && rules[1].value > 0.5 && rules[2].value > 0.6,
          rules);
    }
  }
  return finding.Record(
      13, "A hard diagonal aligns word for word only, scores any way",
      "right in order, swapped, two for one: more than .5, .5 and .6 for "
      "additive and dot-product scores; for a diagonal swapped at chance + .1 "
      "at most, in order .25 above that, and of two for one no more than .6, "
      "for half of it follows from the word before");
}

json DeltaLiesBetween(const Evidence& e) {
  Finding finding;
  const int64_t len = ProbeOf(kMqar)->train_len();
  const std::vector<int64_t> pairs = e.Buckets(kMqar, len);
  const auto beside = [&](const std::string& a, const std::string& b) {
    const BySeed low = e.Accuracy(a, kMqar, len, pairs.back());
    const BySeed high = e.Accuracy(b, kMqar, len, pairs.back());
    const Estimate ahead = Change(low, high);
    if (!ahead.known()) return;
    const bool tie =
        ahead.value >= -0.02 || (ahead.bounded() && ahead.high >= 0);
    finding.Say(tie,
                fmt::format("{} pairs: {} {}, {} {}", pairs.back(), a,
                            Show(MeanOf(low), 2), b, Show(MeanOf(high), 2)));
  };
  for (const std::string& delta : e.Role("delta")) {
    if (pairs.empty()) break;
    for (const std::string& linear : e.Role("linear")) beside(linear, delta);
    for (const std::string& nope : e.Role("nope")) beside(delta, nope);
  }
  return finding.Record(14, "The delta rule recalls more than a sum",
                        "MQAR, the most pairs: linear <= delta <= softmax, "
                        "within their intervals");
}

json DecayForgets(const Evidence& e) {
  Finding finding;
  const int64_t near = ProbeOf(kInduction)->train_len();
  for (const char* role : {"decay", "nope", "alibi"}) {
    const bool falls = role == std::string_view("decay");
    for (const std::string& spec : e.Role(role)) {
      const BySeed before = e.Accuracy(spec, kInduction, near);
      const BySeed after = e.Accuracy(spec, kInduction, kFar * near);
      const Estimate change = Change(before, after);
      if (!change.known()) continue;
      const std::string found = fmt::format("{}: {} at {} tokens, {} at {}",
                                            spec, Show(MeanOf(before), 2), near,
                                            ShowSigned(change, 2), kFar * near);
      if (MeanOf(before).value < 0.5) {
        finding.Remark(found + ", so too little was learned to judge");
        continue;
      }
      finding.Say((change.value < -0.2) == falls, found);
    }
  }
  return finding.Record(15, "States that decay forget what is far",
                        "induction at 16x more than .2 below 1x for a fixed "
                        "decay, and not for ALiBi and no positions");
}

}  // namespace

std::vector<json> JudgeClaims(const LearnOptions& options,
                              std::span<const json> records) {
  const Evidence e(options, records);
  return {AlibiHolds(e),
          RopeFails(e),
          WindowRescues(e),
          WindowsAreFlat(e),
          LinearConcentratesLeast(e),
          EntropyRises(e),
          SoftmaxShrugsOffNoise(e),
          GauStartsSmall(e),
          LinearRecallIsBounded(e),
          InductionIsSharp(e),
          ContentFreeCannotRecall(e),
          LinearStaysNearBigrams(e),
          DiagonalAlignsOneRule(e),
          DeltaLiesBetween(e),
          DecayForgets(e)};
}

}  // namespace saccade::bench
