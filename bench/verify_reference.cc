#include "bench/verify_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace saccade::bench {
namespace {

struct Result64 {
  std::vector<double> out, size, lse;
};

Result64 RunOn(const Variant& variant, const Problem& p, const Data& data) {
  const size_t rows = static_cast<size_t>(p.batch * p.q_heads * p.q_len);
  const size_t elements = rows * static_cast<size_t>(p.v_dim);
  Result64 r;
  // Never empty, so that data() is never null.
  r.out.resize(elements + 1);
  r.size.resize(elements + 1);
  if (variant.traits.lse) r.lse.resize(rows + 1);
  RunOracle(variant, p, data.inputs(),
            {.out = r.out.data(),
             .size = r.size.data(),
             .lse = variant.traits.lse ? r.lse.data() : nullptr});
  r.out.resize(elements);
  r.size.resize(elements);
  if (variant.traits.lse) r.lse.resize(rows);
  return r;
}

// An error of the sum of weights is that of a mixture of ones, without gates;
// of weights that do not sum to 1, a sink has the rest.
std::vector<double> LseSize(const Variant& variant, const Problem& p,
                            const Data& data, const std::vector<double>& lse) {
  Data ones = data;
  std::fill(ones.v.begin(), ones.v.end(), 1.0);
  for (size_t n = 0; n < variant.inputs.size(); ++n)
    if (variant.inputs[n].value_width)
      std::fill(ones.extra[n].begin(), ones.extra[n].end(), 1.0);
  const Result64 r = RunOn(variant, p, ones);
  std::vector<double> size(lse.size());
  for (size_t row = 0; row < lse.size(); ++row) {
    size[row] = r.size[row * p.v_dim];
    if (std::isfinite(lse[row]))
      size[row] = std::max(size[row], 1.0) + std::abs(lse[row]);
  }
  return size;
}

// Row j of every head of x [B, heads, len, dim].
template <class F>
void ForHeadRows(std::vector<double>& x, int64_t heads, int64_t len,
                 int64_t dim, int64_t j, F visit) {
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t c = 0; c < dim; ++c) visit(x[(h * len + j) * dim + c]);
}

// Which rows of out change when the keys in `changed` do. Values are made so
// large that the smallest weight shows; keys and queries are turned both ways,
// for a weight may be zero for one of them. What a value may be as large as it
// likes in and is forgotten (a state behind gates), a NaN shows.
class Reach {
 public:
  Reach(const Variant& variant, const Problem& p, const Data& data,
        const std::vector<double>& out)
      : variant_(variant), p_(p), sides_{{data, out}, {data, {}}} {
    for (double& x : sides_[1].data.q) x = -x;
    sides_[1].out = RunOn(variant, p, sides_[1].data).out;
  }

  std::vector<bool> operator()(const std::vector<bool>& changed) const {
    std::vector<bool> reached(p_.batch * p_.q_heads * p_.q_len, false);
    Data spoiled = sides_[0].data;
    for (int64_t j = 0; j < p_.kv_len; ++j)
      if (changed[j])
        ForHeadRows(spoiled.v, p_.batch * p_.kv_heads, p_.kv_len, p_.v_dim, j,
                    [](double& x) { x = NAN; });
    const Result64 spoilt = RunOn(variant_, p_, spoiled);
    for (size_t n = 0; n < spoilt.out.size(); ++n)
      if (std::isnan(spoilt.out[n])) reached[n / p_.v_dim] = true;
    for (const Side& side : sides_)
      // Large ones are among the largest, where those alone count.
      for (const double size : {1.0, -1.0, 1e6, -1e6}) {
        Data other = side.data;
        Rng rng(99);
        for (int64_t j = 0; j < p_.kv_len; ++j) {
          if (!changed[j]) continue;
          const int64_t heads = p_.batch * p_.kv_heads;
          ForHeadRows(other.k, heads, p_.kv_len, p_.qk_dim, j,
                      [&](double& x) { x = size * rng.Normal(); });
          ForHeadRows(other.v, heads, p_.kv_len, p_.v_dim, j,
                      [&](double& x) { x = 1e150 * (1 + rng.Uniform()); });
        }
        const Result64 r = RunOn(variant_, p_, other);
        for (size_t n = 0; n < r.out.size(); ++n)
          if (r.out[n] != side.out[n]) reached[n / p_.v_dim] = true;
      }
    return reached;
  }

