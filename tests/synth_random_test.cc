// What a learned table of scores comes to at its limits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench {
namespace {

struct Table {
  explicit Table(int64_t queries, int64_t keys) {
    check.variant = Find("synth.random");
    REQUIRE(check.variant != nullptr);
    check.problem = {.q_heads = 2,
                     .kv_heads = 2,
                     .q_len = queries,
                     .kv_len = keys,
                     .qk_dim = 5,
                     .v_dim = 12,
                     .mask = Mask::kCausal};
    problem = *Resolve(*check.variant, check.problem);
    data = MakeData(check, problem);
  }
  std::vector<double> Out() const {
    const auto plan = MakePlan(*check.variant, check.problem);
    REQUIRE_MESSAGE(plan.ok(), plan.status().message());
    const Written w = RunPass(check, **plan, problem, data, Serial());
    REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);
    return w.out;
  }

  CheckCase check;
  Problem problem;
  Data data;
};

TEST_CASE("a table of scores is all that weights come from") {
  Table run(70, 70);
  const std::vector<double> out = run.Out();
  for (auto* x : {&run.data.q, &run.data.k})
    for (double& y : *x) y = -3 * y + 1;
  CHECK(run.Out() == out);
  // One large score a row: its key's value.
  constexpr int64_t kLength = 1024;
  REQUIRE(std::ssize(run.data.bias) == 2 * kLength * kLength);
  std::fill(run.data.bias.begin(), run.data.bias.end(), 0.0);
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t i = 0; i < 70; ++i)
      run.data.bias[(h * kLength + i) * kLength + i / 2] = 200;
  const std::vector<double> copies = run.Out();
  for (int64_t n = 0; n < std::ssize(copies); ++n) {
    const int64_t head = n / 12 / 70, i = n / 12 % 70;
    CHECK(copies[n] ==
          doctest::Approx(run.data.v[(head * 70 + i / 2) * 12 + n % 12]));
  }
}

TEST_CASE("a table's rows are the queries' positions") {
  Table whole(70, 70), last(3, 70);
  last.data.v = whole.data.v;
  last.data.bias = whole.data.bias;
  const std::vector<double> all = whole.Out(), some = last.Out();
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t n = 0; n < 3 * 12; ++n)
      CHECK(some[h * 36 + n] == doctest::Approx(all[(h * 70 + 67) * 12 + n]));
}

TEST_CASE("positions that a table does not have are refused") {
  const Variant& v = *Find("synth.random");
  const auto plan = [&](int64_t queries, int64_t keys, int64_t heads,
                        const char* length) {
    Problem p = {.q_heads = heads,
                 .kv_heads = heads,
                 .q_len = queries,
                 .kv_len = keys,
                 .qk_dim = 4,
                 .v_dim = 4};
    p.knobs.SetText("length", length);
    return MakePlan(v, p).status();
  };
  CHECK(plan(300, 300, 1, "300").ok());
  for (const Status& status :
       {plan(301, 301, 1, "300"), plan(301, 2, 1, "300"),
        plan(2, 301, 1, "300"), plan(9, 9, 64, "8192")}) {
    CHECK(status.code() == Code::kUnsupported);
    CHECK(status.message().find("length") != std::string::npos);
  }
}

}  // namespace
}  // namespace saccade::bench
