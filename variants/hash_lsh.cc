// hash.lsh: softmax attention to tokens that a random hash puts together, the
// Reformer's.
//
//   o_i = sum_r sum_(j in N_r(i)) e^(s_ij - lse_i) v_j
//   s_ij = scale q_i.k_j,  k_j = q_j / |q_j|
//   b_r(x) = argmax [x R_r; -x R_r],  R_r [d, buckets / 2] random, normal
//
// lse_i the logarithm of the sum of e^s over all rounds r. The tokens of a
// bucket, in order of position, are cut into chunks; N_r(i) is i's own chunk
// and the one before. A token does not see itself, unless no round shows it any
// other: then o_i = v_i. A key that several rounds show counts once in each.
//
// Knobs: buckets, an even number; rounds; chunk, in tokens; seed of R.
//
// Source: Kitaev et al. 2020, arXiv:2001.04451, section 2.
//
// Ours differs: Reformer cuts the sequence of all sorted tokens into chunks,
// which then hold ends of several buckets, so that a later token moves borders
// between earlier ones, and who sees whom depends on the future. Here chunks
// are a bucket's own, counted from its first token, which later ones do not
// change: causality is exact. All heads share R. Buckets are found in double,
// as a bucket is a jump that no rounding may decide.
//
// No Extend: a state would hold the last two chunks of each bucket and round,
// and is not there yet. Queries are the keys: q and k are as long, k is not
// read, and positions do not turn q.
//
// Shapes: q [B, H, N, d], v [B, H, N, e]. Time N rounds (2 chunk (d + e) +
// d buckets / 2) a head at most, a pair of heads' memory N (d + e).
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/lsh.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

LshSpec SpecOf(const Problem &p) {
  return {.buckets = p.knobs.Int("buckets"),
          .rounds = p.knobs.Int("rounds"),
          .chunk = p.knobs.Int("chunk"),
          .seed = static_cast<uint64_t>(p.knobs.Int("seed"))};
}

Result<std::unique_ptr<Plan>> MakeLsh(const Problem &p) {
  const LshSpec spec = SpecOf(p);
  if (spec.buckets % 2 != 0)
    return Invalid("hash.lsh: buckets is " + std::to_string(spec.buckets) +
                   ", must be even: directions and their opposites");
  return MakeLshPlan(p, spec);
}

// Where buckets are of one size; sorting is not counted.
Cost LshCost(const Problem &p) {
  const LshSpec spec = SpecOf(p);
  const auto d = static_cast<double>(p.qk_dim),
             e = static_cast<double>(p.v_dim);
  const auto rows = static_cast<double>(p.batch * p.q_heads * p.q_len);
  const int64_t size =
      std::max<int64_t>(1, (p.q_len + spec.buckets / 2) / spec.buckets);
  double seen = 0;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t first =
        std::max<int64_t>(0, (i / spec.chunk - 1)) * spec.chunk;
    const int64_t end = p.mask == Mask::kNone
                            ? std::min(size, (i / spec.chunk + 1) * spec.chunk)
                            : i + 1;
    seen += static_cast<double>(end - first - 1);
  }
  const double pairs = rows * static_cast<double>(spec.rounds) * seen /
                       static_cast<double>(size);
  Cost cost;
  cost.forward_flops = 2 * pairs * (d + e) +
                       2 * rows * d * static_cast<double>(spec.Directions());
  cost.backward_flops = 2 * pairs * (3 * d + 2 * e);
  cost.forward_bytes =
      static_cast<double>(SizeOf(p.dtype)) * rows * (d + 2 * e);
  return cost;
}

// Directions cost more to draw than small cases to sum up: each thread keeps
// the last ones, which depend on nothing but these numbers.
const std::vector<double> &CachedDirections(const LshSpec &spec,
                                            int64_t width) {
  struct Last {
    int64_t count = 0, width = 0;
    uint64_t seed = 0;
    std::vector<double> directions;
  };
  thread_local Last last;
  if (last.count != spec.Directions() || last.width != width ||
      last.seed != spec.seed)
    last = {spec.Directions(), width, spec.seed, LshDirections(spec, width)};
  return last.directions;
}

