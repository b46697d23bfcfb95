// Effective attention weights: what a variant multiplies values with, found
// without a word about how it does so.
#ifndef SACCADE_BENCH_LENSES_WEIGHTS_H_
#define SACCADE_BENCH_LENSES_WEIGHTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/status.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// a [batch, heads, len, keys]: row i is what query i takes of each value.
/// Lenses look at causal sequences, which have as many keys as queries.
struct Weights {
  Weights() = default;
  Weights(int64_t batch, int64_t heads, int64_t len)
      : Weights(batch, heads, len, len) {}
  Weights(int64_t batch, int64_t heads, int64_t len, int64_t keys)
      : batch(batch),
        heads(heads),
        len(len),
        keys(keys),
        a(batch * heads * len * keys) {}

  std::span<float> Row(int64_t b, int64_t h, int64_t i) {
    return {&a[((b * heads + h) * len + i) * keys], static_cast<size_t>(keys)};
  }
  std::span<const float> Row(int64_t b, int64_t h, int64_t i) const {
    return {&a[((b * heads + h) * len + i) * keys], static_cast<size_t>(keys)};
  }

  int64_t batch = 0, heads = 0, len = 0, keys = 0;
  std::vector<float> a;
};

/// Queries and keys of a causal problem, and the extra inputs that are not as
/// wide as values.
struct Drawn {
  Problem problem;
  std::vector<float> q, k;  // [batch, heads, len, qk_dim]
  std::array<std::vector<float>, kMaxExtras> extras;
  Inputs inputs(const Variant& variant) const;
};

/// Unit normal queries and keys of 8 heads, 64 wide, so that scores have
/// variance 1 where the variant scales them; heads become sequences where a
/// layer of the variant has fewer. With a period, token t has what token
/// t - period had. Extra inputs are as a layer makes them of a normal number.
Drawn DrawInputs(const Spec& spec, int64_t len, int64_t period, uint64_t seed);

/// What a plan made of `variant` for `problem` gives for values v [batch,
/// kv_heads, kv_len, problem.v_dim], contiguous; extra inputs as wide as values
/// are 1: gates stand open. Errors as MakePlan's.
Result<std::vector<float>> RunOn(const Variant& variant, const Problem& problem,
                                 const Inputs& in, const std::vector<float>& v,
                                 Exec& exec);

/// Runs the variant with the identity for values, so that its output's rows are
/// its weights. kUnsupported when the output for random values is not those
/// weights times these values: then the variant is not linear in v, and weights
/// say nothing. Other errors as MakePlan's. The problem's v_dim does not
/// matter, nor do v and inputs as wide.
Result<Weights> WeightsOf(const Variant& variant, const Problem& problem,
                          const Inputs& in, Exec& exec);

/// Of all attention units of a model that reads tokens [batch, len]: heads of
/// later units follow those of earlier ones.
Result<Weights> WeightsOf(const Model& model, std::span<const int32_t> tokens,
                          int64_t batch, Exec& exec);

/// Rows whose readings depend on their place, so that lenses of matrices of any
/// length agree on them: the second half of the first 128 (of all, if fewer).
struct RowRange {
  int64_t begin, end;
};
RowRange LateRows(const Weights& weights);

/// Calls visit(head, i, p) for rows of all sequences and heads, p_0 .. p_i the
/// shares |a_ij| / sum of |a_ij|; rows that see nothing are left out.
void ForRows(const Weights& weights, RowRange rows,
             const std::function<void(int64_t head, int64_t i,
                                      std::span<const double> p)>& visit);

/// The mean of what `read` says to the rows of that range; NaN without rows.
double MeanOverRows(
    const Weights& weights, RowRange rows,
    const std::function<double(int64_t i, std::span<const double> p)>& read);

/// The same for each head; the greatest.
double GreatestOfHeads(
    const Weights& weights, RowRange rows,
    const std::function<double(int64_t i, std::span<const double> p)>& read);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LENSES_WEIGHTS_H_
