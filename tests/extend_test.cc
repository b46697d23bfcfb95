// Extend: a sequence in pieces, and the cache that it fills.
#include <doctest/doctest.h>

#include "simd/target.h"
#include "tests/decode_reference.h"

namespace saccade {
namespace {

// A plan of one pattern, and a whole sequence to feed it.
struct Sequence {
  Sequence(const Case& c, DType dtype, int64_t n, int64_t most)
      : spec(MakeSpec(c, dtype, 12, 20)),
        q(dtype, 2, 6, n, 12),
        k(dtype, 2, 2, n, 12),
        v(dtype, 2, 2, n, 20),
        out(dtype, 2, 6, n, 20),
        lse(static_cast<size_t>(2 * 6 * n)) {
    std::mt19937 random(7);
    for (Tensor* x : {&q, &k, &v}) x->Fill(random);
    Problem problem;
    problem.batch = 2;
    problem.q_heads = 6;
    problem.kv_heads = 2;
    problem.q_len = most;
    problem.kv_len = n;
    problem.qk_dim = 12;
    problem.v_dim = 20;
    problem.dtype = dtype;
    problem.mask = Mask::kCausal;
    problem.scale = spec.scale;
    plan = MakeTilePlan(problem, spec);
    state = std::make_unique<Memory>(plan->Memory(1).state);
    scratch = std::make_unique<Memory>(plan->Memory(1).extend_scratch);
    REQUIRE(plan->Reset(*state).ok());
  }

  // Tokens `held` .. `held` + n - 1; their log-sum-exps move to their places.
  Status Extend(int64_t n) {
    std::vector<float> rows(static_cast<size_t>(2 * 6 * n));
    Inputs fresh;
    fresh.q = q.Rows(held, n);
    fresh.k = k.Rows(held, n);
    fresh.v = v.Rows(held, n);
    const Status status = plan->Extend(fresh, {out.Rows(held, n), rows.data()},
                                       *state, *scratch, Serial());
    if (!status.ok()) return status;
    const int64_t all = q.len();
    for (int64_t head = 0; head < 12; ++head)
      std::copy_n(rows.data() + head * n, n, lse.data() + head * all + held);
    held += n;
    return status;
  }

  TileSpec spec;
  Tensor q, k, v, out;
  std::vector<float> lse;
  std::unique_ptr<Plan> plan;
  std::unique_ptr<Memory> state, scratch;
  int64_t held = 0;
};

TEST_CASE("any split of a sequence into Extends is the causal sum") {
  std::mt19937 random(3);
  for (const Case& c : Cases()) {
    if (c.name == "everything") continue;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t most : {1, 9, 700}) {
        CAPTURE(c.name);
        CAPTURE(std::string(NameOf(dtype)));
        CAPTURE(most);
        constexpr int64_t kTokens = 700;
        Sequence s(c, dtype, kTokens, most);
        while (s.held < kTokens) {
          const int64_t n = static_cast<int64_t>(random()) % (most + 1);
          REQUIRE(s.Extend(std::min(n, kTokens - s.held)).ok());
        }
        // Pieces of more than a few tokens are forward passes.
        const bool rounded =
            most > kDecodeRows && dtype == DType::kBF16 && MultipliesBF16();
        CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens,
                    kTokens, s.lse.data(), rounded) <= 1);
      }
    }
  }
}

TEST_CASE("Extend equals Forward") {
  for (const Case& c : Cases()) {
    if (c.name == "everything") continue;
    CAPTURE(c.name);
    constexpr int64_t kTokens = 150;
    Sequence s(c, DType::kF32, kTokens, kTokens);
    for (const int64_t n : {3, 0, 40, 1, 100, 4, 2}) REQUIRE(s.Extend(n).ok());
    Tensor whole(DType::kF32, 2, 6, kTokens, 20);
    const Memory scratch(s.plan->Memory(1).forward_scratch);
    Inputs in;
    in.q = s.q.view();
    in.k = s.k.view();
    in.v = s.v.view();
    REQUIRE(s.plan->Forward(in, {whole.view()}, {}, scratch, Serial()).ok());
    CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, whole, 0, kTokens, kTokens,
                nullptr) <= 1);
    CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens, kTokens,
                s.lse.data()) <= 1);
  }
}

