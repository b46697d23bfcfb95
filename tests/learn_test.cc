// The trainer: gradients of whole models, the optimiser, and that a run can be
// had again bit by bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/optimiser.h"
#include "bench/learn/pass.h"
#include "bench/learn/random.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

// Every variant that trains, with every kind of positions it takes.
std::vector<std::string> TrainableSpecs() {
  std::vector<std::string> specs;
  for (const Variant* v : Variants()) {
    if (!v->traits.causal || !v->traits.backward) continue;
    const std::string name(v->name);
    specs.push_back(name);
    specs.push_back(name + "+learned");
    specs.push_back(name + "+sinusoidal");
    if (v->traits.rotary) specs.push_back(name + "+rope");
    if (v->traits.bias) specs.push_back(name + "+alibi");
    for (const char* positions :
         {"xpos:scale=20+logn:length=5", "t5:buckets=8,distance=10", "kerple",
          "sandwich:width=8", "rerope:window=4"})
      if (ParsePositions(*v, positions).ok())
        specs.push_back(name + "+" + positions);
  }
  std::erase_if(specs, [](const std::string& spec) {
    return !Model::Make({.spec = spec, .width = 16, .layers = 1, .heads = 2})
                .ok();
  });
  return specs;
}

constexpr int64_t kBatch = 2, kLen = 12, kSymbols = 11;

// A small model away from its start, where gains are 1 and shifts 0, and some
// tokens for it, a few of them not scored.
struct Small {
  Model model;
  std::vector<int32_t> tokens, targets;
};

Small MakeSmall(const std::string& spec, bool shift = false) {
  Result<Model> model = Model::Make({.spec = spec,
                                     .width = 16,
                                     .layers = 1,
                                     .heads = 2,
                                     .symbols = kSymbols,
                                     .train_len = kLen,
                                     .shift = shift});
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  Random random(3, spec);
  model->parameters().Start(7);
  for (int64_t i = 0; i < model->parameters().count(); ++i) {
    *model->parameters().value(i) += static_cast<float>(0.3 * random.Normal());
  }
  Small small{std::move(*model), {}, {}};
  for (int64_t i = 0; i < kBatch * kLen; ++i) {
    small.tokens.push_back(static_cast<int32_t>(random.Below(kSymbols)));
    small.targets.push_back(
        i % 5 == 3 ? -1 : static_cast<int32_t>(random.Below(kSymbols)));
  }
  return small;
}

