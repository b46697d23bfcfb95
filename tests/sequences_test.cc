// Sequences of different lengths in one pass, packed or in pages.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "bench/verify_data.h"
#include "saccade/attention.h"
#include "saccade/paged_cache.h"
#include "simd/bf16.h"
#include "simd/target.h"
#include "tests/allocations.h"

namespace saccade {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kWidth = 20;

// [1, heads, rows, kWidth], token-major.
struct Rows {
  Rows(DType dtype, int64_t heads, int64_t rows, uint64_t seed)
      : memory(static_cast<size_t>(heads * rows * kWidth * SizeOf(dtype))),
        view(TokenMajor<void>(memory.bytes().data(), dtype, 1, heads, rows,
                              kWidth)) {
    bench::Rng rng(seed);
    for (int64_t n = 0; n < heads * rows * kWidth; ++n) {
      const auto x = static_cast<float>(rng.Normal());
      if (dtype == DType::kF32)
        memory.as<float>()[n] = x;
      else
        memory.as<BF16>()[n] = ToBF16(x);
    }
  }
  View Of(int64_t first, int64_t n) const {
    View part = view;
    part.data =
        memory.bytes().data() + first * view.row_stride * SizeOf(view.dtype);
    part.len = n;
    return part;
  }
  bool operator==(const Rows& other) const {
    return std::memcmp(memory.bytes().data(), other.memory.bytes().data(),
                       memory.bytes().size()) == 0;
  }
  Buffer memory;
  View view;
};

Problem Sizes(DType dtype, int64_t batch, int64_t q_len, int64_t kv_len) {
  return {.batch = batch,
          .q_heads = kHeads,
          .kv_heads = kKvHeads,
          .q_len = q_len,
          .kv_len = kv_len,
          .qk_dim = kWidth,
          .v_dim = kWidth,
          .dtype = dtype,
          .mask = Mask::kCausal};
}

TEST_CASE("packed sequences are each what they are alone, to the bit") {
  const std::vector<int32_t> q_starts = {0, 3, 3, 203, 204, 260},
                             kv_starts = {0, 3, 50, 250, 550, 560};
  const int64_t n = 5;
  for (const std::string_view target : TargetNames()) {
    const ScopedTarget use(target);
    for (const char* spec :
         {"softmax.flash", "softmax.window:size=30,sinks=2", "softmax.alibi",
          "softmax.flash+alibi", "sparse.strided:stride=16"})
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        CAPTURE(target);
        CAPTURE(spec);
        const Rows q(dtype, kHeads, q_starts.back(), 1),
            k(dtype, kKvHeads, kv_starts.back(), 2),
            v(dtype, kKvHeads, kv_starts.back(), 3);
        Rows out(dtype, kHeads, q_starts.back(), 4),
            want(dtype, kHeads, q_starts.back(), 5);
        const int64_t all = q_starts.back();
        std::vector<float> lse(kHeads * all), want_lse(kHeads * all);
        const auto plan = MakePlan(spec, Sizes(dtype, n, 200, 300));
        REQUIRE(plan.ok());
        for (const int slots : {1, 3}) {
          bench::SlotExec exec(slots);
          const bench::GuardedBytes scratch(
              (*plan)->Memory(slots).sequences_scratch);
          const int64_t before = Allocations();
          const Status status = (*plan)->ForwardSequences(
              {q.view, k.view, v.view}, {out.view, lse.data()},
              {.q_starts = q_starts, .kv_starts = kv_starts}, scratch.bytes(),
              exec);
          CHECK(Allocations() == before);
          REQUIRE_MESSAGE(status.ok(), status.message());
          CHECK(scratch.Intact());
          for (int64_t s = 0; s < n; ++s) {
            const int64_t q_len = q_starts[s + 1] - q_starts[s];
            const int64_t kv_len = kv_starts[s + 1] - kv_starts[s];
            auto alone =
                Attention::Make(spec, Sizes(dtype, 1, q_len, kv_len), 1);
            REQUIRE(alone.ok());
            std::vector<float> own(kHeads * q_len);
            REQUIRE(alone
                        ->Forward({q.Of(q_starts[s], q_len),
                                   k.Of(kv_starts[s], kv_len),
                                   v.Of(kv_starts[s], kv_len)},
                                  {want.Of(q_starts[s], q_len), own.data()})
                        .ok());
            for (int64_t h = 0; h < kHeads; ++h)
              std::copy_n(own.begin() + h * q_len, q_len,
                          want_lse.begin() + h * all + q_starts[s]);
          }
          CHECK(out == want);
          CHECK(lse == want_lse);
        }
      }
  }
}

