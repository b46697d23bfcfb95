// Positions that are added to scores: functions of the head and of how far the
// key lies behind the query.
#ifndef SACCADE_COMMON_DISTANCE_BIAS_H_
#define SACCADE_COMMON_DISTANCE_BIAS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "saccade/plan.h"
#include "saccade/problem.h"

namespace saccade {

/// Evenly spaced distances i - j: first, first + step, ... The engines ask for
/// some beyond those of a problem, whose values nobody reads.
struct Distances {
  int64_t first = 0, step = 1, count = 0;
  int64_t operator[](int64_t n) const { return first + step * n; }
};

/// A bias: what it is at a distance, and what its learned parameters are to it.
class DistanceBias {
 public:
  virtual ~DistanceBias() = default;

  /// Learned numbers a head; 0: the bias is fixed.
  virtual int64_t parameters() const { return 0; }
  /// A head's before any training.
  virtual void Start(int64_t head, float* parameters) const {
    (void)head, (void)parameters;
  }

  /// to[n] = the bias at distance at[n].
  virtual void Fill(int64_t head, const float* parameters, const Distances& at,
                    float* to) const = 0;

  /// Adds to d_parameters what d_bias[n], the derivative of a loss by the bias
  /// at distance at[n], makes of the derivatives by the parameters.
  virtual void AddGradient(const float* parameters, const Distances& at,
                           const float* d_bias, double* d_parameters) const {
    (void)parameters, (void)at, (void)d_bias, (void)d_parameters;
  }
};

/// The bias of a resolved problem, or null.
///   alibi     -m_h |i - j|, slopes as AlibiSlopes
///   t5        b_h[T5Bucket(i - j)], all learned, 0 to start with
///   kerple    -p_h ln(1 + a_h |i - j|); learned: ln p_h, ln a_h
///   sandwich  sum over m < width/2 of cos((i - j) 10000^(-2m/width)), over
///             8 (h + 1) / heads
std::shared_ptr<const DistanceBias> MakeDistanceBias(const Problem& problem);

/// Its parameters before training, [heads][n]; empty when it has none.
std::vector<float> BiasStart(const Problem& problem);

/// The slopes of ALiBi that a caller gives as Inputs::bias, [B, Hq, 1, 1], one
/// sequence's repeated for all by a stride of 0; null data where the problem's
/// bias is another, or they are AlibiSlopes.
ConstView SlopesOf(const Problem& problem, const Inputs& in);

/// The bucket of distance i - j. Causal (distances < 0 count as 0): the first
/// half of the buckets are one distance each, the others grow as its logarithm
/// up to `most`, from which on all is in the last. Both ways: so for each half
/// of the buckets, keys ahead in the second. Raffel et al. 2020,
/// arXiv:1910.10683, section 2.1, and the authors' code.
int64_t T5Bucket(int64_t distance, int64_t buckets, int64_t most, bool causal);

}  // namespace saccade

#endif  // SACCADE_COMMON_DISTANCE_BIAS_H_
