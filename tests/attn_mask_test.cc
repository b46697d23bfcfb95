// A caller's mask and softcap: what verify's cases do not look at. Values and
// gradients themselves are in variants_test and gradients_test.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "bench/verify_data.h"
#include "saccade/attention.h"
#include "simd/bf16.h"
#include "simd/target.h"
#include "tests/allocations.h"

namespace saccade {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kQ = 37, kK = 150, kWidth = 24;

Problem Shapes(AttnMask mask) {
  return {.batch = 2,
          .q_heads = 4,
          .kv_heads = 2,
          .q_len = kQ,
          .kv_len = kK,
          .qk_dim = kWidth,
          .v_dim = kWidth,
          .attn_mask = mask};
}

std::vector<float> Normal(int64_t n, uint64_t seed) {
  bench::Rng rng(seed);
  std::vector<float> x(n);
  for (float& one : x) one = static_cast<float>(rng.Normal());
  return x;
}

// Forward and backward of one problem.
struct Run {
  std::vector<float> q, k, v, dout, out, lse, dq, dk, dv;
  Status status;

  Run(std::string_view spec, const Problem& p, const MaskView& mask, int slots,
      std::vector<float> keys = {}, std::vector<float> values = {})
      : q(Normal(p.batch * p.q_heads * p.q_len * p.qk_dim, 1)),
        k(keys.empty() ? Normal(p.batch * p.kv_heads * p.kv_len * p.qk_dim, 2)
                       : keys),
        v(values.empty() ? Normal(p.batch * p.kv_heads * p.kv_len * p.v_dim, 3)
                         : values),
        dout(Normal(p.batch * p.q_heads * p.q_len * p.v_dim, 4)),
        out(dout.size()),
        lse(p.batch * p.q_heads * p.q_len),
        dq(q.size()),
        dk(k.size()),
        dv(v.size()) {
    Pass(spec, p, mask, slots);
  }
  // Of some rows of another run of one head, from `first`.
  Run(std::string_view spec, const Problem& p, const Run& of, int64_t first)
      : lse(p.q_len) {
    const auto rows = [&](const std::vector<float>& x) {
      const auto at = x.begin() + first * kWidth;
      return std::vector<float>(at, at + p.q_len * kWidth);
    };
    q = rows(of.q), k = rows(of.k), v = rows(of.v), dout = rows(of.dout);
    out = dq = dk = dv = q;
    Pass(spec, p, {}, 1);
  }