TEST_CASE("the gradients of a whole model are its loss's differences") {
  // Differences of fourth order, [8 (f(h) - f(-h)) - (f(2h) - f(-2h))] / 12h.
  // The loss is a mean of 20 floats near 3, each off by some 2^-22 after its
  // dozen roundings: 1e-7 in the mean, 2e-5 over h = 0.02. Their own error,
  // h^4 f^(5) / 30, is 1e-8 wherever derivatives are of order 1. Transforms
  // with a kink in their slope (elu, squared relu) cost up to h times the jump
  // of the second derivative when a step crosses it. Both are far below the
  // gradients' typical 1e-2, which a wrong sign, factor or missing path
  // changes by as much as it is.
  constexpr float kStep = 0.02f;
  constexpr double kRelative = 0.01, kAbsolute = 1e-4, kRounding = 2e-7;
  // Of the largest gradient of a tensor that is read.
  constexpr double kLeast = 3e-4;
  for (const std::string& spec : TrainableSpecs()) {
    CAPTURE(spec);
    Small small = MakeSmall(spec, /*shift=*/spec == TrainableSpecs().front());
    Model& model = small.model;
    auto made = ModelPass::Make(
        model, {.batch = kBatch, .len = kLen, .train = true}, Serial());
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    ModelPass& pass = **made;
    REQUIRE(pass.Forward(model, small.tokens, small.targets).ok());
    REQUIRE(pass.Backward(model).ok());
    Parameters& p = model.parameters();
    Random random(4, spec);
    for (const Parameter& tensor : p.tensors()) {
      CAPTURE(tensor.name);
      double largest = 0;
      for (int64_t n = 0; n < std::min<int64_t>(tensor.size(), 12); ++n) {
        // Of what is learned for every position, short texts read the first;
        // of every pair of them, a few here and there that matter: of the
        // first row a single key is seen, whose score changes nothing.
        const bool rows = tensor.name.ends_with(".bias");
        int64_t i = tensor.at + random.Below(std::min<int64_t>(
                                    tensor.size(), rows ? 32 : tensor.size()));
        const int64_t end = tensor.at + tensor.size();
        while (rows && n % 2 == 1 && i + 1 < end &&
               std::abs(*p.gradient(i)) <= kLeast)
          ++i;
        float& x = *p.value(i);
        const float start = x;
        const auto loss = [&](float step) {
          x = start + step;
          const Status status =
              pass.Forward(model, small.tokens, small.targets);
          x = start;
          REQUIRE(status.ok());
          return pass.mean_loss();
        };
        const auto slope = [&](float step) {
          return (8 * (loss(step) - loss(-step)) -
                  (loss(2 * step) - loss(-2 * step))) /
                 (12.0 * step);
        };
        const double gradient = *p.gradient(i);
        largest = std::max(largest, std::abs(gradient));
        // Where features have kinks, steps have to be short to pass none; then
        // what a loss's rounding to f32 makes of a difference counts.
        float step = kStep;
        double difference = slope(step);
        const auto near = [&] {
          return std::abs(gradient - difference) <=
                 kAbsolute + kRelative * std::abs(difference) +
                     kRounding / step;
        };
        while (!near() && step > kStep / 40) difference = slope(step /= 2);
        // Who hashes or chooses jumps here and there: on one side, then.
        for (const float side : {step, -step})
          if (!near()) difference = (loss(side) - loss(0)) / side;
        CAPTURE(i - tensor.at);
        CAPTURE(gradient);
        CAPTURE(difference);
        CHECK(near());
      }
      // Otherwise a tensor that nobody reads would pass. What keys have in
      // common adds as much to all scores of a row, of which softmax sees none.
      const Variant& v = *model.spec().variant;
      const bool common =
          v.layer.shared_qk && v.traits.lse && tensor.name.ends_with(".k.beta");
      // The least are of units that divide by the length of their group.
      if (!common) CHECK(largest > kLeast);
    }
  }
}

TEST_CASE("backward sets gradients, and needs a pass that keeps") {
  Small small = MakeSmall(TrainableSpecs().front());
  Model& model = small.model;
  auto train = ModelPass::Make(
      model, {.batch = kBatch, .len = kLen, .train = true}, Serial());
  auto read = ModelPass::Make(model, {.batch = kBatch, .len = kLen}, Serial());
  REQUIRE(train.ok());
  REQUIRE(read.ok());
  std::vector<float> first;
  for (const bool again : {false, true}) {
    REQUIRE((*train)->Forward(model, small.tokens, small.targets).ok());
    REQUIRE((*train)->Backward(model).ok());
    const float* const g = model.parameters().gradient(0);
    const std::vector<float> now(g, g + model.parameters().count());
    if (again) CHECK(now == first);
    first = now;
  }
  REQUIRE((*read)->Forward(model, small.tokens, small.targets).ok());
  CHECK((*read)->Backward(model).code() == Code::kInvalid);
  // Both score alike; what is not scored has no loss.
  for (size_t i = 0; i < small.tokens.size(); ++i) {
    CHECK((*read)->losses()[i] == (*train)->losses()[i]);
    CHECK(((*read)->losses()[i] == 0) == (small.targets[i] < 0));
  }
  small.tokens[5] = kSymbols;
  CHECK(!(*read)->Forward(model, small.tokens, small.targets).ok());
  small.tokens[5] = -1;
  CHECK(!(*read)->Forward(model, small.tokens, small.targets).ok());
}

TEST_CASE("no loss depends on what comes later") {
  for (const std::string& spec : TrainableSpecs()) {
    CAPTURE(spec);
    Small small = MakeSmall(spec);
    auto pass =
        ModelPass::Make(small.model, {.batch = kBatch, .len = kLen}, Serial());
    REQUIRE(pass.ok());
    std::fill(small.targets.begin(), small.targets.end(), 2);
    REQUIRE((*pass)->Forward(small.model, small.tokens, small.targets).ok());
    const std::vector<float> before((*pass)->losses().begin(),
                                    (*pass)->losses().end());
    constexpr int64_t kChanged = 7;
    small.tokens[kChanged] = (small.tokens[kChanged] + 1) % kSymbols;
    REQUIRE((*pass)->Forward(small.model, small.tokens, small.targets).ok());
    for (int64_t i = 0; i < kBatch * kLen; ++i) {
      CAPTURE(i);
      const bool same = (*pass)->losses()[i] == before[i];
      if (i < kChanged || i >= kLen) CHECK(same);
      if (i == kChanged) CHECK(!same);
    }
  }
}

