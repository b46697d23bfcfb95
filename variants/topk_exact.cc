// topk.exact: softmax attention to the keys with the largest scores.
//
//   o_i = sum_j softmax_j(s_ij) v_j over the K keys j with the largest s_ij
//   s_ij = scale q_i.k_j, of equal ones the first
//
// Knob: keys K, of those that a query sees.
//
// Source: Zhao et al. 2019, arXiv:1912.11637, section 3 (explicit sparse
// attention). Gradients pass through the keys that were kept alone, as there.
//
// Ours differs in that exactly K are kept where scores are equal; the authors'
// code keeps all that are equal to the K-th.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq Tk d a head for the scores, a selection, and Tq K (2 d + 3 e) backward,
// which reads the 2 Tq K numbers a head that forward saves.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/pattern.h"
#include "engine/topk.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

int64_t KeysOf(const Problem& p) {
  return static_cast<int64_t>(p.knobs.Number("keys"));
}

Result<std::unique_ptr<Plan>> MakeTopK(const Problem& p) {
  return MakeTopKPlan(p, KeysOf(p));
}

// Scores of all pairs; the rest of K keys a row.
Cost TopKCost(const Problem& p) {
  const auto d = static_cast<double>(p.qk_dim),
             e = static_cast<double>(p.v_dim);
  const auto rows = static_cast<double>(p.batch * p.q_heads * p.q_len);
  const double pairs =
      static_cast<double>(p.batch * p.q_heads) *
      VisiblePairs({MaskPart(p)}, QueryOffset(p), p.q_len, p.kv_len);
  const double kept = std::min(pairs, rows * static_cast<double>(KeysOf(p)));
  const auto heads = static_cast<double>(p.batch * p.q_heads);
  const auto keys = static_cast<double>(p.kv_len);
  const double element = static_cast<double>(SizeOf(p.dtype));
  const double held =
      static_cast<double>(p.batch * p.kv_heads) * keys * element;
  const double last = std::min(keys, static_cast<double>(KeysOf(p)));
  Cost cost;
  cost.forward_flops = 2 * pairs * d + 2 * kept * e;
  cost.backward_flops = kept * (4 * d + 4 * e);
  cost.forward_bytes = rows * (d + e) * element + held * (d + e);
  cost.decode_flops = heads * (2 * keys * d + 2 * last * e);
  cost.decode_bytes = held * d + heads * last * e * element;
  return cost;
}

// size: as softmax's over the keys that are kept. Where a score that is kept
// and one that is not are as near as rounding brings them, either may be: then
// the output is off by as much as the one's share of both values.
void TopKOracle(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out) {
  constexpr double kUnit = 0x1p-24;
  // Turned queries and keys are kept in the storage type.
  const bool turned = p.dtype == DType::kBF16 && !p.positions.empty();
  const double near = turned ? 0x1p-6 : 16 * kUnit;
  const auto most = static_cast<size_t>(KeysOf(p));
  std::vector<oracle::Score> all(p.kv_len);
  std::vector<int64_t> order, kept;
  std::vector<bool> chosen(p.kv_len);
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    order.clear();
    for (int64_t j = 0; j < p.kv_len; ++j) {
      if (!oracle::MaskSees(p, x.i, j)) continue;
      all[j] = oracle::DotScore(p, x.q, x.k + j * p.qk_dim);
      order.push_back(j);
    }
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return all[a].value > all[b].value;
    });
    const size_t n = std::min(most, order.size());
    double top = n > 0 ? all[order[0]].value : 0, sum = 0, mean = 0;
    for (size_t e = 0; e < n; ++e) {
      const double w = std::exp(all[order[e]].value - top);
      sum += w;
      mean += w * all[order[e]].size;
    }
    for (size_t e = 0; e < n; ++e) {
      const int64_t j = order[e];
      const double weight = std::exp(all[j].value - top) / sum;
      for (int64_t c = 0; c < p.v_dim; ++c) {
        const double term = weight * x.v[j * p.v_dim + c];
        x.out[c] += term;
        x.size[c] += std::abs(term) * (1 + all[j].size + mean / sum);
      }
      for (size_t f = n; f < order.size(); ++f) {
        const int64_t other = order[f];
        const double apart = all[j].value - all[other].value;
        if (!(apart < near * (all[j].size + all[other].size))) break;
        for (int64_t c = 0; c < p.v_dim; ++c)
          x.size[c] += weight / kUnit *
                       (std::abs(x.v[j * p.v_dim + c]) +
                        std::abs(x.v[other * p.v_dim + c]));
      }
    }
  });
}

}  // namespace

const Variant& topk_exact() {
  static const Variant variant = {
      .name = "topk.exact",
      .title = "softmax attention to the keys with the largest scores",
      .source = "Zhao et al. 2019, arXiv:1912.11637, section 3",
      .traits = {.bias = false},
      .knobs = {{.name = "keys",
                 .doc = "keys a query keeps",
                 .initial = 64,
                 .low = 1,
                 .high = 65536,
                 .integer = true}},
      .cost = TopKCost,
      .plan = MakeTopK,
      .oracle = TopKOracle,
  };
  return variant;
}

}  // namespace saccade::variants
