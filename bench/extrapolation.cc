#include "bench/extrapolation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "bench/corpus.h"
#include "bench/learn/anchors.h"
#include "bench/learn/claims.h"
#include "bench/learn/estimate.h"
#include "bench/learn/probing.h"
#include "bench/learn/protocols.h"
#include "bench/learn/start.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr int64_t kBytes = 257;        // symbols of text: bytes and BOS
constexpr double kAnchorSeconds = 4;   // for a corpus of 4 MB
constexpr int64_t kCurvePoints = 100;  // of a recorded loss curve

// One model to train, and to read afterwards.
struct Job {
  const Probe* probe = nullptr;  // null: text
  std::string spec;
  uint64_t seed = 0;
  Speed speed;
  double seconds = 0;  // estimated
  Status status = {};  // why it cannot run
  std::string task() const { return probe ? std::string(probe->name) : "text"; }
};

ModelOptions ModelFor(const LearnOptions& o, const Job& job) {
  if (job.probe) return ProbeModel(*job.probe, job.spec);
  return {.spec = job.spec,
          .width = o.width,
          .layers = o.layers,
          .heads = o.heads,
          .symbols = kBytes,
          .train_len = o.train_len};
}

// Sequences, their length, and steps.
TrainOptions TrainingOf(const LearnOptions& o, const Job& job) {
  const int64_t len = job.probe ? job.probe->train_len() : o.train_len;
  const int64_t tokens =
      job.probe ? o.probe_tokens_per_step : o.tokens_per_step;
  const auto probe_steps = [&o](const Probe& probe) {
    return std::max<int64_t>(
        std::llround(o.probe_effort * static_cast<double>(probe.steps)), 1);
  };
  return {
      .batch = std::max<int64_t>(tokens / len, 1),
      .len = len,
      .optimiser = {.rate = job.probe ? job.probe->rate : o.rate,
                    .steps = job.probe ? probe_steps(*job.probe) : o.steps}};
}

// Everything that will be done, in the order it will be done: by turns, so
// that what a short budget drops is the end of both lists.
std::vector<Job> JobsOf(const LearnOptions& o) {
  std::vector<Job> jobs;
  const size_t turns = std::max(o.specs.size(), o.probe_specs.size());
  for (const uint64_t seed : o.seeds) {
    for (size_t i = 0; i < turns; ++i) {
      if (i < o.specs.size()) {
        jobs.push_back({nullptr, o.specs[i], seed, {}});
      }
      if (i >= o.probe_specs.size()) continue;
      for (const Probe* probe : o.probes) {
        jobs.push_back({probe, o.probe_specs[i], seed, {}});
      }
    }
  }
  return jobs;
}

int64_t Longest(const LearnOptions& o) {
  return *std::max_element(o.multiples.begin(), o.multiples.end());
}

bool Windowed(const std::string& spec) {
  const Result<Spec> parsed = ParseSpec(spec);
  return parsed.ok() && parsed->variant->traits.window;
}

ReadOptions ReadingAt(const LearnOptions& o, int64_t multiple) {
  return {.train_len = o.train_len,
          .multiple = multiple,
          .longest = Longest(o),
          .test_bytes = o.test_bytes,
          .targets = o.targets};
}

ProbeOptions ProbingAt(const LearnOptions& o, const Probe& probe, int64_t len) {
  return {.len = len,
          .sequences = SequencesAt(len, probe.train_len(), o.probe_sequences)};
}

// The lengths that a probe is read at: always the one it is trained at.
std::vector<int64_t> LengthsOf(const LearnOptions& o, const Probe& probe) {
  std::vector<int64_t> lengths = probe.lengths;
  std::erase_if(lengths, [&](int64_t len) {
    return len > std::max(o.probe_max_len, probe.train_len());
  });
  return lengths;
}

double SecondsOf(const LearnOptions& o, const Job& job, int64_t text_bytes) {
  const double passes = Windowed(job.spec) ? 2 : 1;
  double seconds =
      static_cast<double>(TrainingOf(o, job).optimiser.steps) * job.speed.step;
  if (job.probe) {
    for (const int64_t len : LengthsOf(o, *job.probe)) {
      const int64_t tokens = ProbingAt(o, *job.probe, len).sequences * len;
      seconds += static_cast<double>(tokens) * job.speed.Token(len);
    }
    return seconds;
  }
  for (const int64_t r : o.multiples) {
    seconds += (r == 1 ? 1 : passes) *
               static_cast<double>(ReadTokens(text_bytes, ReadingAt(o, r))) *
               job.speed.Token(r * o.train_len);
  }
  return seconds;
}