  void Pass(std::string_view spec, const Problem& p, const MaskView& mask,
            int slots) {
    const auto plan = MakePlan(spec, p);
    if (!plan.ok()) {
      status = plan.status();
      return;
    }
    const auto queries = [&](auto* x) {
      return Contiguous(x, DType::kF32, p.batch, p.q_heads, p.q_len, kWidth);
    };
    const auto of_keys = [&](auto* x) {
      return Contiguous(x, DType::kF32, p.batch, p.kv_heads, p.kv_len, kWidth);
    };
    bench::SlotExec exec(slots);
    const Footprint need = (*plan)->Memory(slots);
    const Buffer scratch(std::max(need.forward_scratch, need.backward_scratch)),
        saved(need.saved);
    const Inputs in{.q = queries(static_cast<const void*>(q.data())),
                    .k = of_keys(static_cast<const void*>(k.data())),
                    .v = of_keys(static_cast<const void*>(v.data())),
                    .attn_mask = mask};
    const View to = queries(static_cast<void*>(out.data()));
    const int64_t before = Allocations();
    status = (*plan)->Forward(in, {to, lse.data()}, saved.bytes(),
                              scratch.bytes(), exec);
    if (!status.ok()) return;
    status = (*plan)->Backward(
        in, {to, saved.bytes(), queries(static_cast<const void*>(dout.data()))},
        {queries(static_cast<void*>(dq.data())),
         of_keys(static_cast<void*>(dk.data())),
         of_keys(static_cast<void*>(dv.data()))},
        scratch.bytes(), exec);
    CHECK(Allocations() == before);
  }
  bool operator==(const Run& o) const {
    return out == o.out && lse == o.lse && dq == o.dq && dk == o.dk &&
           dv == o.dv;
  }
};

std::vector<float> SomeMask(int64_t rows, uint64_t seed) {
  bench::Rng rng(seed);
  std::vector<float> mask(rows * kK);
  for (float& x : mask)
    x = rng.Below(3) ? static_cast<float>(rng.Normal()) : -kInf;
  return mask;
}

MaskView Of(const std::vector<float>& mask, int64_t batch, int64_t heads,
            int64_t rows) {
  return ContiguousMask(mask.data(), MaskElement::kF32, batch, heads, rows, kK);
}

TEST_CASE("a masked pass does not depend on the slots, and allocates nothing") {
  const std::vector<float> mask = SomeMask(2 * 4 * kQ, 5);
  const Problem p = Shapes(AttnMask::kAdditive);
  for (const char* spec : {"softmax.flash", "softmax.window:size=40",
                           "softmax.alibi", "sparse.atrous", "softmax.naive"}) {
    CAPTURE(spec);
    const Run one(spec, p, Of(mask, 2, 4, kQ), 1);
    REQUIRE_MESSAGE(one.status.ok(), one.status.message());
    CHECK(one == Run(spec, p, Of(mask, 2, 4, kQ), 5));
  }
}

TEST_CASE("sizes of 1 and strides of 0 repeat a mask") {
  const std::vector<float> row = SomeMask(1, 6), rows = SomeMask(kQ, 7);
  std::vector<float> all;
  for (int64_t n = 0; n < 2 * 4 * kQ; ++n)
    all.insert(all.end(), row.begin(), row.end());
  const Problem p = Shapes(AttnMask::kAdditive);
  const Run want("softmax.flash", p, Of(all, 2, 4, kQ), 1);
  CHECK(want == Run("softmax.flash", p, Of(row, 1, 1, 1), 1));
  MaskView strides = Of(row, 2, 4, kQ);
  strides.batch_stride = strides.head_stride = strides.row_stride = 0;
  CHECK(want == Run("softmax.flash", p, strides, 1));

  // A stride between keys: the same mask, transposed in memory.
  std::vector<float> turned(rows.size());
  for (int64_t i = 0; i < kQ; ++i)
    for (int64_t j = 0; j < kK; ++j) turned[j * kQ + i] = rows[i * kK + j];
  MaskView columns = Of(turned, 1, 1, kQ);
  columns.row_stride = 1;
  columns.key_stride = kQ;
  CHECK(Run("softmax.flash", p, Of(rows, 1, 1, kQ), 1) ==
        Run("softmax.flash", p, columns, 1));
}

TEST_CASE("what a mask keeps apart is what it is alone") {
  // Three documents in one sequence, longer than any block of keys.
  constexpr int64_t kLen = 300, kAll = 3 * kLen;
  const Problem p{.q_len = kAll,
                  .kv_len = kAll,
                  .qk_dim = kWidth,
                  .v_dim = kWidth,
                  .mask = Mask::kCausal,
                  .attn_mask = AttnMask::kBoolean};
  std::vector<uint8_t> same(kAll * kAll);
  for (int64_t i = 0; i < kAll; ++i)
    for (int64_t j = 0; j < kAll; ++j)
      same[i * kAll + j] = i / kLen == j / kLen;
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    CAPTURE(target);
    const Run whole(
        "softmax.flash", p,
        ContiguousMask(same.data(), MaskElement::kBool, 1, 1, kAll, kAll), 1);
    REQUIRE_MESSAGE(whole.status.ok(), whole.status.message());
    for (int64_t n = 0; n < 3; ++n) {
      Problem one = p;
      one.q_len = one.kv_len = kLen;
      one.attn_mask = AttnMask::kNone;
      const Run alone("softmax.flash", one, whole, n * kLen);
      REQUIRE(alone.status.ok());
      const auto apart = [&](const std::vector<float>& of_all,
                             const std::vector<float>& own) {
        double most = 0;
        const int64_t from = n * std::ssize(own);
        for (int64_t x = 0; x < std::ssize(own); ++x)
          most = std::max(most, std::abs(double{own[x]} - of_all[from + x]));
        return most;
      };
      CHECK(apart(whole.out, alone.out) < 1e-5);
      CHECK(apart(whole.lse, alone.lse) < 1e-5);
      CHECK(apart(whole.dq, alone.dq) < 1e-5);
      CHECK(apart(whole.dk, alone.dk) < 1e-5);
      CHECK(apart(whole.dv, alone.dv) < 1e-5);
    }
  }
}

TEST_CASE("booleans, -infinity and the lowest number hide alike") {
  const Problem additive = Shapes(AttnMask::kAdditive);
  std::vector<float> mask = SomeMask(kQ, 8);
  std::vector<uint8_t> seen;
  for (float& x : mask) {
    if (x != -kInf) x = 0;
    seen.push_back(x == 0 ? 7 : 0);
  }
  std::fill_n(mask.begin() + 3 * kK, kK, -kInf);  // a row that sees nothing
  std::fill_n(seen.begin() + 3 * kK, kK, uint8_t{0});
  const Run want("softmax.flash", additive, Of(mask, 1, 1, kQ), 1);
  CHECK(want ==
        Run("softmax.flash", Shapes(AttnMask::kBoolean),
            ContiguousMask(seen.data(), MaskElement::kBool, 1, 1, kQ, kK), 1));
  for (float& x : mask)
    if (x == -kInf) x = std::numeric_limits<float>::lowest();
  CHECK(want == Run("softmax.flash", additive, Of(mask, 1, 1, kQ), 1));
  CHECK(want.out[3 * kWidth] == 0);
  CHECK(want.lse[3] == -kInf);
}

