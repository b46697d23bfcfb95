// Saved models, written and read, and decoding with them against reading whole
// sequences. Their commands are in generate_test.cc.
#include "bench/learn/decoder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "bench/learn/ops.h"
#include "bench/learn/pass.h"
#include "bench/learn/saved.h"
#include "bench/safetensors.h"
#include "tests/folder.h"

namespace saccade::bench {
namespace {

Model SmallModel(const std::string& spec, bool shift = false) {
  Result<Model> model = Model::Make({.spec = spec,
                                     .width = 32,
                                     .layers = 2,
                                     .heads = 4,
                                     .train_len = 150,
                                     .shift = shift});
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  model->parameters().Start(3);
  return std::move(*model);
}

// Of what follows each of the tokens, by reading all at once: [tokens,
// symbols].
Matrix WholeLogits(const Model& model, const std::vector<int32_t>& tokens) {
  const int64_t n = std::ssize(tokens), width = model.options().width;
  auto pass =
      ModelPass::Make(model, {.batch = 1, .len = n, .train = true}, Serial());
  REQUIRE_MESSAGE(pass.ok(), pass.status().message());
  REQUIRE((*pass)
              ->Forward(model, tokens, std::vector<int32_t>(tokens.size(), -1))
              .ok());
  const Parameters& p = model.parameters();
  Matrix h(n, width), logits(n, model.options().symbols);
  std::vector<float> inverse(n);
  RmsNorm((*pass)->Stream(model.units().size()), p.value(model.last_gain()), h,
          inverse.data(), Serial());
  Project(h, p.value(model.embedding()), logits, Write::kSet, Serial());
  return logits;
}

// Both are f32 sums in different orders; rows of logits are about 1 wide.
void CheckClose(const float* got, const float* want, int64_t n) {
  double size = 1, worst = 0;
  for (int64_t i = 0; i < n; ++i) size = std::max(size, std::abs(0. + want[i]));
  for (int64_t i = 0; i < n; ++i)
    worst = std::max(worst, std::abs(0. + got[i] - want[i]));
  CHECK(worst <= 2e-5 * size);
}

TEST_CASE("greedy decoding takes the tokens that the whole model would") {
  std::vector<std::pair<std::string, bool>> models = {
      {"softmax.flash+rope", true},
      {"softmax.flash+learned", false},
      {"softmax.flash+sinusoidal", true},
      {"softmax.flash+t5", false},
      {"softmax.window:size=5,sinks=2+rope", false}};
  for (const Variant* v : Variants())
    if (v->traits.extend && v->traits.backward && v->traits.causal)
      models.emplace_back(v->name, false);
  for (const auto& [spec, shift] : models) {
    CAPTURE(spec);
    const Model model = SmallModel(spec, shift);
    const int64_t symbols = model.options().symbols;
    // A prompt of more than one piece.
    std::vector<int32_t> tokens = {model.bos()};
    for (int i = 0; i < 80; ++i) tokens.push_back((i * i + 7 * i) % 256);
    Result<Decoder> decoder = Decoder::Make(model, 150, 1);
    REQUIRE_MESSAGE(decoder.ok(), decoder.status().message());
    CHECK(decoder->StateBytes() > 0);
    std::vector<std::vector<float>> steps;
    auto logits = decoder->Extend(tokens);
    for (int step = 0; step < 40; ++step) {
      REQUIRE_MESSAGE(logits.ok(), logits.status().message());
      steps.emplace_back(logits->begin(), logits->end());
      const auto next = static_cast<int32_t>(
          std::max_element(logits->begin(), logits->end()) - logits->begin());
      tokens.push_back(next);
      logits = decoder->Extend(std::span(&next, 1));
    }
    CHECK(decoder->length() == std::ssize(tokens));
    const Matrix whole = WholeLogits(model, tokens);
    for (size_t step = 0; step < steps.size(); ++step) {
      const float* const row = whole[80 + static_cast<int64_t>(step)];
      CheckClose(steps[step].data(), row, symbols);
      CHECK(std::max_element(row, row + symbols) - row == tokens[81 + step]);
    }
  }
}

TEST_CASE("a decoder says what it cannot take") {
  const Model model = SmallModel("softmax.flash+learned");
  CHECK_FALSE(Decoder::Make(model, 151, 1).ok());
  CHECK_FALSE(Decoder::Make(model, 0, 1).ok());
  Result<Decoder> decoder = Decoder::Make(model, 3, 1);
  REQUIRE(decoder.ok());
  CHECK_FALSE(decoder->Extend({}).ok());
  for (const int32_t wrong : {-1, 257})
    CHECK_FALSE(decoder->Extend(std::span(&wrong, 1)).ok());
  const std::vector<int32_t> tokens = {1, 2, 3, 4};
  CHECK(decoder->Extend(tokens).status().code() == Code::kExhausted);
  CHECK(decoder->Extend(std::span(tokens).first(3)).ok());
}

TEST_CASE("a saved model is the same model") {
  const Folder folder;
  for (const std::string spec :
       {"softmax.flash+rope", "gated.gau:n=64", "softmax.flash+t5+learned"}) {
    CAPTURE(spec);
    const Model model = SmallModel(spec, spec == "softmax.flash+rope");
    const std::string path = folder / "m.safetensors";
    REQUIRE(SaveModel(path, model, {{"seed", "3"}}).ok());
    const Result<Model> again = LoadModel(path);
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    CHECK(again->options().spec == spec);
    CHECK(again->options().shift == model.options().shift);
    const int64_t n = model.parameters().count();
    REQUIRE(again->parameters().count() == n);
    const float* const a = model.parameters().value(0);
    CHECK(std::equal(a, a + n, again->parameters().value(0)));
  }
}

TEST_CASE("a model is read through another attention where its tensors fit") {
  const Folder folder;
  const std::string path = folder / "m.safetensors";
  REQUIRE(SaveModel(path, SmallModel("softmax.flash+rope+learned")).ok());
  for (const char* fits :
       {"softmax.window:size=8+rope", "linear.elu", "softmax.alibi"}) {
    const Result<Model> other = LoadModel(path, fits);
    CHECK_MESSAGE(other.ok(), other.status().message());
  }
  const Status gated = LoadModel(path, "gated.gau").status();
  CHECK(gated.message().find("unit0.gain") != std::string::npos);
  const Status learned = LoadModel(path, "softmax.flash+t5").status();
  CHECK(learned.message().find("attention0.bias") != std::string::npos);
  CHECK(LoadModel(path, "softmax.flsh")
            .status()
            .message()
            .find("softmax.flash") != std::string::npos);
}

TEST_CASE("a model whose tensors are wrong is refused by name") {
  const Folder folder;
  const std::string path = folder / "m.safetensors";
  REQUIRE(SaveModel(path, SmallModel("softmax.flash")).ok());
  const Safetensors good = *ReadSafetensors(path);
  const auto refusal = [&](const Safetensors& file) {
    REQUIRE(WriteSafetensors(path, file).ok());
    const Status status = LoadModel(path).status();
    CHECK_FALSE(status.ok());
    return status.message();
  };
  Safetensors file = good;
  file.tensors.erase(file.tensors.begin() + 1);
  CHECK(refusal(file).find("'" + good.tensors[1].name + "'") !=
        std::string::npos);
  file = good;
  std::reverse(file.tensors[0].shape.begin(), file.tensors[0].shape.end());
  CHECK(
      refusal(file).find("'embedding' to be [257, 32], and it is [32, 257]") !=
      std::string::npos);
  file = good;
  file.tensors.push_back({"more", {1}, {1}});
  CHECK(refusal(file).find("has ") != std::string::npos);
  for (const char* number : {"-1", "0", "1e9", "", "999999999999999999999"}) {
    file = good;
    file.about["width"] = number;
    refusal(file);
  }
  file = good;
  file.about["heads"] = "5";
  CHECK(refusal(file).find("5 heads") != std::string::npos);
}

}  // namespace
}  // namespace saccade::bench