void EstimateJobs(const LearnOptions& o, int64_t text_bytes, Exec& exec,
                  std::vector<Job>& jobs) {
  for (Job& job : jobs) {
    // Other seeds are as fast as the first.
    const auto first =
        std::find_if(jobs.begin(), jobs.end(), [&](const Job& j) {
          return j.probe == job.probe && j.spec == job.spec;
        });
    if (&*first != &job) {
      job.speed = first->speed;
      job.seconds = first->seconds;
      job.status = first->status;
      continue;
    }
    const TrainOptions training = TrainingOf(o, job);
    const int64_t longest =
        job.probe ? LengthsOf(o, *job.probe).back() : Longest(o) * training.len;
    const Result<Speed> speed = Calibrate(ModelFor(o, job), training.batch,
                                          training.len, longest, exec);
    if (!speed.ok()) {
      job.status = speed.status();
      continue;
    }
    job.speed = *speed;
    job.seconds = SecondsOf(o, job, text_bytes);
  }
}

// A whole run: what is being done, how far it is, and where records go.
class Run {
 public:
  Run(const LearnOptions& o, Exec& exec, const LearnHooks& hooks)
      : o_(o), exec_(exec), hooks_(hooks), records_(hooks.known) {}

  Status All();

 private:
  bool cancelled() const {
    return hooks_.cancel != nullptr && hooks_.cancel->load();
  }
  bool Have(const Job& job) const {
    return hooks_.have && hooks_.have(job.task(), job.spec, job.seed);
  }
  // Adds estimated seconds of work done; false to stop.
  bool Advance(double seconds, std::string_view text);
  Status Write(json record);
  Status WriteFailure(const Job& job, std::string_view status,
                      const std::string& reason);
  Status WriteAnchors();
  Status WriteLenses(const Job& job, const Model& model);
  void PlanJobs();
  void DropIfTooLong(Job& job) const;
  Status RunJob(const Job& job);
  Status ReadJobText(const Job& job, const Model& model);
  Status ReadJobProbe(const Job& job, const Model& model);
  Status WriteTraining(const Job& job, const Model& model,
                       const TrainResult& result);

  const LearnOptions& o_;
  Exec& exec_;
  const LearnHooks& hooks_;
  const std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
  std::vector<json> records_;
  Corpus corpus_;
  std::vector<Job> jobs_;
  double total_ = 0, done_ = 0;  // estimated seconds
};

bool Run::Advance(double seconds, std::string_view text) {
  done_ += seconds;
  if (hooks_.progress && total_ > 0) {
    hooks_.progress(std::min(done_ / total_, 1.0), text);
  }
  return !cancelled();
}

Status Run::Write(json record) {
  if (!record.contains("status")) record["status"] = "ok";
  records_.push_back(record);
  return hooks_.record ? hooks_.record(record) : Status();
}

Status Run::WriteFailure(const Job& job, std::string_view status,
                         const std::string& reason) {
  return Write({{"kind", "train"},
                {"variant", job.spec},
                {"task", job.task()},
                {"seed", job.seed},
                {"status", status},
                {"reason", reason}});
}

Status Run::WriteAnchors() {
  Advance(0, "counting n-grams of " + corpus_.name);
  for (const Anchor& anchor : Anchors(corpus_.train, corpus_.test, exec_)) {
    if (Status s = Write({{"kind", "anchor"},
                          {"anchor", anchor.name},
                          {"bits_per_byte", anchor.bits_per_byte}});
        !s.ok()) {
      return s;
    }
  }
  Advance(kAnchorSeconds, corpus_.name);
  return {};
}

Status Run::WriteLenses(const Job& job, const Model& fresh) {
  const Result<StartRatios> ratios =
      MeasureStart(fresh, corpus_.train, o_.train_len, exec_);
  if (!ratios.ok()) return ratios.status();
  const auto write = [&](const char* lens, double value) {
    return Write({{"kind", "lens"},
                  {"variant", job.spec},
                  {"lens", lens},
                  {"value", value},
                  {"seed", job.seed}});
  };
  Status status = write(kAttentionAtStart, ratios->attention);
  if (status.ok() && ratios->mlp) status = write(kMlpAtStart, *ratios->mlp);
  return status;
}

// Estimates all jobs.
void Run::PlanJobs() {
  jobs_ = JobsOf(o_);
  std::erase_if(jobs_, [this](const Job& job) { return Have(job); });
  EstimateJobs(o_, static_cast<int64_t>(corpus_.test.size()), exec_, jobs_);
  total_ = o_.specs.empty() ? 0 : kAnchorSeconds;
  for (const Job& job : jobs_) {
    if (job.status.ok()) total_ += job.seconds;
  }
}