 private:
  struct Side {
    Data data;
    std::vector<double> out;
  };

  const Variant& variant_;
  const Problem& p_;
  Side sides_[2];
};

// Chooses hidden keys and learns who sees them.
void Hide(const CheckCase& c, Reference& ref) {
  const Variant& variant = *c.variant;
  const Problem& p = ref.problem;
  const std::vector<bool> all(p.kv_len, true), none(p.kv_len, false);
  const Reach reach(variant, p, ref.data, ref.out);
  const std::vector<bool> sees = reach(all);
  ref.blind.resize(sees.size());
  for (size_t r = 0; r < sees.size(); ++r) ref.blind[r] = !sees[r];
  ref.hidden = none;
  if (c.pass == Pass::kBackward) {
    // A visible NaN spoils every gradient: hide what nobody sees.
    for (int64_t j = 0; j < p.kv_len; ++j) {
      std::vector<bool> one = none;
      one[j] = true;
      const auto rows = reach(one);
      ref.hidden[j] = std::find(rows.begin(), rows.end(), true) == rows.end();
    }
  } else {
    Rng rng(c.seed + 1);
    for (int64_t j = 0; j < p.kv_len; ++j)
      ref.hidden[j] = j + 1 == p.kv_len || rng.Below(8) == 0;
  }
  ref.reached = reach(ref.hidden);
}

// Derivatives of L = sum(dout * out) by central differences. Sequences and key
// heads do not touch each other, so one element of each is moved at a time.
//
// The size of a derivative bounds what an implementation may add up to make it:
// for each output, what the element changes of it and of its size (which holds
// the size of the scores), times the output's gain, size over its terms:
// weights are off by as much before they are multiplied. Where all scores of a
// row are alike, both cancel exactly, for normalised weights do not see what
// scores have in common; Floor() says how large the terms are that do so, in
// the mean.
class Differences {
 public:
  Differences(const CheckCase& c, Reference& ref)
      : variant_(*c.variant), ref_(ref), p_(ref.problem), rng_(c.seed + 2) {}

  // Of tensors 0 .. tensors - 1.
  void Run(int tensors) {
    const double each = static_cast<double>(p_.batch * p_.q_heads * p_.q_len) *
                        static_cast<double>(p_.kv_len) *
                        static_cast<double>(2 * (p_.qk_dim + p_.v_dim) + 40);
    // About 60 ms of oracle, in nanoseconds.
    const int64_t samples = std::max<int64_t>(
        8, static_cast<int64_t>(30e6 / (each * tensors + 1000)));
    FindGains();
    for (int number = 0; number < tensors; ++number) {
      floors_.clear();
      for (int64_t g = 0; g < p_.batch * p_.kv_heads; ++g)
        floors_.push_back(Floor(number, g));
      Sample(number, samples);
    }
    const int64_t learned = std::ssize(ref_.data.bias);
    const int64_t moved = std::clamp<int64_t>(samples, 24, 64);
    for (int64_t n = 0; n < std::min(learned, moved); ++n)
      MoveBias(learned <= moved ? n : rng_.Below(learned));
  }

 private:
  // size over the sum of the terms' absolute values, of each output.
  void FindGains() {
    Data absolute = ref_.data;
    for (double& x : absolute.v) x = std::abs(x);
    for (auto& extra : absolute.extra)
      for (double& x : extra) x = std::abs(x);
    const Result64 r = RunOn(variant_, p_, absolute);
    gains_.resize(r.out.size(), 1.0);
    for (size_t o = 0; o < r.out.size(); ++o)
      if (r.out[o] > 0) gains_[o] = std::max(1.0, r.size[o] / r.out[o]);
  }

