// local.gaussian: weights that fall off with the distance from a place.
//
//   o_i = sum_j w_ij v_j / sum_j w_ij,
//   w_ij = exp(-(j - mu_i)^2 / (2 sigma^2)),   mu_i = i + offset
//
// over visible keys within `reach` sigmas of mu_i. No content: q and k are not
// read, and their gradients are 0.
//
// Knobs: offset, in tokens, of the place from the query; sigma, in tokens;
// reach, in sigmas.
//
// Source: Graves 2013, arXiv:1308.0850, equations 46-49, the window of the
// handwriting network, with one component that stands still beside its query;
// You et al. 2020, arXiv:2005.00742, equation 3, for translation.
//
// Ours differs: weights are normalised over what is visible (Graves's are not),
// and what is beyond the reach counts for nothing: at 6 sigmas, 2e-9 of the
// whole. A row whose reach holds no visible key is 0. Graves's step, which a
// network learns and which advances mu_i, is local.advancing's.
//
// Shapes: v [B, Hkv, Tk, e]. Time Tq W e a head, W = 2 reach sigma + 1 or what
// the mask leaves; decoding holds as many values.
#include <cmath>
#include <memory>

#include "content_free.h"
#include "distance_bias.h"
#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

class Bell final : public DistanceBias {
 public:
  Bell(double offset, double sigma) : offset_(offset), sigma_(sigma) {}
  void Fill(int64_t, const float*, const Distances& at,
            float* to) const override {
    for (int64_t n = 0; n < at.count; ++n) {
      const double apart = (static_cast<double>(at[n]) + offset_) / sigma_;
      to[n] = static_cast<float>(-apart * apart / 2);
    }
  }

 private:
  double offset_, sigma_;
};

constexpr int64_t kNowhere = int64_t{1} << 41;

// How far from mu_i a key is looked at.
int64_t Reach(const Problem& p) {
  return static_cast<int64_t>(p.knobs.Number("reach") *
                              p.knobs.Number("sigma"));
}

TileSpec GaussianSpec(const Problem& p) {
  const int64_t offset = p.knobs.Int("offset"), reach = Reach(p);
  TileSpec spec = ContentFreeSpec(p);
  spec.bias = std::make_shared<Bell>(static_cast<double>(offset),
                                     p.knobs.Number("sigma"));
  Part& part = spec.pattern.front();
  part.low = std::max(part.low, -offset - reach);
  part.high = std::min(part.high, -offset + reach);
  // The mask leaves nothing: so does a distance that is nowhere.
  if (part.low > part.high) part.low = part.high = kNowhere;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeGaussian(const Problem& p) {
  return MakeContentFreePlan(p, GaussianSpec(p));
}

Cost GaussianCost(const Problem& p) {
  return ContentFreeCost(p, GaussianSpec(p));
}

void GaussianOracle(const Problem& p, const OracleInputs& in,
                    const OracleOutputs& out) {
  const auto offset = p.knobs.Number("offset");
  const double sigma = p.knobs.Number("sigma");
  const auto reach = static_cast<double>(Reach(p));
  const auto apart = [&](int64_t i, int64_t j) {
    return static_cast<double>(j - i) - offset;
  };
  oracle::Softmax(
      p, in, out,
      [&](int64_t i, int64_t j) {
        return oracle::MaskSees(p, i, j) && std::abs(apart(i, j)) <= reach;
      },
      [&](const oracle::Row& x, int64_t j) {
        const double s = -std::pow(apart(x.i, j) / sigma, 2) / 2;
        return oracle::Score{s, -s};
      });
}

}  // namespace

const Variant& local_gaussian() {
  static const Variant variant = {
      .name = "local.gaussian",
      .title = "weights that fall off as a Gaussian of distance: no content",
      .source =
          "Graves 2013, arXiv:1308.0850, equations 46-49; You et al. 2020, "
          "arXiv:2005.00742, equation 3",
      .traits = {.window = true,
                 .rotary = false,
                 .scores = false,
                 .rounds_weights = true},
      .knobs = {{"offset", "tokens from query to the place", 0, -99999, 99999},
                {"sigma", "width, in tokens", 8, 0.25, 1e5, false},
                {"reach", "how far keys are looked at, in sigmas", 6, 1, 12,
                 false}},
      .layer = {.reads_q = false, .reads_k = false},
      .cost = GaussianCost,
      .plan = MakeGaussian,
      .oracle = GaussianOracle,
  };
  return variant;
}

}  // namespace saccade::variants
