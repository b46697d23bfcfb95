#include "bench/compare.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "bench/command.h"
#include "bench/comparison.h"
#include "bench/corpus.h"
#include "bench/learn/random.h"
#include "reports/report.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

constexpr int kPeakSamples = 15;  // before all
constexpr int kLaterSamples = 3;  // after all
constexpr auto kGrace = std::chrono::milliseconds(1500);

}  // namespace

Exec& Comparison::ExecOf(int threads) {
  std::unique_ptr<Exec>& exec = execs_[threads];
  if (!exec) exec = MakeTbbExec(threads);
  return *exec;
}

int Comparison::MostThreads() const {
  int most = 1;
  for (const auto* parts : {&o_.speed, &o_.memory})
    for (const Part& part : *parts)
      for (const int t : part.grid.threads) most = std::max(most, t);
  return most;
}

int Comparison::Run() {
  const bool look = o_.dry_run && !o_.resume;  // no text is needed for that
  Status status = look ? Status() : CheckCorpus();
  if (status.ok()) status = Begin();
  if (status.ok() && o_.dry_run) return DryRun();
  if (status.ok() && !recorded_.Complete() && !QuietEnough()) return kExitNoisy;
  if (status.ok()) status = OpenRecord();
  if (!status.ok()) return Complain(status, host_);
  if (!recorded_.Complete()) SayNoise();
  if (recorded_.Complete()) {
    progress_.Say("this run is complete");
    return Report({});
  }
  std::optional<StopWatchdog> watchdog;
  if (host_.stop && host_.may_exit)
    watchdog.emplace(host_.stop, kGrace, [this] {
      SayInterrupted();
      std::_Exit(kExitInterrupted);
    });
  for (const std::string_view m : kMeasures)
    if (Wants(m) && !Trains(m))
      progress_.AddPhase(m, o_.seconds.find(m)->second);
  if (TrainingSeconds() > 0) progress_.AddPhase(kTraining, TrainingSeconds());
  status = MeasureAll();
  progress_.Finish();
  if (stopped()) {
    SayInterrupted();
    return kExitInterrupted;
  }
  return Report(status);
}

void Comparison::SayInterrupted() {
  const Status last =
      sink_->Finish("interrupted", "stopped by a signal", Elapsed());
  Say(host_, fmt::format("interrupted; what was measured is in {0}: `saccade "
                         "report {1}` makes a report of it, `saccade compare "
                         "--resume {1}` goes on",
                         sink_->path(), o_.out));
  if (!last.ok()) Say(host_, last.message());
  host_.err.flush();
}

// Looks for noise. Whether a run may begin.
bool Comparison::QuietEnough() {
  noise_ = watch_.AtStart();
  if (noise_.empty() || !o_.strict) return true;
  SayNoise();
  Say(host_, "too noisy to begin (--strict); `saccade doctor` says what to do");
  return false;
}

void Comparison::SayNoise() {
  for (const Noise& n : noise_) Say(host_, "noise: " + n.reason);
}

Status Comparison::WriteNoise(const std::vector<Noise>& noise) {
  for (const Noise& n : noise) {
    const Status status = Write(NoiseRecord(n));
    if (!status.ok()) return status;
  }
  return {};
}

// How the run begins, and what there is of it when it goes on.
Status Comparison::Begin() {
  header_ = MachineFacts();
  header_["threads"] = MostThreads();
  header_["command"] = o_.command;
  if (!o_.note.empty()) header_["note"] = o_.note;
  header_["profile"] = o_.profile;
  header_["started"] = UtcNow();
  header_["build"] = DigestOfFile(host_.program);
  header_["options"] = fmt::format("{:016x}", Mix(o_.digest ^ text_));
  if (!corpus_.empty()) header_["corpus"] = corpus_;
  if (!o_.shard.whole()) header_["shard"] = o_.shard.Name();
  if (!o_.resume) return {};
  if (NothingBegun(o_.out)) {
    progress_.Say(
        fmt::format("{}/run.jsonl is empty: a new run begins there, with the "
                    "{} profile",
                    o_.out, o_.profile));
    return {};
  }
  Result<record::Run> run = record::ReadRun(o_.out + "/run.jsonl");
  if (!run.ok()) return run.status();
  const Status same = CheckSameRun(run->header, header_);
  if (!same.ok())
    return {same.code(), fmt::format("{}: {}", run->path, same.message())};
  recorded_ = Recorded(std::move(*run));
  for (const record::Record& r : recorded_.run().records)
    failed_ |=
        r.status() == "fail" && (r.kind() == "verify" || r.kind() == "speed");
  return {};
}

