#include "bench/extrapolation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <unordered_set>

#include "bench/cli_parse.h"
#include "bench/corpus.h"
#include "bench/learn/anchors.h"
#include "bench/learn/claims.h"
#include "bench/learn/jobs.h"
#include "bench/learn/random.h"
#include "bench/learn/readings.h"
#include "bench/learn/saved.h"
#include "bench/lenses/look.h"
#include "record/schema.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr double kAnchorSeconds = 4;   // for a corpus of 4 MB
constexpr int64_t kCurvePoints = 100;  // of a recorded loss curve

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// A whole run: what is being done, how far it is, and where records go.
class Run {
 public:
  Run(const LearnOptions& o, Exec& exec, const LearnHooks& hooks)
      : o_(o), exec_(exec), hooks_(hooks), records_(hooks.known) {
    for (const json& r : records_) known_.insert(record::IdentityOf(r));
  }

  Status All();

 private:
  using Moment = std::chrono::steady_clock::time_point;

  bool cancelled() const {
    return hooks_.cancel != nullptr && hooks_.cancel->load();
  }
  // Whether a run before this one trained anything.
  bool Begun() const {
    return std::any_of(records_.begin(), records_.end(), [&](const json& r) {
      return r.value("kind", "") == "train" &&
             r.value("status", "ok") != "skipped";
    });
  }
  bool Trained(const Job& job) const;

  // `done` of the present job, 0 to 1; false to stop.
  bool Advance(double done, std::string_view text);
  double Rest() const;
  void Note(const std::string& sentence) const {
    if (hooks_.note) hooks_.note(sentence);
  }
  Status Write(json record);
  Status WriteFailure(const Job& job, std::string_view status,
                      const std::string& reason);
  Status ReadTheCorpus();
  Status WriteAnchors();
  Status PlanJobs();
  void DropIfTooLong(Job& job) const;
  Status RunJob(const Job& job);
  Status Conclude();
  std::vector<json> Read(const Job& job, const Model& model);
  Status Keep(const Job& job, const Model& model, int64_t steps) const;
  Status WriteTraining(const Job& job, const Model& model,
                       const TrainResult& result);

  const LearnOptions& o_;
  Exec& exec_;
  const LearnHooks& hooks_;
  const LensSink sink_ = [this](const json& r) { return Write(r); };
  const Moment start_ = std::chrono::steady_clock::now();
  std::vector<json> records_;
  std::unordered_set<std::string> known_;  // identities of what came before
  Corpus corpus_;
  uint64_t text_ = 0;  // hash of the training text
  std::vector<Job> jobs_;
  bool planned_ = false;
  size_t at_ = 0;                   // the present job
  double within_ = 0;               // share of it that is done
  double before_ = 0;               // seconds of what must come before jobs
  double foretold_ = 0, took_ = 0;  // seconds of the jobs that were done
};

// What names a training among records.
json TrainingOf(const Job& job) {
  json record = {{"kind", "train"},
                 {"variant", job.spec},
                 {"task", job.task},
                 {"seed", job.seed}};
  if (job.by_flops) record["match"] = kByFlops;
  return record;
}

bool Run::Trained(const Job& job) const {
  const json wanted = TrainingOf(job);
  return std::any_of(records_.begin(), records_.end(), [&](const json& r) {
    return r.contains("match") == job.by_flops &&
           std::all_of(wanted.items().begin(), wanted.items().end(),
                       [&](const auto& field) {
                         const auto found = r.find(field.key());
                         return found != r.end() && *found == field.value();
                       });
  });
}

// Seconds to go: estimates, by the pace of what was done.
double Run::Rest() const {
  const double pace = foretold_ > 0 ? took_ / foretold_ : 1;
  double rest = before_;
  for (size_t i = at_; i < jobs_.size(); ++i) {
    if (!jobs_[i].status.ok()) continue;
    rest += pace * jobs_[i].seconds * (i == at_ ? 1 - within_ : 1);
  }
  return rest;
}

bool Run::Advance(double done, std::string_view text) {
  within_ = std::min(done, 1.0);
  const double rest = planned_ ? Rest() : std::max(o_.budget_seconds, 1.0);
  if (hooks_.progress) hooks_.progress(Since(start_), rest, text);
  return !cancelled();
}

// What a run before this one recorded is not said twice.
Status Run::Write(json record) {
  if (!record.contains("status")) record["status"] = "ok";
  if (known_.contains(record::IdentityOf(record))) return {};
  records_.push_back(record);
  return hooks_.record ? hooks_.record(record) : Status();
}

Status Run::WriteFailure(const Job& job, std::string_view status,
                         const std::string& reason) {
  json record = TrainingOf(job);
  record.update({{"status", status}, {"reason", reason}});
  return Write(std::move(record));
}

Status Run::ReadTheCorpus() {
  Advance(0, "reading the text");
  Result<Corpus> corpus =
      o_.corpus.empty()
          ? ReadAusten(o_.cache.empty() ? DefaultCache() : o_.cache)
          : ReadCorpus(o_.corpus);
  if (!corpus.ok()) return corpus.status();
  corpus_ = std::move(*corpus);
  text_ = Hash(corpus_.train);
  return {};
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
  return {};
}

