// The easy way in, as the README shows it.
#include "saccade/attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

namespace saccade {
namespace {

constexpr int64_t kHeads = 2, kLen = 9, kDim = 8;

Problem Causal() {
  return {.q_heads = kHeads,
          .kv_heads = kHeads,
          .q_len = kLen,
          .kv_len = kLen,
          .qk_dim = kDim,
          .v_dim = kDim,
          .mask = Mask::kCausal};
}

std::vector<float> Ramp(float step) {
  std::vector<float> x(kHeads * kLen * kDim);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = std::sin(step * static_cast<float>(i));
  return x;
}

ConstView Rows(const std::vector<float>& x, int64_t first, int64_t n) {
  ConstView view = Contiguous<const void>(x.data() + first * kDim, DType::kF32,
                                          1, kHeads, n, kDim);
  view.head_stride = kLen * kDim;
  return view;
}

View Rows(std::vector<float>& x, int64_t first, int64_t n) {
  View view = Contiguous<void>(x.data() + first * kDim, DType::kF32, 1, kHeads,
                               n, kDim);
  view.head_stride = kLen * kDim;
  return view;
}

TEST_CASE("an attention chosen by name runs forward, backward and decoding") {
  const std::vector<float> q = Ramp(0.3f), k = Ramp(0.7f), v = Ramp(1.1f);
  const Inputs in{Rows(q, 0, kLen), Rows(k, 0, kLen), Rows(v, 0, kLen)};
  for (const Variant* variant : Variants()) {
    if (!variant->inputs.empty()) continue;  // wants more than q, k, v
    if (!variant->traits.extend) continue;
    CAPTURE(variant->name);
    Result<Attention> attention = Attention::Make(variant->name, Causal());
    REQUIRE(attention.ok());

    std::vector<float> out(q.size());
    const View o = Rows(out, 0, kLen);
    std::vector<float> dq(q.size()), dk(q.size()), dv(q.size());
    const Gradients grad{Rows(dq, 0, kLen), Rows(dk, 0, kLen),
                         Rows(dv, 0, kLen)};
    CHECK(attention->Backward(in, o, o, grad).code() == Code::kInvalid);
    CHECK(attention->Forward(in, {o}, true).ok());
    CHECK(attention->Backward(in, o, o, grad).ok());
    float moved = 0;
    for (const float x : dv) moved += std::abs(x);
    CHECK(moved > 0);

    std::vector<float> decoded(q.size());
    for (int64_t t = 0; t < kLen; ++t)
      CHECK(attention
                ->Extend({Rows(q, t, 1), Rows(k, t, 1), Rows(v, t, 1)},
                         {Rows(decoded, t, 1)})
                .ok());
    for (size_t i = 0; i < out.size(); ++i)
      CHECK(decoded[i] == doctest::Approx(out[i]).epsilon(1e-4));
    CHECK(attention
              ->Extend({Rows(q, 0, 1), Rows(k, 0, 1), Rows(v, 0, 1)},
                       {Rows(decoded, 0, 1)})
              .code() == Code::kExhausted);
    CHECK(attention->Reset().ok());
  }
}

TEST_CASE("a name that is not there is refused with the nearest") {
  const Result<Attention> attention = Attention::Make("softmax.naiv", Causal());
  CHECK(attention.status().code() == Code::kNotFound);
  CHECK(attention.status().message() ==
        "no variant 'softmax.naiv', did you mean softmax.naive?");
}

}  // namespace
}  // namespace saccade