// Starts the file of the record, or goes on with it.
Status Comparison::OpenRecord() {
  Result<std::unique_ptr<RecordSink>> sink =
      recorded_.run().path.empty() ? RecordSink::Create(o_.out, header_)
                                   : RecordSink::Resume(recorded_.run());
  if (!sink.ok()) return sink.status();
  sink_ = std::move(*sink);
  return {};
}

// What is recorded already is not said twice; peaks and noise are those of
// every sitting.
Status Comparison::Write(const Json& r) {
  const std::string kind = r.value("kind", "");
  if (kind != "peak" && kind != "noise" && recorded_.Find(r)) return {};
  const std::string brief =
      host_.talk == Talk::kVerbose ? Brief(r) : std::string();
  if (!brief.empty()) progress_.Say(brief);
  return sink_->Write(r);
}

int Comparison::Report(const Status& measured) {
  Status status = measured;
  const Status last = recorded_.Complete()
                          ? Status()
                          : sink_->Finish(measured.ok() ? "ok" : "fail",
                                          measured.message(), Elapsed());
  if (status.ok()) status = last;
  if (!status.ok())
    Say(host_, fmt::format("{}; what was measured is in {}", status.message(),
                           sink_->path()));
  const Result<record::Run> run = record::ReadRun(sink_->path());
  if (!run.ok()) {
    Say(host_, run.status().message());
    return kExitUsage;
  }
  const Status written = reports::WriteReport({sink_->path()}, o_.out);
  fmt::print(host_.out, "{}", reports::VerdictTable(*run));
  if (written.ok()) {
    std::error_code ignored;
    const auto page =
        std::filesystem::absolute(o_.out + "/report.html", ignored);
    fmt::print(host_.out, "\nreport: {}\n",
               page.empty() ? o_.out + "/report.html" : page.string());
  } else {
    Say(host_, written.message());
  }
  host_.out.flush();
  if (!host_.out) Say(host_, "cannot write to stdout");
  if (!status.ok() || !written.ok() || !host_.out) return kExitUsage;
  if (failed_) return kExitFailedCheck;
  if (!o_.strict || noise_.empty()) return kExitOk;
  SayNoise();
  Say(host_, "too noisy (--strict); the record is kept");
  return kExitNoisy;
}

// Before anything is measured: a text that cannot be had is said at once.
Status Comparison::CheckCorpus() {
  if (!Wants("extrapolation") || o_.learn.specs.empty()) return {};
  const std::string cache =
      o_.learn.cache.empty() ? DefaultCache() : o_.learn.cache;
  const Result<Corpus> corpus =
      o_.learn.corpus.empty() ? ReadAusten(cache) : ReadCorpus(o_.learn.corpus);
  if (!corpus.ok())
    return {corpus.status().code(),
            corpus.status().message() +
                (o_.learn.corpus.empty()
                     ? "; --corpus FILE takes another text, --measure "
                       "verify,speed,memory does without"
                     : "")};
  corpus_ = corpus->name;
  text_ = Mix(Hash(corpus->train)) ^ Hash(corpus->test);
  return {};
}

Status Comparison::MeasureAll() {
  using Step = Status (Comparison::*)();
  std::vector<Step> steps = {&Comparison::Describe, &Comparison::Peaks};
  if (Wants("verify")) steps.push_back(&Comparison::Gate);
  if (Wants("speed")) steps.push_back(&Comparison::Speed);
  if (Wants("memory")) steps.push_back(&Comparison::Memory);
  if (Wants("lenses")) steps.push_back(&Comparison::Lenses);
  if (Wants("extrapolation") || Wants("probes"))
    steps.push_back(&Comparison::Learn);
  steps.push_back(&Comparison::LastPeaks);
  for (const Step step : steps) {
    if (stopped()) return {};
    const Status status = (this->*step)();
    if (!status.ok()) return status;
    SamplePeaks(1);
  }
  return {};
}

