#include "engine/projection.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/projection.cc"
#include <hwy/foreach_target.h>
// After foreach_target:
#include <hwy/highway.h>

#include <algorithm>

#include "engine/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

int64_t ProjectionLanes() { return kProductLanes; }

void ProjectionMultiply(int64_t rows, int64_t inner, int64_t columns,
                        const projection::Left &a, const float *b,
                        int64_t b_stride, bool add, float *c,
                        int64_t c_stride) {
  constexpr int64_t kInner = 128;
  int64_t first = 0;
  do {
    const int64_t n = std::min(kInner, inner - first);
    Product(rows, n, columns, {a.at + first * a.column, a.row, a.column},
            b + first * b_stride, b_stride, c, c_stride,
            add || first > 0 ? Into::kAdd : Into::kSet);
    first += kInner;
  } while (first < inner);
}

void ProjectionTranspose(const float *from, int64_t stride, int64_t rows,
                         int64_t columns, float *to, int64_t to_stride) {
  TransposeRows(from, stride, rows, columns, to, to_stride);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::projection {
namespace {
HWY_EXPORT(ProjectionLanes);
HWY_EXPORT(ProjectionMultiply);
HWY_EXPORT(ProjectionTranspose);
}  // namespace

int64_t Lanes() { return HWY_DYNAMIC_DISPATCH(ProjectionLanes)(); }
void Multiply(int64_t rows, int64_t inner, int64_t columns, const Left &a,
              const float *b, int64_t b_stride, bool add, float *c,
              int64_t c_stride) {
  HWY_DYNAMIC_DISPATCH(ProjectionMultiply)
  (rows, inner, columns, a, b, b_stride, add, c, c_stride);
}
void Transpose(const float *from, int64_t stride, int64_t rows, int64_t columns,
               float *to, int64_t to_stride) {
  HWY_DYNAMIC_DISPATCH(ProjectionTranspose)
  (from, stride, rows, columns, to, to_stride);
}

}  // namespace saccade::projection
#endif  // HWY_ONCE
