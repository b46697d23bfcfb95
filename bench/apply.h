// One variant run once on a caller's arrays.
#ifndef SACCADE_BENCH_APPLY_H_
#define SACCADE_BENCH_APPLY_H_

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/npy.h"
#include "saccade/problem.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade::bench {

/// An array, and the file that messages call it by.
struct NamedArray {
  std::string file;
  NpyArray array;
};

/// Arrays are [T, D], [H, T, D] or [B, H, T, D], all of one rank: what is
/// missing is 1. k and v may have fewer heads than q, and another length.
struct ApplyRequest {
  std::string spec;
  Mask mask = Mask::kNone;
  float scale = 0;    // 0: the variant's own
  float softcap = 0;  // 0: none
  /// How tensors are stored where they are computed on; without, bf16 where q,
  /// k and v are, else f32.
  std::optional<DType> dtype = {};
  int threads = 0;  // 0: all cores
  NamedArray q, k, v;
  std::map<std::string, NamedArray> inputs = {};  // the variant's others
  /// Of pairs [Tq, Tk], [H, Tq, Tk] or [B, H, Tq, Tk], any size 1 for all:
  /// booleans, true where a query attends, or numbers that are added to scores.
  std::optional<NamedArray> attn_mask = {};
  std::optional<NamedArray> dout = {};  // gradients are wanted
  bool lse = false, weights = false;    // they are wanted as well
};

struct Applied {
  NpyArray out;                     // [.., T, v_dim], of q's type
  std::optional<NpyArray> lse;      // [.., T], f32, or f64 where q is
  std::optional<NpyArray> weights;  // [.., Tq, Tk], likewise
  /// Of sum(dout * out): "dq", "dk", "dv", and "d" with each other input's
  /// name, of that input's shape and type.
  std::vector<std::pair<std::string, NpyArray>> gradients;
  std::string ran;  // see Plan::Describe
};

/// Effective weights are the outputs for values that are the identity; inputs
/// as wide as values (gates) count as 1. kInvalid names two arrays that do not
/// fit each other, with their shapes; kExhausted where memory is wanting; else
/// as MakePlan and WeightsOf.
Result<Applied> Apply(ApplyRequest request);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_APPLY_H_
