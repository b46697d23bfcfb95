// What a case must come to, by the variant's float64 oracle alone.
#ifndef SACCADE_BENCH_VERIFY_REFERENCE_H_
#define SACCADE_BENCH_VERIFY_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_data.h"

namespace saccade::bench {

/// Tensors that have gradients, by number: q, k, v, the extras; and the
/// parameters of a bias.
constexpr int kQuery = 0, kKey = 1, kValue = 2, kFirstExtra = 3,
              kBias = kFirstExtra + kMaxExtras;

struct Reference {
  Problem problem;  // resolved; of the whole sequence for Pass::kDecode
  Data data;

  std::vector<double> out, size;
  /// When the variant writes it: the log-sum-exp of each row, and the bound of
  /// its error in units of u.
  std::vector<double> lse, lse_size;

  /// For Fill::kHidden: which keys hold NaN in a second run, in every sequence
  /// and head; which rows of queries [B, Hq, Tq] see one of them; and which see
  /// no key at all, whose queries hold NaN too.
  std::vector<bool> hidden, reached, blind;

  /// For Pass::kBackward: derivatives of sum(dout * out) by some elements.
  struct Derivative {
    int tensor;
    int64_t index;  // in [B, H, T, D] order
    double want, size;
    double noise;  // below which a difference of float64 sees nothing
  };
  std::vector<Derivative> derivatives;
};

/// kInvalid or kUnsupported where the variant refuses the problem.
Result<Reference> MakeReference(const CheckCase& c);

/// What the oracle says to a resolved problem and data: out and size only.
Reference ReferenceOn(const Variant& variant, const Problem& problem,
                      Data data);

/// Adds derivatives by tensors 0 .. tensors - 1 to a reference of a case of
/// that variant and seed.
void AddDerivatives(const CheckCase& c, int tensors, Reference* reference);

/// The data with NaN where Reference::hidden and blind say.
Data Poisoned(const Variant& variant, const Reference& reference);

/// The values of tensor `number`.
std::vector<double>& TensorOf(Data& data, int number);

/// Its heads, length and width. kBias is the same for all sequences.
ExtraShape TensorShape(const Variant& variant, const Problem& problem,
                       int number);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERIFY_REFERENCE_H_
