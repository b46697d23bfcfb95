#include "bench/compare.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "bench/comparison.h"
#include "bench/corpus.h"
#include "bench/learn/random.h"
#include "reports/report.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

constexpr int kPeakSamples = 15;
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
  if (!status.ok()) {
    Say(host_, status.message());
    return kExitUsage;
  }
  if (o_.dry_run) return DryRun();
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
  watchdog.reset();
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

// Starts the record, or finds the one to go on with.
Status Comparison::Begin() {
  Json header = MachineFacts();
  header["threads"] = MostThreads();
  header["command"] = o_.command;
  if (!o_.note.empty()) header["note"] = o_.note;
  header["profile"] = o_.profile;
  header["started"] = UtcNow();
  header["build"] = DigestOfFile(host_.program);
  header["options"] = fmt::format("{:016x}", Mix(o_.digest ^ text_));
  if (!corpus_.empty()) header["corpus"] = corpus_;
  Result<std::unique_ptr<RecordSink>> sink = std::unique_ptr<RecordSink>();
  const bool nothing = o_.resume && NothingBegun(o_.out);
  if (nothing)
    progress_.Say(
        fmt::format("{}/run.jsonl is empty: a new run begins there, with the "
                    "{} profile",
                    o_.out, o_.profile));
  if (o_.resume && !nothing) {
    Result<record::Run> run = record::ReadRun(o_.out + "/run.jsonl");
    if (!run.ok()) return run.status();
    const Status same = CheckSameRun(run->header, header);
    if (!same.ok())
      return {same.code(), fmt::format("{}: {}", run->path, same.message())};
    if (!o_.dry_run) sink = RecordSink::Resume(*run);
    recorded_ = Recorded(std::move(*run));
  } else if (!o_.dry_run) {
    sink = RecordSink::Create(o_.out, header);
  }
  if (!sink.ok()) return sink.status();
  sink_ = std::move(*sink);
  for (const record::Record& r : recorded_.run().records)
    failed_ |=
        r.status() == "fail" && (r.kind() == "verify" || r.kind() == "speed");
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
  return failed_ ? kExitFailedCheck : kExitOk;
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
  return specs;
}

Status Comparison::Describe() {
  for (const std::string& spec : AllSpecs()) {
    const Status status = Write(VariantRecord(spec));
    if (!status.ok()) return status;
  }
  for (const Noise& n : noise_.AtStart()) {
    const Status status =
        Write({{"kind", "noise"}, {"reason", n.reason}, {"value", n.value}});
    if (!status.ok()) return status;
  }
  return {};
}

Status Comparison::Peaks() {
  ChooseTarget();
  Result<StreamPeak> stream = StreamPeak::Make();
  if (stream.ok()) stream_ = std::move(*stream);
  std::set<int> threads = {1};
  for (const Part& part : o_.speed)
    threads.insert(part.grid.threads.begin(), part.grid.threads.end());
  for (const int t : threads) {
    for (int i = 0; i < kPeakSamples && !stopped(); ++i) {
      fma_[t].push_back(SampleFmaPeak(t));
      if (MultipliesBF16()) bf16_[t].push_back(SampleFmaPeak(t, DType::kBF16));
      if (stream_) stream_rates_[t].push_back(stream_->Sample(t));
    }
    const Status status = WritePeaks(t);
    if (!status.ok()) return status;
  }
  double best = 0;
  for (const double f : fma_[1]) best = std::max(best, f);
  model_.emplace(best);
  return {};
}

Status Comparison::WritePeaks(int threads) {
  Status status = Write(PeakRecord("fma", threads, fma_[threads]));
  if (status.ok() && !bf16_[threads].empty())
    status = Write(PeakRecord("bf16", threads, bf16_[threads]));
  if (status.ok() && stream_)
    status = Write(PeakRecord("stream", threads, stream_rates_[threads]));
  return status;
}

// What the peaks came to over the whole run replaces what they were before it:
// of records of one thing the last counts.
Status Comparison::LastPeaks() {
  if (Wants("speed"))
    for (const auto& [t, samples] : fma_) {
      const Status status = WritePeaks(t);
      if (!status.ok()) return status;
    }
  for (const Noise& n : noise_.SinceStart()) {
    const Status status =
        Write({{"kind", "noise"}, {"reason", n.reason}, {"value", n.value}});
    if (!status.ok()) return status;
  }
  return {};
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