  void Sample(int number, int64_t samples) {
    const ExtraShape s = TensorShape(variant_, p_, number);
    const int64_t members = s.heads / p_.kv_heads;  // heads in a group
    const int64_t all = members * s.len * s.dim;
    if (p_.batch == 0) return;
    if (all <= samples) {
      for (int64_t n = 0; n < all; ++n) Move(number, n);
      return;
    }
    for (int64_t n = 0; n < samples; ++n) {
      // Rows where blocks begin and end are looked at more often.
      const int64_t edges[] = {0, s.len - 1, std::min<int64_t>(64, s.len - 1),
                               std::min<int64_t>(127, s.len - 1)};
      const int64_t row = rng_.Below(3) ? rng_.Below(s.len)
                                        : edges[rng_.Below(std::ssize(edges))];
      Move(number,
           (rng_.Below(members) * s.len + row) * s.dim + rng_.Below(s.dim));
    }
  }

  // Element `at` of [members, len, dim] in each group of heads.
  void Move(int number, int64_t at) {
    const ExtraShape s = TensorShape(variant_, p_, number);
    const int64_t groups = p_.batch * p_.kv_heads;
    const int64_t stride = s.heads / p_.kv_heads * s.len * s.dim;
    std::vector<double>& x = TensorOf(ref_.data, number);
    const auto shift = [&](double by) {
      for (int64_t g = 0; g < groups; ++g) x[g * stride + at] += by;
    };
    std::vector<double> kept(groups);
    for (int64_t g = 0; g < groups; ++g) kept[g] = x[g * stride + at];
    shift(kStep);
    const Result64 above = RunOn(variant_, p_, ref_.data);
    shift(-2 * kStep);
    const Result64 below = RunOn(variant_, p_, ref_.data);
    for (int64_t g = 0; g < groups; ++g) x[g * stride + at] = kept[g];
    for (int64_t g = 0; g < groups; ++g)
      Add(number, g * stride + at, g, above, below);
  }

  void Add(int number, int64_t index, int64_t group, const Result64& above,
           const Result64& below) {
    const int64_t block = p_.q_heads / p_.kv_heads * p_.q_len * p_.v_dim;
    double change = 0, size = 0, total = 0;
    for (int64_t o = group * block; o < (group + 1) * block; ++o) {
      const double weight = ref_.data.dout[o];
      const double step = above.out[o] - below.out[o];
      change += weight * step;
      total +=
          std::abs(weight) * std::max(std::abs(above.out[o]), above.size[o]);
      size += std::abs(weight) * gains_[o] *
              (std::abs(step) + std::abs(above.size[o] - ref_.size[o]) +
               std::abs(ref_.size[o] - below.size[o]));
    }
    ref_.derivatives.push_back({number, index, change / (2 * kStep),
                                size / (2 * kStep) + floors_[group],
                                0x1p-53 * total / kStep});
  }

  // Parameter n of a bias: it touches one head of every sequence. Its own floor
  // is what a common part of all scores of a row, which cancels, is worth.
  void MoveBias(int64_t n) {
    const double kept = ref_.data.bias[n];
    ref_.data.bias[n] = kept + kStep;
    const Result64 above = RunOn(variant_, p_, ref_.data);
    ref_.data.bias[n] = kept - kStep;
    const Result64 below = RunOn(variant_, p_, ref_.data);
    ref_.data.bias[n] = kept;
    Reference::Derivative d{kBias, n, 0, 0, 0};
    for (size_t o = 0; o < above.out.size(); ++o) {
      const double weight = ref_.data.dout[o];
      const double step = above.out[o] - below.out[o];
      d.want += weight * step / (2 * kStep);
      d.size += std::abs(weight) * gains_[o] *
                (std::abs(step) + std::abs(above.size[o] - below.size[o])) /
                (2 * kStep);
      if (step != 0) d.size += std::abs(weight) * ref_.size[o];
      d.noise += 0x1p-53 * std::abs(weight * above.out[o]) / kStep;
    }
    ref_.derivatives.push_back(d);
  }

  // What all outputs of a group may be off by, spread over its q or k: a weight
  // depends on them as a whole, by a power (large scores) or exponentially
  // (features of negative numbers). 0 for tensors in which outputs are linear.
  double Floor(int number, int64_t group) const {
    if (number != kQuery && number != kKey) return 0;
    const int64_t groups = p_.batch * p_.kv_heads;
    const std::vector<double>& x = number == kQuery ? ref_.data.q : ref_.data.k;
    double total = 0, length = 0;
    const int64_t outs = std::ssize(ref_.size) / groups;
    for (int64_t o = group * outs; o < (group + 1) * outs; ++o)
      total += std::abs(ref_.data.dout[o]) * ref_.size[o];
    const int64_t elements = std::ssize(x) / groups;
    for (int64_t n = group * elements; n < (group + 1) * elements; ++n)
      length += std::min(std::abs(x[n]), 1.0);
    return length > 0 ? total / length : 0;
  }