TEST_CASE("models of one width are matched in size") {
  int64_t least = 1 << 30, most = 0;
  for (const std::string& spec : TrainableSpecs()) {
    // What is learned for every position comes on top.
    if (spec.find("+learned") != std::string::npos) continue;
    const Variant& v = *ParseSpec(spec)->variant;
    if (v.parameters != nullptr &&
        std::any_of(v.knobs.begin(), v.knobs.end(),
                    [](const Knob& knob) { return knob.name == "length"; }))
      continue;
    const auto model = Model::Make({.spec = spec});
    REQUIRE(model.ok());
    least = std::min(least, model->parameters().count());
    most = std::max(most, model->parameters().count());
  }
  CHECK(static_cast<double>(most) <= 1.02 * static_cast<double>(least));
}

TEST_CASE("training's FLOPs are those of its products") {
  const auto flops = [](const std::string& spec, int64_t len) {
    const auto model = Model::Make({.spec = spec,
                                    .width = 32,
                                    .layers = 3,
                                    .heads = 4,
                                    .symbols = 50,
                                    .train_len = 16});
    REQUIRE(model.ok());
    const Result<double> flops = model->FlopsPerToken(len);
    REQUIRE(flops.ok());
    return *flops;
  };
  // Of width 32: q, k, v and out, an MLP of 128 both ways, and the logits.
  const double dense = 6.0 * 32 * (3 * (4 * 32 + 2 * 128) + 50);
  // A token of 16 sees 8.5 in the mean. Five products of 8 a pair going back,
  // two going forward, in 3 layers of 4 heads.
  CHECK(flops("softmax.flash+rope", 16) ==
        doctest::Approx(dense + 3 * 4 * 8.5 * 2 * 8 * 7));
  CHECK(flops("softmax.window:size=1", 16) ==
        doctest::Approx(dense + 3 * 4 * 2 * 8 * 7));
  // Twice a state of 8 x 8, and three times that going back.
  for (const int64_t len : {16, 1024})
    CHECK(flops("linear.elu", len) ==
          doctest::Approx(dense + 3 * 4 * 4 * 2 * 2 * 8 * 8));
  // What positions learn is looked up.
  CHECK(flops("softmax.flash+learned", 16) == flops("softmax.flash", 16));
}

TEST_CASE("tensors of one name and shape start alike in all models") {
  const auto value = [](const Model& model, const std::string& name) {
    for (const Parameter& t : model.parameters().tensors()) {
      if (t.name != name) continue;
      const float* const x = model.parameters().value(t.at);
      return std::vector<float>(x, x + t.size());
    }
    return std::vector<float>();
  };
  auto a = Model::Make({.spec = "softmax.flash", .layers = 1});
  auto b = Model::Make({.spec = "linear.elu+learned", .layers = 2});
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  a->parameters().Start(5), b->parameters().Start(5);
  for (const char* name : {"embedding", "attention0.q", "attention0.v"}) {
    CAPTURE(name);
    CHECK(value(*a, name).size() > 1000);
    CHECK(value(*a, name) == value(*b, name));
  }
  CHECK(value(*a, "attention0.q") != value(*a, "attention0.k"));
  const auto before = value(*a, "embedding");
  a->parameters().Start(6);
  CHECK(value(*a, "embedding") != before);
}

// Text with something to learn: words of a small language.
std::string Babble(int64_t bytes) {
  const std::string words[] = {"attend ", "to ", "the ", "past, ", "query. "};
  Random random(11, "babble");
  std::string text;
  while (std::ssize(text) < bytes) text += words[random.Below(5)];
  return text;
}

