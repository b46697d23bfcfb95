// Views of tensors [B, H, T, D]: batch, heads, tokens, width.
#ifndef SACCADE_TENSOR_H_
#define SACCADE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace saccade {

/// How elements are stored. Arithmetic, sums and states are f32 in either case.
enum class DType : uint8_t { kF32, kBF16 };

constexpr int64_t SizeOf(DType t) { return t == DType::kF32 ? 4 : 2; }
constexpr const char* NameOf(DType t) {
  return t == DType::kF32 ? "f32" : "bf16";
}

/// The upper half of a float's bits. Conversions are in simd/bf16.h.
struct BF16 {
  uint16_t bits;
};

/// A caller's memory. Aligned to 64 bytes where a function asks for it.
using Bytes = std::span<std::byte>;

/// A strided view of [batch, heads, len, dim]. Strides are in elements; the
/// innermost is 1. Rows need no more alignment than their elements. A view of
/// no elements may have null data.
template <class Void>
struct BasicView {
  Void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t batch = 0, heads = 0, len = 0, dim = 0;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;

  /// Row t of head h of sequence b. T must match dtype: float or BF16.
  template <class T>
  auto* Row(int64_t b, int64_t h, int64_t t) const {
    using Out = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return static_cast<Out*>(data) + b * batch_stride + h * head_stride +
           t * row_stride;
  }

  int64_t elements() const { return batch * heads * len * dim; }

  /// The same view, to read only.
  operator BasicView<const void>() const requires(!std::is_const_v<Void>) {
    return {data, dtype,        batch,       heads,     len,
            dim,  batch_stride, head_stride, row_stride};
  }
};

using View = BasicView<void>;
using ConstView = BasicView<const void>;

/// A view of contiguous [batch, heads, len, dim].
template <class Void>
BasicView<Void> Contiguous(Void* data, DType dtype, int64_t batch,
                           int64_t heads, int64_t len, int64_t dim) {
  return {data,      dtype, batch, heads, len, dim, heads * len * dim,
          len * dim, dim};
}

/// A view of [batch, len, heads, dim], the layout most model code keeps.
template <class Void>
BasicView<Void> TokenMajor(Void* data, DType dtype, int64_t batch,
                           int64_t heads, int64_t len, int64_t dim) {
  return {data, dtype,      batch, heads, len, dim, heads * len * dim,
          dim,  heads * dim};
}

/// How a mask's elements are stored: a byte, not 0 where a query attends; or a
/// number that is added to a score.
enum class MaskElement : uint8_t { kBool, kF32, kBF16 };

constexpr int64_t SizeOf(MaskElement e) {
  return e == MaskElement::kBool ? 1 : e == MaskElement::kF32 ? 4 : 2;
}

/// A caller's mask of pairs [batch, heads, q_len, kv_len], heads those of
/// queries. A size of 1 stands for all of that dimension, as does a stride of
/// 0; strides are in elements. Added numbers below -1e30 hide as -infinity
/// does; NaN and +infinity spoil the row that sees them.
struct MaskView {
  const void* data = nullptr;
  MaskElement element = MaskElement::kBool;
  int64_t batch = 0, heads = 0, q_len = 0, kv_len = 0;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0, key_stride = 1;
};

/// A mask of contiguous [batch, heads, q_len, kv_len].
inline MaskView ContiguousMask(const void* data, MaskElement element,
                               int64_t batch, int64_t heads, int64_t q_len,
                               int64_t kv_len) {
  return {data,
          element,
          batch,
          heads,
          q_len,
          kv_len,
          heads * q_len * kv_len,
          q_len * kv_len,
          kv_len,
          1};
}

}  // namespace saccade

#endif  // SACCADE_TENSOR_H_