  // Truncation is about kStep^2, rounding 1e-16 / kStep.
  static constexpr double kStep = 4e-6;

  const Variant& variant_;
  Reference& ref_;
  const Problem& p_;
  Rng rng_;
  std::vector<double> gains_, floors_;
};

}  // namespace

std::vector<double>& TensorOf(Data& data, int number) {
  if (number == kQuery) return data.q;
  if (number == kKey) return data.k;
  if (number == kValue) return data.v;
  if (number == kBias) return data.bias;
  return data.extra[number - kFirstExtra];
}

ExtraShape TensorShape(const Variant& variant, const Problem& p, int number) {
  if (number == kQuery) return {p.q_heads, p.q_len, p.qk_dim};
  if (number == kKey) return {p.kv_heads, p.kv_len, p.qk_dim};
  if (number == kValue) return {p.kv_heads, p.kv_len, p.v_dim};
  if (number == kBias) return {p.q_heads, 1, LearnedParameters(variant, p)};
  return ShapeOf(variant.inputs[number - kFirstExtra], p);
}

Result<Reference> MakeReference(const CheckCase& c) {
  Problem whole = c.problem;
  if (c.pass == Pass::kDecode) whole.q_len = whole.kv_len;
  Result<Problem> resolved = Resolve(*c.variant, whole);
  if (!resolved.ok()) return resolved.status();
  // A variant may refuse more than its traits say.
  if (auto plan = MakePlan(*c.variant, c.problem); !plan.ok())
    return plan.status();
  Reference ref;
  ref.problem = *resolved;
  ref.data = MakeData(c, ref.problem);
  Result64 r = RunOn(*c.variant, ref.problem, ref.data);
  ref.out = std::move(r.out);
  ref.size = std::move(r.size);
  ref.lse = std::move(r.lse);
  if (c.variant->traits.lse)
    ref.lse_size = LseSize(*c.variant, ref.problem, ref.data, ref.lse);
  if (c.fill == Fill::kHidden) Hide(c, ref);
  if (c.pass == Pass::kBackward)
    AddDerivatives(c, kFirstExtra + static_cast<int>(c.variant->inputs.size()),
                   &ref);
  return ref;
}

Reference ReferenceOn(const Variant& variant, const Problem& problem,
                      Data data) {
  Reference ref;
  ref.problem = problem;
  ref.data = std::move(data);
  Result64 r = RunOn(variant, problem, ref.data);
  ref.out = std::move(r.out);
  ref.size = std::move(r.size);
  return ref;
}

void AddDerivatives(const CheckCase& c, int tensors, Reference* reference) {
  Differences(c, *reference).Run(tensors);
}

Data Poisoned(const Variant& variant, const Reference& ref) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const Problem& p = ref.problem;
  Data data = ref.data;
  const auto spoil = [](double& x) { x = kNan; };
  for (int64_t j = 0; j < p.kv_len; ++j) {
    if (!ref.hidden[j]) continue;
    const int64_t heads = p.batch * p.kv_heads;
    ForHeadRows(data.k, heads, p.kv_len, p.qk_dim, j, spoil);
    ForHeadRows(data.v, heads, p.kv_len, p.v_dim, j, spoil);
    for (size_t n = 0; n < variant.inputs.size(); ++n)
      if (!variant.inputs[n].per_query) {
        const ExtraShape s = ShapeOf(variant.inputs[n], p);
        ForHeadRows(data.extra[n], p.batch * s.heads, s.len, s.dim, j, spoil);
      }
  }
  for (size_t r = 0; r < ref.blind.size(); ++r)
    if (ref.blind[r])
      std::fill_n(data.q.begin() + static_cast<int64_t>(r) * p.qk_dim, p.qk_dim,
                  kNan);
  return data;
}

}  // namespace saccade::bench