std::vector<double> TenSteps(const std::string& spec, uint64_t seed, Exec& exec,
                             Model* trained = nullptr) {
  static const std::string text = Babble(20000);
  Result<Model> model = Model::Make(
      {.spec = spec, .width = 32, .layers = 2, .heads = 4, .train_len = 48});
  REQUIRE(model.ok());
  model->parameters().Start(seed);
  // 384 tokens a step: three chunks, so that two threads share the work.
  const auto result = Train(
      *model, {.batch = 8, .len = 48, .optimiser = {.steps = 10, .warmup = 3}},
      TextBatches(text, 48, model->bos(), seed), exec, {});
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  if (trained != nullptr) *trained = std::move(*model);
  return result->loss;
}

TEST_CASE("ten steps of training give the curve on file") {
  // Not bits: BLAS sums in an order of the machine's own. What it changes, an
  // early step's losses show in their sixth digit; a change of the start, the
  // data, a gradient or the optimiser shows in the second.
  const std::vector<double> on_file = {6.08765, 5.48600, 4.64553, 4.05496,
                                       3.70586, 3.36909, 3.10689, 2.86101,
                                       2.75927, 2.64791};
  const std::vector<double> loss = TenSteps("softmax.flash+rope", 1, Serial());
  REQUIRE(loss.size() == on_file.size());
  for (size_t i = 0; i < loss.size(); ++i) {
    CAPTURE(i);
    CHECK(loss[i] == doctest::Approx(on_file[i]).epsilon(5e-4));
  }
}

TEST_CASE("training is the same bits for any number of threads") {
  const std::unique_ptr<Exec> one = MakeTbbExec(1), two = MakeTbbExec(2);
  for (const std::string spec : {"softmax.flash+rope", "softmax.alibi",
                                 "linear.elu", "gated.gau+rope"}) {
    CAPTURE(spec);
    const std::vector<double> serial = TenSteps(spec, 1, Serial());
    CHECK(TenSteps(spec, 1, Serial()) == serial);
    CHECK(TenSteps(spec, 1, *one) == serial);
    CHECK(TenSteps(spec, 1, *two) == serial);
    CHECK(TenSteps(spec, 2, *two) != serial);
    CHECK(serial.back() < 0.8 * serial.front());
  }
}

TEST_CASE("training stops when told, and says when it diverges") {
  Result<Model> model = Model::Make({.spec = "softmax.flash", .width = 16});
  REQUIRE(model.ok());
  model->parameters().Start(1);
  const std::string text = Babble(4000);
  const Batches batches = TextBatches(text, 16, model->bos(), 1);
  TrainOptions options = {.batch = 2, .len = 16, .optimiser = {.steps = 20}};
  const auto stopped =
      Train(*model, options, batches, Serial(),
            [](int64_t step, double loss) { return loss > 0 && step < 4; });
  REQUIRE(stopped.ok());
  CHECK(stopped->stopped);
  CHECK(stopped->loss.size() == 5);
  *model->parameters().value(model->last_gain()) = 1e38f;
  const auto diverged = Train(*model, options, batches, Serial(), {});
  REQUIRE(!diverged.ok());
  CHECK(diverged.status().message().find("diverged") != std::string::npos);
}