// Decodes sequences of the lengths given, all at once from pages, and one by
// one by Extend.
void CheckSteps(const char* spec, DType dtype, int64_t page, int64_t piece) {
  const std::vector<int64_t> lens = {70, 3, 41};
  const auto n = static_cast<int64_t>(lens.size());
  auto cache = PagedCache::Make({.kv_heads = kKvHeads,
                                 .qk_dim = kWidth,
                                 .v_dim = kWidth,
                                 .dtype = dtype,
                                 .page = page,
                                 .pages = 200 / page + 3,
                                 .sequences = n,
                                 .kv_len = 80});
  REQUIRE(cache.ok());
  auto together = Attention::Make(spec, Sizes(dtype, n, piece, 80), 2);
  REQUIRE(together.ok());
  std::vector<Attention> alone;
  std::vector<int32_t> names;
  std::vector<Rows> q, k, v;
  for (int64_t s = 0; s < n; ++s) {
    auto one = Attention::Make(spec, Sizes(dtype, 1, piece, 80), 1);
    REQUIRE(one.ok());
    alone.push_back(std::move(*one));
    names.push_back(*cache->Begin());
    q.emplace_back(dtype, kHeads, lens[s], 10 + s);
    k.emplace_back(dtype, kKvHeads, lens[s], 20 + s);
    v.emplace_back(dtype, kKvHeads, lens[s], 30 + s);
  }
  for (int64_t at = 0; at < 70; at += piece) {
    // Those that go on, `piece` tokens each or what is left.
    std::vector<int32_t> going, starts = {0};
    for (int64_t s = 0; s < n; ++s)
      if (at < lens[s]) {
        going.push_back(names[s]);
        starts.push_back(starts.back() +
                         static_cast<int32_t>(std::min(piece, lens[s] - at)));
      }
    const int64_t all = starts.back();
    Rows all_q(dtype, kHeads, all, 1), all_k(dtype, kKvHeads, all, 1),
        all_v(dtype, kKvHeads, all, 1), out(dtype, kHeads, all, 1),
        want(dtype, kHeads, all, 1);
    for (size_t g = 0; g < going.size(); ++g) {
      const int64_t rows = starts[g + 1] - starts[g];
      const auto put = [&](const Rows& from, Rows& to) {
        const auto row =
            static_cast<size_t>(from.view.row_stride * SizeOf(dtype));
        std::memcpy(to.Of(starts[g], rows).data, from.Of(at, rows).data,
                    row * static_cast<size_t>(rows));
      };
      put(q[going[g]], all_q);
      put(k[going[g]], all_k);
      put(v[going[g]], all_v);
      REQUIRE(alone[going[g]]
                  .Extend({q[going[g]].Of(at, rows), k[going[g]].Of(at, rows),
                           v[going[g]].Of(at, rows)},
                          {want.Of(starts[g], rows)})
                  .ok());
    }
    const int64_t before = Allocations();
    REQUIRE(cache->Append(going, starts, all_k.view, all_v.view).ok());
    const Sequences step = cache->Describe(going, starts);
    CHECK(Allocations() == before);
    const Status status = together->ForwardSequences(
        {all_q.view, cache->k(), cache->v()}, {out.view}, step);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(out == want);
  }
}

TEST_CASE("steps from pages are those of Extend, to the bit") {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const char* spec :
         {"softmax.flash", "softmax.flash+alibi", "softmax.window:size=9"})
      for (const int64_t page : {1, 7, 16}) {
        CAPTURE(spec);
        CAPTURE(page);
        CheckSteps(spec, dtype, page, 1);
        CheckSteps(spec, dtype, page, 3);
      }
}

