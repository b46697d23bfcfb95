#include "engine/scan_norm.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/scan_norm.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "engine/scan_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

using NormTag = hn::ScalableTag<float>;
using NormVec = hn::Vec<NormTag>;

// Calls visit(first element, elements) for the vectors of a row.
template <class F>
HWY_INLINE void ForVectors(int64_t n, F visit) {
  constexpr int64_t kLanes = hn::MaxLanes(NormTag());
  for (int64_t i = 0; i < n; i += kLanes) visit(i, std::min(kLanes, n - i));
}

template <class T>
HWY_INLINE NormVec LoadSome(const T* from, int64_t n) {
  const NormTag d;
  return n == hn::MaxLanes(d) ? LoadAs(d, from) : LoadTail(d, from, n);
}

template <class T>
HWY_INLINE void StoreSome(NormVec x, T* to, int64_t n) {
  const NormTag d;
  if (n == hn::MaxLanes(d))
    StoreAs(d, x, to);
  else
    StoreTail(d, x, to, n);
}

// The mean over n elements of of(first, elements), 0 beyond them.
template <class F>
HWY_INLINE NormVec Mean(int64_t n, F of) {
  const NormTag d;
  auto sum = hn::Zero(d);
  ForVectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(m)),
                                          of(i, m)));
  });
  return hn::Div(hn::SumOfLanes(d, sum), hn::Set(d, static_cast<float>(n)));
}

// A row's mean and one over its deviation.
struct Moments {
  Moments(const float* o, int64_t n, float epsilon) {
    const NormTag d;
    mean = Mean(
        n, [&](int64_t i, int64_t m) HWY_ATTR { return LoadSome(o + i, m); });
    const auto variance = Mean(n, [&](int64_t i, int64_t m) HWY_ATTR {
      const auto x = hn::Sub(LoadSome(o + i, m), mean);
      return hn::Mul(x, x);
    });
    factor = hn::Div(hn::Set(d, 1.0f),
                     hn::Sqrt(hn::Add(variance, hn::Set(d, epsilon))));
  }
  HWY_INLINE NormVec Norm(const float* o, int64_t m) const {
    return hn::Mul(hn::Sub(LoadSome(o, m), mean), factor);
  }
  NormVec mean, factor;
};

template <class T>
void NormRow(const float* o, const T* gate, int64_t n, float epsilon, T* out) {
  const Moments moments(o, n, epsilon);
  ForVectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    StoreSome(hn::Mul(moments.Norm(o + i, m), LoadSome(gate + i, m)), out + i,
              m);
  });
}

// With y the normalised row: dy = dout gate, dgate = dout y, and
// do = factor (dy - mean(dy) - y mean(dy y)).
template <class T>
void NormBackRow(const float* o, const T* gate, const T* dout, int64_t n,
                 float epsilon, T* do_, T* dgate) {
  const Moments moments(o, n, epsilon);
  const auto dy = [&](int64_t i, int64_t m) HWY_ATTR {
    return hn::Mul(LoadSome(dout + i, m), LoadSome(gate + i, m));
  };
  const auto mean = Mean(n, dy);
  const auto along = Mean(n, [&](int64_t i, int64_t m) HWY_ATTR {
    return hn::Mul(dy(i, m), moments.Norm(o + i, m));
  });
  ForVectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    const auto y = moments.Norm(o + i, m);
    const auto rest = hn::NegMulAdd(y, along, hn::Sub(dy(i, m), mean));
    StoreSome(hn::Mul(moments.factor, rest), do_ + i, m);
    StoreSome(hn::Mul(LoadSome(dout + i, m), y), dgate + i, m);
  });
}

template <class T>
void NormRows(const NormBackwardCall& call, bool backward, int64_t b, int64_t h,
              int64_t first, int64_t end) {
  const NormCall& f = call.forward;
  for (int64_t t = first; t < end; ++t) {
    const float* const o = f.o.Row<float>(b, h, t);
    const T* const gate = f.gate.Row<T>(b, h, t);
    if (backward)
      NormBackRow(o, gate, call.dout.Row<T>(b, h, t), f.gate.dim, f.epsilon,
                  call.do_.Row<T>(b, h, t), call.dgate.Row<T>(b, h, t));
    else
      NormRow(o, gate, f.gate.dim, f.epsilon, f.out.Row<T>(b, h, t));
  }
}

void AnyNormRows(const NormBackwardCall& call, bool backward, int64_t b,
                 int64_t h, int64_t first, int64_t end) {
  if (call.forward.gate.dtype == DType::kF32)
    NormRows<float>(call, backward, b, h, first, end);
  else
    NormRows<BF16>(call, backward, b, h, first, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {
namespace {

HWY_EXPORT(AnyNormRows);

void ForRowBlocks(const NormBackwardCall& call, bool backward, Exec& exec) {
  constexpr int64_t kRows = 64;
  const ConstView& gate = call.forward.gate;
  const int64_t blocks = (gate.len + kRows - 1) / kRows;
  exec.For(gate.batch * gate.heads * blocks, [&](int64_t task, int) {
    const int64_t head = task / blocks, first = task % blocks * kRows;
    HWY_DYNAMIC_DISPATCH(AnyNormRows)
    (call, backward, head / gate.heads, head % gate.heads, first,
     std::min(first + kRows, gate.len));
  });
}

}  // namespace

void NormForward(const NormCall& call, Exec& exec) {
  ForRowBlocks({.forward = call, .dout = {}, .do_ = {}, .dgate = {}}, false,
               exec);
}

void NormBackward(const NormBackwardCall& call, Exec& exec) {
  ForRowBlocks(call, true, exec);
}

}  // namespace saccade
#endif  // HWY_ONCE
