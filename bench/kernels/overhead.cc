#include "bench/kernels/overhead.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/peaks.h"
#include "saccade/attention.h"
#include "saccade/c.h"
#include "saccade/variant.h"

namespace saccade::bench::kernels {
namespace {

constexpr int64_t kTokens = 16, kWidth = 64;
constexpr int64_t kMore = 32;  // sequences that tell what one of them adds

// A pass over tiny tensors, with all that it needs; empty where the variant
// does not take the problem. Returns whether it succeeded.
using Call = std::function<bool()>;

// Nanoseconds of each call: medians of some rounds, in each of which every call
// has its turn, of enough times for the clock. Own processor time, so that a
// busy machine disturbs it little. Empty where a call fails.
std::vector<double> Medians(const std::vector<Call>& calls) {
  constexpr int kRounds = 41;
  constexpr double kRound = 1e-3;  // seconds of a call in a round
  bool ok = true;
  const auto seconds = [&ok](const Call& call, int64_t times) {
    const double start = OwnSeconds();
    for (int64_t n = 0; n < times; ++n) ok &= call();
    return OwnSeconds() - start;
  };
  std::vector<int64_t> times;
  for (const Call& call : calls) {
    seconds(call, 1);  // what is made once is made
    times.push_back(1);
    while (ok && seconds(call, times.back()) < kRound) times.back() *= 2;
  }
  std::vector<std::vector<double>> rounds(calls.size());
  for (int r = 0; ok && r < kRounds; ++r)
    for (size_t c = 0; c < calls.size(); ++c)
      rounds[c].push_back(1e9 * seconds(calls[c], times[c]) /
                          static_cast<double>(times[c]));
  if (!ok) return {};
  std::vector<double> medians;
  for (std::vector<double>& each : rounds) {
    std::nth_element(each.begin(), each.begin() + kRounds / 2, each.end());
    medians.push_back(each[kRounds / 2]);
  }
  return medians;
}

// Causal, unless the variant only goes both ways.
Mask MaskOf(const Variant& variant) {
  return variant.traits.causal ? Mask::kCausal : Mask::kNone;
}

Problem TinyProblem(const Variant& variant, int64_t batch) {
  Problem p;
  p.batch = batch;
  p.q_len = p.kv_len = kTokens;
  p.qk_dim = p.v_dim = kWidth;
  p.mask = MaskOf(variant);
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
          Of<const void>(in, WidthOf(variant.inputs[e], kWidth, kWidth));
    return all;
  }

  int64_t batch;
  std::vector<float> in, out;
};

Call OfPlan(const Variant& variant, int64_t batch) {
  auto made = MakePlan(variant, TinyProblem(variant, batch));
  if (!made.ok()) return {};
  const std::shared_ptr<const Plan> plan = std::move(*made);
  const auto t = std::make_shared<Tensors>(batch);
  const auto scratch =
      std::make_shared<Buffer>(plan->Memory(1).forward_scratch);
  const Inputs in = t->inputs(variant);
  const Outputs out = {t->Of<void>(t->out, kWidth)};
  return [plan, scratch, t, in, out] {
    return plan->Forward(in, out, {}, scratch->bytes(), Serial()).ok();
  };
}

Call OfAttention(const Variant& variant) {
  auto made =
      Attention::Make(variant.name, TinyProblem(variant, 1), /*threads=*/1);
  if (!made.ok()) return {};
  const auto attention = std::make_shared<Attention>(std::move(*made));
  const auto t = std::make_shared<Tensors>(1);
  const Inputs in = t->inputs(variant);
  const Outputs out = {t->Of<void>(t->out, kWidth)};
  return [attention, t, in, out] { return attention->Forward(in, out).ok(); };
}

Call OfC(const Variant& variant) {
  saccade_problem problem = {};
  problem.struct_size = sizeof problem;
  problem.batch = problem.q_heads = problem.kv_heads = 1;
  problem.q_len = problem.kv_len = kTokens;
  problem.qk_dim = problem.v_dim = kWidth;
  problem.mask =
      MaskOf(variant) == Mask::kNone ? SACCADE_MASK_NONE : SACCADE_MASK_CAUSAL;
  saccade_plan* made = nullptr;
  if (saccade_plan_create(std::string(variant.name).c_str(), &problem, &made))
    return {};
  const std::shared_ptr<saccade_plan> plan(made, saccade_plan_free);
  saccade_footprint need = {};
  need.struct_size = sizeof need;
  if (saccade_plan_memory(made, 1, &need)) return {};
  const auto scratch = std::make_shared<Buffer>(need.forward_scratch);
  const auto t = std::make_shared<Tensors>(1);
  const auto tensor = [](std::vector<float>& x, int64_t width) {
    return saccade_contiguous(x.data(), SACCADE_F32, 1, 1, kTokens, width);
  };
  saccade_inputs in = {};
  in.struct_size = sizeof in;
  in.q = in.k = in.v = tensor(t->in, kWidth);
  for (size_t e = 0; e < variant.inputs.size() && e < std::size(in.extra); ++e)
    in.extra[e] = tensor(t->in, WidthOf(variant.inputs[e], kWidth, kWidth));
  saccade_outputs out = {};
  out.struct_size = sizeof out;
  out.out = tensor(t->out, kWidth);
  return [plan, scratch, t, in, out] {
    const saccade_bytes bytes = {scratch->bytes().data(),
                                 scratch->bytes().size()};
    return saccade_forward(plan.get(), &in, &out, {nullptr, 0}, bytes,
                           nullptr) == SACCADE_OK;
  };
}

}  // namespace

bool PrintOverheads() {
  std::printf(
      "A forward pass over %lld tokens, one head of %lld, f32, causal, on one "
      "thread:\nnanoseconds of its own time a call by each face, and how many "
      "of them are not arithmetic.\n\n%-20s %10s %14s %14s %14s\n",
      static_cast<long long>(kTokens), static_cast<long long>(kWidth),
      "variant", "arithmetic", "Plan", "Attention", "C");
  bool any = false;
  for (const Variant* v : Variants()) {
    const std::vector<Call> calls = {OfPlan(*v, 1 + kMore), OfPlan(*v, 1),
                                     OfAttention(*v), OfC(*v)};
    if (std::any_of(calls.begin(), calls.end(),
                    [](const Call& call) { return !call; }))
      continue;
    const std::vector<double> times = Medians(calls);
    if (times.empty()) continue;
    any = true;
    const double arithmetic =
        (times[0] - times[1]) / static_cast<double>(kMore);
    std::printf("%-20s %10.0f", std::string(v->name).c_str(), arithmetic);
    for (size_t face = 1; face < times.size(); ++face)
      std::printf("  %6.0f %6.0f", times[face], times[face] - arithmetic);
    std::printf("\n");
    std::fflush(stdout);
  }
  return any;
}

}  // namespace saccade::bench::kernels
