// What saccade/familiar.h refuses, and slopes of the caller's elsewhere.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "saccade/familiar.h"
#include "tests/familiar_fixture.h"

namespace saccade::familiar {
namespace {

TEST_CASE("what others offer and this library does not is refused, and why") {
  Tensors x({1, 4, 2, 5, 6, 8, 8}, DType::kF32, false, 1);
  const auto says = [](const Status& s, const char* what) {
    CHECK(!s.ok());
    CHECK_MESSAGE(s.message().find(what) != std::string::npos, s.message());
  };
  const auto sdpa = [&](const MaskView& mask, torch::SdpaOptions o) {
    return torch::ScaledDotProductAttention(x.q.view, x.k.view, x.v.view, mask,
                                            o, x.out.view, 1);
  };
  says(sdpa({}, {.dropout_p = 0.1, .enable_gqa = true}), "dropout");
  says(sdpa({}, {}), "enable_gqa");
  const std::vector<uint8_t> ones(30, 1);
  const MaskView mask =
      ContiguousMask(ones.data(), MaskElement::kBool, 1, 1, 5, 6);
  says(sdpa(mask, {.is_causal = true, .enable_gqa = true}), "is_causal");
  says(sdpa(ContiguousMask(ones.data(), MaskElement::kBool, 1, 1, 5, 5),
            {.enable_gqa = true}),
       "shape");

  const auto flash = [&](flash::Options o) {
    return flash::FlashAttention(x.q.view, x.k.view, x.v.view, o, {x.out.view},
                                 1);
  };
  says(flash({.dropout_p = 0.5}), "dropout");
  says(flash({.alibi_slopes = Contiguous<const void>(ones.data(), DType::kF32,
                                                     1, 3, 1, 1)}),
       "bias");
  says(onnx::Attention({x.q.view, x.k.view, x.v.view},
                       {.qk_matmul_output = true}, {x.out.view}, 1),
       "qk_matmul_output");
  says(onnx::Attention({.q = x.q.view,
                        .k = x.k.view,
                        .v = x.v.view,
                        .past_key = x.k.view,
                        .past_value = x.v.view},
                       {}, {x.out.view}, 1),
       "present_key");

  Array past(DType::kF32, 1, 1, 3, 8, false);
  Array present(DType::kF32, 1, 2, 9, 8, false);
  const auto onnx = [&](const ConstView& k, const ConstView& past_k) {
    return onnx::Attention({.q = x.q.view,
                            .k = k,
                            .v = x.v.view,
                            .past_key = past_k,
                            .past_value = past_k},
                           {}, {x.out.view, present.view, present.view}, 1);
  };
  says(onnx(x.k.view, past.view), "past_key");
  ConstView nowhere = x.k.view;
  nowhere.data = nullptr;
  says(onnx(nowhere, {}), "k is null");
  says(onnx(x.k.view, nowhere), "come together");

  const std::vector<int32_t> table = {0};
  Array cache(DType::kF32, 1, 2, 6, 8, true);
  const auto cached = [&](const ConstView& k, int32_t len, int64_t page) {
    const std::vector<int32_t> lens = {len};
    return flash::FlashAttentionWithKvCache(
        x.q.view, {cache.view, cache.view, table, page}, k, x.v.view, lens, {},
        {x.out.view}, 1);
  };
  says(cached(x.k.view, 6, 6), "hold");
  says(cached(x.k.view, -1, 6), "cache_seqlens[0]");
  says(cached(x.k.view, 0, 0), "page");
  says(cached(nowhere, 0, 6), "null");

  // Of two sequences: one out, and three pages.
  Tensors two({2, 4, 2, 5, 6, 8, 8}, DType::kF32, true, 2);
  const std::vector<int32_t> empty = {0, 0}, pages = {0, 1, 2};
  const auto both = [&](const View& out, std::span<const int32_t> of) {
    return flash::FlashAttentionWithKvCache(
        two.q.view, {cache.view, cache.view, of, 2}, two.k.view, two.v.view,
        empty, {}, {out}, 1);
  };
  says(both(x.out.view, pages), "as many sequences");
  says(both(two.out.view, pages), "3 pages");
}

TEST_CASE("a caller's slopes act in every variant that takes ALiBi") {
  const Shape s{2, 4, 2, 21, 21, 8, 6};
  Tensors x(s, DType::kF32, false, 5);
  const Problem problem{.batch = s.batch,
                        .q_heads = s.q_heads,
                        .kv_heads = s.kv_heads,
                        .q_len = s.q_len,
                        .kv_len = s.kv_len,
                        .qk_dim = s.d,
                        .v_dim = s.e,
                        .mask = Mask::kCausal};
  const auto run = [&](const std::string& spec, std::span<const float> slopes) {
    auto attention = Attention::Make(spec, problem, 1);
    REQUIRE_MESSAGE(attention.ok(), attention.status().message());
    Inputs in{.q = x.q.view, .k = x.k.view, .v = x.v.view};
    if (!slopes.empty())
      in.bias = Contiguous<const void>(slopes.data(), DType::kF32, s.batch,
                                       s.q_heads, 1, 1);
    const Status status = attention->Forward(in, {x.out.view});
    REQUIRE_MESSAGE(status.ok(), status.message());
    const auto* const out = x.out.memory.as<float>();
    return std::vector<float>(out, out + x.out.view.elements());
  };
  const auto apart = [](const std::vector<float>& a,
                        const std::vector<float>& b) {
    double most = 0;
    for (size_t n = 0; n < a.size(); ++n)
      most = std::max(most, std::abs(double{a[n]} - b[n]));
    return most;
  };
  for (const Variant* variant : Variants()) {
    if (!variant->traits.bias || !variant->inputs.empty()) continue;
    const std::string name(variant->name), spec = name + "+alibi";
    CAPTURE(name);
    const std::vector<float> none(s.batch * s.q_heads, 0.0f);
    CHECK(apart(run(spec, none), run(name, {})) < 1e-6);
    // Those of the paper; the second sequence's own are none.
    std::vector<float> own = none;
    for (int64_t h = 0; h < s.q_heads; ++h)
      own[h] = std::exp2(-2.0f * static_cast<float>(h + 1));
    const std::vector<float> want = run(spec, {}), got = run(spec, own),
                             plain = run(name, {});
    const auto half = static_cast<ptrdiff_t>(got.size() / 2);
    CHECK(apart({got.begin(), got.begin() + half},
                {want.begin(), want.begin() + half}) < 1e-6);
    CHECK(apart({got.begin() + half, got.end()},
                {plain.begin() + half, plain.end()}) < 1e-6);
  }
}

}  // namespace
}  // namespace saccade::familiar
