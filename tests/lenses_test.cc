// Lenses: that they read what is known of weights made by hand, what theory
// derives for scores of variance 1, and nothing from the future.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "bench/learn/random.h"
#include "bench/lenses/lens.h"
#include "bench/lenses/look.h"
#include "record/schema.h"

namespace saccade::bench {
namespace {

const Lens& Named(std::string_view name) {
  for (const Lens* lens : Lenses()) {
    if (lens->name == name) return *lens;
  }
  FAIL("no lens ", std::string(name));
  return *Lenses().front();
}

// What one lens reads, by name.
std::map<std::string, double> Read(std::string_view lens, const Weights& w,
                                   const std::string& spec = "linear.elu") {
  const auto parsed = ParseSpec(spec);
  REQUIRE(parsed.ok());
  Subject subject = {*parsed};
  subject.weights = subject.repeats = &w;
  const auto readings = Named(lens).look(subject, Serial());
  REQUIRE_MESSAGE(readings.ok(), readings.status().message());
  std::map<std::string, double> values;
  for (const Reading& r : *readings) values[std::string(r.name)] = r.value;
  return values;
}

// Row i of a matrix where weights depend on i and j alone.
Weights Made(int64_t len, double (*weight)(int64_t i, int64_t j)) {
  Weights w(1, 2, len);
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t i = 0; i < len; ++i) {
      for (int64_t j = 0; j < len; ++j) {
        w.Row(0, h, i)[j] = static_cast<float>(weight(i, j));
      }
    }
  }
  return w;
}

Weights Even(int64_t len) {
  return Made(len, [](int64_t, int64_t) { return 0.25; });
}
Weights Identity(int64_t len) {
  return Made(len, [](int64_t i, int64_t j) { return i == j ? 1.0 : 0.0; });
}
Weights Before(int64_t len) {
  return Made(len, [](int64_t i, int64_t j) { return i == j + 1 ? 3.0 : 0.0; });
}

TEST_CASE("even weights have an entropy of ln n, S = 1 and rank 1") {
  const Weights w = Even(256);
  double entropy = 0;
  for (int64_t n = 65; n <= 128; ++n) {
    entropy += std::log(static_cast<double>(n)) / 64;
  }
  auto read = Read("entropy", w);
  CHECK(read["entropy"] == doctest::Approx(entropy));
  CHECK(read["entropy slope"] == doctest::Approx(1));
  CHECK(Read("sparsity", w)["sparsity"] == doctest::Approx(1));
  CHECK(Read("rank", w)["effective rank"] == doctest::Approx(1));
  CHECK(Read("distance", w)["distance"] == doctest::Approx(47.75));
  CHECK(Read("sink", w)["sink heads"] == 0);
}

TEST_CASE("the identity has no entropy, one key that counts, and full rank") {
  const Weights w = Identity(128);
  CHECK(Read("entropy", w)["entropy"] == 0);
  CHECK(Read("entropy", w)["entropy slope"] == 0);
  CHECK(Read("sparsity", w)["n_eff"] == doctest::Approx(1));
  CHECK(Read("rank", w)["effective rank"] == doctest::Approx(128));
  CHECK(Read("distance", w)["distance"] == 0);
}

TEST_CASE("a look at the token before is one step and no induction") {
  const Weights w = Before(kRepeats * kRepeatPeriod);
  CHECK(Read("distance", w)["distance"] == 1);
  CHECK(Read("repetition", w)["previous token"] == 1);
  CHECK(Read("repetition", w)["prefix matching"] == 0);
}

TEST_CASE("an induction head matches prefixes, a sink head is one") {
  const Weights induction =
      Made(1 + kRepeats * kRepeatPeriod, [](int64_t i, int64_t j) {
        return j == i - kRepeatPeriod + 1 ? 1.0 : 0.0;
      });
  CHECK(Read("repetition", induction)["prefix matching"] == 1);
  CHECK(Read("repetition", induction)["previous token"] == 0);
  const Weights sink = Made(64, [](int64_t i, int64_t j) {
    return j == 0 ? 0.4 : j <= i ? 0.6 / static_cast<double>(i) : 0.0;
  });
  CHECK(Read("sink", sink)["sink heads"] == 1);
}

TEST_CASE("pictures keep apart what is little and what is nothing") {
  const std::vector<double> values = {0, 1e-9, 0.25, 1};
  const Picture picture = Paint(values, 2);
  CHECK(picture.levels[0] == kLevels[0]);
  CHECK(picture.levels[1] == kLevels[1]);
  CHECK(picture.levels[2] == kLevels[32]);
  CHECK(picture.levels[3] == kLevels[63]);
}

// Lens, subject and variant of all records, with their values.
using Seen = std::map<std::string, double>;
Seen LookAt(const std::string& spec) {
  Seen seen;
  const Status status =
      LookAtInputs(spec, 1, Serial(), [&](const nlohmann::json& r) {
        const Status valid =
            record::Validate(record::Json(r), record::Strictness::kStrict);
        CHECK_MESSAGE(valid.ok(), valid.message());
        CHECK_MESSAGE(r["status"] == "ok", r.dump());
        if (r.contains("value")) seen[r["lens"]] = r["value"];
        return Status();
      });
  CHECK(status.ok());
  return seen;
}