TEST_CASE("two steps of AdamW, by hand") {
  Parameters p;
  const int64_t matrix = p.Add("matrix", 2, 1, 0, 1);
  const int64_t vector = p.Add("vector", 1, 1, 0, 1);
  *p.value(matrix) = 1, *p.value(matrix + 1) = -2, *p.value(vector) = 0.5f;
  Optimiser optimiser(p, {.rate = 0.1, .steps = 100, .warmup = 10});
  // Step 1: rate .1 / 10. The norm 13 is clipped to 1: g = 3, 4, 12 over 13.
  // Without bias both moments are those of g, so the step is its sign.
  *p.gradient(matrix) = 3, *p.gradient(matrix + 1) = -4;
  *p.gradient(vector) = 12;
  CHECK(optimiser.Step(p, Serial()) == doctest::Approx(13));
  CHECK(*p.value(matrix) == doctest::Approx(0.999 - 0.01).epsilon(1e-6));
  CHECK(*p.value(matrix + 1) == doctest::Approx(-1.998 + 0.01).epsilon(1e-6));
  CHECK(*p.value(vector) == doctest::Approx(0.5 - 0.01).epsilon(1e-6));
  // Step 2: rate .02, norm .5, no clipping; g = .3, 0, .4.
  //   matrix[0]: m = .9 * .1 * 3/13 + .1 * .3            = .05076923
  //              v = .98 * .02 * (3/13)^2 + .02 * .09    = .00284379
  //              m / .19 over sqrt(v / .0396)            = .9971168
  //   matrix[1]: m / .19 = -.1457490, sqrt(v / .0396) = .2164697: -.6733
  //   vector:    m = .12307692, v = .01990059: .6477733 / .7089009 = .9137713
  *p.gradient(matrix) = 0.3f, *p.gradient(matrix + 1) = 0;
  *p.gradient(vector) = 0.4f;
  CHECK(optimiser.Step(p, Serial()) == doctest::Approx(0.5));
  CHECK(*p.value(matrix) ==
        doctest::Approx(0.989 * 0.998 - 0.02 * 0.9971168).epsilon(1e-5));
  CHECK(*p.value(matrix + 1) ==
        doctest::Approx(-1.988 * 0.998 + 0.02 * 0.6733).epsilon(1e-5));
  CHECK(*p.value(vector) ==
        doctest::Approx(0.49 - 0.02 * 0.9137713).epsilon(1e-5));
}

TEST_CASE("the rate rises in a line and falls in half a cosine") {
  const Parameters none;
  const Optimiser o(none,
                    {.rate = 4, .steps = 110, .warmup = 10, .last_rate = 0.05});
  CHECK(o.Rate(0) == doctest::Approx(0.4));
  CHECK(o.Rate(4) == doctest::Approx(2));
  CHECK(o.Rate(9) == doctest::Approx(4));
  CHECK(o.Rate(10) == doctest::Approx(4));
  CHECK(o.Rate(60) == doctest::Approx(4 * (0.05 + 0.95 / 2)));
  CHECK(o.Rate(110) == doctest::Approx(0.2));
}

TEST_CASE("random numbers are those of their definitions, everywhere") {
  // SplitMix64 from state 0, as its authors print it; FNV-1a of "a".
  CHECK(Mix(0) == 0xe220a8397b1dcdaf);
  CHECK(Mix(0x9e3779b97f4a7c15) == 0x6e789e6aa1b965f4);
  CHECK(Hash("") == 0xcbf29ce484222325);
  CHECK(Hash("a") == 0xaf63dc4c8601ec8c);
  Random a(1, "x"), again(1, "x"), seed(2, "x"), name(1, "y");
  int same_seed = 0, same_name = 0;
  for (int i = 0; i < 100; ++i) {
    const uint64_t bits = a.Bits();
    CHECK(bits == again.Bits());
    same_seed += bits == seed.Bits();
    same_name += bits == name.Bits();
  }
  CHECK(same_seed + same_name == 0);
}

TEST_CASE("random numbers are distributed as they say") {
  constexpr int kDraws = 70000;
  Random random(1, "distribution");
  std::vector<int> counts(7);
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    ++counts.at(random.Below(7));
    const double z = random.Normal();
    sum += z, squares += z * z, fourth += z * z * z * z;
  }
  // Five standard errors: sqrt(10000 * 6/7), 1/sqrt(n), sqrt(2/n), sqrt(96/n).
  for (const int count : counts) CHECK(std::abs(count - 10000) < 5 * 93);
  CHECK(std::abs(sum / kDraws) < 5 * 0.0038);
  CHECK(std::abs(squares / kDraws - 1) < 5 * 0.0054);
  CHECK(std::abs(fourth / kDraws - 3) < 5 * 0.038);
  // Each of the 6 orders of three.
  std::vector<int> orders(27);
  for (int i = 0; i < 6000; ++i) {
    int items[] = {0, 1, 2};
    random.Shuffle(items, 3);
    ++orders[9 * items[0] + 3 * items[1] + items[2]];
  }
  CHECK(std::count(orders.begin(), orders.end(), 0) == 21);
  for (const int count : orders) {
    if (count > 0) CHECK(std::abs(count - 1000) < 5 * 29);
  }
}

}  // namespace
}  // namespace saccade::bench
