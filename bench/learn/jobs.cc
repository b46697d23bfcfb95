#include "bench/learn/jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "bench/cli_parse.h"

namespace saccade::bench {
namespace {

constexpr int64_t kBytes = 257;  // symbols of text: bytes and BOS

int64_t Longest(const LearnOptions& o) {
  return *std::max_element(o.multiples.begin(), o.multiples.end());
}

const std::string& ReferenceOf(const LearnOptions& o) {
  return o.flop_reference.empty() ? o.specs.front() : o.flop_reference;
}

TrainOptions TrainingOf(int64_t tokens_per_step, int64_t len, double rate,
                        int64_t steps) {
  return {.batch = std::max<int64_t>(tokens_per_step / len, 1),
          .len = len,
          .optimiser = {.rate = rate, .steps = steps}};
}

Job TextJob(const LearnOptions& o, const std::string& spec, uint64_t seed) {
  Job job = {
      .task = kText,
      .spec = spec,
      .seed = seed,
      .model = {.spec = spec,
                .width = o.width,
                .layers = o.layers,
                .heads = o.heads,
                .symbols = kBytes,
                .train_len = o.train_len},
      .training = TrainingOf(o.tokens_per_step, o.train_len, o.rate, o.steps),
      .longest = Longest(o) * o.train_len,
      .speed = {}};
  job.training.optimiser.warmup = o.warmup;
  return job;
}

Job ProbeJob(const LearnOptions& o, const Probe& probe, const std::string& spec,
             uint64_t seed) {
  const auto steps =
      std::llround(o.probe_effort * static_cast<double>(probe.steps));
  return {.task = std::string(probe.name),
          .probe = &probe,
          .spec = spec,
          .seed = seed,
          .model = ProbeModel(probe, spec),
          .training = TrainingOf(o.probe_tokens_per_step, probe.train_len(),
                                 probe.rate, std::max<int64_t>(steps, 1)),
          .longest = LengthsOf(o, probe).back(),
          .speed = {}};
}

// Of training, a token; 0 when there is no such model.
double FlopsPerToken(const ModelOptions& options, int64_t len) {
  const Result<Model> model = Model::Make(options);
  if (!model.ok()) return 0;
  const Result<double> flops = model->FlopsPerToken(len);
  return flops.ok() ? *flops : 0;
}

// The steps that cost this model what its own cost the reference. None where
// either cannot be made.
std::optional<int64_t> MatchedSteps(const LearnOptions& o, const Job& job) {
  ModelOptions other = job.model;
  other.spec = ReferenceOf(o);
  const double own = FlopsPerToken(job.model, job.training.len);
  const double reference = FlopsPerToken(other, job.training.len);
  if (own <= 0 || reference <= 0) return std::nullopt;
  const double steps = static_cast<double>(o.steps) * reference / own;
  return std::max<int64_t>(std::llround(steps), 1);
}

// The pace of reading text under each switch: a window is fast, and ReRoPE
// reads twice.
std::vector<Speed> PacesOf(const LearnOptions& o, const Job& job, Model& model,
                           Exec& exec) {
  std::vector<Speed> paces;
  for (const Switch* change : Allowed(model, o.switches)) {
    Speed& pace = paces.emplace_back(job.speed);
    const Result<Changes> changes = change->at(model, Longest(o));
    if (!changes.ok() || (changes->window == 0 && !changes->positions))
      continue;
    const Result<double> token = TimeReading(model, pace.far, *changes, exec);
    if (token.ok()) pace.far_token = *token;
  }
  return paces;
}

double ReadingSeconds(const LearnOptions& all, const Job& job, Model& model,
                      int64_t text_bytes, Exec& exec) {
  const LearnOptions o = ReadingsOf(all, job);
  double seconds = 0;
  if (job.probe) {
    for (const int64_t len : LengthsOf(o, *job.probe)) {
      const int64_t tokens = ProbingAt(o, *job.probe, len).sequences * len;
      seconds += static_cast<double>(tokens) * job.speed.Token(len);
    }
    return seconds;
  }
  for (const Speed& pace : PacesOf(o, job, model, exec)) {
    for (const int64_t r : o.multiples) {
      seconds += static_cast<double>(ReadTokens(text_bytes, ReadingAt(o, r))) *
                 pace.Token(r * o.train_len);
    }
  }
  return seconds;
}

}  // namespace

namespace {

// But for what is there already.
void AddFurther(const LearnOptions& o, uint64_t seed, std::vector<Job>* jobs) {
  for (const FurtherTask& further : o.further) {
    const auto& seeds = further.seeds;
    if (!seeds.empty() &&
        std::find(seeds.begin(), seeds.end(), seed) == seeds.end())
      continue;
    for (const std::string& spec : further.specs) {
      const Result<const Probe*> probe = FindProbe(further.task);
      Job job = probe.ok() ? ProbeJob(o, **probe, spec, seed)
                           : TextJob(o, spec, seed);
      const bool known =
          std::any_of(jobs->begin(), jobs->end(), [&](const Job& other) {
            return other.SameWork(job) && other.seed == seed;
          });
      if (!known) jobs->push_back(std::move(job));
    }
  }
}

}  // namespace

std::vector<Job> JobsOf(const LearnOptions& o) {
  std::vector<Job> jobs;
  const size_t turns = std::max(o.specs.size(), o.probe_specs.size());
  for (const uint64_t seed : o.seeds) {
    for (size_t i = 0; i < turns; ++i) {
      if (i < o.specs.size()) jobs.push_back(TextJob(o, o.specs[i], seed));
      if (i >= o.probe_specs.size()) continue;
      for (const Probe* probe : o.probes) {
        jobs.push_back(ProbeJob(o, *probe, o.probe_specs[i], seed));
      }
    }
    AddFurther(o, seed, &jobs);
  }
  for (const uint64_t seed : o.seeds) {
    for (const std::string& spec : o.flop_matched) {
      Job job = TextJob(o, spec, seed);
      const std::optional<int64_t> steps = MatchedSteps(o, job);
      if (!steps || *steps == o.steps) continue;
      job.by_flops = true;
      job.training.optimiser.steps = *steps;
      jobs.push_back(std::move(job));
    }
  }
  KeepShare(
      o.shard,
      [](const Job& job) {
        return static_cast<double>(job.training.optimiser.steps *
                                   job.StepTokens());
      },
      &jobs);
  return jobs;
}

LearnOptions ReadingsOf(const LearnOptions& options, const Job& job) {
  LearnOptions o = options;
  if (!job.by_flops) return o;
  const auto [near, far] =
      std::minmax_element(options.multiples.begin(), options.multiples.end());
  o.multiples = {*near};
  if (*far != *near) o.multiples.push_back(*far);
  std::erase_if(o.switches, [](const Switch* s) {
    return s->name != "plain" && s->name != "window";
  });
  return o;
}

ReadOptions ReadingAt(const LearnOptions& o, int64_t multiple) {
  int64_t before = 0;
  for (const int64_t r : o.multiples) {
    if (r < multiple) before = std::max(before, r);
  }
  return {.train_len = o.train_len,
          .multiple = multiple,
          .longest = Longest(o),
          .before = before,
          .test_bytes = o.test_bytes,
          .targets = o.targets,
          .protocols = o.protocols};
}

ProbeOptions ProbingAt(const LearnOptions& o, const Probe& probe, int64_t len) {
  return {.len = len,
          .sequences = SequencesAt(len, probe.train_len(), o.probe_sequences)};
}

std::vector<int64_t> LengthsOf(const LearnOptions& o, const Probe& probe) {
  std::vector<int64_t> lengths = probe.lengths;
  std::erase_if(lengths, [&](int64_t len) {
    return len > std::max(o.probe_max_len, probe.train_len());
  });
  return lengths;
}

std::string Job::Name() const {
  return fmt::format("{} seed {}{}", spec, seed,
                     by_flops ? ", matched by FLOPs" : "");
}

double Job::Rate() const {
  const double seconds =
      static_cast<double>(training.optimiser.steps) * speed.step;
  return seconds > 0 ? flops / seconds * 1e-9 : 0;
}

void EstimateJobs(const LearnOptions& o, int64_t text_bytes, Exec& exec,
                  std::vector<Job>& jobs) {
  for (Job& job : jobs) {
    // Other seeds are as fast as the first.
    const auto first =
        std::find_if(jobs.begin(), jobs.end(),
                     [&](const Job& j) { return j.SameWork(job); });
    if (&*first != &job) {
      job.flops = first->flops;
      job.speed = first->speed;
      job.seconds = first->seconds;
      job.status = first->status;
      continue;
    }
    Result<Model> model = Model::Make(job.model);
    const Result<Speed> speed = Calibrate(job.model, job.training.batch,
                                          job.training.len, job.longest, exec);
    if (!speed.ok()) {
      job.status = speed.status();
      continue;
    }
    const auto steps = static_cast<double>(job.training.optimiser.steps);
    job.flops = FlopsPerToken(job.model, job.training.len) * steps *
                static_cast<double>(job.StepTokens());
    job.speed = *speed;
    model->parameters().Start(1);
    job.seconds = steps * job.speed.step +
                  ReadingSeconds(o, job, *model, text_bytes, exec);
  }
}

double SecondsOf(const std::vector<Job>& jobs) {
  double seconds = 0;
  for (const Job& job : jobs) seconds += job.status.ok() ? job.seconds : 0;
  return seconds;
}

namespace {

bool Matches(const DropRule& rule, const Job& job) {
  return (rule.task.empty() || rule.task == job.task) &&
         (rule.variants.empty() || GlobMatches(rule.variants, job.spec)) &&
         (!rule.seed || *rule.seed == job.seed);
}

std::string Words(const DropRule& rule) {
  std::string words = rule.variants.empty() ? "all variants" : rule.variants;
  if (!rule.task.empty()) words += " on " + rule.task;
  if (rule.seed) words += fmt::format(", seed {}", *rule.seed);
  return words;
}

}  // namespace

std::vector<std::string> DropToFit(const LearnOptions& o, double seconds,
                                   std::vector<Job>& jobs) {
  std::vector<std::string> sentences;
  const double all = SecondsOf(jobs);
  const std::string why = fmt::format(
      "dropped, for the whole would take about {} of the {} there are",
      FormatDuration(all), FormatDuration(seconds));
  double left = all;
  const auto drop = [&](Job& job) {
    left -= job.seconds;
    job.status = Exhausted(why);
  };
  const auto drop_last = [&](std::string_view words, bool by_flops) {
    int dropped = 0;
    for (auto job = jobs.rbegin(); job != jobs.rend() && left > seconds;
         ++job) {
      if (!job->status.ok() || (by_flops && !job->by_flops)) continue;
      drop(*job);
      ++dropped;
    }
    if (dropped > 0)
      sentences.push_back(fmt::format("{}: {} trainings", words, dropped));
  };
  drop_last("matched by FLOPs", true);
  for (const DropRule& rule : o.drops) {
    if (left <= seconds) break;
    int dropped = 0;
    for (Job& job : jobs) {
      if (!job.status.ok() || !Matches(rule, job)) continue;
      drop(job);
      ++dropped;
    }
    if (dropped > 0)
      sentences.push_back(
          fmt::format("{}: {} trainings", Words(rule), dropped));
  }
  drop_last("the last of the list", false);
  return sentences;
}

std::string OwnerOf(const Job& job, uint64_t data) {
  const ModelOptions& m = job.model;
  const TrainOptions& t = job.training;
  const OptimiserOptions& o = t.optimiser;
  return fmt::format(
      "{} {} seed {}: d{} N{} h{} V{} L{}, {} steps ({} up) of {} x {} at {}, "
      "data {:016x}",
      job.task, job.spec, job.seed, m.width, m.layers, m.heads, m.symbols,
      m.train_len, o.steps, o.warmup, t.batch, t.len, o.rate, data);
}

}  // namespace saccade::bench