// Lists and estimates the jobs; records those that the budget has no room for.
Status Run::PlanJobs() {
  Advance(0, "estimating");
  jobs_ = JobsOf(o_);
  std::erase_if(jobs_, [this](const Job& job) { return Trained(job); });
  EstimateJobs(o_, static_cast<int64_t>(corpus_.test.size()), exec_, jobs_);
  // Whoever goes on with a run sees the dropped among what is recorded.
  if (o_.budget_seconds > 0) {
    const double room = o_.budget_seconds - Since(start_) - before_;
    for (const std::string& dropped : DropToFit(o_, room, jobs_))
      Note("dropped to keep within the time: " + dropped);
    for (const Job& job : jobs_) {
      if (job.status.code() != Code::kExhausted) continue;
      if (Status s = WriteFailure(job, "skipped", job.status.message());
          !s.ok()) {
        return s;
      }
    }
    std::erase_if(jobs_, [](const Job& job) {
      return job.status.code() == Code::kExhausted;
    });
  }
  planned_ = true;
  if (!jobs_.empty())
    Note(fmt::format("{} trainings, about {}", jobs_.size(),
                     FormatDuration(Rest())));
  return {};
}

// Estimates err, so what is left is what the clock says when a job's turn
// comes.
void Run::DropIfTooLong(Job& job) const {
  if (!job.status.ok() || o_.budget_seconds <= 0) return;
  const double left = std::max(o_.budget_seconds - Since(start_), 0.0);
  const double pace = foretold_ > 0 ? took_ / foretold_ : 1;
  const double seconds = pace * job.seconds;
  if (seconds <= left) return;
  job.status =
      Exhausted(fmt::format("would take about {}, and {} are left",
                            FormatDuration(seconds), FormatDuration(left)));
}

std::vector<json> Run::Read(const Job& job, const Model& model) {
  double seconds =
      static_cast<double>(job.training.optimiser.steps) * job.speed.step;
  const auto tick = [&](int64_t tokens, int64_t len) {
    seconds += static_cast<double>(tokens) * job.speed.Token(len);
    return Advance(
        seconds / job.seconds,
        fmt::format("{}: {} at {} tokens", job.Name(), job.task, len));
  };
  return job.probe ? ReadProbeJob(o_, job, model, exec_, tick)
                   : ReadTextJob(o_, job, model, corpus_.test, exec_, tick);
}

// A trained model of text, where models are wanted, by a name made of what it
// is: "softmax.window_size=32+rope.seed-1.safetensors".
Status Run::Keep(const Job& job, const Model& model, int64_t steps) const {
  if (o_.save_models.empty() || job.probe) return {};
  std::string name = job.spec;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ':' || c == '/'; },
      '_');
  name += fmt::format(".seed-{}{}.safetensors", job.seed,
                      job.by_flops ? ".flops" : "");
  const std::string path =
      (std::filesystem::path(o_.save_models) / name).string();
  const Status saved = SaveModel(path, model,
                                 {{"trained_on", corpus_.name},
                                  {"steps", fmt::format("{}", steps)},
                                  {"seed", fmt::format("{}", job.seed)}});
  // One that grew beyond all numbers is recorded, and not saved.
  if (saved.code() != Code::kInvalid) return saved;
  Note("not saved: " + saved.message());
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
  json record = TrainingOf(job);
  record.update({{"train_len", job.training.len},
                 {"model", fmt::format("d{} N{} h{}", job.model.width,
                                       job.model.layers, job.model.heads)},
                 {"params", model.parameters().count()},
                 {"steps", steps},
                 {"tokens", steps * job.StepTokens()},
                 {"flops", job.flops},
                 {"final_loss", curve.back()},
                 {"loss", curve},
                 {"seconds", result.seconds},
                 {"gflops", result.gflops},
                 {"threads", exec_.slots()}});
  if (job.probe) {
    record.update({{"title", job.probe->title},
                   {"source", job.probe->source},
                   {"expected", job.probe->expectation},
                   {"bucket_is", job.probe->bucket}});
  }
  return Write(std::move(record));
}

