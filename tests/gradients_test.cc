// Gradients of every variant against differences of its float64 oracle.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_reference.h"
#include "bench/verify_run.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

TEST_CASE("backward agrees with differences of the oracle") {
  const std::unique_ptr<Exec> exec = MakeTbbExec(0);
  std::vector<std::string> targets;
  for (const std::string_view name : TargetNames()) targets.emplace_back(name);
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        if (!Offers(*v, Pass::kBackward, dtype)) continue;
        for (const VerifySummary& s : Verify(*v, Pass::kBackward, dtype,
                                             Effort::kFull, targets, *exec)) {
          INFO(s.target << " " << std::string(NameOf(dtype)) << ": " << s.failed
                        << " of " << s.cases << " cases failed, the first: "
                        << s.failure << "\nrepeat: saccade verify --target "
                        << s.target << " --case '" << s.repeat << "'");
          CHECK(s.ok());
        }
      }
    }
}

// The loss sum(dout * out) of the oracle.
double Loss(const Variant& v, const Problem& p, const Data& data) {
  std::vector<double> out(data.dout.size()), size(data.dout.size());
  RunOracle(v, p, data.inputs(), {out.data(), size.data(), nullptr});
  double loss = 0;
  for (size_t n = 0; n < out.size(); ++n) loss += data.dout[n] * out[n];
  return loss;
}

TEST_CASE("a step along any direction changes the loss as gradients say") {
  // Elements one by one are looked at above, on small shapes; here all at once,
  // on shapes that span several blocks of queries and keys.
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      if (!v->traits.backward) continue;
      for (const int64_t length : {140, 300}) {
        CheckCase c;
        c.variant = v;
        c.pass = Pass::kBackward;
        c.problem = {.q_heads = 2,
                     .kv_heads = v->traits.grouped_heads ? 1 : 2,
                     .q_len = length,
                     .kv_len = length,
                     .qk_dim = 40,
                     .v_dim = 24,
                     .mask = v->traits.causal ? Mask::kCausal : Mask::kNone};
        const Result<Problem> p = Resolve(*v, c.problem);
        REQUIRE(p.ok());
        const auto plan = MakePlan(*v, c.problem);
        REQUIRE_MESSAGE(plan.ok(), plan.status().message());
        const Data data = MakeData(c, *p);
        const Written w = RunPass(c, **plan, *p, data, Serial());
        REQUIRE_MESSAGE(w.trouble.empty(), w.trouble);

        Rng rng(5);
        Data above = data, below = data;
        double slope = 0, length2 = 0;
        constexpr double kStep = 1e-7;  // few rows choose other keys within it
        for (int t = 0; t < kFirstExtra + std::ssize(v->inputs); ++t)
          for (size_t n = 0; n < w.gradients[t].size(); ++n) {
            const double along = rng.Normal();
            TensorOf(above, t)[n] += kStep * along;
            TensorOf(below, t)[n] -= kStep * along;
            slope += w.gradients[t][n] * along;
            length2 += w.gradients[t][n] * w.gradients[t][n];
          }
        const double difference =
            (Loss(*v, *p, above) - Loss(*v, *p, below)) / (2 * kStep);
        // A slope is as large as the gradient is long, give or take chance.
        INFO("length " << length << ": slope " << slope << ", difference "
                       << difference);
        CHECK(std::abs(slope - difference) <= 1e-5 * std::sqrt(length2));
      }
    }
}

}  // namespace
}  // namespace saccade::bench