TEST_CASE("unit scores concentrate as theory says") {
  Seen softmax = LookAt("softmax.flash");
  CHECK(softmax["sparsity"] == doctest::Approx(0.60).epsilon(0.05));
  CHECK(softmax["entropy slope"] == doctest::Approx(1).epsilon(0.05));
  CHECK(std::abs(softmax["noise slope"] + 0.5) < 0.1);
  CHECK(softmax["noise error"] == doctest::Approx(1).epsilon(0.1));
  CHECK(std::abs(softmax["noise bias"]) < 1e-6);
  Seen relu = LookAt("gated.gau");
  CHECK(relu["sparsity"] == doctest::Approx(0.41).epsilon(0.05));
  CHECK(relu["noise bias"] == doctest::Approx(0.25).epsilon(0.2));
  Seen elu = LookAt("linear.elu");
  CHECK(elu["sparsity"] ==
        doctest::Approx(1 / std::sqrt(1 + .671 / 64)).epsilon(0.01));
}

TEST_CASE("a mask is seen in the weights, positions too") {
  CHECK(LookAt("softmax.window:size=8")["distance"] ==
        doctest::Approx(3.5).epsilon(0.1));
  // Two weights of a fresh row are even in the mean.
  CHECK(LookAt("softmax.window:size=2")["previous token"] ==
        doctest::Approx(0.5).epsilon(0.1));
}

TEST_CASE(
    "no variant's fresh model looks ahead, and records say what is seen") {
  for (const Variant* v : Variants()) {
    if (!v->traits.causal || !v->traits.backward) continue;
    INFO(v->name);
    const auto model = Model::Make(
        {.spec = std::string(v->name), .width = 16, .layers = 1, .heads = 2});
    if (!model.ok()) continue;
    Model fresh = *model;
    fresh.parameters().Start(3);
    Seen seen;
    const Status status = LookAtModel(
        fresh, false, "too short", 1, Serial(), [&](const nlohmann::json& r) {
          const Status valid =
              record::Validate(record::Json(r), record::Strictness::kStrict);
          CHECK_MESSAGE(valid.ok(), valid.message());
          // A norm of the output is not linear in v.
          if (r["status"] == "unsupported" && r["lens"] == "weights")
            return Status();
          CHECK_MESSAGE(r["status"] == "ok", r.dump());
          if (r.contains("value")) seen[r["lens"]] = r["value"];
          if (r.contains("picture")) {
            const std::string picture = r["picture"];
            const int64_t n = r["q_len"];
            REQUIRE(picture.size() == static_cast<size_t>(n * n));
            for (int64_t i = 0; i < n; ++i) {
              for (int64_t j = i + 1; j < n; ++j) {
                REQUIRE(picture[i * n + j] == kLevels[0]);
              }
            }
          }
          return Status();
        });
    CHECK(status.ok());
    REQUIRE(seen.contains("impact ahead"));
    CHECK(seen["impact ahead"] == 0);
    CHECK(seen["impact distance"] > 0);
    CHECK(seen["gradient reach"] > 0);
    CHECK(seen["attention branch"] > 0);
  }
}

TEST_CASE("whoever is not linear in v has no weights") {
  static const Variant squares = [] {
    Variant v = *Variants().front();
    v.name = "made.squares";
    v.plan = [](const Problem& p) -> Result<std::unique_ptr<Plan>> {
      struct Squares final : Plan {
        explicit Squares(const Problem& p) : Plan(p) {}
        Footprint DoMemory(int) const override { return {}; }
        // out_i = v_i^2: on the identity not to be told from v_i.
        void DoForward(const Inputs& in, const Outputs& out, Bytes, Bytes,
                       Exec&) const override {
          const Problem& p = problem_;
          for (int64_t b = 0; b < p.batch; ++b) {
            for (int64_t h = 0; h < p.q_heads; ++h) {
              for (int64_t t = 0; t < p.q_len; ++t) {
                for (int64_t c = 0; c < p.v_dim; ++c) {
                  const float x = in.v.Row<float>(b, h, t)[c];
                  out.out.Row<float>(b, h, t)[c] = x * x;
                }
              }
            }
          }
        }
      };
      return std::unique_ptr<Plan>(new Squares(p));
    };
    return v;
  }();
  Spec spec;
  spec.variant = &squares;
  const Drawn drawn = DrawInputs(spec, 16, 0, 1);
  const auto weights =
      WeightsOf(squares, drawn.problem, drawn.inputs(squares), Serial());
  REQUIRE(!weights.ok());
  CHECK(weights.status().code() == Code::kUnsupported);
}

TEST_CASE(
    "exact variants are softmax, approximations come nearer by spending") {
  const auto error = [](const std::string& spec) {
    return Read("approximation", {}, spec);
  };
  CHECK(error("softmax.flash")["softmax error"] < 1e-5);
  CHECK(error("softmax.window:size=32")["softmax error"] > 0.5);
  double before = 1e9;
  for (const char* features : {"64", "256", "1024"}) {
    auto values = error(std::string("linear.favor:features=") + features);
    const double faint = values["softmax error, faint scores"];
    INFO(features, ": ", faint);
    CHECK(faint < values["softmax error"]);
    // Four times as many would halve an error that is small.
    CHECK(faint < 0.8 * before);
    before = faint;
  }
}

TEST_CASE("every lens says what it reads") {
  std::set<std::string_view> names, quantities;
  for (const Lens* lens : Lenses()) {
    CHECK(names.insert(lens->name).second);
    CHECK(lens->source.size() > 5);
    CHECK(!lens->quantities.empty());
    for (const Quantity& q : lens->quantities) {
      CHECK(quantities.insert(q.name).second);
      CHECK(q.how.size() > 5);
    }
  }
}

}  // namespace
}  // namespace saccade::bench
