// Positions in the trainer: all of them train, and a model can be read with
// others than it was trained with.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/pass.h"
#include "bench/learn/protocols.h"
#include "bench/learn/train.h"
#include "position.h"

namespace saccade::bench {
namespace {

constexpr int64_t kLen = 24;

Model Fresh(const std::string& spec) {
  Result<Model> model = Model::Make({.spec = spec,
                                     .width = 32,
                                     .layers = 2,
                                     .heads = 4,
                                     .symbols = 257,
                                     .train_len = kLen});
  REQUIRE_MESSAGE(model.ok(), spec, ": ", model.status().message());
  model->parameters().Start(3);
  return std::move(*model);
}

// Words in no order: what comes next within one is easy to learn.
std::string Words() {
  const char* const words[] = {"attention ", "position ", "window ", "rope "};
  std::string text;
  for (uint32_t n = 1; text.size() < 4000; n = n * 1664525 + 1013904223)
    text += words[n >> 30];
  return text;
}

std::vector<double> Trained(Model& model, int64_t steps) {
  const std::string text = Words();
  const Batches batches = TextBatches(text, kLen, model.bos(), 1);
  const auto result = Train(
      model,
      {.batch = 4, .len = kLen, .optimiser = {.rate = 0.01, .steps = steps}},
      batches, Serial(), {});
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  return result->loss;
}

// Losses of a text of `len` bytes.
std::vector<float> LossesOf(
    const Model& model, int64_t len,
    const std::optional<std::vector<Position>>& positions = {}) {
  auto pass =
      ModelPass::Make(model, {.len = len, .positions = positions}, Serial());
  REQUIRE_MESSAGE(pass.ok(), pass.status().message());
  std::vector<int32_t> tokens(len), targets(len);
  TextSequence(Words().substr(0, len), model.bos(), tokens.data(),
               targets.data());
  REQUIRE((*pass)->Forward(model, tokens, targets).ok());
  return {(*pass)->losses().begin(), (*pass)->losses().end()};
}

TEST_CASE("every scheme trains, and moves what it learns") {
  for (const PositionScheme& scheme : PositionSchemes()) {
    const std::string spec = "softmax.flash+" + std::string(scheme.name);
    CAPTURE(spec);
    Model model = Fresh(spec);
    const Unit& unit = model.units().front();
    const int64_t learned =
        unit.bias < 0 ? 0 : BiasParameters(model.AttentionProblem(1, 1, 0)) * 4;
    std::vector<float> before(learned);
    if (learned > 0)
      std::copy_n(model.parameters().value(unit.bias), learned, before.begin());
    const std::vector<double> loss = Trained(model, 60);
    CHECK(loss.back() < 0.75 * loss.front());
    for (int64_t n = 0; n < learned; ++n) {
      // Buckets of distances beyond the training length are never seen.
      const bool seen = scheme.name != "t5" || n % 32 < 19;
      CHECK((model.parameters().value(unit.bias)[n] != before[n]) == seen);
    }
  }
}

TEST_CASE("a model can be read with other positions than it was trained with") {
  Model model = Fresh("softmax.flash+rope:base=500");
  Trained(model, 30);
  constexpr int64_t kLong = 3 * kLen;
  const std::vector<float> own = LossesOf(model, kLong);
  for (const std::string text :
       {"rope:base=500,scaling=pi,factor=3",
        "rope:base=500,scaling=ntk,factor=3",
        "rope:base=500,scaling=yarn,factor=3,length=24,fast=3",
        "rerope:base=500,window=12", "+logn:length=24", "xpos:base=500", "none",
        "alibi", "sandwich"}) {
    CAPTURE(text);
    const auto positions = model.TestPositions(text);
    REQUIRE_MESSAGE(positions.ok(), positions.status().message());
    const std::vector<float> read = LossesOf(model, kLong, *positions);
    CHECK(read != own);
    // The same as a model of those positions with these parameters.
    Model other = Fresh("softmax.flash" + ToText(*positions));
    REQUIRE(other.parameters().count() == model.parameters().count());
    std::copy_n(model.parameters().value(0), model.parameters().count(),
                other.parameters().value(0));
    CHECK(LossesOf(other, kLong) == read);
  }
  CHECK(LossesOf(model, kLong, *model.TestPositions("")) == own);
  CHECK(LossesOf(model, kLong, *model.TestPositions("rope:base=500")) == own);
  // Within the length trained at, logn changes nothing.
  CHECK(LossesOf(model, kLen, *model.TestPositions("+logn:length=24")) ==
        LossesOf(model, kLen));
}

TEST_CASE("protocols read with other positions too") {
  Model model = Fresh("softmax.flash+rope");
  const std::string text = Words();
  ReadOptions options = {.train_len = kLen,
                         .multiple = 4,
                         .longest = 4,
                         .test_bytes = 400,
                         .targets = 4};
  const auto plain = ReadText(model, text, options, Serial(), {});
  options.positions = *model.TestPositions("rope:scaling=pi,factor=4");
  const auto scaled = ReadText(model, text, options, Serial(), {});
  REQUIRE((plain.ok() && scaled.ok()));
  CHECK(plain->front().bits.value != scaled->front().bits.value);
}

TEST_CASE("what was not learned cannot be switched on") {
  const Model model = Fresh("softmax.flash+rope");
  for (const char* text : {"t5", "+kerple", "learned"}) {
    CAPTURE(text);
    const auto positions = model.TestPositions(text);
    REQUIRE(!positions.ok());
    CHECK(positions.status().code() == Code::kUnsupported);
    CHECK(positions.status().message().find("trained") != std::string::npos);
  }
  CHECK(!model.TestPositions("+xpos").ok());  // rope is there
  // Learned ones can be switched off, and taken along.
  const Model learned = Fresh("softmax.flash+kerple");
  CHECK(learned.TestPositions("none").ok());
  CHECK(learned.TestPositions("+logn:length=64").ok());
  CHECK(!Fresh("softmax.flash+t5").TestPositions("t5:buckets=16").ok());
}

}  // namespace
}  // namespace saccade::bench
