// Claims on recall, alignment and content: what passes them, what fails, and
// what a run says that has no record of them.
#include "bench/learn/claims.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/learn/jobs.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

// Records of a run that was never made.
class Run {
 public:
  Run() {
    for (const char* role :
         {"dot", "dense", "dense_dot", "random", "content-free", "diagonal",
          "additive", "delta", "linear", "nope", "decay", "alibi"})
      options_.roles[role] = {std::string("a.") + role};
  }

  Run& Bits(const char* role, double bits, int seed = 1) {
    records_.push_back({{"kind", "extrapolation"},
                        {"status", "ok"},
                        {"variant", std::string("a.") + role},
                        {"switch", "plain"},
                        {"protocol", "nonoverlap"},
                        {"seed", seed},
                        {"eval_len", 128},
                        {"bits_per_byte", bits}});
    return *this;
  }

  // bucket -1: of all.
  Run& Probe(const char* probe, const char* role, int64_t len, double accuracy,
             int64_t bucket = -1, int seed = 1) {
    records_.push_back({{"kind", "probe"},
                        {"status", "ok"},
                        {"variant", std::string("a.") + role},
                        {"probe", probe},
                        {"switch", "plain"},
                        {"seed", seed},
                        {"eval_len", len},
                        {"accuracy", accuracy}});
    if (bucket >= 0) records_.back()["bucket"] = bucket;
    return *this;
  }

  Run& Aligns(const char* role, double ordered, double swapped, double two) {
    return Probe("alignment", role, 41, ordered, 0)
        .Probe("alignment", role, 41, swapped, 1)
        .Probe("alignment", role, 41, two, 2);
  }

  json Claim(int number) const {
    for (const json& claim : JudgeClaims(options_, records_))
      if (claim["number"] == number) return claim;
    FAIL("no claim " << number);
    return {};
  }
  std::string Verdict(int number) const { return Claim(number)["verdict"]; }

 private:
  LearnOptions options_;
  std::vector<json> records_;
};

TEST_CASE("claims that no record bears on are not run") {
  for (const int number : {11, 13, 14, 15}) {
    CAPTURE(number);
    CHECK(Run().Verdict(number) == "not run");
    CHECK(Run().Claim(number)["measured"].get<std::string>().find("not run") !=
          std::string::npos);
  }
}

TEST_CASE("content beside none: bits in order, and recall at chance") {
  const auto run = [](double dot, double both, double dense, double random,
                      double recall) {
    return Run()
        .Bits("dot", dot)
        .Bits("dense_dot", both)
        .Bits("dense", dense)
        .Bits("random", random)
        .Probe("mqar", "content-free", 64, recall)
        .Verdict(11);
  };
  CHECK(run(2.5, 2.51, 2.6, 2.7, 0.04) == "pass");
  CHECK(run(2.5, 2.53, 2.6, 2.7, 0.04) == "fail");
  CHECK(run(2.5, 2.51, 2.51, 2.7, 0.04) == "fail");
  CHECK(run(2.5, 2.51, 2.6, 2.59, 0.04) == "fail");
  CHECK(run(2.5, 2.51, 2.6, 2.7, 0.3) == "fail");
  // Whoever cannot tell values apart may still know which there are: 3 of 26.
  const auto guess = [](double right) {
    Run r;
    for (const int64_t pairs : {4, 8, 14})
      r.Probe("mqar", "content-free", 64, 0.1, pairs);
    return r.Probe("mqar", "content-free", 64, right).Verdict(11);
  };
  CHECK(guess(0.15) == "pass");
  CHECK(guess(0.18) == "fail");
  // A part that was not run is said, and the rest is judged.
  const json part = Run().Probe("mqar", "content-free", 64, 0.04).Claim(11);
  CHECK(part["verdict"] == "pass");
  CHECK(part["measured"] ==
        "dense_dot beside dot: not run; dense beside dot: not run; random "
        "beside dense: not run; a.content-free: MQAR 0.04, guessing gives "
        "0.03");
}

