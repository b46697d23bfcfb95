#include "bench/kernels/overhead.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "saccade/attention.h"
#include "saccade/c.h"
#include "saccade/variant.h"

namespace saccade::bench::kernels {
namespace {

constexpr int64_t kTokens = 16, kWidth = 64;
constexpr int64_t kMore = 32;  // sequences that tell what one of them adds

// The median of some rounds, each of enough calls for the clock.
template <class Call>
double Nanoseconds(Call call) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 41;
  constexpr double kRound = 1e6;  // nanoseconds
  int64_t calls = 1;
  const auto time = [&] {
    const Clock::time_point start = Clock::now();
    for (int64_t n = 0; n < calls; ++n) call();
    return std::chrono::duration<double, std::nano>(Clock::now() - start)
        .count();
  };
  while (time() < kRound) calls *= 2;
  std::vector<double> each;
  for (int r = 0; r < kRounds; ++r)
    each.push_back(time() / static_cast<double>(calls));
  std::nth_element(each.begin(), each.begin() + kRounds / 2, each.end());
  return each[kRounds / 2];
}

Problem TinyProblem(int64_t batch) {
  Problem p;
  p.batch = batch;
  p.q_len = p.kv_len = kTokens;
  p.qk_dim = p.v_dim = kWidth;
  p.mask = Mask::kCausal;
  return p;
}

// One tensor serves for all inputs: times do not depend on the numbers.
struct Tensors {
  explicit Tensors(int64_t batch)
      : batch(batch),
        in(static_cast<size_t>(batch * kTokens * kWidth), 0.1f),
        out(in.size()) {}
  template <class Void>
  BasicView<Void> Of(std::vector<float>& x, int64_t width) {
    return Contiguous<Void>(x.data(), DType::kF32, batch, 1, kTokens, width);
  }
  Inputs inputs(const Variant& variant) {
    Inputs all = {Of<const void>(in, kWidth), Of<const void>(in, kWidth),
                  Of<const void>(in, kWidth)};
    for (size_t e = 0; e < std::min(variant.inputs.size(), all.extra.size());
         ++e)
      all.extra[e] =
          Of<const void>(in, variant.inputs[e].value_width ? kWidth : 1);
    return all;
  }

  int64_t batch;
  std::vector<float> in, out;
};

// 0 where the variant does not take the problem, here and below.
double OfPlan(const Variant& variant, int64_t batch) {
  const auto plan = MakePlan(variant, TinyProblem(batch));
  if (!plan.ok()) return 0;
  Tensors t(batch);
  const Inputs in = t.inputs(variant);
  const Outputs out = {t.Of<void>(t.out, kWidth)};
  const Buffer scratch((*plan)->Memory(1).forward_scratch);
  bool ok = true;
  const double time = Nanoseconds([&] {
    ok &= (*plan)->Forward(in, out, {}, scratch.bytes(), Serial()).ok();
  });
  return ok ? time : 0;
}

double OfAttention(const Variant& variant) {
  auto attention = Attention::Make(variant.name, TinyProblem(1), /*threads=*/1);
  if (!attention.ok()) return 0;
  Tensors t(1);
  const Inputs in = t.inputs(variant);
  const Outputs out = {t.Of<void>(t.out, kWidth)};
  bool ok = true;
  const double time =
      Nanoseconds([&] { ok &= attention->Forward(in, out).ok(); });
  return ok ? time : 0;
}

double OfC(const Variant& variant) {
  saccade_problem problem = {};
  problem.struct_size = sizeof problem;
  problem.batch = problem.q_heads = problem.kv_heads = 1;
  problem.q_len = problem.kv_len = kTokens;
  problem.qk_dim = problem.v_dim = kWidth;
  problem.mask = SACCADE_MASK_CAUSAL;
  saccade_plan* made = nullptr;
  if (saccade_plan_create(std::string(variant.name).c_str(), &problem, &made))
    return 0;
  const std::unique_ptr<saccade_plan, void (*)(saccade_plan*)> plan(
      made, saccade_plan_free);
  saccade_footprint need = {};
  need.struct_size = sizeof need;
  if (saccade_plan_memory(made, 1, &need)) return 0;
  const Buffer scratch(need.forward_scratch);
  Tensors t(1);
  const auto tensor = [](std::vector<float>& x, int64_t width) {
    return saccade_contiguous(x.data(), SACCADE_F32, 1, 1, kTokens, width);
  };
  saccade_inputs in = {};
  in.struct_size = sizeof in;
  in.q = in.k = in.v = tensor(t.in, kWidth);
  for (size_t e = 0; e < variant.inputs.size() && e < std::size(in.extra); ++e)
    in.extra[e] = tensor(t.in, variant.inputs[e].value_width ? kWidth : 1);
  saccade_outputs out = {};
  out.struct_size = sizeof out;
  out.out = tensor(t.out, kWidth);
  const saccade_bytes bytes = {scratch.bytes().data(), scratch.bytes().size()};
  bool ok = true;
  const double time = Nanoseconds([&] {
    ok &= saccade_forward(made, &in, &out, {nullptr, 0}, bytes, nullptr) ==
          SACCADE_OK;
  });
  return ok ? time : 0;
}

}  // namespace

bool PrintOverheads() {
  std::printf(
      "A forward pass over %lld tokens, one head of %lld, f32, causal, on one "
      "thread:\nnanoseconds a call by each face, and how many of them are not "
      "arithmetic.\n\n%-18s %10s %15s %15s %15s\n",
      static_cast<long long>(kTokens), static_cast<long long>(kWidth),
      "variant", "arithmetic", "Plan", "Attention", "C");
  bool any = false;
  for (const Variant* v : Variants()) {
    const double one = OfPlan(*v, 1), many = OfPlan(*v, 1 + kMore);
    if (one == 0 || many == 0) continue;
    any = true;
    const double arithmetic = (many - one) / static_cast<double>(kMore);
    std::printf("%-18s %10.0f", std::string(v->name).c_str(), arithmetic);
    for (const double time : {one, OfAttention(*v), OfC(*v)})
      std::printf("  %6.0f %6.0f", time, time - arithmetic);
    std::printf("\n");
    std::fflush(stdout);
  }
  return any;
}

}  // namespace saccade::bench::kernels
