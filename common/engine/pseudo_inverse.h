// Small matrices in double: products, and the iteration of Nystrom attention to
// a pseudo-inverse, with its gradient.
#ifndef SACCADE_COMMON_ENGINE_PSEUDO_INVERSE_H_
#define SACCADE_COMMON_ENGINE_PSEUDO_INVERSE_H_

#include <cstdint>
#include <utility>

#include "arena.h"

namespace saccade {

/// Rows of matrices of doubles are padded to multiples of this.
constexpr int64_t kDoublePad = 8;
constexpr int64_t PadDoubles(int64_t n) {
  return (n + kDoublePad - 1) / kDoublePad * kDoublePad;
}

/// Elements (i, p) of a left factor; with the strides swapped, its transpose.
struct DoubleFactor {
  const double *at;
  int64_t row, column;
  DoubleFactor Transposed() const { return {at, column, row}; }
};

/// c [rows, columns] = factor a b (+ c when `add`), a [rows, inner],
/// b [inner, columns]; columns a multiple of kDoublePad.
void DoubleProduct(int64_t rows, int64_t inner, int64_t columns,
                   const DoubleFactor &a, const double *b, int64_t b_stride,
                   double factor, bool add, double *c, int64_t c_stride);

/// to [columns, rows] = from^T, what stands behind rows is 0.
void TransposeDoubles(int64_t rows, int64_t columns, const double *from,
                      int64_t from_stride, double *to, int64_t to_stride);

/// Z of a [n, n], after so many steps, all of them kept:
///   Z_0 = a^T / (largest column sum of |a|),
///   Z <- Z (13 - a Z (15 - a Z (7 - a Z))) / 4
/// (Razavi et al. 2014, as Xiong et al. 2021, arXiv:2102.03902, section 4.2,
/// have it.) The largest sum of a row, by which Z_0 is divided, too, must be 1.
/// a >= 0.
class PseudoInverse {
 public:
  PseudoInverse(Arena &arena, int64_t n, int64_t steps);

  int64_t stride() const { return stride_; }
  /// To be filled, [n][stride], zeros behind n.
  double *a() const { return a_; }
  /// After Run.
  const double *z() const { return z_ + steps_ * size_; }

  void Run() const;
  /// da() by dz, which is overwritten.
  void Backward(double *dz) const;
  const double *da() const { return da_; }

 private:
  const double *Z(int64_t step) const { return z_ + step * size_; }
  int64_t MostColumn(double *sum) const;
  void Factors(const double *z) const;
  void Multiply(const DoubleFactor &a, const double *b, double factor, bool add,
                double *c) const;
  DoubleFactor Left(const double *a) const { return {a, stride_, 1}; }
  void BackStep(int64_t step, double *dz) const;

  int64_t n_, steps_, stride_, size_;
  double *a_, *z_;
  double *az_, *t1_, *t2_, *t3_;  // a Z, 7 - a Z, 15 - a Z t1, 13 - a Z t2
  double *da_, *daz_, *dt_, *turned_, *next_;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_PSEUDO_INVERSE_H_