TEST_CASE("a diagonal aligns one rule, scores all") {
  CHECK(Run().Aligns("diagonal", 0.52, 0.07, 0.5).Verdict(13) == "pass");
  CHECK(Run().Aligns("diagonal", 0.3, 0.07, 0.5).Verdict(13) == "fail");
  CHECK(Run().Aligns("diagonal", 0.95, 0.2, 0.5).Verdict(13) == "fail");
  CHECK(Run().Aligns("diagonal", 0.95, 0.07, 0.9).Verdict(13) == "fail");
  CHECK(Run().Aligns("additive", 0.95, 0.9, 0.9).Verdict(13) == "pass");
  CHECK(Run().Aligns("additive", 0.8, 0.58, 0.9).Verdict(13) == "pass");
  CHECK(Run().Aligns("additive", 0.95, 0.4, 0.9).Verdict(13) == "fail");
  CHECK(Run().Aligns("additive", 0.95, 0.9, 0.5).Verdict(13) == "fail");
  CHECK(Run().Aligns("dot", 0.95, 0.9, 0.9).Verdict(13) == "pass");
  CHECK(Run().Aligns("dot", 0.4, 0.9, 0.9).Verdict(13) == "fail");
}

TEST_CASE("the delta rule lies between a sum and softmax") {
  const auto run = [](double linear, double delta, double softmax) {
    Run r;
    // With the most pairs alone; fewer say nothing.
    return r.Probe("mqar", "linear", 64, 0.9, 8)
        .Probe("mqar", "delta", 64, 0.1, 8)
        .Probe("mqar", "linear", 64, linear, 14)
        .Probe("mqar", "delta", 64, delta, 14)
        .Probe("mqar", "nope", 64, softmax, 14)
        .Verdict(14);
  };
  CHECK(run(0.5, 0.8, 0.99) == "pass");
  CHECK(run(0.5, 0.49, 0.99) == "pass");  // a tie
  CHECK(run(0.5, 0.3, 0.99) == "fail");
  CHECK(run(0.5, 0.9, 0.8) == "fail");
  // Over seeds that differ much the same means are a tie.
  Run wide;
  for (const int seed : {1, 2})
    wide.Probe("mqar", "linear", 64, 0.5, 14, seed)
        .Probe("mqar", "delta", 64, seed == 1 ? 0.2 : 0.45, 14, seed);
  CHECK(wide.Verdict(14) == "pass");
}

TEST_CASE("decay forgets, and others do not") {
  const auto run = [](const char* role, double near, double far) {
    return Run()
        .Probe("induction", role, 64, near)
        .Probe("induction", role, 1024, far)
        .Verdict(15);
  };
  CHECK(run("decay", 0.9, 0.3) == "pass");
  CHECK(run("decay", 0.9, 0.8) == "fail");
  CHECK(run("decay", 0.3, 0.02) == "not run");  // nothing was learned
  CHECK(run("alibi", 0.9, 0.85) == "pass");
  CHECK(run("nope", 0.9, 0.5) == "fail");
}

TEST_CASE("a task of some variants is trained behind what all are") {
  const auto read = LearnOptionsFrom(json::parse(R"({
      "learn": ["softmax.flash"], "probe": ["softmax.flash"],
      "probes": ["mqar"], "learn_settings": {"seeds": [1, 2]},
      "further": [{"task": "text", "variants": ["linear.elu"], "seeds": [2]},
                  {"task": "mqar", "variants": ["softmax.flash", "linear.elu"]}]
      })"));
  REQUIRE(read.ok());
  std::string names;
  for (const Job& job : JobsOf(*read))
    names += job.task + " " + job.Name() + "\n";
  CHECK(names ==
        "text softmax.flash seed 1\nmqar softmax.flash seed 1\n"
        "mqar linear.elu seed 1\n"
        "text softmax.flash seed 2\nmqar softmax.flash seed 2\n"
        "text linear.elu seed 2\nmqar linear.elu seed 2\n");
  for (const char* bad :
       {R"({"further": 1})", R"({"further": [{"task": "text", "seed": 1}]})",
        R"({"further": [{"variants": ["a"]}]})"}) {
    CAPTURE(bad);
    CHECK(!LearnOptionsFrom(json::parse(bad)).ok());
  }
  CHECK(LearnOptionsFrom(json::parse(R"({"further": [{"task": "mqra"}]})"))
            .status()
            .message()
            .find("did you mean mqar?") != std::string::npos);
}

}  // namespace
}  // namespace saccade::bench