// Estimates err, so what is left is what the clock says when a job's turn
// comes.
void Run::DropIfTooLong(Job& job) const {
  if (!job.status.ok() || o_.budget_seconds <= 0) return;
  const std::chrono::duration<double> spent =
      std::chrono::steady_clock::now() - start_;
  const double left = std::max(o_.budget_seconds - spent.count(), 0.0);
  if (job.seconds <= left) return;
  job.status = Exhausted(fmt::format(
      "would take {:.0f} s of the {:.0f} s that are left", job.seconds, left));
}

Status Run::ReadJobText(const Job& job, const Model& model) {
  std::vector<json> records;
  for (const char* change : {"plain", "window"}) {
    const bool window = change == std::string_view("window");
    if (window && !model.spec().variant->traits.window) continue;
    for (const int64_t r : o_.multiples) {
      ReadOptions options = ReadingAt(o_, r);
      options.window = window ? o_.train_len : 0;
      const int64_t len = r * o_.train_len;
      const std::string text =
          fmt::format("{}: reading at {} tokens", job.spec, len);
      const auto readings =
          ReadText(model, corpus_.test, options, exec_, [&](int64_t tokens) {
            return Advance(static_cast<double>(tokens) * job.speed.Token(len),
                           text);
          });
      const json record = {{"kind", "extrapolation"},   {"variant", job.spec},
                           {"switch", change},          {"seed", job.seed},
                           {"train_len", o_.train_len}, {"eval_len", len}};
      if (!readings.ok()) {
        json failed = record;
        failed.update({{"protocol", "nonoverlap"},
                       {"status", "unsupported"},
                       {"reason", readings.status().message()}});
        records.push_back(failed);
        continue;
      }
      for (const Reading& reading : *readings) {
        json made = record;
        made.update({{"protocol", reading.protocol},
                     {"bits_per_byte", reading.bits.value},
                     {"low", reading.bits.low},
                     {"high", reading.bits.high},
                     {"tokens", reading.tokens}});
        records.push_back(made);
      }
    }
  }
  if (cancelled()) return {};
  for (json& record : records) {
    if (Status s = Write(std::move(record)); !s.ok()) return s;
  }
  return {};
}

Status Run::ReadJobProbe(const Job& job, const Model& model) {
  std::vector<json> records;
  for (const int64_t len : LengthsOf(o_, *job.probe)) {
    const std::string text =
        fmt::format("{}: {} at {} tokens", job.spec, job.probe->name, len);
    const auto reading = ReadProbe(
        *job.probe, model, ProbingAt(o_, *job.probe, len), exec_,
        [&](int64_t tokens) {
          return Advance(static_cast<double>(tokens) * job.speed.Token(len),
                         text);
        });
    json record = {
        {"kind", "probe"},          {"variant", job.spec},
        {"probe", job.probe->name}, {"switch", "plain"},
        {"seed", job.seed},         {"train_len", job.probe->train_len()},
        {"eval_len", len}};
    if (!reading.ok()) {
      record.update(
          {{"status", "unsupported"}, {"reason", reading.status().message()}});
      records.push_back(record);
      continue;
    }
    for (json& scored : ProbeRecords(*job.probe, *reading, record)) {
      records.push_back(std::move(scored));
    }
  }
  if (cancelled()) return {};
  for (json& record : records) {
    if (Status s = Write(std::move(record)); !s.ok()) return s;
  }
  return {};
}

// Written last: whoever finds it finds all that the job has to say.
Status Run::WriteTraining(const Job& job, const Model& model,
                          const TrainResult& result) {
  const auto steps = static_cast<int64_t>(result.loss.size());
  const int64_t points = std::min(steps, kCurvePoints);
  std::vector<double> curve;
  for (int64_t i = 0; i < points; ++i) {
    const int64_t begin = steps * i / points, end = steps * (i + 1) / points;
    curve.push_back(
        Mean({&result.loss[begin], static_cast<size_t>(end - begin)}));
  }
  const TrainOptions training = TrainingOf(o_, job);
  const ModelOptions& made = model.options();
  json record = {{"kind", "train"},
                 {"variant", job.spec},
                 {"task", job.task()},
                 {"seed", job.seed},
                 {"train_len", training.len},
                 {"model", fmt::format("d{} N{} h{}", made.width, made.layers,
                                       made.heads)},
                 {"params", model.parameters().count()},
                 {"steps", steps},
                 {"tokens", steps * training.batch * training.len},
                 {"final_loss", curve.back()},
                 {"loss", curve},
                 {"seconds", result.seconds},
                 {"gflops", result.gflops},
                 {"threads", exec_.slots()}};
  if (job.probe) {
    record.update({{"title", job.probe->title},
                   {"source", job.probe->source},
                   {"expected", job.probe->expectation},
                   {"bucket_is", job.probe->bucket}});
  }
  return Write(std::move(record));
}

