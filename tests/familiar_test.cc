// Attention by the names of other libraries, each against its definition,
// written out here in float64.
#include "saccade/familiar.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/familiar_fixture.h"

namespace saccade::familiar {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Odd sizes: one key, more queries than keys, grouped heads, several tiles.
const Shape kShapes[] = {{1, 1, 1, 1, 1, 1, 1},     {2, 6, 2, 17, 33, 5, 9},
                         {1, 4, 4, 63, 63, 16, 16}, {2, 3, 1, 70, 31, 33, 8},
                         {1, 2, 1, 5, 300, 64, 40}, {3, 2, 2, 129, 140, 8, 3}};

/// What a pair's dot product becomes: its score; -infinity where it is hidden.
using Score = std::function<double(int64_t b, int64_t h, int64_t i, int64_t j,
                                   double dot)>;

// out and lse of softmax(score(q k^T)) v, a row at a time. Returns the worst
// error, in units of what rounding may do.
struct Definition {
  Definition(const Array& q, const Array& k, const Array& v, const Score& score,
             int64_t kv_len = -1)
      : q_len(q.view.len) {
    const int64_t keys = kv_len < 0 ? k.view.len : kv_len;
    const int64_t group = q.view.heads / k.view.heads;
    for (int64_t b = 0; b < q.view.batch; ++b)
      for (int64_t h = 0; h < q.view.heads; ++h)
        for (int64_t i = 0; i < q_len; ++i) {
          std::vector<double> s(keys);
          double top = -kInf, sum = 0;
          for (int64_t j = 0; j < keys; ++j) {
            double dot = 0;
            for (int64_t c = 0; c < q.view.dim; ++c)
              dot += q.At(b, h, i, c) * k.At(b, h / group, j, c);
            s[j] = score(b, h, i, j, dot);
            top = std::max(top, s[j]);
          }
          std::vector<double> row(v.view.dim), size(v.view.dim);
          for (int64_t j = 0; j < keys && top > -kInf; ++j) {
            const double w = std::exp(s[j] - top);
            sum += w;
            for (int64_t c = 0; c < v.view.dim; ++c) {
              const double term = w * v.At(b, h / group, j, c);
              row[c] += term;
              size[c] += std::abs(term) * (1 + std::abs(s[j]));
            }
          }
          lse.push_back(top + std::log(sum));
          for (int64_t c = 0; c < v.view.dim; ++c) {
            out.push_back(sum > 0 ? row[c] / sum : 0);
            sizes.push_back(sum > 0 ? size[c] / sum : 0);
          }
        }
  }
  void Check(const Array& got) const {
    const double u = got.view.dtype == DType::kF32 ? 0x1p-19 : 0x1p-6;
    double worst = 0;
    size_t n = 0;
    for (int64_t b = 0; b < got.view.batch; ++b)
      for (int64_t h = 0; h < got.view.heads; ++h)
        for (int64_t i = 0; i < got.view.len; ++i)
          for (int64_t c = 0; c < got.view.dim; ++c, ++n)
            worst = std::max(worst, std::abs(got.At(b, h, i, c) - out[n]) /
                                        (u * (sizes[n] + 1e-3)));
    CHECK(worst <= 1);
  }
  void CheckLse(const std::vector<float>& got) const {
    REQUIRE(got.size() == lse.size());
    for (size_t n = 0; n < lse.size(); ++n) {
      if (lse[n] == -kInf)
        CHECK(got[n] == -kInf);
      else
        CHECK(std::abs(got[n] - lse[n]) <= 1e-5 * (1 + std::abs(lse[n])));
    }
  }