TEST_CASE("what a mask hides from all is never multiplied") {
  std::vector<float> mask = SomeMask(kQ, 9);
  for (int64_t i = 0; i < kQ; ++i)
    for (int64_t j = 0; j < kK; ++j)
      if (j % 5 == 2 || j > 120) mask[i * kK + j] = -kInf;
  const Problem p = Shapes(AttnMask::kAdditive);
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    CAPTURE(target);
    for (const char* spec : {"softmax.flash", "softmax.naive"}) {
      const Run want(spec, p, Of(mask, 1, 1, kQ), 1);
      for (const float bad : {kNaN, kInf}) {
        std::vector<float> k = want.k, v = want.v;
        for (size_t n = 0; n < k.size(); ++n) {
          const size_t j = n / kWidth % kK;
          if (j % 5 == 2 || j > 120) k[n] = v[n] = bad;
        }
        const Run got(spec, p, Of(mask, 1, 1, kQ), 1, k, v);
        CHECK(got.out == want.out);
        CHECK(got.lse == want.lse);
        double worst = 0, most = 0;
        for (size_t n = 0; n < got.dq.size(); ++n) {
          worst = std::max(worst, std::abs(double(got.dq[n]) - want.dq[n]));
          most = std::max(most, std::abs(double(want.dq[n])));
        }
        for (size_t n = 0; n < got.dk.size(); ++n) {
          worst = std::max(worst, std::abs(double(got.dk[n]) - want.dk[n]));
          worst = std::max(worst, std::abs(double(got.dv[n]) - want.dv[n]));
        }
        CHECK(worst <= 1e-5 * most);
        for (const float x : got.dq) CHECK(std::isfinite(x));
      }
    }
  }
}

TEST_CASE("a NaN in a mask spoils the row that sees it, and no other") {
  std::vector<float> mask(kQ * kK, 0.0f);
  mask[5 * kK + 11] = kNaN;
  const Run got("softmax.flash", Shapes(AttnMask::kAdditive),
                Of(mask, 1, 1, kQ), 1);
  for (int64_t i = 0; i < kQ; ++i)
    CHECK(std::isnan(got.out[i * kWidth]) == (i == 5));
}

TEST_CASE("masks and softcaps that do not fit are refused with a sentence") {
  const std::vector<float> mask = SomeMask(kQ, 10);
  const auto refusal = [&](const Problem& p, const MaskView& view,
                           const char* spec = "softmax.flash") {
    const Run run(spec, p, view, 1);
    CHECK(!run.status.ok());
    return run.status.message();
  };
  const Problem none = Shapes(AttnMask::kNone);
  const Problem additive = Shapes(AttnMask::kAdditive);
  CHECK(refusal(none, Of(mask, 1, 1, kQ)).find("without") != std::string::npos);
  CHECK(refusal(additive, {}).find("attn_mask") != std::string::npos);
  CHECK(refusal(additive, Of(mask, 1, 1, kQ - 1)).find("shape") !=
        std::string::npos);
  CHECK(
      refusal(Shapes(AttnMask::kBoolean), Of(mask, 1, 1, kQ)).find("boolean") !=
      std::string::npos);
  MaskView bf16 = Of(mask, 1, 1, kQ);
  bf16.element = MaskElement::kBF16;
  CHECK(refusal(additive, bf16).find("elements") != std::string::npos);
  CHECK(refusal(additive, Of(mask, 1, 1, kQ), "linear.elu").find("attn_mask") !=
        std::string::npos);

  Problem capped = none;
  capped.softcap = -1;
  CHECK(refusal(capped, {}).find("softcap") != std::string::npos);
  capped.softcap = 5;
  CHECK(refusal(capped, {}, "linear.elu").find("softcap") != std::string::npos);
  CHECK(refusal(capped, {}, "softmax.flash+t5").find("softcap") !=
        std::string::npos);

  Problem causal = additive;
  causal.mask = Mask::kCausal;
  const auto plan = MakePlan("softmax.flash", causal);
  REQUIRE(plan.ok());
  // Each says what to do instead.
  CHECK((*plan)->Reset({}).message().find("call Forward") != std::string::npos);
  const Status several = (*plan)->ForwardSequences({}, {}, {}, {}, Serial());
  CHECK(several.code() == Code::kUnsupported);
  CHECK(several.message().find("attn_mask") != std::string::npos);
  CHECK(several.message().find("call Forward") != std::string::npos);
}

}  // namespace
}  // namespace saccade
