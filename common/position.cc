#include "position.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "saccade/variant.h"

namespace saccade {
namespace {

constexpr Knob kBase = {"base", "base of the geometric series of wave lengths",
                        10000,  1.001,
                        1e9,    false};

// f32 holds e^-87 .. e^88; the rest is room for what q and k hold.
constexpr double kMostDecay = 60;

double Base(const Position& position) { return position.knobs.Number("base"); }

// base^(-2m/dim)
double Frequency(int64_t m, int64_t dim, double base) {
  return std::pow(base,
                  -2.0 * static_cast<double>(m) / static_cast<double>(dim));
}

// 0 for pairs that make fewer than `slow` turns in `length` tokens, which are
// interpolated, 1 above `fast`, which are kept, and a line between.
double YarnRamp(double frequency, const Knobs& knobs) {
  const double slow = knobs.Number("slow"), fast = knobs.Number("fast");
  const double turns =
      knobs.Number("length") * frequency / (2 * std::numbers::pi);
  return std::clamp((turns - slow) / (fast - slow), 0.0, 1.0);
}

}  // namespace

const char* NameOf(PositionKind kind) {
  switch (kind) {
    case PositionKind::kEmbedding:
      return "added to a model's embeddings";
    case PositionKind::kRotary:
      return "turns q and k";
    case PositionKind::kScale:
      return "multiplies q";
    case PositionKind::kBias:
      return "added to the scores";
  }
  return "?";
}

const std::vector<PositionScheme>& PositionSchemes() {
  static const std::vector<PositionScheme> schemes = {
      {"sinusoidal",
       "sin and cos of i / 10000^(2m/width) for pair m",
       "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
       PositionKind::kEmbedding,
       {}},
      {"learned",
       "a learned row for each position; there are none beyond the length "
       "trained at",
       "Gehring et al. 2017, arXiv:1705.03122, section 3.1",
       PositionKind::kEmbedding,
       {}},
      {"rope",
       "pair (m, m + d/2) at position i turns by i base^(-2m/d)",
       "Su et al. 2021, arXiv:2104.09864, equation 34; pi: Chen et al. 2023, "
       "arXiv:2306.15595; ntk, yarn: Peng et al. 2023, arXiv:2309.00071",
       PositionKind::kRotary,
       {kBase,
        {"scaling",
         "for texts `factor` times as long as those trained at: positions "
         "/ factor (pi), base factor^(d/(d-2)) (ntk), pi for slow pairs only "
         "and q, k times 0.1 ln factor + 1 (yarn)",
         0, 0, 0, false, "none|pi|ntk|yarn"},
        {"factor", "how many times as long", 1, 1, 1e6, false},
        {"length", "tokens trained at (yarn)", 512, 1, 1e9},
        {"slow", "turns in `length` tokens, at most: as pi (yarn)", 1, 0, 1e6,
         false},
        {"fast", "turns in `length` tokens, at least: kept (yarn)", 32, 0, 1e6,
         false}}},
      {"xpos",
       "as rope; q times z_m^(i / scale), k times z_m^(-j / scale), "
       "z_m = (2m/d + 0.4) / 1.4",
       "Sun et al. 2022, arXiv:2212.10554, algorithm 1",
       PositionKind::kRotary,
       {kBase,
        {"scale", "tokens over which scores fade by z", 512, 1, 1e9, false}}},
      {"rerope",
       "as rope, but distances beyond window count as window",
       "Su 2023, kexue.fm/archives/9708",
       PositionKind::kRotary,
       {kBase,
        {"window", "tokens, from where on keys are equally far", 128, 1, 1e9}}},
      {"logn",
       "q at position i times max(1, ln(i + 1) / ln length)",
       "Su 2021, kexue.fm/archives/8823; Chiang & Cholak 2022, "
       "arXiv:2202.12172",
       PositionKind::kScale,
       {{"length", "tokens trained at", 512, 2, 1e9}}},
      {"alibi",
       "score - m_h |i - j|, m_h a geometric series over heads",
       "Press et al. 2021, arXiv:2108.12409, equation 1",
       PositionKind::kBias,
       {}},
      {"t5",
       "score + b_h[bucket of i - j], all b learned",
       "Raffel et al. 2020, arXiv:1910.10683, section 2.1",
       PositionKind::kBias,
       {{"buckets", "learned numbers a head", 32, 4, 1024},
        {"distance", "tokens from where on all are in the last bucket", 128, 4,
         1e9}}},
      {"kerple",
       "score - p_h ln(1 + a_h |i - j|), ln p and ln a learned",
       "Chi et al. 2022, arXiv:2205.09921, the logarithmic kernel",
       PositionKind::kBias,
       {}},
      {"sandwich",
       "score + sum over m < width/2 of cos((i - j) / 10000^(2m/width)), over "
       "8 (h + 1) / heads",
       "Chi et al. 2023, arXiv:2212.10356, section 6",
       PositionKind::kBias,
       {{"width", "of the sinusoidal embeddings multiplied", 128, 2, 4096}}},
  };
  return schemes;
}

const PositionScheme* FindPosition(std::string_view name) {
  for (const PositionScheme& scheme : PositionSchemes())
    if (scheme.name == name) return &scheme;
  return nullptr;
}

const Position* PositionOf(const std::vector<Position>& positions,
                           PositionKind kind) {
  for (const Position& position : positions) {
    const PositionScheme* const scheme = FindPosition(position.name);
    if (scheme != nullptr && scheme->kind == kind) return &position;
  }
  return nullptr;
}

const Position* FindIn(const std::vector<Position>& positions,
                       std::string_view name) {
  for (const Position& position : positions)
    if (position.name == name) return &position;
  return nullptr;
}

Status CheckKnobs(const Position& position) {
  if (position.name == "t5" &&
      position.knobs.Number("distance") <= position.knobs.Number("buckets") / 2)
    return Invalid("t5: distance must be above half the buckets");
  if (position.name != "rope") return {};
  const Knobs& knobs = position.knobs;
  const std::string& scaling = knobs.Text("scaling");
  const bool scaled = scaling != "none";
  if (scaled != (knobs.Number("factor") != 1))
    return Invalid(scaled ? "rope: scaling=" + scaling +
                                " at factor 1 does nothing: say how many "
                                "times as long, e.g. factor=16"
                          : "rope: a factor without a scaling does nothing: "
                            "say which, e.g. scaling=yarn");
  if (scaling == "yarn" && knobs.Number("slow") >= knobs.Number("fast"))
    return Invalid("rope: slow must be below fast");
  return {};
}

Status CheckPositions(const Problem& p) {
  const Position* const xpos = FindIn(p.positions, "xpos");
  if (xpos == nullptr) return {};
  if (p.mask == Mask::kNone)
    return Unsupported(
        "xpos is causal only: scores of keys ahead would grow with distance");
  const double last = static_cast<double>(std::max(p.q_len, p.kv_len));
  const double scale = xpos->knobs.Number("scale");
  const double fades = -std::log(XposZeta(2)[0]);
  if (last * fades > kMostDecay * scale)
    return Unsupported(
        "xpos at scale " + xpos->knobs.Text("scale") + " reaches " +
        std::to_string(static_cast<int64_t>(kMostDecay * scale / fades)) +
        " tokens before f32 overflows: a larger scale reaches farther");
  return {};
}

std::string ToText(const std::vector<Position>& positions) {
  std::string text;
  for (const Position& position : positions) {
    text += "+" + position.name;
    char mark = ':';
    for (const Knobs::Entry& knob : position.knobs.entries()) {
      text += mark + knob.name + "=" + knob.text;
      mark = ',';
    }
  }
  return text;
}

std::vector<double> RotaryFrequencies(const Position& position, int64_t dim) {
  const Knobs& knobs = position.knobs;
  std::vector<double> frequencies(dim / 2);
  const bool rope = position.name == "rope";
  const std::string scaling = rope ? knobs.Text("scaling") : "none";
  const double factor = rope ? knobs.Number("factor") : 1;
  double base = Base(position);
  // The only pair of two numbers turns by 1 at any base.
  if (scaling == "ntk" && dim > 2)
    base *= std::pow(factor,
                     static_cast<double>(dim) / static_cast<double>(dim - 2));
  for (int64_t m = 0; m < dim / 2; ++m) {
    double f = Frequency(m, dim, base);
    if (scaling == "pi") f /= factor;
    if (scaling == "yarn") {
      const double kept = YarnRamp(f, knobs);
      f *= kept + (1 - kept) / factor;
    }
    frequencies[m] = f;
  }
  return frequencies;
}

double RotaryGain(const Position& position) {
  const bool yarn =
      position.name == "rope" && position.knobs.Text("scaling") == "yarn";
  return yarn ? 0.1 * std::log(position.knobs.Number("factor")) + 1 : 1;
}

std::vector<double> XposZeta(int64_t dim) {
  std::vector<double> zeta(dim / 2);
  for (int64_t m = 0; m < dim / 2; ++m)
    zeta[m] =
        (2 * static_cast<double>(m) / static_cast<double>(dim) + 0.4) / 1.4;
  return zeta;
}

std::vector<float> AlibiSlopes(int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> slopes(heads);
  const double p = static_cast<double>(power);
  for (int64_t h = 0; h < heads; ++h)
    slopes[h] = static_cast<float>(
        h < power
            ? std::exp2(-8.0 * static_cast<double>(h + 1) / p)
            : std::exp2(-4.0 * static_cast<double>(2 * (h - power) + 1) / p));
  return slopes;
}

}  // namespace saccade
