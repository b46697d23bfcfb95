// local.advancing: a bell of weights that tokens push ahead, by steps.
//
//   o_i = sum_j w_ij v_j / sum_j w_ij,
//   w_ij = exp(-(j - mu_i)^2 / (2 sigma^2)),   mu_i = offset + kappa_i,
//   kappa_i = kappa_(i-1) + exp(x_i)
//
// over visible keys. kappa begins one before the first query, so that steps of
// exp(0) = 1 are local.gaussian. x is of the token, one number a head; there is
// no other content: q and k are not read, and their gradients are 0.
//
// Knobs: offset, in tokens; sigma, in tokens.
//
// Source: Graves 2013, arXiv:1308.0850, equations 46-51, the window of the
// handwriting network, with one component: kappa is equation 51's, and the
// others' parts alpha and beta are 1 and the knob.
//
// Ours differs: weights are normalised over what is visible, so that a bell
// which is ahead of all that is visible has its weight on the last of it; what
// is below e^-45 of a row's largest weight counts for nothing; and a step is
// exp(30) tokens at most.
//
// Shapes: v [B, Hkv, Tk, e], step x [B, Hq, Tq, 1]. Time Tq W e a head, W =
// 19 sigma + 1 keys or what the mask leaves. Where a bell stands is known only
// when it is there, so that this is not the tile engine's fixed band but an
// engine of its own (advancing.h), and decoding holds all values, for a bell
// may stand still.
#include <cmath>
#include <limits>
#include <vector>

#include "advancing.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

AdvancingBell BellOf(const Problem& p) {
  return {.offset = p.knobs.Number("offset"), .sigma = p.knobs.Number("sigma")};
}

Result<std::unique_ptr<Plan>> MakeAdvancing(const Problem& p) {
  if (p.kv_len >= int64_t{1} << 31)
    return Unsupported("local.advancing has places for 2^31 keys");
  return MakeAdvancingPlan(p, BellOf(p));
}

Cost CostOfAdvancing(const Problem& p) { return AdvancingCost(p, BellOf(p)); }

// A row's place, and the visible key nearest to it.
struct Place {
  double mu;
  int64_t near;
};

std::vector<Place> PlacesOf(const Problem& p, const double* step) {
  const AdvancingBell bell = BellOf(p);
  std::vector<Place> places;
  for (int64_t h = 0; h < p.batch * p.q_heads; ++h) {
    auto kappa = static_cast<double>(oracle::QueryPosition(p, 0) - 1);
    for (int64_t t = 0; t < p.q_len; ++t) {
      const double x = step[h * p.q_len + t];
      const bool fast = x > AdvancingBell::kFastest;
      kappa += std::exp(fast ? AdvancingBell::kFastest : x);
      Place place{bell.offset + kappa, -1};
      const auto apart = [&](int64_t j) {
        return std::abs(static_cast<double>(j) - place.mu);
      };
      for (int64_t j = 0; j < p.kv_len; ++j)
        if (oracle::MaskSees(p, oracle::QueryPosition(p, t), j) &&
            (place.near < 0 || apart(j) < apart(place.near)))
          place.near = j;
      places.push_back(place);
    }
  }
  return places;
}

// Scores are relative to the nearest visible key's, so that none are large but
// those of small weights.
void AdvancingOracle(const Problem& p, const OracleInputs& in,
                     const OracleOutputs& out) {
  const double sigma = p.knobs.Number("sigma"), by = 1 / (2 * sigma * sigma);
  const std::vector<Place> places = PlacesOf(p, in.extra[0]);
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) { return oracle::MaskSees(p, i, j); },
      [&](const oracle::Row& x, int64_t j) {
        const Place& place =
            places[(x.batch * p.q_heads + x.head) * p.q_len + x.row];
        const auto a = static_cast<double>(j - place.near);
        const double lead = 2 * (static_cast<double>(place.near) - place.mu);
        if (a * (a + lead) * by > AdvancingBell::kFar)
          return oracle::Score{-std::numeric_limits<double>::infinity(), 0};
        return oracle::Score{-a * (a + lead) * by,
                             std::abs(a) * (std::abs(a) + std::abs(lead)) * by};
      });
}

}  // namespace

const Variant& local_advancing() {
  static const Variant variant = {
      .name = "local.advancing",
      .title = "a Gaussian of distance from a place that tokens push ahead",
      .source = "Graves 2013, arXiv:1308.0850, equations 46-51",
      .traits = {.window = true, .rotary = false, .scores = false},
      .knobs = {{"offset", "tokens from kappa to the place", 0, -99999, 99999},
                {"sigma", "width, in tokens", 8, 0.25, 1e5, false}},
      .inputs = {{.name = "step",
                  .doc = "x: e^x is how many tokens the place moves on",
                  .value_width = false}},
      .layer = {.reads_q = false, .reads_k = false},
      .cost = CostOfAdvancing,
      .plan = MakeAdvancing,
      .oracle = AdvancingOracle,
  };
  return variant;
}

}  // namespace saccade::variants