TEST_CASE("contexts of several tasks are cut where Extend cuts them") {
  const std::vector<int64_t> lens = {4500, 2100, 7};
  const std::vector<int32_t> starts = {0, 1, 2, 3};
  constexpr int64_t kMost = 4600, kPage = 48;
  for (const char* spec : {"softmax.flash", "softmax.window:size=2500"}) {
    CAPTURE(spec);
    auto cache = PagedCache::Make({.kv_heads = kKvHeads,
                                   .qk_dim = kWidth,
                                   .v_dim = kWidth,
                                   .page = kPage,
                                   .pages = 160,
                                   .sequences = 3,
                                   .kv_len = kMost});
    REQUIRE(cache.ok());
    const Rows q(DType::kF32, kHeads, 3, 1);
    Rows out(DType::kF32, kHeads, 3, 2), want(DType::kF32, kHeads, 3, 3);
    std::vector<int32_t> names;
    for (int64_t s = 0; s < 3; ++s) {
      const int64_t len = lens[s];
      const Rows k(DType::kF32, kKvHeads, len, 10 + s),
          v(DType::kF32, kKvHeads, len, 20 + s),
          past(DType::kF32, kHeads, len, 4);
      Rows ignored(DType::kF32, kHeads, len, 5);
      auto alone = Attention::Make(spec, Sizes(DType::kF32, 1, len, kMost), 1);
      REQUIRE(alone.ok());
      REQUIRE(alone
                  ->Extend(
                      {past.Of(0, len - 1), k.Of(0, len - 1), v.Of(0, len - 1)},
                      {ignored.Of(0, len - 1)})
                  .ok());
      REQUIRE(alone
                  ->Extend({q.Of(s, 1), k.Of(len - 1, 1), v.Of(len - 1, 1)},
                           {want.Of(s, 1)})
                  .ok());
      names.push_back(*cache->Begin());
      const std::vector<int32_t> all = {0, static_cast<int32_t>(len)};
      REQUIRE(cache->Append({&names.back(), 1}, all, k.view, v.view).ok());
    }
    const auto plan = MakePlan(spec, Sizes(DType::kF32, 3, 1, kMost));
    REQUIRE(plan.ok());
    // Of few slots each takes whole heads, of many each takes chunks.
    for (const int slots : {1, 4}) {
      bench::SlotExec exec(slots);
      const bench::GuardedBytes scratch(
          (*plan)->Memory(slots).sequences_scratch);
      const Status status = (*plan)->ForwardSequences(
          {q.view, cache->k(), cache->v()}, {out.view},
          cache->Describe(names, starts), scratch.bytes(), exec);
      REQUIRE_MESSAGE(status.ok(), status.message());
      CHECK(scratch.Intact());
      CHECK(out == want);
    }
  }
}

TEST_CASE("a prompt from pages is what it is from one piece of memory") {
  // Sums are cut where pages end: equal to rounding, not to the bit.
  const int64_t len = 90;
  const Rows q(DType::kF32, kHeads, len, 1), k(DType::kF32, kKvHeads, len, 2),
      v(DType::kF32, kKvHeads, len, 3);
  Rows out(DType::kF32, kHeads, len, 4), want(DType::kF32, kHeads, len, 5);
  const std::vector<int32_t> starts = {0, 90};
  auto attention =
      Attention::Make("softmax.flash", Sizes(DType::kF32, 1, len, len), 1);
  REQUIRE(attention.ok());
  REQUIRE(attention->Forward({q.view, k.view, v.view}, {want.view}).ok());
  for (const int64_t page : {1, 7, 32}) {
    auto cache = PagedCache::Make({.kv_heads = kKvHeads,
                                   .qk_dim = kWidth,
                                   .v_dim = kWidth,
                                   .page = page,
                                   .pages = len + 4,
                                   .sequences = 2,
                                   .kv_len = len});
    REQUIRE(cache.ok());
    const int32_t other = *cache->Begin(), one = *cache->Begin();
    // Another sequence's page in between: pages do not follow each other.
    for (int64_t t = 0; t < len; ++t) {
      const std::vector<int32_t> single = {0, 1};
      if (t % 3 == 0 && t < 10)
        REQUIRE(
            cache->Append({&other, 1}, single, k.Of(0, 1), v.Of(0, 1)).ok());
      REQUIRE(cache->Append({&one, 1}, single, k.Of(t, 1), v.Of(t, 1)).ok());
    }
    REQUIRE(attention
                ->ForwardSequences({q.view, cache->k(), cache->v()}, {out.view},
                                   cache->Describe({&one, 1}, starts))
                .ok());
    for (int64_t n = 0; n < len * kHeads * kWidth; ++n)
      CHECK(std::abs(out.memory.as<float>()[n] - want.memory.as<float>()[n]) <
            1e-5);
  }
}