// The bucket of row x in each round.
std::vector<int64_t> BucketsOf(const LshSpec &spec,
                               const std::vector<double> &directions,
                               const double *x, int64_t width) {
  const int64_t half = spec.buckets / 2;
  std::vector<double> y(static_cast<size_t>(spec.Directions()), 0);
  for (int64_t c = 0; c < width; ++c)
    for (int64_t n = 0; n < spec.Directions(); ++n)
      y[n] += x[c] * directions[c * spec.Directions() + n];
  std::vector<int64_t> buckets;
  for (int64_t r = 0; r < spec.rounds; ++r) {
    const double *const own = y.data() + r * half;
    std::vector<double> both(own, own + half);
    for (int64_t n = 0; n < half; ++n) both.push_back(-own[n]);
    buckets.push_back(std::max_element(both.begin(), both.end()) -
                      both.begin());
  }
  return buckets;
}

// Keys that row i sees in a round, of `same`, the tokens of its bucket.
std::vector<int64_t> Seen(const Problem &p, const std::vector<int64_t> &same,
                          int64_t i, int64_t chunk) {
  const int64_t place =
      std::lower_bound(same.begin(), same.end(), i) - same.begin();
  const int64_t first = std::max<int64_t>(0, place / chunk - 1) * chunk;
  const int64_t end =
      std::min<int64_t>(std::ssize(same), (place / chunk + 1) * chunk);
  std::vector<int64_t> seen;
  for (int64_t n = first; n < end; ++n)
    if (same[n] != i && oracle::MaskSees(p, i, same[n]))
      seen.push_back(same[n]);
  return seen;
}

// Beside the products of a score its key's length is rounded, and each round's
// part is put to those before.
void LshOracle(const Problem &p, const OracleInputs &in,
               const OracleOutputs &out) {
  const LshSpec spec = SpecOf(p);
  const std::vector<double> &directions = CachedDirections(spec, p.qk_dim);
  const int64_t n = p.q_len, d = p.qk_dim;
  // [heads, rounds, bucket]: its tokens.
  std::vector<std::vector<int64_t>> same(
      static_cast<size_t>(p.batch * p.q_heads * spec.rounds * spec.buckets));
  std::vector<std::vector<int64_t>> buckets;
  for (int64_t row = 0; row < p.batch * p.q_heads * n; ++row) {
    buckets.push_back(BucketsOf(spec, directions, in.q + row * d, d));
    for (int64_t r = 0; r < spec.rounds; ++r)
      same[(row / n * spec.rounds + r) * spec.buckets + buckets[row][r]]
          .push_back(row % n);
  }
  oracle::ForRows(p, in, out, [&](const oracle::Row &x) {
    const int64_t head = x.batch * p.q_heads + x.head;
    std::vector<std::pair<int64_t, oracle::Score>> keys;
    for (int64_t r = 0; r < spec.rounds; ++r)
      for (const int64_t j : Seen(p,
                                  same[(head * spec.rounds + r) * spec.buckets +
                                       buckets[head * n + x.row][r]],
                                  x.i, spec.chunk)) {
        const double *const other = in.q + (head * n + j) * d;
        double square = 0;
        for (int64_t c = 0; c < d; ++c) square += other[c] * other[c];
        const double length = square > 0 ? std::sqrt(square) : 1;
        const oracle::Score dot = oracle::DotScore(p, x.q, other);
        keys.push_back({j, {dot.value / length, 2 * dot.size / length}});
      }
    if (keys.empty()) keys.push_back({x.i, {0, 0}});
    double top = -INFINITY, sum = 0, mean = 0;
    for (const auto &[j, s] : keys)
      if (!(s.value <= top)) top = s.value;
    for (const auto &[j, s] : keys) {
      sum += std::exp(s.value - top);
      mean += std::exp(s.value - top) * s.size;
    }
    for (const auto &[j, s] : keys)
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double term =
            std::exp(s.value - top) / sum * x.v[j * p.v_dim + c];
        x.out[c] += term;
        x.size[c] +=
            std::abs(term) *
            (1 + static_cast<double>(spec.rounds) / 4 + s.size + mean / sum);
      }
  });
}

}  // namespace

const Variant &hash_lsh() {
  static const Variant variant = {
      .name = "hash.lsh",
      .title = "Reformer: softmax attention to tokens of the same hash",
      .source = "Kitaev et al. 2020, arXiv:2001.04451, section 2",
      .traits = {.cross = false,
                 .grouped_heads = false,
                 .rotary = false,
                 .scores = false,
                 .extend = false},
      .knobs = {{"buckets", "of a round, even", 16, 2, 1024},
                {"rounds", "of hashing", 4, 1, 8},
                {"chunk", "tokens of a chunk", 64, 16, 1024},
                {"seed", "of the random directions", 1, 0, 1e9}},
      .layer = {.reads_k = false},
      .cost = LshCost,
      .plan = MakeLsh,
      .oracle = LshOracle,
  };
  return variant;
}

}  // namespace saccade::variants