Status Run::RunJob(const Job& job) {
  if (!job.status.ok()) {
    const bool budget = job.status.code() == Code::kExhausted;
    return WriteFailure(job, budget ? "skipped" : "unsupported",
                        job.status.message());
  }
  Result<Model> model = Model::Make(ModelFor(o_, job));
  if (!model.ok()) {
    return WriteFailure(job, "unsupported", model.status().message());
  }
  model->parameters().Start(job.seed);
  if (!job.probe && job.seed == o_.seeds.front()) {
    if (Status s = WriteLenses(job, *model); !s.ok()) return s;
  }
  const TrainOptions options = TrainingOf(o_, job);
  const Result<TrainResult> result = Train(
      *model, options,
      job.probe
          ? ProbeBatches(*job.probe, job.seed)
          : TextBatches(corpus_.train, options.len, model->bos(), job.seed),
      exec_, [&](int64_t step) {
        return Advance(
            job.speed.step,
            fmt::format("{}: training on {}, step {} of {}", job.spec,
                        job.task(), step + 1, options.optimiser.steps));
      });
  if (!result.ok()) return WriteFailure(job, "fail", result.status().message());
  if (result->stopped) return {};
  const Status status =
      job.probe ? ReadJobProbe(job, *model) : ReadJobText(job, *model);
  if (!status.ok() || cancelled()) return status;
  return WriteTraining(job, *model, *result);
}

Status Run::All() {
  if (!o_.specs.empty()) {
    if (hooks_.progress) hooks_.progress(0, "reading the text");
    Result<Corpus> corpus =
        o_.corpus.empty()
            ? ReadAusten(o_.cache.empty() ? DefaultCache() : o_.cache)
            : ReadCorpus(o_.corpus);
    if (!corpus.ok()) return corpus.status();
    corpus_ = std::move(*corpus);
  }
  if (hooks_.progress) hooks_.progress(0, "estimating");
  PlanJobs();
  const auto anchor = [](const json& r) {
    return r.value("kind", "") == "anchor";
  };
  if (!o_.specs.empty() &&
      std::none_of(records_.begin(), records_.end(), anchor)) {
    if (Status s = WriteAnchors(); !s.ok()) return s;
  }
  double before = done_;
  for (Job& job : jobs_) {
    if (cancelled()) return {};
    const bool possible = job.status.ok();
    DropIfTooLong(job);
    if (Status s = RunJob(job); !s.ok()) return s;
    // Estimates err; the next job begins where it was expected to.
    before += possible ? job.seconds : 0;
    done_ = before;
  }
  if (cancelled()) return {};
  for (json& claim : JudgeClaims(o_, records_)) {
    if (Status s = Write(std::move(claim)); !s.ok()) return s;
  }
  Advance(total_, "done");
  return {};
}

Status Check(const LearnOptions& o) {
  if (o.multiples.empty() || o.seeds.empty()) {
    return Invalid("training needs at least one length and one seed");
  }
  if (o.width % o.heads != 0) {
    return Invalid(fmt::format("width {} is not a multiple of {} heads",
                               o.width, o.heads));
  }
  if (o.tokens_per_step < o.train_len) {
    return Invalid("a step has fewer tokens than a sequence");
  }
  return {};
}

}  // namespace

Status RunExtrapolation(const LearnOptions& options, Exec& exec,
                        const LearnHooks& hooks) {
  if (Status status = Check(options); !status.ok()) return status;
  return Run(options, exec, hooks).All();
}

Result<double> EstimateExtrapolation(const LearnOptions& options, Exec& exec) {
  if (Status status = Check(options); !status.ok()) return status;
  constexpr int64_t kTextBytes = int64_t{1} << 20;  // any test text that fits
  std::vector<Job> jobs = JobsOf(options);
  EstimateJobs(options, kTextBytes, exec, jobs);
  double seconds = options.specs.empty() ? 0 : kAnchorSeconds;
  for (const Job& job : jobs) seconds += job.seconds;
  return seconds;
}

}  // namespace saccade::bench