TEST_CASE("pages are given back, and a full pool says so before it writes") {
  auto cache = PagedCache::Make({.kv_heads = kKvHeads,
                                 .qk_dim = kWidth,
                                 .v_dim = kWidth,
                                 .page = 4,
                                 .pages = 3,
                                 .sequences = 2,
                                 .kv_len = 20});
  REQUIRE(cache.ok());
  const Rows rows(DType::kF32, kKvHeads, 9, 1);
  const int32_t a = *cache->Begin(), b = *cache->Begin();
  CHECK(cache->Begin().status().code() == Code::kExhausted);
  const auto append = [&](int32_t s, int32_t n) {
    const std::vector<int32_t> starts = {0, n};
    return cache->Append({&s, 1}, starts, rows.Of(0, n), rows.Of(0, n));
  };
  CHECK(append(a, 5).ok());
  CHECK(cache->free_pages() == 1);
  CHECK(append(b, 5).code() == Code::kExhausted);
  CHECK(cache->tokens(b) == 0);
  CHECK(cache->free_pages() == 1);
  CHECK(append(b, 4).ok());
  CHECK(append(a, 3).ok());  // fills its second page
  CHECK(append(a, 1).code() == Code::kExhausted);
  CHECK(cache->End(a).ok());
  CHECK(cache->free_pages() == 2);
  CHECK(cache->End(a).code() == Code::kInvalid);
  CHECK(append(a, 1).code() == Code::kInvalid);
  CHECK(append(b, 8).ok());
  CHECK(append(b, 9).code() == Code::kExhausted);  // 21 of 20 tokens
  const std::vector<int32_t> twice = {b, b}, starts = {0, 1, 2};
  CHECK(cache->Append(twice, starts, rows.Of(0, 2), rows.Of(0, 2)).code() ==
        Code::kInvalid);
  for (const PagedCache::Shape bad :
       {PagedCache::Shape{.qk_dim = 0, .v_dim = 1},
        PagedCache::Shape{.qk_dim = 1, .v_dim = 1, .page = 0},
        PagedCache::Shape{.qk_dim = 1, .v_dim = 1, .pages = -1},
        PagedCache::Shape{.kv_heads = 1 << 20,
        .qk_dim = 1 << 20,
        .v_dim = 1,
        .pages = 1 << 20}})
    CHECK(!PagedCache::Make(bad).ok());
}

TEST_CASE("sequences that make no sense are refused with a sentence") {
  const Rows q(DType::kF32, kHeads, 10, 1), k(DType::kF32, kKvHeads, 12, 2);
  Rows out(DType::kF32, kHeads, 10, 3);
  const auto says = [&](const Sequences& s, const char* what,
                        const char* spec = "softmax.flash") {
    auto attention = Attention::Make(spec, Sizes(DType::kF32, 2, 8, 8), 1);
    REQUIRE(attention.ok());
    const Status status =
        attention->ForwardSequences({q.view, k.view, k.view}, {out.view}, s);
    CHECK(!status.ok());
    CHECK_MESSAGE(status.message().find(what) != std::string::npos,
                  status.message());
  };
  using Starts = std::vector<int32_t>;
  const Starts q2 = {0, 4, 10}, k2 = {0, 6, 12};
  says({}, "q_starts");
  says({.q_starts = Starts{0, 9}, .kv_starts = k2}, "q_starts");
  says({.q_starts = Starts{1, 4, 10}, .kv_starts = k2}, "q_starts");
  says({.q_starts = Starts{0, 11, 10}, .kv_starts = k2}, "sequence 0");
  says({.q_starts = Starts{0, 1, 10}, .kv_starts = k2}, "sequence 1");
  says({.q_starts = Starts{0, 4, 8, 10}, .kv_starts = Starts{0, 4, 8, 12}},
       "3 sequences");
  says({.q_starts = q2, .kv_starts = Starts{0, 12}}, "as many");
  says({.q_starts = q2, .kv_starts = Starts{0, 2, 12}}, "kv_starts");
  const Starts lens = {6, 8}, pages = {0, 1, 2, 1};
  says({.q_starts = q2, .kv_lens = Starts{6}, .pages = pages, .page = 4},
       "kv_lens");
  says({.q_starts = q2, .kv_lens = lens, .pages = pages}, "0 rows");
  says({.q_starts = q2, .kv_lens = lens, .pages = Starts{0, 1, 2}, .page = 4},
       "3 numbers");
  says({.q_starts = q2, .kv_lens = lens, .pages = Starts{0, 1}, .page = 4},
       "hold");
  says(
      {.q_starts = q2, .kv_lens = lens, .pages = Starts{0, 1, 2, 3}, .page = 4},
      "page 3");
  says({.q_starts = q2,
        .kv_lens = lens,
        .pages = Starts{0, -1, 2, 1},
        .page = 4},
       "page -1");
  says({.q_starts = q2, .kv_lens = Starts{-1, 8}, .pages = pages, .page = 4},
       "-1 keys");
  says({.q_starts = q2, .kv_starts = k2}, "one length", "softmax.flash+rope");
  says({.q_starts = q2, .kv_starts = k2}, "bias", "softmax.flash+t5");
  says({.q_starts = q2, .kv_starts = k2}, "one length", "softmax.naive");
}

}  // namespace
}  // namespace saccade
