// saccade train: one small language model, saved.
#include "bench/learn/train.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "bench/choices.h"
#include "bench/command.h"
#include "bench/corpus.h"
#include "bench/extrapolation.h"
#include "bench/learn/jobs.h"
#include "bench/learn/random.h"
#include "bench/learn/saved.h"
#include "bench/learn/statistics.h"
#include "bench/machine.h"
#include "bench/profile.h"

namespace saccade::bench {
namespace {

constexpr char kExamples[] = R"(
Trains the model that `compare` would train for this variant by the profile's
settings, on bytes of text, and saves its parameters and what it is. Ctrl-C
leaves its state in FILE.state: the same command goes on with it.

Examples:
  saccade train softmax.flash+rope -o model.safetensors
  saccade train softmax.alibi --corpus a.txt b.txt --steps 2000 -o alibi.safetensors
  saccade generate model.safetensors --prompt 'It is a truth' -n 200)";

struct Options {
  std::string spec, out, profile = "quick";
  std::vector<std::string> corpus;
  int64_t steps = 0;  // 0: the profile's
  int64_t seed = 1;
  int threads = 0;
};

// The one training of text that a profile would have for the variant.
Result<Job> JobFor(const Options& o) {
  const Result<nlohmann::json> profile = LoadProfile(o.profile);
  if (!profile.ok()) return profile.status();
  Result<LearnOptions> learn = LearnOptionsFrom(*profile);
  if (!learn.ok()) return learn.status();
  learn->specs = {o.spec};
  learn->probe_specs.clear();
  learn->flop_matched.clear();
  learn->seeds = {static_cast<uint64_t>(o.seed)};
  if (o.steps > 0) learn->steps = o.steps;
  return JobsOf(*learn).front();
}

std::string LossText(double nats) {
  return fmt::format("loss {:.3f} nats, {:.2f} bits a byte", nats,
                     nats / std::log(2.0));
}

// Says the mean loss now and then.
TrainTick Reporter(const Host& host, int64_t steps) {
  constexpr int64_t kLines = 10;
  const auto sum = std::make_shared<double>(0);
  const auto count = std::make_shared<int64_t>(0);
  return [=, &host](int64_t step, double loss) {
    *sum += loss;
    ++*count;
    const bool due = (step + 1) * kLines / steps > step * kLines / steps;
    if (due && host.talk != Talk::kQuiet) {
      fmt::print(host.out, "step {} of {}: {}\n", step + 1, steps,
                 LossText(*sum / static_cast<double>(*count)));
      host.out.flush();
      *sum = 0;
      *count = 0;
    }
    return host.stop == nullptr || !host.stop->load();
  };
}

int Save(const Options& o, const Job& job, const Model& model,
         const Corpus& corpus, const TrainResult& result, const Host& host) {
  const auto last = std::min<size_t>(result.loss.size(), 20);
  const double loss = Mean({&result.loss[result.loss.size() - last], last});
  const Status saved =
      SaveModel(o.out, model,
                {{"trained_on", corpus.name},
                 {"steps", fmt::format("{}", result.loss.size())},
                 {"seed", fmt::format("{}", job.seed)},
                 {"loss", LossText(loss)}});
  if (!saved.ok()) return Complain(saved, host);
  if (host.talk != Talk::kQuiet)
    fmt::print(host.out,
               "{}: {}, {} parameters, {} steps in {:.1f} s, {:.0f} GFLOP/s, "
               "{}\n",
               o.out, job.spec, model.parameters().count(), result.loss.size(),
               result.seconds, result.gflops, LossText(loss));
  return kExitOk;
}

int Run(const Options& o, const Host& host) {
  const Result<Job> job = JobFor(o);
  if (!job.ok()) return Complain(job.status(), host);
  Result<Model> model = Model::Make(job->model);
  if (!model.ok()) return Complain(model.status(), host);
  const Result<Corpus> corpus =
      o.corpus.empty() ? ReadAusten(DefaultCache()) : ReadCorpus(o.corpus);
  if (!corpus.ok()) return Complain(corpus.status(), host);
  model->parameters().Start(job->seed);
  const std::unique_ptr<Exec> exec =
      MakeTbbExec(o.threads > 0 ? o.threads : UsableCores());
  const std::string state = o.out + ".state";
  const Result<TrainResult> result = Train(
      *model, job->training,
      TextBatches(corpus->train, job->training.len, model->bos(), job->seed),
      *exec, Reporter(host, job->training.optimiser.steps),
      {.path = state, .owner = OwnerOf(*job, Hash(corpus->train))});
  if (!result.ok()) return Complain(result.status(), host);
  if (result->stopped) {
    Say(host,
        fmt::format("interrupted; the same command goes on from {}", state));
    return kExitInterrupted;
  }
  const int code = Save(o, *job, *model, *corpus, *result, host);
  std::error_code ignored;
  if (code == kExitOk) std::filesystem::remove(state, ignored);
  return code;
}

Action Declare(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("SPEC", o->spec,
                 "The variant: NAME:knob=value,...+position; see saccade list")
      ->required()
      ->type_name("");
  app.add_option("-o,--out", o->out, "Where the model goes")
      ->required()
      ->type_name(kFile);
  app.add_option("--profile", o->profile,
                 "Whose settings: its name, or a file of yours")
      ->capture_default_str();
  app.add_option("--corpus", o->corpus,
                 "Text files; the last one is not trained on, of one its last "
                 "tenth. Without, Jane Austen's novels")
      ->type_name(kFile);
  app.add_option("--steps", o->steps, "Steps; without, the profile's")
      ->check(CLI::Range(1, 1'000'000'000));
  app.add_option("--seed", o->seed, "Of the start and the order of the text")
      ->check(CLI::Range(0, 1'000'000'000))
      ->capture_default_str();
  app.add_option("-t,--threads", o->threads, "Threads; 0 means all cores")
      ->check(CLI::Range(0, 1024));
  return [o](const Invocation& call) { return Run(*o, call.host); };
}

}  // namespace

namespace commands {
const Command train = {"train", "Train one small language model and save it",
                       kExamples, Declare};
}

}  // namespace saccade::bench
