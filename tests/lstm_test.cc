// An LSTM's sequences go through its kernels together: none of them sees it.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "saccade/variant.h"
#include "simd/target.h"

namespace saccade {
namespace {

class Scratch {
 public:
  explicit Scratch(size_t bytes)
      : size_(bytes),
        memory_(static_cast<std::byte*>(
                    std::aligned_alloc(64, (bytes + 127) / 64 * 64)),
                std::free) {}
  Bytes bytes() const { return {memory_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
};

// What goes into a pass and what comes out of it: v and three gates, [B, H, T,
// e] each, the gradient of out, out, the four's gradients, the learned
// numbers'.
struct Tensors {
  Tensors(int64_t batch, int64_t heads, int64_t len, int64_t dim)
      : batch(batch), heads(heads), len(len), dim(dim) {
    for (auto* x : {&in[0], &in[1], &in[2], &in[3], &dout, &out, &grad[0],
                    &grad[1], &grad[2], &grad[3], &decoded})
      x->resize(static_cast<size_t>(batch * heads * len * dim));
    learned_grad.resize(static_cast<size_t>(heads * 4 * dim * (dim + 1)));
  }
  ConstView In(const std::vector<float>& x) const {
    return Contiguous<const void>(x.data(), DType::kF32, batch, heads, len,
                                  dim);
  }
  View Out(std::vector<float>& x) const {
    return Contiguous<void>(x.data(), DType::kF32, batch, heads, len, dim);
  }
  // Tokens first .. first + n - 1.
  template <class V>
  static V Rows(V x, int64_t first, int64_t n) {
    x.data = x.template Row<float>(0, 0, first);
    x.len = n;
    return x;
  }

  int64_t batch, heads, len, dim;
  std::array<std::vector<float>, 4> in, grad;
  std::vector<float> dout, out, decoded, learned_grad;
};

void Run(Tensors& x) {
  Problem p;
  p.batch = x.batch;
  p.q_heads = p.kv_heads = x.heads;
  p.q_len = p.kv_len = x.len;
  p.qk_dim = p.v_dim = x.dim;
  p.mask = Mask::kCausal;
  const auto plan = MakePlan("recurrent.lstm", p);
  REQUIRE(plan.ok());
  const Footprint need = (*plan)->Memory(1);
  const Scratch saved(need.saved), state(need.state);
  const Scratch scratch(std::max(
      {need.forward_scratch, need.backward_scratch, need.extend_scratch}));
  Inputs in{.q = x.In(x.in[0]), .k = x.In(x.in[0]), .v = x.In(x.in[0])};
  for (int n = 1; n < 4; ++n) in.extra[n - 1] = x.In(x.in[n]);
  REQUIRE((*plan)
              ->Forward(in, {x.Out(x.out)}, saved.bytes(), scratch.bytes(),
                        Serial())
              .ok());
  std::vector<float> dq(x.in[0].size()), dk(dq);
  Gradients grad{.dq = x.Out(dq), .dk = x.Out(dk), .dv = x.Out(x.grad[0])};
  for (int n = 1; n < 4; ++n) grad.dextra[n - 1] = x.Out(x.grad[n]);
  grad.dbias = Contiguous<void>(x.learned_grad.data(), DType::kF32, 1, x.heads,
                                1, 4 * x.dim * (x.dim + 1));
  REQUIRE((*plan)
              ->Backward(in, {x.In(x.out), saved.bytes(), x.In(x.dout)}, grad,
                         scratch.bytes(), Serial())
              .ok());
  REQUIRE((*plan)->Reset(state.bytes()).ok());
  for (int64_t first = 0; first < x.len; first += first % 3 + 1) {
    const int64_t n = std::min(first % 3 + 1, x.len - first);
    Inputs fresh = in;
    for (ConstView* v : {&fresh.q, &fresh.k, &fresh.v, &fresh.extra[0],
                         &fresh.extra[1], &fresh.extra[2]})
      *v = Tensors::Rows(*v, first, n);
    REQUIRE((*plan)
                ->Extend(fresh, {Tensors::Rows(x.Out(x.decoded), first, n)},
                         state.bytes(), scratch.bytes(), Serial())
                .ok());
  }
}

// Sequence b of `all`.
Tensors Alone(const Tensors& all, int64_t b) {
  Tensors one(1, all.heads, all.len, all.dim);
  const auto n = std::ssize(one.dout);
  const auto cut = [&](const std::vector<float>& from, std::vector<float>& to) {
    std::copy_n(from.begin() + b * n, n, to.begin());
  };
  for (int x = 0; x < 4; ++x) cut(all.in[x], one.in[x]);
  cut(all.dout, one.dout);
  return one;
}

bool IsPart(const std::vector<float>& one, const std::vector<float>& all,
            int64_t b) {
  return std::equal(one.begin(), one.end(), all.begin() + b * std::ssize(one));
}

TEST_CASE("an LSTM's sequences are to the bit what each is alone") {
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget scope(target);
    for (const auto& [batch, heads, dim] : {std::array<int64_t, 3>{5, 2, 5},
                                            {11, 2, 16},
                                            {13, 3, 40},
                                            {33, 1, 33},
                                            {64, 1, 64}}) {
      CAPTURE(std::string(target));
      CAPTURE(batch);
      CAPTURE(dim);
      Tensors all(batch, heads, 9, dim);
      std::mt19937 bits(1);
      std::normal_distribution<float> normal;
      for (auto* x :
           {&all.in[0], &all.in[1], &all.in[2], &all.in[3], &all.dout})
        for (float& y : *x) y = normal(bits);
      Run(all);
      CHECK(all.decoded == all.out);
      std::vector<double> sum(all.learned_grad.size());
      for (int64_t b = 0; b < batch; ++b) {
        CAPTURE(b);
        Tensors one = Alone(all, b);
        Run(one);
        CHECK(IsPart(one.out, all.out, b));
        for (int x = 0; x < 4; ++x) CHECK(IsPart(one.grad[x], all.grad[x], b));
        for (size_t n = 0; n < sum.size(); ++n) sum[n] += one.learned_grad[n];
      }
      double worst = 0, most = 0;
      for (size_t n = 0; n < sum.size(); ++n) {
        worst = std::max(worst, std::abs(sum[n] - all.learned_grad[n]));
        most = std::max(most, std::abs(sum[n]));
      }
      CHECK(worst <= 1e-6 * most);
    }
  }
}

}  // namespace
}  // namespace saccade
