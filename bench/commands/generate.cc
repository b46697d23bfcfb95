// saccade generate: text from a saved model, by any attention that fits it.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "bench/choices.h"
#include "bench/command.h"
#include "bench/learn/decoder.h"
#include "bench/learn/random.h"
#include "bench/learn/saved.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Goes on with a prompt by a model of `saccade train`, a byte at a time. --variant
reads it through another attention than it was trained with, where that finds
the parameters it needs: a window in place of all, say.

Examples:
  saccade generate model.safetensors --prompt 'It is a truth' -n 200
  saccade generate model.safetensors --variant softmax.window:size=64+rope
  saccade generate model.safetensors --temperature 0    always the likeliest byte)";

struct Options {
  std::string model, prompt, variant;
  int64_t count = 200;
  double temperature = 0.8;
  int64_t seed = 1;
  int threads = 1;
};

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of the softmax of logits / temperature; the likeliest where that is 0.
int32_t Draw(std::span<const float> logits, double temperature,
             Random& random) {
  const auto top = std::max_element(logits.begin(), logits.end());
  if (temperature == 0) return static_cast<int32_t>(top - logits.begin());
  double sum = 0;
  std::vector<double> below;  // sums of weights up to each symbol
  for (const float logit : logits)
    below.push_back(
        sum += std::exp((static_cast<double>(logit) - *top) / temperature));
  const auto at =
      std::upper_bound(below.begin(), below.end(), random.Uniform() * sum);
  return static_cast<int32_t>(std::min(at, std::prev(below.end())) -
                              below.begin());
}

// A model may say anything, but is not to speak to a terminal.
char Shown(int32_t byte) {
  const bool control =
      (byte < ' ' && byte != '\n' && byte != '\t') || byte == 127;
  return control ? '?' : static_cast<char>(byte);
}

int Run(const Options& o, const Host& host) {
  const Result<Model> model = LoadModel(o.model, o.variant);
  if (!model.ok()) return Complain(model.status(), host);
  std::vector<int32_t> tokens = {model->bos()};
  for (const char c : o.prompt) tokens.push_back(static_cast<uint8_t>(c));
  constexpr int64_t kBytes = 256;
  if (model->options().symbols != kBytes + 1)
    return Complain(Invalid(fmt::format("{}: not a model of bytes", o.model)),
                    host);
  // The last token is written and not read.
  Result<Decoder> decoder =
      Decoder::Make(*model, std::ssize(tokens) + o.count - 1, o.threads);
  if (!decoder.ok())
    return Complain(
        Status(decoder.status().code(),
               fmt::format("{}: {}", o.model, decoder.status().message())),
        host);

  const Clock::time_point start = Clock::now();
  auto logits = decoder->Extend(tokens);
  if (!logits.ok()) return Complain(logits.status(), host);
  const double read = Since(start);
  Random random(static_cast<uint64_t>(o.seed), "generate");
  const Clock::time_point begin = Clock::now();
  fmt::print(host.out, "{}", o.prompt);
  for (int64_t n = 0; n < o.count; ++n) {
    // The beginning of a text never comes within it.
    const int32_t next = Draw(logits->first(kBytes), o.temperature, random);
    host.out << Shown(next) << std::flush;
    if (host.stop != nullptr && host.stop->load()) return kExitInterrupted;
    if (n + 1 == o.count) break;
    logits = decoder->Extend(std::span(&next, 1));
    if (!logits.ok()) return Complain(logits.status(), host);
  }
  host.out << '\n';
  if (host.talk == Talk::kQuiet) return kExitOk;
  Say(host,
      fmt::format(
          "{}: {:.0f} tokens a second ({} in {:.3g} s; {} of the prompt read "
          "in {:.3g} s), state {}",
          model->options().spec, static_cast<double>(o.count) / Since(begin),
          o.count, Since(begin), tokens.size(), read,
          reports::FormatBytes(static_cast<double>(decoder->StateBytes()))));
  return kExitOk;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "A model that `saccade train` saved")
      ->required()
      ->type_name(kFile);
  app.add_option("--prompt", o->prompt, "What the text begins with");
  app.add_option("--variant", o->variant,
                 "Attention to read it with; without, its own");
  app.add_option("-n,--count", o->count, "Bytes to write")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--temperature", o->temperature,
                 "Divides the logits; 0 takes the likeliest")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--seed", o->seed, "Of what is drawn")
      ->check(CLI::Range(0, 1'000'000'000))
      ->capture_default_str();
  app.add_option("-t,--threads", o->threads,
                 "Threads; 0 means all cores. Small models want one")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  return [o](const Invocation& call) { return Run(*o, call.host); };
}

}  // namespace

namespace commands {
const Command generate = {"generate", "Write text with a saved model",
                          kExamples, Declare};
}

}  // namespace saccade::bench
