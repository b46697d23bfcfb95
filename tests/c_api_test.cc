// The C face: what it refuses, and that it computes what the C++ one does.
// tests/examples/attention.c uses it from C.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
          .scale = 0,
          .unused = 0,
          .attn_mask = SACCADE_ATTN_MASK_NONE,
          .softcap = 0};
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

// A plan, and memory for its passes on the calling thread.
struct Made {
  Made(const char* spec, const saccade_problem& problem) {
    REQUIRE(saccade_plan_create(spec, &problem, &plan) == SACCADE_OK);
    bytes.struct_size = sizeof bytes;
    REQUIRE(saccade_plan_memory(plan, 1, &bytes) == SACCADE_OK);
    memory = Buffer(std::max({bytes.forward_scratch, bytes.backward_scratch,
                              bytes.sequences_scratch}));
    scratch = {memory.as<void>(), memory.bytes().size()};
  }
  ~Made() { saccade_plan_free(plan); }
  saccade_plan* plan = nullptr;
  saccade_footprint bytes{};
  Buffer memory;
  saccade_bytes scratch{};
};

TEST_CASE("C: a caller's mask does what Mask says, where it says the same") {
  std::vector<float> q = Ramp(.3f), k = Ramp(.7f), v = Ramp(1.1f), out(kAll);
  saccade_inputs in{};
  in.struct_size = sizeof in;
  in.q = Tensor(q), in.k = Tensor(k), in.v = Tensor(v);
  saccade_outputs to{sizeof to, Tensor(out), nullptr};
  const Made causal("softmax.flash", Causal());
  REQUIRE(saccade_forward(causal.plan, &in, &to, {}, causal.scratch, nullptr) ==
          SACCADE_OK);
  const std::vector<float> want = out;

  std::vector<uint8_t> seen;
  std::vector<float> added;
  for (int64_t i = 0; i < kLen; ++i)
    for (int64_t j = 0; j < kLen; ++j) {
      seen.push_back(j <= i);
      added.push_back(j <= i ? 0.0f : -INFINITY);
    }
  saccade_problem problem = Causal();
  problem.mask = SACCADE_MASK_NONE;
  for (const bool boolean : {true, false}) {
    problem.attn_mask =
        boolean ? SACCADE_ATTN_MASK_BOOLEAN : SACCADE_ATTN_MASK_ADDITIVE;
    const Made masked("softmax.flash", problem);
    in.attn_mask = {.data = added.data(),
                    .element = SACCADE_ELEMENT_F32,
                    .batch = 1,
                    .heads = 1,
                    .q_len = kLen,
                    .kv_len = kLen,
                    .batch_stride = 0,
                    .head_stride = 0,
                    .row_stride = kLen,
                    .key_stride = 1};
    if (boolean) {
      in.attn_mask.data = seen.data();
      in.attn_mask.element = SACCADE_ELEMENT_BOOL;
    }
    std::fill(out.begin(), out.end(), 9.0f);
    REQUIRE(saccade_forward(masked.plan, &in, &to, {}, masked.scratch,
                            nullptr) == SACCADE_OK);
    for (size_t n = 0; n < out.size(); ++n)
      CHECK(std::abs(out[n] - want[n]) < 1e-6);
    in.attn_mask.element = 3;
    CHECK(saccade_forward(masked.plan, &in, &to, {}, masked.scratch, nullptr) ==
          SACCADE_INVALID);
    CHECK(Says("element 3"));
    in.attn_mask = {};
    CHECK(saccade_forward(masked.plan, &in, &to, {}, masked.scratch, nullptr) ==
          SACCADE_INVALID);
    CHECK(Says("attn_mask"));
  }
  saccade_plan* plan = nullptr;
  CHECK(saccade_plan_create("linear.elu", &problem, &plan) ==
        SACCADE_UNSUPPORTED);
  problem.attn_mask = 7;
  CHECK(saccade_plan_create("softmax.flash", &problem, &plan) ==
        SACCADE_INVALID);
  CHECK(Says("attn_mask 7"));
}

