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
#include "bench/learn/induction.h"
#include "bench/learn/protocols.h"
#include "bench/learn/start.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr int64_t kBytes = 257;        // symbols of text: bytes and BOS
constexpr double kAnchorSeconds = 4;   // for a corpus of 4 MB
constexpr int64_t kCurvePoints = 100;  // of a recorded loss curve

enum class Task : uint8_t { kText, kInduction };
const char* NameOf(Task task) {
  return task == Task::kText ? "text" : "induction";
}

// One model to train, and to read afterwards.
struct Job {
  Task task = Task::kText;
  std::string spec;
  uint64_t seed = 0;
  Speed speed;
  double seconds = 0;  // estimated
  Status status = {};  // why it cannot run
};

int64_t HeadsOf(const LearnOptions& o, Task task) {
  return task == Task::kText ? o.heads : o.probe_heads;
}

ModelOptions ModelFor(const LearnOptions& o, const Job& job) {
  const bool text = job.task == Task::kText;
  return {.spec = job.spec,
          .width = o.width,
          .layers = o.layers,
          .heads = HeadsOf(o, job.task),
          .symbols = text ? kBytes : kInductionSymbols,
          .train_len = text ? o.train_len : o.probe_len};
}

// Everything that will be done, in the order it will be done: by turns, so
// that what a short budget drops is the end of both lists.
std::vector<Job> JobsOf(const LearnOptions& o) {
  std::vector<Job> jobs;
  const size_t turns = std::max(o.specs.size(), o.probe_specs.size());
  for (const uint64_t seed : o.seeds) {
    for (size_t i = 0; i < turns; ++i) {
      if (i < o.specs.size()) {
        jobs.push_back({Task::kText, o.specs[i], seed, {}});
      }
      if (i < o.probe_specs.size()) {
        jobs.push_back({Task::kInduction, o.probe_specs[i], seed, {}});
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

InductionOptions ProbingAt(const LearnOptions& o, int64_t len) {
  return {.len = len,
          .sequences = SequencesAt(len, o.probe_len, o.probe_sequences)};
}

double SecondsOf(const LearnOptions& o, const Job& job, int64_t text_bytes) {
  const double passes = Windowed(job.spec) ? 2 : 1;
  double seconds = 0;
  if (job.task == Task::kText) {
    seconds = static_cast<double>(o.steps) * job.speed.step;
    for (const int64_t r : o.multiples) {
      seconds += (r == 1 ? 1 : passes) *
                 static_cast<double>(ReadTokens(text_bytes, ReadingAt(o, r))) *
                 job.speed.Token(r * o.train_len);
    }
    return seconds;
  }
  seconds = static_cast<double>(o.probe_steps) * job.speed.step;
  for (int64_t len = o.probe_len; len <= o.probe_max_len; len *= 2) {
    seconds += static_cast<double>(ProbingAt(o, len).sequences * len) *
               job.speed.Token(len);
  }
  return seconds;
}

void EstimateJobs(const LearnOptions& o, int64_t text_bytes, Exec& exec,
                  std::vector<Job>& jobs) {
  for (Job& job : jobs) {
    // Other seeds are as fast as the first.
    const auto first = std::find_if(
        jobs.begin(), jobs.end(),
        [&](const Job& j) { return j.task == job.task && j.spec == job.spec; });
    if (&*first != &job) {
      job.speed = first->speed;
      job.seconds = first->seconds;
      job.status = first->status;
      continue;
    }
    const bool text = job.task == Task::kText;
    const int64_t len = text ? o.train_len : o.probe_len;
    const int64_t tokens = text ? o.tokens_per_step : o.probe_tokens_per_step;
    const Result<Speed> speed =
        Calibrate(ModelFor(o, job), std::max<int64_t>(tokens / len, 1), len,
                  text ? Longest(o) * len : o.probe_max_len, exec);
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
    return hooks_.have &&
           hooks_.have(job.task == Task::kText ? "train" : "probe", job.spec,
                       job.seed);
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
  Status ReadJobInduction(const Job& job, const Model& model);
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
                {"task", NameOf(job.task)},
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

Status Run::ReadJobInduction(const Job& job, const Model& model) {
  std::vector<json> records;
  for (int64_t len = o_.probe_len; len <= o_.probe_max_len; len *= 2) {
    const std::string text =
        fmt::format("{}: probing at {} tokens", job.spec, len);
    const auto reading =
        ReadInduction(model, ProbingAt(o_, len), exec_, [&](int64_t tokens) {
          return Advance(static_cast<double>(tokens) * job.speed.Token(len),
                         text);
        });
    json record = {{"kind", "probe"},      {"variant", job.spec},
                   {"probe", "induction"}, {"switch", "plain"},
                   {"seed", job.seed},     {"train_len", o_.probe_len},
                   {"eval_len", len}};
    if (!reading.ok()) {
      record.update(
          {{"status", "unsupported"}, {"reason", reading.status().message()}});
      records.push_back(record);
      continue;
    }
    const Interval95 share = Wilson(reading->all.right, reading->all.asked);
    record.update({{"accuracy", share.value},
                   {"low", share.low},
                   {"high", share.high},
                   {"trials", reading->all.asked},
                   {"chance", kInductionChance}});
    records.push_back(record);
    if (len * 2 <= o_.probe_max_len) continue;
    // At the longest, by distance too.
    for (size_t k = 0; k < reading->buckets.size(); ++k) {
      const InductionReading::Bucket& bucket = reading->buckets[k];
      if (bucket.asked == 0) continue;
      const Interval95 part = Wilson(bucket.right, bucket.asked);
      records.push_back(
          {{"kind", "lens"},
           {"variant", job.spec},
           {"lens", fmt::format("induction at distance {} to {}",
                                int64_t{1} << k, (int64_t{2} << k) - 1)},
           {"value", part.value},
           {"low", part.low},
           {"high", part.high},
           {"kv_len", len},
           {"seed", job.seed}});
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
  const bool text = job.task == Task::kText;
  const int64_t tokens = text ? o_.tokens_per_step : o_.probe_tokens_per_step;
  return Write({{"kind", "train"},
                {"variant", job.spec},
                {"task", NameOf(job.task)},
                {"seed", job.seed},
                {"train_len", text ? o_.train_len : o_.probe_len},
                {"model", fmt::format("d{} N{} h{}", o_.width, o_.layers,
                                      HeadsOf(o_, job.task))},
                {"params", model.parameters().count()},
                {"steps", steps},
                {"tokens", steps * tokens},
                {"final_loss", curve.back()},
                {"loss", curve},
                {"seconds", result.seconds},
                {"gflops", result.gflops},
                {"threads", exec_.slots()}});
}

Status Run::RunJob(const Job& job) {
  const bool text = job.task == Task::kText;
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
  if (text && job.seed == o_.seeds.front()) {
    if (Status s = WriteLenses(job, *model); !s.ok()) return s;
  }
  const int64_t len = text ? o_.train_len : o_.probe_len;
  const int64_t tokens = text ? o_.tokens_per_step : o_.probe_tokens_per_step;
  const TrainOptions options = {
      .batch = std::max<int64_t>(tokens / len, 1),
      .len = len,
      .optimiser = {.rate = text ? o_.rate : o_.probe_rate,
                    .steps = text ? o_.steps : o_.probe_steps}};
  const Result<TrainResult> result =
      Train(*model, options,
            text ? TextBatches(corpus_.train, len, model->bos(), job.seed)
                 : InductionBatches(len, job.seed),
            exec_, [&](int64_t step) {
              return Advance(job.speed.step,
                             fmt::format("{}: training on {}, step {} of {}",
                                         job.spec, NameOf(job.task), step + 1,
                                         options.optimiser.steps));
            });
  if (!result.ok()) return WriteFailure(job, "fail", result.status().message());
  if (result->stopped) return {};
  const Status status =
      text ? ReadJobText(job, *model) : ReadJobInduction(job, *model);
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
  for (const int64_t heads : {o.heads, o.probe_heads}) {
    if (o.width % heads == 0) continue;
    return Invalid(
        fmt::format("width {} is not a multiple of {} heads", o.width, heads));
  }
  if (o.tokens_per_step < o.train_len ||
      o.probe_tokens_per_step < o.probe_len) {
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
