// `saccade train` and `saccade generate`: from a text to a saved model to text.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/folder.h"
#include "tests/program.h"

namespace saccade::bench {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("train saves what generate goes on with") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += i % 3 ? "the cat sat. " : "a dog ran on. ";
  const std::string corpus = folder.Write("text.txt", text);
  const std::string path = folder / "m.safetensors";
  const auto train = [&](const std::string& to) {
    return Saccade({"train", "softmax.flash+rope", "--corpus", corpus,
                    "--steps", "30", "--seed", "5", "-t", "1", "-o", to});
  };
  const Answer trained = train(path);
  REQUIRE_MESSAGE(trained.code == kExitOk, trained.err);
  CHECK(trained.out.find("step 30 of 30: loss") != std::string::npos);
  CHECK(trained.out.find("parameters") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(path + ".state"));
  REQUIRE(train(folder / "again").code == kExitOk);
  CHECK(ReadAll(path) == ReadAll(folder / "again"));

  const auto write = [&](const std::vector<std::string>& more) {
    std::vector<std::string> line = {"generate", path, "--prompt",
                                     "the c",    "-n", "60"};
    line.insert(line.end(), more.begin(), more.end());
    const Answer a = Saccade(line);
    REQUIRE_MESSAGE(a.code == kExitOk, a.err);
    CHECK(a.out.starts_with("the c"));
    CHECK(a.out.size() == 5 + 60 + 1);
    CHECK(a.err.find("tokens a second") != std::string::npos);
    CHECK(a.err.find("state") != std::string::npos);
    return a.out;
  };
  const std::string greedy = write({"--temperature", "0"});
  CHECK(write({"--temperature", "0", "--seed", "2"}) == greedy);
  CHECK(write({"--temperature", "0", "-t", "2"}) == greedy);
  // The whole of the text lies in this window.
  CHECK(write({"--temperature", "0", "--variant",
               "softmax.window:size=100+rope"}) == greedy);
  CHECK(write({"--temperature", "3"}) == write({"--temperature", "3"}));
  CHECK(write({"--temperature", "3"}) !=
        write({"--temperature", "3", "--seed", "2"}));

  const Answer other = Saccade({"generate", path, "--variant", "gated.gau"});
  CHECK(other.code == kExitUsage);
  CHECK(OneLine(other.err));
}

TEST_CASE("compare saves the models that train would") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += i % 3 ? "the cat sat. " : "a dog ran on. ";
  const std::string corpus = folder.Write("text.txt", text);
  const std::string profile = folder.Write("tiny.json", R"({
    "measures": ["extrapolation"], "variants": "linear.elu",
    "learn": ["softmax.flash+rope", "softmax.window:size=8+rope"],
    "learn_settings": {"width": 16, "layers": 1, "heads": 2, "train_len": 16,
      "steps": 8, "tokens_per_step": 64, "multiples": [1], "seeds": [3],
      "test_bytes": 512, "targets": 4}
  })");
  const std::string models = folder / "models";
  const Answer compared =
      Saccade({"compare", "--profile", profile, "--corpus", corpus, "-t", "1",
               "--out", folder / "run", "--save-models", models});
  REQUIRE_MESSAGE(compared.code == kExitOk, compared.err);
  const auto written = [](const std::string& model) {
    const Answer a =
        Saccade({"generate", model, "-n", "40", "--temperature", "0"});
    CHECK_MESSAGE(a.code == kExitOk, a.err);
    return a.out;
  };
  const Answer trained = Saccade(
      {"train", "softmax.window:size=8+rope", "--profile", profile, "--corpus",
       corpus, "--seed", "3", "-t", "1", "-o", folder / "own"});
  REQUIRE_MESSAGE(trained.code == kExitOk, trained.err);
  const std::string kept =
      models + "/softmax.window_size=8+rope.seed-3.safetensors";
  CHECK(written(kept) == written(folder / "own"));
  CHECK(std::filesystem::exists(models +
                                "/softmax.flash+rope.seed-3.safetensors"));

  const Answer none = Saccade(
      {"compare", "--measure", "speed", "--save-models", models, "--dry-run"});
  CHECK(none.code == kExitUsage);
  CHECK(OneLine(none.err));
  CHECK(none.err.find("--save-models") != std::string::npos);
  const Answer taken =
      Saccade({"compare", "--profile", profile, "--corpus", corpus, "-t", "1",
               "--out", folder / "run-2", "--save-models", corpus});
  CHECK(taken.code == kExitUsage);
  CHECK(OneLine(taken.err));
  CHECK_FALSE(std::filesystem::exists(folder / "run-2"));
}

TEST_CASE("a training that is stopped goes on where it was") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "the cat sat on it. ";
  const std::string corpus = folder.Write("text.txt", text);
  const auto train = [&](const std::string& to, StopFlag* stop) {
    return Saccade({"train", "linear.elu", "--corpus", corpus, "--steps", "4",
                    "-t", "1", "-o", to},
                   stop);
  };
  StopFlag stop{true};
  const std::string path = folder / "m";
  const Answer stopped = train(path, &stop);
  CHECK(stopped.code == kExitInterrupted);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(std::filesystem::exists(path + ".state"));
  REQUIRE(train(path, nullptr).code == kExitOk);
  REQUIRE(train(folder / "whole", nullptr).code == kExitOk);
  CHECK(ReadAll(path) == ReadAll(folder / "whole"));
}

}  // namespace
}  // namespace saccade::bench