TEST_CASE("C: sequences of different lengths, packed and in pages") {
  std::vector<float> q = Ramp(.3f), k = Ramp(.7f), v = Ramp(1.1f), out(kAll),
                     want(kAll);
  // Rows first .. of a tensor of kLen.
  const auto part = [](std::vector<float>& x, int64_t first, int64_t n) {
    saccade_tensor t = Tensor(x);
    t.data = x.data() + first * kDim;
    t.len = n;
    return t;
  };
  const std::vector<int32_t> starts = {0, 5, kLen}, lens = {5, 7},
                             pages = {3, 1, 0, 2};
  saccade_problem problem = Causal();
  problem.batch = 2, problem.q_len = problem.kv_len = 7;
  const Made both("softmax.flash", problem);
  saccade_inputs in{};
  in.struct_size = sizeof in;
  in.q = Tensor(q), in.k = Tensor(k), in.v = Tensor(v);
  saccade_outputs to{sizeof to, Tensor(out), nullptr};
  saccade_sequences s{};
  s.struct_size = sizeof s;
  s.count = 2, s.q_starts = starts.data(), s.kv_starts = starts.data();
  const auto run = [&] {
    return saccade_forward_sequences(both.plan, &in, &to, &s, both.scratch,
                                     nullptr);
  };
  REQUIRE(run() == SACCADE_OK);
  for (size_t n = 0; n < 2; ++n) {
    problem.batch = 1, problem.q_len = problem.kv_len = lens[n];
    const Made one("softmax.flash", problem);
    saccade_inputs alone = in;
    alone.q = part(q, starts[n], lens[n]);
    alone.k = part(k, starts[n], lens[n]);
    alone.v = part(v, starts[n], lens[n]);
    saccade_outputs row{sizeof row, part(want, starts[n], lens[n]), nullptr};
    REQUIRE(saccade_forward(one.plan, &alone, &row, {}, one.scratch, nullptr) ==
            SACCADE_OK);
  }
  CHECK(out == want);

  // Four rows a page, the last of a sequence not full.
  std::vector<float> paged_k(16 * kHeads * kDim), paged_v(paged_k.size());
  for (size_t n = 0; n < 2; ++n)
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t t = 0; t < lens[n]; ++t) {
        const int64_t to_row = pages[2 * n + t / 4] * 4 + t % 4;
        const auto copy = [&](const std::vector<float>& x,
                              std::vector<float>& y) {
          std::copy_n(&x[(h * kLen + starts[n] + t) * kDim], kDim,
                      &y[(h * 16 + to_row) * kDim]);
        };
        copy(k, paged_k), copy(v, paged_v);
      }
  in.k = saccade_contiguous(paged_k.data(), SACCADE_F32, 1, kHeads, 16, kDim);
  in.v = saccade_contiguous(paged_v.data(), SACCADE_F32, 1, kHeads, 16, kDim);
  s.kv_starts = nullptr;
  s.kv_lens = lens.data(), s.pages = pages.data();
  s.pages_each = 2, s.page = 4;
  REQUIRE(run() == SACCADE_OK);
  for (size_t n = 0; n < out.size(); ++n)
    CHECK(std::abs(out[n] - want[n]) < 1e-6);
  s.pages = nullptr;
  CHECK(run() == SACCADE_INVALID);
  s.count = -1;
  CHECK(run() == SACCADE_INVALID);
  s.count = 2, s.q_starts = nullptr;
  CHECK(run() == SACCADE_INVALID);
  CHECK(Says("q_starts"));
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

TEST_CASE("C: structures from before masks, whatever their padding held") {
  saccade_problem problem = Causal();
  problem.struct_size = offsetof(saccade_problem, attn_mask);
  problem.unused = -1;
  problem.attn_mask = SACCADE_ATTN_MASK_ADDITIVE;  // not theirs
  problem.softcap = -1;
  saccade_plan* plan = nullptr;
  REQUIRE(saccade_plan_create("softmax.flash", &problem, &plan) == SACCADE_OK);
  saccade_footprint bytes{};
  bytes.struct_size = offsetof(saccade_footprint, sequences_scratch);
  bytes.sequences_scratch = 77;
  REQUIRE(saccade_plan_memory(plan, 1, &bytes) == SACCADE_OK);
  CHECK(bytes.sequences_scratch == 77);
  std::vector<float> x = Ramp(.3f), out(kAll);
  const Buffer scratch(bytes.forward_scratch);
  saccade_inputs in{};
  in.struct_size = offsetof(saccade_inputs, attn_mask);
  in.q = in.k = in.v = Tensor(x);
  in.attn_mask.data = &in;
  saccade_outputs to{sizeof to, Tensor(out), nullptr};
  CHECK(saccade_forward(plan, &in, &to, {},
                        {scratch.as<void>(), scratch.bytes().size()},
                        nullptr) == SACCADE_OK);
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
