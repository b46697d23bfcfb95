// What holds for every variant whatever it computes, to the bit where said.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_reference.h"
#include "bench/verify_run.h"
#include "engine/pattern.h"
#include "tests/allocations.h"

namespace saccade::bench {
namespace {

// A case of a variant that it does not refuse, planned and with its data.
struct Setup {
  CheckCase c;
  Problem problem;  // resolved, of the whole sequence
  std::unique_ptr<Plan> plan;
  Data data;

  Written Run(const Data& on, Exec& exec) const {
    return RunPass(c, *plan, problem, on, exec);
  }
  Written Run(const Data& on) const { return Run(on, Serial()); }
};

// Calls visit(Setup) for some cases of a variant: its traits, masks, knobs and
// layouts in turn.
void ForCases(const Variant& v, Pass pass, DType dtype,
              const std::function<void(const Setup&)>& visit) {
  for (const CheckCase& c : CasesFor(v, pass, dtype, Effort::kQuick)) {
    Problem whole = c.problem;
    if (pass == Pass::kDecode) whole.q_len = whole.kv_len;
    const Result<Problem> p = Resolve(v, whole);
    auto plan = MakePlan(v, c.problem);
    if (!p.ok() || !plan.ok()) continue;
    INFO(ToString(c));
    visit({c, *p, std::move(*plan), MakeData(c, *p)});
  }
}

bool SameBits(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) {
                      return x == y || (std::isnan(x) && std::isnan(y));
                    });
}

bool SameBits(const Written& a, const Written& b) {
  return a.trouble.empty() && b.trouble.empty() && SameBits(a.out, b.out) &&
         SameBits(a.lse, b.lse) &&
         std::equal(
             a.gradients.begin(), a.gradients.end(), b.gradients.begin(),
             [](const auto& x, const auto& y) { return SameBits(x, y); });
}

// Overwrites rows first .. of every head of x [B, heads, len, dim].
void Scramble(std::vector<double>& x, const ExtraShape& s, int64_t first,
              DType dtype, Rng& rng) {
  for (size_t n = 0; n < x.size(); ++n)
    if (static_cast<int64_t>(n) / s.dim % s.len >= first)
      x[n] = Stored(30 * rng.Normal(), dtype);
}

TEST_CASE("the future does not matter, to the bit") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      if (!v->traits.causal) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        if (!Offers(*v, Pass::kForward, dtype)) continue;
        ForCases(*v, Pass::kForward, dtype, [&](const Setup& s) {
          const Problem& p = s.problem;
          if (p.mask == Mask::kNone) return;
          Rng rng(s.c.seed);
          const int64_t cut = rng.Below(p.kv_len + 1);  // first future position
          const int64_t offset = QueryOffset(p);
          Data changed = s.data;
          for (int t = 0; t < kFirstExtra + std::ssize(v->inputs); ++t) {
            const bool queries =
                t == kQuery ||
                (t >= kFirstExtra && v->inputs[t - kFirstExtra].per_query);
            Scramble(TensorOf(changed, t), TensorShape(*v, p, t),
                     queries ? cut - offset : cut, dtype, rng);
          }
          const Written before = s.Run(s.data), after = s.Run(changed);
          REQUIRE(before.trouble == "");
          REQUIRE(after.trouble == "");
          int64_t differ = 0;
          for (size_t n = 0; n < before.out.size(); ++n) {
            const int64_t row = static_cast<int64_t>(n) / p.v_dim % p.q_len;
            if (row + offset < cut) differ += before.out[n] != after.out[n];
          }
          CHECK(differ == 0);
        });
      }
    }
}

TEST_CASE("results do not depend on the number of threads, to the bit") {
  // oneTBB gives an arena no more threads than this, 2 on a machine of 2.
  const tbb::global_control many(tbb::global_control::max_allowed_parallelism,
                                 8);
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const Pass pass : kPasses)
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          if (!Offers(*v, pass, dtype)) continue;
          ForCases(*v, pass, dtype, [&](const Setup& s) {
            const Written alone = s.Run(s.data);
            REQUIRE(alone.trouble == "");
            for (const int threads : {1, 2, 3, 7}) {
              const std::unique_ptr<Exec> exec = MakeTbbExec(threads);
              CHECK_MESSAGE(SameBits(alone, s.Run(s.data, *exec)),
                            "threads: ", threads);
            }
          });
        }
    }
}

TEST_CASE("results do not depend on the number of slots, to the bit") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const Pass pass : kPasses) {
        if (!Offers(*v, pass, DType::kF32)) continue;
        ForCases(*v, pass, DType::kF32, [&](const Setup& s) {
          const Written alone = s.Run(s.data);
          for (const int slots : {2, 5, 64}) {
            SlotExec exec(slots);
            CHECK_MESSAGE(SameBits(alone, s.Run(s.data, exec)),
                          "slots: ", slots);
          }
        });
      }
    }
}

