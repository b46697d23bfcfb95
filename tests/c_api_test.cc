// The C face: what it refuses, and that it computes what the C++ one does.
// tests/examples/attention.c uses it from C.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "saccade/attention.h"
#include "saccade/c.h"

namespace saccade {
namespace {

constexpr int64_t kHeads = 2, kLen = 12, kDim = 8, kAll = kHeads * kLen * kDim;

saccade_problem Causal() {
  return {.struct_size = sizeof(saccade_problem),
          .batch = 1,
          .q_heads = kHeads,
          .kv_heads = kHeads,
          .q_len = kLen,
          .kv_len = kLen,
          .qk_dim = kDim,
          .v_dim = kDim,
          .dtype = SACCADE_F32,
          .mask = SACCADE_MASK_CAUSAL,
          .window = 0,
          .scale = 0};
}

saccade_tensor Tensor(std::vector<float>& x) {
  return saccade_contiguous(x.data(), SACCADE_F32, 1, kHeads, kLen, kDim);
}

std::vector<float> Ramp(float step) {
  std::vector<float> x(kAll);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = std::sin(step * static_cast<float>(i));
  return x;
}

bool Says(const char* what) {
  return std::string(saccade_last_error()).find(what) != std::string::npos;
}

TEST_CASE("C: forward and backward are those of C++") {
  std::vector<float> q = Ramp(.3f), k = Ramp(.7f), v = Ramp(1.1f), out(kAll),
                     dq(kAll), dk(kAll), dv(kAll);
  const saccade_problem problem = Causal();
  saccade_plan* plan = nullptr;
  REQUIRE(saccade_plan_create("softmax.flash+rope", &problem, &plan) ==
          SACCADE_OK);
  saccade_footprint bytes{};
  bytes.struct_size = sizeof bytes;
  REQUIRE(saccade_plan_memory(plan, 1, &bytes) == SACCADE_OK);
  const Buffer scratch(std::max(bytes.forward_scratch, bytes.backward_scratch));
  const Buffer saved(bytes.saved);
  const saccade_bytes s{scratch.as<void>(), scratch.bytes().size()};
  const saccade_bytes kept{saved.as<void>(), saved.bytes().size()};
  saccade_inputs in{};
  in.struct_size = sizeof in;
  in.q = Tensor(q), in.k = Tensor(k), in.v = Tensor(v);
  saccade_outputs to{sizeof to, Tensor(out), nullptr};
  REQUIRE(saccade_forward(plan, &in, &to, kept, s, nullptr) == SACCADE_OK);
  saccade_gradients grad{};
  grad.struct_size = sizeof grad;
  grad.dq = Tensor(dq), grad.dk = Tensor(dk), grad.dv = Tensor(dv);
  const saccade_tensor o = Tensor(out);
  REQUIRE(saccade_backward(plan, &in, &o, kept, &o, &grad, s, nullptr) ==
          SACCADE_OK);
  saccade_plan_free(plan);

  const Problem same{.q_heads = kHeads,
                     .kv_heads = kHeads,
                     .q_len = kLen,
                     .kv_len = kLen,
                     .qk_dim = kDim,
                     .v_dim = kDim,
                     .mask = Mask::kCausal};
  auto attention = Attention::Make("softmax.flash+rope", same, 1);
  REQUIRE(attention.ok());
  std::vector<float> want(kAll), wq(kAll), wk(kAll), wv(kAll);
  const auto view = [](std::vector<float>& x) {
    return Contiguous<void>(x.data(), DType::kF32, 1, kHeads, kLen, kDim);
  };
  REQUIRE(
      attention->Forward({view(q), view(k), view(v)}, {view(want)}, true).ok());
  REQUIRE(attention
              ->Backward({view(q), view(k), view(v)}, view(want), view(want),
                         {view(wq), view(wk), view(wv)})
              .ok());
  CHECK(out == want);
  CHECK(dq == wq);
  CHECK(dk == wk);
  CHECK(dv == wv);
}

TEST_CASE("C: the caller's own loop does the work") {
  std::vector<float> q = Ramp(.3f), out(kAll), serial(kAll);
  const saccade_problem problem = Causal();
  saccade_plan* plan = nullptr;
  REQUIRE(saccade_plan_create("linear.elu", &problem, &plan) == SACCADE_OK);
  int64_t loops = 0;
  saccade_exec* exec = nullptr;
  const saccade_loop backwards = [](void* user, int64_t tasks,
                                    saccade_loop_body body, void* context) {
    ++*static_cast<int64_t*>(user);
    for (int64_t t = tasks - 1; t >= 0; --t)
      body(context, t, static_cast<int32_t>(t % 2));
  };
  REQUIRE(saccade_exec_custom(2, backwards, &loops, &exec) == SACCADE_OK);
  CHECK(saccade_exec_slots(exec) == 2);
  saccade_footprint bytes{};
  bytes.struct_size = sizeof bytes;
  REQUIRE(saccade_plan_memory(plan, 2, &bytes) == SACCADE_OK);
  const Buffer scratch(bytes.forward_scratch);
  const saccade_bytes s{scratch.as<void>(), scratch.bytes().size()};
  saccade_inputs in{};
  in.struct_size = sizeof in;
  in.q = in.k = in.v = Tensor(q);
  saccade_outputs to{sizeof to, Tensor(out), nullptr};
  CHECK(saccade_forward(plan, &in, &to, {}, s, exec) == SACCADE_OK);
  CHECK(loops > 0);
  to.out = Tensor(serial);
  CHECK(saccade_forward(plan, &in, &to, {}, s, nullptr) == SACCADE_OK);
  CHECK(out == serial);
  saccade_exec_free(exec);
  saccade_plan_free(plan);
}

TEST_CASE("C: what is wrong is said, and nothing is made") {
  saccade_problem problem = Causal();
  saccade_plan* plan = nullptr;
  CHECK(saccade_plan_create("softmax.flsh", &problem, &plan) ==
        SACCADE_NOT_FOUND);
  CHECK(plan == nullptr);
  CHECK(Says("softmax.flash"));
  problem.mask = 9;
  CHECK(saccade_plan_create("softmax.flash", &problem, &plan) ==
        SACCADE_INVALID);
  CHECK(Says("mask 9"));
  problem = Causal();
  problem.dtype = -1;
  CHECK(saccade_plan_create("softmax.flash", &problem, &plan) ==
        SACCADE_INVALID);
  problem = Causal();
  problem.struct_size = 3;
  CHECK(saccade_plan_create("softmax.flash", &problem, &plan) ==
        SACCADE_INVALID);
  CHECK(Says("struct_size is 3"));
  CHECK(saccade_plan_create(nullptr, &problem, &plan) == SACCADE_INVALID);
  CHECK(saccade_plan_create("softmax.flash", nullptr, &plan) ==
        SACCADE_INVALID);
  CHECK(saccade_exec_custom(0, nullptr, nullptr, nullptr) == SACCADE_INVALID);
  CHECK(saccade_reset(nullptr, {}) == SACCADE_INVALID);
  CHECK(saccade_variant_takes(-1, &problem) == SACCADE_NOT_FOUND);

  problem = Causal();
  REQUIRE(saccade_plan_create("softmax.flash", &problem, &plan) == SACCADE_OK);
  std::vector<float> x(kAll);
  saccade_inputs in{};
  in.struct_size = sizeof in;
  in.q = in.k = in.v = Tensor(x);
  saccade_outputs to{sizeof to, Tensor(x), nullptr};
  CHECK(saccade_forward(plan, &in, &to, {}, {}, nullptr) == SACCADE_INVALID);
  CHECK(Says("scratch has 0 bytes"));
  in.v.len = kLen - 1;
  CHECK(saccade_forward(plan, &in, &to, {}, {}, nullptr) == SACCADE_INVALID);
  CHECK(Says("v has shape [1, 2, 11, 8]"));
  saccade_plan_free(plan);
}

TEST_CASE("C: a structure that is newer or older than the library") {
  struct Newer {
    saccade_problem known;
    int64_t wish;
  } newer{Causal(), 0};
  newer.known.struct_size = sizeof newer;
  saccade_plan* plan = nullptr;
  CHECK(saccade_plan_create("softmax.flash", &newer.known, &plan) ==
        SACCADE_OK);
  saccade_plan_free(plan);
  newer.wish = 1;
  CHECK(saccade_plan_create("softmax.flash", &newer.known, &plan) ==
        SACCADE_UNSUPPORTED);

  // One that ended before the window reads as one without a window.
  saccade_problem older = Causal();
  older.struct_size = offsetof(saccade_problem, window);
  older.window = -5;
  CHECK(saccade_plan_create("softmax.flash", &older, &plan) == SACCADE_OK);
  saccade_plan_free(plan);
}

TEST_CASE("C: the variants by number") {
  REQUIRE(saccade_variant_count() == std::ssize(Variants()));
  for (int64_t i = 0; i < saccade_variant_count(); ++i) {
    const Variant& v = *Variants()[static_cast<size_t>(i)];
    CHECK(saccade_variant_name(i) == v.name);
    CHECK(saccade_variant_title(i) == v.title);
    for (int64_t n = 0; n < std::ssize(v.inputs); ++n)
      CHECK(saccade_variant_input(i, n) ==
            v.inputs[static_cast<size_t>(n)].name);
    CHECK(saccade_variant_input(i, std::ssize(v.inputs)) == nullptr);
    const saccade_problem problem = Causal();
    CHECK((saccade_variant_takes(i, &problem) == SACCADE_OK) ==
          v.traits.causal);
  }
  CHECK(saccade_variant_name(-1) == nullptr);
  CHECK(saccade_variant_title(1 << 20) == nullptr);
}

}  // namespace
}  // namespace saccade