// Of every measure, each once.
std::vector<std::string> Comparison::AllSpecs() const {
  std::vector<std::string> specs = o_.specs;
  const auto add = [&specs](const std::vector<std::string>& more) {
    for (const std::string& spec : more)
      if (std::find(specs.begin(), specs.end(), spec) == specs.end())
        specs.push_back(spec);
  };
  for (const auto* parts : {&o_.speed, &o_.memory})
    for (const Part& part : *parts) add(part.specs);
  add(o_.lenses.specs);
  add(o_.learn.specs);
  add(o_.learn.probe_specs);
  for (const FurtherTask& further : o_.learn.further) add(further.specs);
  return specs;
}

Status Comparison::Describe() {
  for (const std::string& spec : AllSpecs()) {
    const Status status = Write(VariantRecord(spec));
    if (!status.ok()) return status;
  }
  return WriteNoise(noise_);
}

Status Comparison::Peaks() {
  ChooseTarget();
  Result<StreamPeak> stream = StreamPeak::Make();
  if (stream.ok()) stream_ = std::move(*stream);
  std::set<int> threads = {1};
  for (const Part& part : o_.speed)
    threads.insert(part.grid.threads.begin(), part.grid.threads.end());
  for (const int t : threads) fma_[t];
  SamplePeaks(kPeakSamples);
  double best = 0;
  for (const double f : fma_[1]) best = std::max(best, f);
  model_.emplace(best);
  return WritePeaks();
}

// With every number of threads that is timed.
void Comparison::SamplePeaks(int count) {
  for (auto& [t, samples] : fma_)
    for (int i = 0; i < count && !stopped(); ++i) {
      samples.push_back(SampleFmaPeak(t));
      if (MultipliesBF16()) bf16_[t].push_back(SampleFmaPeak(t, DType::kBF16));
      if (stream_) stream_rates_[t].push_back(stream_->Sample(t));
    }
}

Status Comparison::WritePeaks() {
  Status status;
  for (const auto& [t, samples] : fma_) {
    if (status.ok()) status = Write(PeakRecord("fma", t, samples));
    if (status.ok() && !bf16_[t].empty())
      status = Write(PeakRecord("bf16", t, bf16_[t]));
    if (status.ok() && stream_)
      status = Write(PeakRecord("stream", t, stream_rates_[t]));
  }
  return status;
}

// What the peaks came to over the whole run replaces what they were before it:
// of records of one thing the last counts.
Status Comparison::LastPeaks() {
  SamplePeaks(kLaterSamples);
  const Status status = WritePeaks();
  if (!status.ok()) return status;
  std::vector<Noise> noise = watch_.SinceStart();
  for (const auto& [t, samples] : fma_) AddPeakDrift(t, samples, &noise);
  if (drift_.value > 0) noise.push_back(drift_);
  noise_.insert(noise_.end(), noise.begin(), noise.end());
  return WriteNoise(noise);
}

double Comparison::TrainingSeconds() const {
  double seconds = 0;
  for (const std::string_view m : kMeasures)
    if (Wants(m) && Trains(m)) seconds += o_.seconds.find(m)->second;
  return seconds;
}

Status Comparison::Lenses() {
  progress_.Begin("lenses");
  return RunLenses(
      o_.lenses, ExecOf(MostThreads()),
      [this](const nlohmann::json& r) {
        looks_.push_back(r);
        return Write(Json(r));
      },
      [this](double fraction, std::string_view what) {
        progress_.Update(fraction, what);
        return !stopped();
      });
}

Status Comparison::Learn() {
  progress_.Begin(kTraining);
  LearnHooks hooks;
  hooks.record = [this](const nlohmann::json& r) { return Write(Json(r)); };
  hooks.progress = [this](double spent, double rest, std::string_view what) {
    progress_.Expect(kTraining, spent + rest);
    progress_.Update(spent / std::max(spent + rest, 1e-9), what);
  };
  hooks.note = [this](const std::string& sentence) { progress_.Say(sentence); };
  for (const record::Record& r : recorded_.run().records)
    hooks.known.emplace_back(r.fields());
  hooks.known.insert(hooks.known.end(), looks_.begin(), looks_.end());
  hooks.checkpoint = o_.out + "/training.state";
  hooks.cancel = host_.stop;
  return RunExtrapolation(o_.learn, ExecOf(MostThreads()), hooks);
}

int Compare(const CompareOptions& options, const Host& host) {
  return Comparison(options, host).Run();
}

}  // namespace saccade::bench