  int64_t q_len;
  std::vector<double> out, sizes, lse;
};

// A mask whose sizes are 1 or whole, as `sizes` has bits; some pairs hidden.
struct SomeMask {
  SomeMask(const Shape& s, bool boolean, int sizes, Rng& rng) {
    const auto of = [&](int bit, int64_t n) {
      return sizes >> bit & 1 ? 1 : n;
    };
    const int64_t batch = of(0, s.batch), heads = of(1, s.q_heads);
    const int64_t rows = of(2, s.q_len);
    for (int64_t n = 0; n < batch * heads * rows * s.kv_len; ++n) {
      const bool hidden = rng.Below(3) == 0;
      bytes.push_back(hidden ? 0 : 1);
      floats.push_back(hidden && rng.Below(2)
                           ? -std::numeric_limits<float>::infinity()
                           : static_cast<float>(rng.Normal()));
    }
    view = boolean ? ContiguousMask(bytes.data(), MaskElement::kBool, batch,
                                    heads, rows, s.kv_len)
                   : ContiguousMask(floats.data(), MaskElement::kF32, batch,
                                    heads, rows, s.kv_len);
  }
  double At(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const auto at = [](int64_t n, int64_t of) { return of == 1 ? 0 : n; };
    const auto n = static_cast<size_t>(
        ((at(b, view.batch) * view.heads + at(h, view.heads)) * view.q_len +
         at(i, view.q_len)) *
            view.kv_len +
        j);
    if (view.element == MaskElement::kBool) return bytes[n] ? 0 : -kInf;
    return floats[n];
  }
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
  MaskView view;
};

TEST_CASE("PyTorch's scaled_dot_product_attention") {
  uint64_t seed = 0;
  for (const Shape& s : kShapes)
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (int kind = 0; kind < 6; ++kind) {
        Tensors x(s, dtype, kind % 2 == 1, ++seed);
        const SomeMask mask(s, kind == 2 || kind == 3,
                            static_cast<int>(x.rng.Below(8)), x.rng);
        torch::SdpaOptions options{.is_causal = kind == 1,
                                   .scale = kind == 5 ? 0.3f : 0,
                                   .enable_gqa = s.q_heads != s.kv_heads};
        const bool masked = kind >= 2;
        const Status status = torch::ScaledDotProductAttention(
            x.q.view, x.k.view, x.v.view, masked ? mask.view : MaskView(),
            options, x.out.view, 2);
        REQUIRE_MESSAGE(status.ok(), status.message());
        const double scale =
            kind == 5 ? 0.3f : 1 / std::sqrt(static_cast<double>(s.d));
        Definition(x.q, x.k, x.v,
                   [&](int64_t b, int64_t h, int64_t i, int64_t j, double dot) {
                     if (options.is_causal && j > i) return -kInf;
                     return scale * dot + (masked ? mask.At(b, h, i, j) : 0);
                   })
            .Check(x.out);
      }
}

TEST_CASE("PyTorch's scaled_dot_product_attention: gradients") {
  for (const bool boolean : {true, false})
    for (const Shape& s :
         {Shape{2, 4, 2, 19, 23, 7, 5}, Shape{1, 2, 2, 40, 33, 4, 6}}) {
      Tensors x(s, DType::kF32, false, 77);
      const SomeMask mask(s, boolean, 1, x.rng);
      const torch::SdpaOptions options{.enable_gqa = true};
      const auto problem =
          torch::SdpaProblem(x.q.view, x.k.view, x.v.view, mask.view, options);
      REQUIRE(problem.ok());
      auto attention = Attention::Make(FamiliarSpec(*problem), *problem, 1);
      REQUIRE(attention.ok());
      const Inputs in{
          .q = x.q.view, .k = x.k.view, .v = x.v.view, .attn_mask = mask.view};
      REQUIRE(attention->Forward(in, {x.out.view}, true).ok());
      Tensors up(s, DType::kF32, false, 78), to(s, DType::kF32, false, 79);
      up.out.Fill(up.rng);
      const Status status = attention->Backward(
          in, x.out.view, up.out.view, {to.q.view, to.k.view, to.v.view});
      REQUIRE_MESSAGE(status.ok(), status.message());

      const double scale = 1 / std::sqrt(static_cast<double>(s.d));
      const auto loss = [&] {
        const Definition def(
            x.q, x.k, x.v,
            [&](int64_t b, int64_t h, int64_t i, int64_t j, double dot) {
              return scale * dot + mask.At(b, h, i, j);
            });
        double sum = 0;
        size_t n = 0;
        for (int64_t b = 0; b < s.batch; ++b)
          for (int64_t h = 0; h < s.q_heads; ++h)
            for (int64_t i = 0; i < s.q_len; ++i)
              for (int64_t c = 0; c < s.e; ++c)
                sum += up.out.At(b, h, i, c) * def.out[n++];
        return sum;
      };
      for (const auto& [tensor, gradient] :
           {std::pair(&x.q, &to.q), std::pair(&x.k, &to.k),
            std::pair(&x.v, &to.v)})
        for (int n = 0; n < 40; ++n) {
          const View& view = tensor->view;
          const int64_t b = x.rng.Below(view.batch),
                        h = x.rng.Below(view.heads);
          const int64_t t = x.rng.Below(view.len), c = x.rng.Below(view.dim);
          const auto kept = static_cast<float>(tensor->At(b, h, t, c));
          constexpr float kStep = 0x1p-10f;
          tensor->Set(b, h, t, c, kept + kStep);
          const double above = loss(), up_by = tensor->At(b, h, t, c);
          tensor->Set(b, h, t, c, kept - kStep);
          const double below = loss(), down_by = tensor->At(b, h, t, c);
          tensor->Set(b, h, t, c, kept);
          const double want = (above - below) / (up_by - down_by);
          CHECK(std::abs(gradient->At(b, h, t, c) - want) <=
                1e-4 * (1 + std::abs(want)));
        }
    }
}

TEST_CASE("flash-attention's flash_attn_func") {
  uint64_t seed = 100;
  for (const Shape& s : kShapes)
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (int kind = 0; kind < 8; ++kind) {
        Tensors x(s, dtype, true, ++seed);
        std::vector<float> slopes(s.batch * s.q_heads);
        for (float& m : slopes) m = static_cast<float>(x.rng.Uniform());
        flash::Options o{.softmax_scale = kind == 7 ? 0.4f : 0,
                         .causal = kind % 2 == 1};
        if (kind >= 2 && kind < 6)
          o.window_left = kind == 2 ? -1 : x.rng.Below(s.kv_len + 3);
        if (kind >= 2 && kind < 5) o.window_right = x.rng.Below(9);
        if (kind >= 4) o.softcap = kind == 4 ? 1.5f : 20;
        const bool each = kind == 5;
        if (kind == 3 || kind == 5 || kind == 6)
          o.alibi_slopes = Contiguous<const void>(
              slopes.data(), DType::kF32, each ? s.batch : 1, s.q_heads, 1, 1);
        const Status status = flash::FlashAttention(
            x.q.view, x.k.view, x.v.view, o, {x.out.view, x.lse.data()}, 2);
        REQUIRE_MESSAGE(status.ok(), status.message());
        const double scale = kind == 7 ? 0.4f : 1 / std::sqrt(double(s.d));
        const Definition def(
            x.q, x.k, x.v,
            [&](int64_t b, int64_t h, int64_t i, int64_t j, double dot) {
              const int64_t p = i + s.kv_len - s.q_len;
              const int64_t right = o.causal ? 0 : o.window_right;
              if (right >= 0 && j > p + right) return -kInf;
              if (o.window_left >= 0 && j < p - o.window_left) return -kInf;
              double score = scale * dot;
              if (o.softcap > 0)
                score = o.softcap * std::tanh(score / o.softcap);
              if (o.alibi_slopes.data != nullptr)
                score -= slopes[(each ? b : 0) * s.q_heads + h] *
                         std::abs(static_cast<double>(p - j));
              return score;
            });
        def.Check(x.out);
        def.CheckLse(x.lse);
      }
}

TEST_CASE("flash-attention's flash_attn_varlen_func") {
  const int64_t heads = 4, kv_heads = 2, d = 16;
  const std::vector<int32_t> cu_q = {0, 1, 1, 40, 137, 139},
                             cu_k = {0, 9, 20, 20, 160, 161};
  const int64_t n = 5, all_q = cu_q.back(), all_k = cu_k.back();
  for (const bool causal : {false, true}) {
    Tensors x({1, heads, kv_heads, all_q, all_k, d, d}, DType::kF32, true, 5);
    std::vector<float> slopes(n * heads);
    for (float& m : slopes) m = static_cast<float>(x.rng.Uniform());
    const flash::Options o{.causal = causal,
                           .window_left = 50,
                           .softcap = 3,
                           .alibi_slopes = Contiguous<const void>(
                               slopes.data(), DType::kF32, n, heads, 1, 1)};
    const Status status =
        flash::FlashAttentionVarlen(x.q.view, x.k.view, x.v.view, cu_q, cu_k, o,
                                    {x.out.view, x.lse.data()}, 3);
    REQUIRE_MESSAGE(status.ok(), status.message());
    const auto sequence_of = [&](int64_t row) {
      int64_t s = 0;
      while (row >= cu_q[s + 1]) ++s;
      return s;
    };
    const Definition def(
        x.q, x.k, x.v,
        [&](int64_t, int64_t h, int64_t row, int64_t key, double dot) {
          const int64_t s = sequence_of(row);
          if (key < cu_k[s] || key >= cu_k[s + 1]) return -kInf;
          const int64_t q_len = cu_q[s + 1] - cu_q[s];
          const int64_t k_len = cu_k[s + 1] - cu_k[s];
          const int64_t p = row - cu_q[s] + k_len - q_len, j = key - cu_k[s];
          if ((causal && j > p) || j < p - 50) return -kInf;
          return 3 * std::tanh(dot / 4 / 3) -
                 slopes[s * heads + h] * std::abs(static_cast<double>(p - j));
        });
    def.Check(x.out);
    def.CheckLse(x.lse);
  }
}

TEST_CASE("flash-attention's flash_attn_with_kvcache") {
  const int64_t n = 3, heads = 6, kv_heads = 3, d = 24, capacity = 96;
  for (const int64_t page : {16, 96})
    for (const int64_t fresh : {1, 7, 0})
      for (const int64_t queries : {1, 9}) {
        CAPTURE(page);
        CAPTURE(fresh);
        CAPTURE(queries);
        Rng rng(9);
        const int64_t rows = n * capacity, width = capacity / page;
        Array k(DType::kF32, 1, kv_heads, rows, d, true);
        Array v(DType::kF32, 1, kv_heads, rows, d, true);
        Array new_k(DType::kF32, n, kv_heads, fresh, d, true);
        Array new_v(DType::kF32, n, kv_heads, fresh, d, true);
        Array q(DType::kF32, n, heads, queries, d, true);
        Array out(DType::kF32, n, heads, queries, d, true);
        for (Array* x : {&k, &v, &new_k, &new_v, &q}) x->Fill(rng);
        const std::vector<int32_t> lens = {40, 9, 80};
        std::vector<int32_t> table(n * width);  // pages in a mixed order
        for (int64_t i = 0; i < n * width; ++i)
          table[i] = static_cast<int32_t>((i * 5 + 3) % (n * width));
        if (n * width % 5 == 0) table[0] = 0;
        const auto row = [&](int64_t s, int64_t p) {
          return table[s * width + p / page] * page + p % page;
        };
        // The definition: caches as they are after the append.
        const int64_t most = 80 + fresh;
        Array whole_k(DType::kF32, n, kv_heads, most, d, false);
        Array whole_v(DType::kF32, n, kv_heads, most, d, false);
        for (int64_t s = 0; s < n; ++s)
          for (int64_t h = 0; h < kv_heads; ++h)
            for (int64_t p = 0; p < most; ++p)
              for (int64_t c = 0; c < d; ++c) {
                const bool old = p < lens[s], is_new = p < lens[s] + fresh;
                const auto of = [&](const Array& cache, const Array& added) {
                  if (old) return cache.At(0, h, row(s, p), c);
                  return is_new ? added.At(s, h, p - lens[s], c) : 0.0;
                };
                whole_k.Set(s, h, p, c, static_cast<float>(of(k, new_k)));
                whole_v.Set(s, h, p, c, static_cast<float>(of(v, new_v)));
              }
        const flash::Options o{.causal = true, .window_left = 60};
        const Status status = flash::FlashAttentionWithKvCache(
            q.view, {k.view, v.view, table, page}, new_k.view, new_v.view, lens,
            o, {out.view}, 2);
        REQUIRE_MESSAGE(status.ok(), status.message());
        Definition(q, whole_k, whole_v,
                   [&](int64_t s, int64_t, int64_t i, int64_t j, double dot) {
                     const int64_t p = i + lens[s] + fresh - queries;
                     if (j > p || j < p - 60) return -kInf;
                     return dot / std::sqrt(24.0);
                   })
            .Check(out);
        for (int64_t s = 0; s < n && fresh > 0; ++s)
          CHECK(k.At(0, 1, row(s, lens[s]), 2) == new_k.At(s, 1, 0, 2));
      }
}

TEST_CASE("the ONNX operator Attention") {
  uint64_t seed = 300;
  for (const Shape& s : kShapes)
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (int kind = 0; kind < 8; ++kind) {
        // Odd kinds are 3D inputs: token-major; from 4 on there is a past.
        const bool with_past = kind >= 4;
        const int64_t past = with_past ? 13 : 0, all = past + s.kv_len;
        Tensors x(s, dtype, kind % 2 == 1, ++seed);
        Array past_k(dtype, s.batch, s.kv_heads, past, s.d, false);
        Array past_v(dtype, s.batch, s.kv_heads, past, s.e, false);
        Array k(dtype, s.batch, s.kv_heads, all, s.d, false);
        Array v(dtype, s.batch, s.kv_heads, all, s.e, false);
        past_k.Fill(x.rng);
        past_v.Fill(x.rng);
        Shape masked = s;
        masked.kv_len = kind == 6 && all > 4 ? all - 2 : all;
        const SomeMask mask(masked, kind == 2 || kind == 6,
                            static_cast<int>(x.rng.Below(8)), x.rng);
        const bool use_mask = kind % 4 >= 1;
        const onnx::AttentionOptions o{.is_causal = kind % 4 != 2,
                                       .scale = kind == 3 ? 0.7f : 0,
                                       .softcap = kind % 4 == 3 ? 2.0f : 0};
        onnx::AttentionInputs in{.q = x.q.view, .k = x.k.view, .v = x.v.view};
        if (use_mask) in.attn_mask = mask.view;
        onnx::AttentionOutputs out{.y = x.out.view};
        if (with_past) {
          in.past_key = past_k.view;
          in.past_value = past_v.view;
          out.present_key = k.view;
          out.present_value = v.view;
        }
        const Status status = onnx::Attention(in, o, out, 2);
        REQUIRE_MESSAGE(status.ok(), status.message());

        Array want_k(dtype, s.batch, s.kv_heads, all, s.d, false);
        Array want_v(dtype, s.batch, s.kv_heads, all, s.e, false);
        const auto join = [&](const Array& old, const Array& added, Array& to) {
          for (int64_t b = 0; b < s.batch; ++b)
            for (int64_t h = 0; h < s.kv_heads; ++h)
              for (int64_t t = 0; t < all; ++t)
                for (int64_t c = 0; c < to.view.dim; ++c)
                  to.Set(b, h, t, c,
                         static_cast<float>(t < past
                                                ? old.At(b, h, t, c)
                                                : added.At(b, h, t - past, c)));
        };
        join(past_k, x.k, want_k);
        join(past_v, x.v, want_v);
        const double scale = kind == 3 ? 0.7f : 1 / std::sqrt(double(s.d));
        Definition(x.q, want_k, want_v,
                   [&](int64_t b, int64_t h, int64_t i, int64_t j, double dot) {
                     double score = scale * dot;
                     if (o.softcap > 0)
                       score = o.softcap * std::tanh(score / o.softcap);
                     if (o.is_causal && j > i + past) return -kInf;
                     if (use_mask && masked.kv_len > 1)
                       score += j < masked.kv_len ? mask.At(b, h, i, j) : -kInf;
                     else if (use_mask)
                       score += mask.At(b, h, i, 0);
                     return score;
                   })
            .Check(x.out);
        if (with_past) CHECK(k.At(0, 0, past, 0) == x.k.At(0, 0, 0, 0));
      }
}

}  // namespace
}  // namespace saccade::familiar