// x [blocks, size], its blocks rotated by one.
std::vector<double> Rotated(std::vector<double> x, int64_t blocks) {
  if (!x.empty())
    std::rotate(x.begin(), x.begin() + std::ssize(x) / blocks, x.end());
  return x;
}

// The same for every sequence: its key heads, with their query heads.
std::vector<double> RotatedHeads(const std::vector<double>& x, int64_t batch,
                                 int64_t groups) {
  std::vector<double> y;
  const int64_t size = std::ssize(x) / std::max<int64_t>(batch, 1);
  for (int64_t b = 0; b < batch; ++b) {
    const auto head =
        Rotated({x.begin() + b * size, x.begin() + (b + 1) * size}, groups);
    y.insert(y.end(), head.begin(), head.end());
  }
  return y;
}

// All but a bias's parameters, which sequences share and heads are known by.
template <class F>
Data Mapped(const Data& data, F map) {
  Data y;
  y.bias = data.bias;
  y.q = map(data.q);
  y.k = map(data.k);
  y.v = map(data.v);
  y.dout = map(data.dout);
  for (int n = 0; n < kMaxExtras; ++n) y.extra[n] = map(data.extra[n]);
  y.attn_mask = map(data.attn_mask);
  y.mask_shape = data.mask_shape;
  return y;
}

TEST_CASE("sequences of a batch do not touch each other, to the bit") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const Pass pass : kPasses) {
        if (!Offers(*v, pass, DType::kF32)) continue;
        ForCases(*v, pass, DType::kF32, [&](const Setup& s) {
          const int64_t batch = s.problem.batch;
          const auto turn = [&](const std::vector<double>& x) {
            return Rotated(x, batch);
          };
          Written before = s.Run(s.data);
          const Written after = s.Run(Mapped(s.data, turn));
          before.out = turn(before.out);
          before.lse = turn(before.lse);
          for (int n = 0; n < kBias; ++n)
            before.gradients[n] = turn(before.gradients[n]);
          CHECK(SameBits(before, after));
        });
      }
    }
}

TEST_CASE("heads change places with their results, to the bit") {
  // Where heads differ by number, as by ALiBi's slopes, the oracle says so.
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      int alike = 0;
      ForCases(*v, Pass::kForward, DType::kF32, [&](const Setup& s) {
        const Problem& p = s.problem;
        if (p.kv_heads == 1 || p.q_len == 0) return;
        const auto turn = [&](const std::vector<double>& x) {
          return RotatedHeads(x, p.batch, p.kv_heads);
        };
        const Data turned = Mapped(s.data, turn);
        const auto oracle = [&](const Data& data) {
          Written w;
          w.out.resize(data.dout.size() + 1);
          if (v->traits.lse) w.lse.resize(p.batch * p.q_heads * p.q_len + 1);
          std::vector<double> size(w.out.size());
          RunOracle(*v, p, data.inputs(),
                    {w.out.data(), size.data(),
                     v->traits.lse ? w.lse.data() : nullptr});
          w.out.pop_back();
          if (v->traits.lse) w.lse.pop_back();
          return w;
        };
        const Written want = oracle(s.data), other = oracle(turned);
        if (turn(want.out) != other.out || turn(want.lse) != other.lse) return;
        ++alike;
        Written before = s.Run(s.data);
        before.out = turn(before.out);
        before.lse = turn(before.lse);
        CHECK(SameBits(before, s.Run(turned)));
      });
      MESSAGE(v->name << ": " << alike << " cases with like heads");
    }
}