Status Run::RunJob(const Job& job) {
  const Moment begin = std::chrono::steady_clock::now();
  if (!job.status.ok()) {
    const bool budget = job.status.code() == Code::kExhausted;
    return WriteFailure(job, budget ? "skipped" : "unsupported",
                        job.status.message());
  }
  Result<Model> model = Model::Make(job.model);
  if (!model.ok()) {
    return WriteFailure(job, "unsupported", model.status().message());
  }
  model->parameters().Start(job.seed);
  if (!job.probe && !job.by_flops && job.seed == o_.seeds.front()) {
    const Status s = LookAtStart(*model, corpus_.train, job.seed, exec_, sink_);
    if (!s.ok()) return s;
  }
  const int64_t len = job.training.len;
  const Result<TrainResult> result =
      Train(*model, job.training,
            job.probe ? ProbeBatches(*job.probe, job.seed)
                      : TextBatches(corpus_.train, len, model->bos(), job.seed),
            exec_,
            [&](int64_t step, double) {
              const auto done = static_cast<double>(step + 1);
              return Advance(
                  done * job.speed.step / job.seconds,
                  fmt::format("{}: {}, step {} of {}", job.Name(), job.task,
                              step + 1, job.training.optimiser.steps));
            },
            {.path = hooks_.checkpoint,
             .owner = OwnerOf(job, job.probe ? 0 : text_),
             .seconds = o_.checkpoint_seconds});
  if (result.status().code() == Code::kIo) return result.status();
  if (!result.ok()) return WriteFailure(job, "fail", result.status().message());
  if (result->stopped) return {};
  std::vector<json> records = Read(job, *model);
  if (cancelled()) return {};
  for (json& record : records) {
    if (Status s = Write(std::move(record)); !s.ok()) return s;
  }
  if (o_.look && !job.probe && !job.by_flops) {
    Advance(1, fmt::format("{} seed {}: lenses", job.spec, job.seed));
    const Status s =
        LookAtModel(*model, true, corpus_.test, job.seed, exec_, sink_);
    if (!s.ok()) return s;
  }
  const auto steps = static_cast<int64_t>(result->loss.size());
  if (Status s = Keep(job, *model, steps); !s.ok()) return s;
  if (Status s = WriteTraining(job, *model, *result); !s.ok()) return s;
  foretold_ += job.seconds;
  took_ += Since(begin);
  within_ = 1;
  Note(
      fmt::format("{} of {}: {}, {}: {:.0f} s, {:.0f} GFLOP/s, loss "
                  "{:.3f} nats; {} gone, about {} to go",
                  at_ + 1, jobs_.size(), job.Name(), job.task, Since(begin),
                  result->gflops, result->loss.back(),
                  FormatDuration(Since(start_)), FormatDuration(Rest())));
  return {};
}

Status Run::Conclude() {
  std::error_code ignored;
  if (!hooks_.checkpoint.empty())
    std::filesystem::remove(hooks_.checkpoint, ignored);
  if (!o_.shard.whole()) return {};
  for (json& claim : JudgeClaims(o_, records_)) {
    if (Status s = Write(std::move(claim)); !s.ok()) return s;
  }
  return {};
}

Status Run::All() {
  const bool text = !o_.specs.empty();
  // Anchors come before all that is trained.
  const bool anchors = text && !Begun();
  before_ = anchors ? kAnchorSeconds : 0;
  Status status = text ? ReadTheCorpus() : Status();
  if (status.ok()) status = PlanJobs();
  if (status.ok() && anchors && !cancelled()) status = WriteAnchors();
  before_ = 0;
  for (at_ = 0; at_ < jobs_.size() && status.ok() && !cancelled(); ++at_) {
    within_ = 0;
    DropIfTooLong(jobs_[at_]);
    status = RunJob(jobs_[at_]);
  }
  if (!status.ok() || cancelled()) return status;
  return Conclude();
}

// The folder is made before anything is trained: it may not be possible.
Status MakeFolder(const std::string& folder) {
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) return IoError(fmt::format("{}: {}", folder, error.message()));
  return {};
}

Status Check(const LearnOptions& o) {
  if (o.multiples.empty() || o.seeds.empty()) {
    return Invalid("training needs at least one length and one seed");
  }
  if (o.tokens_per_step < o.train_len) {
    return Invalid("a step has fewer tokens than a sequence");
  }
  if (o.width % o.heads != 0) {
    return Invalid(fmt::format("width {} is not a multiple of {} heads",
                               o.width, o.heads));
  }
  return {};
}

}  // namespace

Status RunExtrapolation(const LearnOptions& options, Exec& exec,
                        const LearnHooks& hooks) {
  if (Status status = Check(options); !status.ok()) return status;
  if (Status s = MakeFolder(options.save_models); !s.ok()) return s;
  return Run(options, exec, hooks).All();
}

Result<std::vector<PlannedTraining>> PlanTrainings(const LearnOptions& o,
                                                   Exec& exec) {
  if (Status status = Check(o); !status.ok()) return status;
  constexpr int64_t kTextBytes = int64_t{1} << 20;  // any test text that fits
  std::vector<Job> jobs = JobsOf(o);
  EstimateJobs(o, kTextBytes, exec, jobs);
  if (o.budget_seconds > 0) {
    const double anchors = o.specs.empty() ? 0 : kAnchorSeconds;
    DropToFit(o, o.budget_seconds - anchors, jobs);
  }
  std::vector<PlannedTraining> planned;
  for (const Job& job : jobs)
    planned.push_back({job.task, job.spec, job.seed, job.by_flops, job.flops,
                       job.Rate(), job.seconds, job.status});
  return planned;
}

}  // namespace saccade::bench
