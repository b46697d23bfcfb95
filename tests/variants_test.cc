// Every variant of the list against its float64 oracle, on every SIMD target.
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

std::vector<std::string> AllTargets() {
  std::vector<std::string> names;
  for (const std::string_view name : TargetNames()) names.emplace_back(name);
  return names;
}

void CheckPass(Pass pass) {
  const std::unique_ptr<Exec> exec = MakeTbbExec(0);
  const std::vector<std::string> targets = AllTargets();
  for (const Variant* v : Variants()) SUBCASE(v->name.data()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        if (!Offers(*v, pass, dtype)) continue;
        for (const VerifySummary& s :
             Verify(*v, pass, dtype, Effort::kFull, targets, *exec)) {
          INFO(s.target << " " << std::string(NameOf(dtype)) << ": " << s.failed
                        << " of " << s.cases << " cases failed, the first: "
                        << s.failure << "\nrepeat: saccade verify --target "
                        << s.target << " --case '" << s.repeat << "'");
          CHECK(s.ok());
          INFO("refused: " << s.refused << ", the first: " << s.refusal);
          CHECK(s.cases > s.refused);
        }
      }
    }
}

TEST_CASE("forward agrees with the oracle") { CheckPass(Pass::kForward); }

TEST_CASE("Extend by any split agrees with the oracle of the whole") {
  CheckPass(Pass::kDecode);
}

TEST_CASE("a case can be repeated from its line") {
  for (const Variant* v : Variants())
    for (const Pass pass : kPasses)
      for (const CheckCase& c :
           CasesFor(*v, pass, DType::kF32, Effort::kQuick)) {
        const std::string line = ToString(c);
        const Result<CheckCase> again = ParseCase(line);
        REQUIRE_MESSAGE(again.ok(), line, ": ", again.status().message());
        // Defaults of a position are written out the second time.
        const std::string second = ToString(*again);
        CHECK(ToString(*ParseCase(second)) == second);
        const Result<Problem> p = Resolve(*v, c.problem);
        if (!p.ok()) continue;
        const Data data = MakeData(c, *p), same = MakeData(*again, *p);
        CHECK(data.q == same.q);
        CHECK(data.v == same.v);
      }
}

TEST_CASE("a case that makes no sense is refused with a sentence") {
  const std::string name(Variants().front()->name);
  for (const std::string& text :
       {std::string(), std::string("no.such"), name + " len", name + " len=",
        name + " len=3/x", name + " fill=loud", name + " colour=red",
        name + " slots=0", name + " slots=1000000", name + " dtype=f64"}) {
    const Result<CheckCase> c = ParseCase(text);
    REQUIRE_MESSAGE(!c.ok(), text);
    CHECK(c.status().message().size() > 10);
  }
  // Well formed, but no plan: shapes are the plan's business.
  const Result<CheckCase> c = ParseCase(name + " heads=3/2");
  REQUIRE(c.ok());
  CHECK(RunCase(*c).kind == CheckResult::Kind::kRefused);
}

TEST_CASE("the check fails when one element is off") {
  // An oracle that is off in one element stands for a kernel that is.
  const Variant* const v = Variants().front();
  for (const Pass pass : kPasses) {
    if (!Offers(*v, pass, DType::kF32)) continue;
    for (const CheckCase& c : CasesFor(*v, pass, DType::kF32, Effort::kQuick)) {
      const Result<Reference> right = MakeReference(c);
      if (!right.ok() || right->out.empty()) continue;
      CHECK(RunCase(c, *right).kind == CheckResult::Kind::kOk);

      Reference wrong = *right;
      const size_t at = wrong.out.size() / 2;
      wrong.out[at] += 1e-5 * (wrong.size[at] + 1e-3);
      CHECK(RunCase(c, wrong).kind == CheckResult::Kind::kFail);

      if (right->derivatives.empty()) continue;
      wrong = *right;
      auto& d = wrong.derivatives[wrong.derivatives.size() / 2];
      d.want += 1e-5 * (d.size + 1e-3) + 2 * d.noise;
      CHECK(RunCase(c, wrong).kind == CheckResult::Kind::kFail);
    }
  }
}

TEST_CASE("a Tensor knows when its gaps or guards are written") {
  for (const Layout layout :
       {Layout::kPacked, Layout::kTokenMajor, Layout::kGaps}) {
    Tensor t(2, 3, 4, 5, DType::kF32, layout);
    t.Set(std::vector<double>(2 * 3 * 4 * 5, 1.0));
    CHECK(t.Intact());
    CHECK(t.Get() == std::vector<double>(2 * 3 * 4 * 5, 1.0));
  }
  Tensor t(1, 1, 2, 4, DType::kF32, Layout::kGaps);
  t.view().Row<float>(0, 0, 0)[4] = 1;  // the element after row 0
  CHECK(!t.Intact());
}

}  // namespace
}  // namespace saccade::bench