TEST_CASE("a pass allocates nothing") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        if (!Offers(*v, Pass::kForward, dtype)) continue;
        CheckCase c;
        c.variant = v;
        c.layout = Layout::kTokenMajor;
        c.problem = {.q_heads = 2,
                     .kv_heads = 2,
                     .q_len = 70,
                     .kv_len = 70,
                     .qk_dim = 24,
                     .v_dim = 24,
                     .dtype = dtype,
                     .mask = v->traits.causal ? Mask::kCausal : Mask::kNone};
        const Result<Problem> p = Resolve(*v, c.problem);
        REQUIRE(p.ok());
        const auto plan = MakePlan(*v, c.problem);
        REQUIRE(plan.ok());
        const Operands in(*v, *p, MakeData(c, *p), c.layout);
        const Inputs inputs = in.inputs();
        const Footprint need = (*plan)->Memory(1);
        GuardedBytes scratch(
            std::max({need.forward_scratch, need.backward_scratch,
                      need.extend_scratch}));
        GuardedBytes saved(need.saved), state(need.state);
        Tensor out(1, 2, 70, 24, dtype, c.layout);
        Tensor dout(1, 2, 70, 24, dtype, c.layout);
        dout.Set(std::vector<double>(2 * 70 * 24, 0.5));
        Tensor dq(1, 2, 70, 24, dtype, c.layout);
        Tensor dk(1, 2, 70, 24, dtype, c.layout);
        Tensor dv(1, 2, 70, 24, dtype, c.layout);
        Tensor extra(1, 2, 70, 24, dtype, c.layout);
        Tensor narrow(1, 2, 70, 1, dtype, c.layout);
        Gradients grads{dq.view(), dk.view(), dv.view(), {}};
        for (size_t n = 0; n < v->inputs.size(); ++n)
          grads.dextra[n] =
              WidthOf(v->inputs[n], 24, 24) > 1 ? extra.view() : narrow.view();
        Exec& exec = Serial();

        int64_t before = Allocations();
        Status status = (*plan)->Forward(inputs, {out.view(), nullptr},
                                         saved.bytes(), scratch.bytes(), exec);
        CHECK(Allocations() == before);
        REQUIRE(status.ok());
        if (v->traits.backward) {
          before = Allocations();
          status = (*plan)->Backward(inputs,
                                     {out.view(), saved.bytes(), dout.view()},
                                     grads, scratch.bytes(), exec);
          CHECK(Allocations() == before);
          REQUIRE(status.ok());
        }
        if (Offers(*v, Pass::kDecode, dtype)) {
          before = Allocations();
          status = (*plan)->Reset(state.bytes());
          CHECK(status.ok());
          status = (*plan)->Extend(inputs, {out.view(), nullptr}, state.bytes(),
                                   scratch.bytes(), exec);
          CHECK(Allocations() == before);
          REQUIRE(status.ok());
        }
      }
    }
}

TEST_CASE("allocations are counted") {
  const int64_t before = Allocations();
  const std::unique_ptr<int> one(new int(1));
  CHECK(Allocations() == before + 1);
  ::operator delete (::operator new (64, std::align_val_t{64}),
                     std::align_val_t{64});
  CHECK(Allocations() == before + 2);
}

TEST_CASE("a window of all keys is no window") {
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      if (!v->traits.window) continue;
      ForCases(*v, Pass::kForward, DType::kF32, [&](const Setup& s) {
        CheckCase open = s.c, wide = s.c;
        open.problem.window = 0;
        wide.problem.window = s.problem.q_len + s.problem.kv_len + 1;
        const auto a = MakePlan(*v, open.problem),
                   b = MakePlan(*v, wide.problem);
        REQUIRE((a.ok() && b.ok()));
        CHECK(SameBits(RunPass(open, **a, s.problem, s.data, Serial()),
                       RunPass(wide, **b, s.problem, s.data, Serial())));
      });
    }
}

TEST_CASE("outputs are the weights times the values") {
  // Weights are the outputs for values that are the identity.
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      ForCases(*v, Pass::kForward, DType::kF32, [&](const Setup& s) {
        const Problem& p = s.problem;
        if (p.kv_len == 0 || p.kv_len > 100 || s.c.fill == Fill::kOutlier)
          return;
        for (const ExtraInput& x : v->inputs)
          if (x.value_width) return;  // its width would have to change, too
        CheckCase identity = s.c;
        identity.problem.v_dim = p.kv_len;
        const Result<Problem> wide = Resolve(*v, identity.problem);
        const auto plan = MakePlan(*v, identity.problem);
        REQUIRE((wide.ok() && plan.ok()));
        Data data = s.data;
        data.v.assign(p.batch * p.kv_heads * p.kv_len * p.kv_len, 0);
        for (size_t n = 0; n < data.v.size(); ++n)
          data.v[n] = static_cast<int64_t>(n) % p.kv_len ==
                      static_cast<int64_t>(n) / p.kv_len % p.kv_len;
        const Written weights =
            RunPass(identity, **plan, *wide, data, Serial());
        const Written out = s.Run(s.data);
        // Where a weight is itself a sum that cancels, its terms count.
        const Reference ref = ReferenceOn(*v, p, s.data);
        REQUIRE((weights.trouble.empty() && out.trouble.empty()));
        double worst = 0;
        for (int64_t n = 0; n < std::ssize(out.out); ++n) {
          const int64_t row = n / p.v_dim, c = n % p.v_dim;
          const int64_t head = row / p.q_len % p.q_heads;
          const int64_t kv = row / p.q_len / p.q_heads * p.kv_heads +
                             head / (p.q_heads / p.kv_heads);
          double sum = 0, size = 0.1 * ref.size[n];
          for (int64_t j = 0; j < p.kv_len; ++j) {
            const double w = weights.out[row * p.kv_len + j];
            const double x = s.data.v[(kv * p.kv_len + j) * p.v_dim + c];
            sum += w * x;
            size += std::abs(w * x);
          }
          // Of a row's weights a sink may leave less than a float can hold.
          if (size > 1e-30)
            worst = std::max(worst, std::abs(sum - out.out[n]) / size);
        }
        CHECK(worst < 2e-5);  // scores of 90 cost 90 roundings
      });
    }
}

}  // namespace
}  // namespace saccade::bench