// The problem's own window ends sinks' sight too, but not before it is over.
TEST_CASE("a window's sinks stay in its cache for as long as they are seen") {
  for (const int64_t high : {3, 99, 300}) {
    Part part = Band(2, 6);
    part.high = high;
    const Case c{"sinks within a window", {part}, [&](int64_t i, int64_t j) {
                   return j <= i && i - j <= high && (i - j <= 2 || j < 6);
                 }};
    for (const int64_t most : {1, 7, 200}) {
      CAPTURE(high);
      CAPTURE(most);
      constexpr int64_t kTokens = 400;
      Sequence s(c, DType::kF32, kTokens, most);
      while (s.held < kTokens)
        REQUIRE(s.Extend(std::min(most, kTokens - s.held)).ok());
      CHECK(Worst(s.spec, c, s.q, s.k, s.v, nullptr, s.out, 0, kTokens, kTokens,
                  s.lse.data()) <= 1);
    }
  }
}

TEST_CASE("a window's state does not grow with the sequence") {
  const Case c = Cases()[4];
  const size_t brief = Sequence(c, DType::kF32, 1000, 1).plan->Memory(1).state;
  const size_t longer =
      Sequence(c, DType::kF32, 1000000 / 100, 1).plan->Memory(1).state;
  CHECK(brief == longer);
  // 5 sinks, 39 behind, 64 of slack; padded to 128 rows of 12 + 20 floats.
  CHECK(longer == 64 + 2 * 2 * 128 * (12 + 20) * 4);
}

TEST_CASE("a state is filled to the brim and no further") {
  Sequence s(Cases().front(), DType::kF32, 10, 4);
  CHECK(s.Extend(4).ok());
  CHECK(s.Extend(4).ok());
  Inputs fresh;
  fresh.q = s.q.Rows(0, 3);
  fresh.k = s.k.Rows(0, 3);
  fresh.v = s.v.Rows(0, 3);
  const Outputs out{s.out.Rows(0, 3)};
  const auto extend = [&] {
    return s.plan->Extend(fresh, out, *s.state, *s.scratch, Serial()).code();
  };
  CHECK(extend() == Code::kExhausted);
  CHECK(s.Extend(2).ok());
  CHECK(s.Extend(0).ok());
  CHECK(extend() == Code::kExhausted);
  CHECK(s.plan->Reset(*s.state).ok());
  CHECK(extend() == Code::kOk);
}

TEST_CASE("a state that was not reset, or is another plan's, is refused") {
  Sequence s(Cases().front(), DType::kF32, 10, 4);
  Sequence other(Cases().front(), DType::kF32, 11, 4);
  Inputs fresh;
  fresh.q = s.q.Rows(0, 1);
  fresh.k = s.k.Rows(0, 1);
  fresh.v = s.v.Rows(0, 1);
  const Outputs out{s.out.Rows(0, 1)};
  const auto extend = [&](Bytes state) {
    return s.plan->Extend(fresh, out, state, *s.scratch, Serial()).code();
  };
  const Memory garbage(s.plan->Memory(1).state);
  CHECK(extend(garbage) == Code::kInvalid);
  CHECK(extend(*other.state) == Code::kInvalid);
  CHECK(extend(*s.state) == Code::kOk);
  // A count of tokens that no Extend can have left.
  const int64_t tokens = 1000;
  std::memcpy(Bytes(*s.state).data() + sizeof(uint64_t), &tokens,
              sizeof(tokens));
  CHECK(extend(*s.state) == Code::kInvalid);
}

}  // namespace
}  // namespace saccade
