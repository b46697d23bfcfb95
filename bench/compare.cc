#include "bench/compare.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>

#include "bench/compare_records.h"
#include "bench/corpus.h"
#include "bench/machine.h"
#include "bench/memory.h"
#include "bench/progress.h"
#include "reports/report.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

using record::Json;

constexpr int kPeakSamples = 15;
constexpr auto kGrace = std::chrono::milliseconds(1500);
constexpr double kChildStart = 0.15;  // seconds, of a child process

// A comparison under way.
class Comparison {
 public:
  Comparison(const CompareOptions& options, const Host& host)
      : o_(options), host_(host), progress_(host.err, host.terminal) {}

  int Run();

 private:
  using Clock = std::chrono::steady_clock;
  using PlannedGroup = std::vector<PlannedCell>;

  bool Wants(std::string_view measure) const {
    return o_.measures.contains(measure);
  }
  bool stopped() const { return host_.stop && host_.stop->load(); }
  double Elapsed() const { return Since(start_); }
  static double Since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  }
  Exec& ExecOf(int threads);
  int MostThreads() const;

  Status CheckCorpus();
  Status MeasureAll();
  Status Describe();
  Status Peaks();
  Status Gate();
  Status Speed();
  Status Memory();
  Status MemoryCell(const CellSpec& cell, double seconds_left);
  Status Lenses();
  Status Learn();
  Status WritePeaks(int threads);
  Status LastPeaks();
  Result<PlannedGroup> PlanGroup(const std::vector<CellSpec>& cells,
                                 std::string_view kind);
  Status PlanPeers(const CellSpec& like, PlannedGroup* group);
  const std::string* GateFailure(const CellSpec& cell) const;
  int DryRun();
  int Report(const Status& measured);

  const CompareOptions& o_;
  const Host& host_;
  const Clock::time_point start_ = Clock::now();
  NoiseWatch noise_;
  Progress progress_;
  std::unique_ptr<RecordSink> sink_;
  std::map<int, std::unique_ptr<Exec>> execs_;
  std::optional<StreamPeak> stream_;
  std::optional<TimeModel> model_;
  std::map<int, std::vector<double>> fma_, bf16_, stream_rates_;  // by threads
  std::map<std::string, std::string> failures_;  // by variant, pass, dtype
  bool failed_ = false;
  std::string corpus_;
  std::vector<OpenedPeer> peers_;
  std::map<std::string, Status> offers_;  // by peer and what was asked for
};

std::string GateKey(std::string_view spec, Pass pass, DType dtype) {
  return fmt::format("{} {} {}", spec.substr(0, spec.find_first_of(":+")),
                     NameOf(pass), NameOf(dtype));
}

Exec& Comparison::ExecOf(int threads) {
  std::unique_ptr<Exec>& exec = execs_[threads];
  if (!exec) exec = MakeTbbExec(threads);
  return *exec;
}

int Comparison::MostThreads() const {
  int most = 1;
  for (const Grid* g : {&o_.speed, &o_.memory})
    for (const int t : g->threads) most = std::max(most, t);
  return most;
}

int Comparison::Run() {
  if (o_.dry_run) return DryRun();
  Status status = CheckCorpus();
  if (status.ok()) {
    Json header = MachineFacts();
    header["threads"] = MostThreads();
    header["command"] = o_.command;
    header["profile"] = o_.profile;
    header["started"] = UtcNow();
    if (!corpus_.empty()) header["corpus"] = corpus_;
    Result<std::unique_ptr<RecordSink>> sink =
        RecordSink::Create(o_.out, header);
    if (sink.ok()) {
      sink_ = std::move(*sink);
    } else {
      status = sink.status();
    }
  }
  if (!status.ok()) {
    fmt::print(host_.err, "saccade: {}\n", status.message());
    return kExitUsage;
  }
  std::optional<StopWatchdog> watchdog;
  if (host_.stop && host_.may_exit)
    watchdog.emplace(host_.stop, kGrace, [this] {
      (void)sink_->Finish("interrupted", "stopped by a signal", Elapsed());
      std::_Exit(kExitInterrupted);
    });
  for (const std::string_view m : kMeasures)
    if (Wants(m)) progress_.AddPhase(m, o_.seconds.find(m)->second);
  status = MeasureAll();
  progress_.Finish();
  if (stopped()) {
    const Status last =
        sink_->Finish("interrupted", "stopped by a signal", Elapsed());
    fmt::print(host_.err,
               "saccade: interrupted; what was measured is in {}, and "
               "`saccade report` makes a report of it\n",
               sink_->path());
    if (!last.ok()) fmt::print(host_.err, "saccade: {}\n", last.message());
    return kExitInterrupted;
  }
  watchdog.reset();
  return Report(status);
}

int Comparison::Report(const Status& measured) {
  Status status = measured;
  const Status last = sink_->Finish(measured.ok() ? "ok" : "fail",
                                    measured.message(), Elapsed());
  if (status.ok()) status = last;
  if (!status.ok())
    fmt::print(host_.err, "saccade: {}; what was measured is in {}\n",
               status.message(), sink_->path());
  const Result<record::Run> run = record::ReadRun(sink_->path());
  if (!run.ok()) {
    fmt::print(host_.err, "saccade: {}\n", run.status().message());
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
    fmt::print(host_.err, "saccade: {}\n", written.message());
  }
  host_.out.flush();
  if (!host_.out) fmt::print(host_.err, "saccade: cannot write to stdout\n");
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

Status Comparison::Describe() {
  std::vector<std::string> specs = o_.specs;
  for (const auto* more :
       {&o_.lenses.specs, &o_.learn.specs, &o_.learn.probe_specs})
    for (const std::string& spec : *more)
      if (std::find(specs.begin(), specs.end(), spec) == specs.end())
        specs.push_back(spec);
  for (const std::string& spec : specs) {
    const Status status = sink_->Write(VariantRecord(spec));
    if (!status.ok()) return status;
  }
  for (const Noise& n : noise_.AtStart()) {
    const Status status = sink_->Write(
        {{"kind", "noise"}, {"reason", n.reason}, {"value", n.value}});
    if (!status.ok()) return status;
  }
  return {};
}

Status Comparison::Peaks() {
  ChooseTarget();
  Result<StreamPeak> stream = StreamPeak::Make();
  if (stream.ok()) stream_ = std::move(*stream);
  std::set<int> threads(o_.speed.threads.begin(), o_.speed.threads.end());
  threads.insert(1);
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
  Status status = sink_->Write(PeakRecord("fma", threads, fma_[threads]));
  if (status.ok() && !bf16_[threads].empty())
    status = sink_->Write(PeakRecord("bf16", threads, bf16_[threads]));
  if (status.ok() && stream_)
    status =
        sink_->Write(PeakRecord("stream", threads, stream_rates_[threads]));
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
    const Status status = sink_->Write(
        {{"kind", "noise"}, {"reason", n.reason}, {"value", n.value}});
    if (!status.ok()) return status;
  }
  return {};
}

Status Comparison::Gate() {
  progress_.Begin("verify");
  struct Check {
    const Variant* variant;
    Pass pass;
    DType dtype;
  };
  std::vector<Check> checks;
  std::set<std::string> seen;
  for (const std::string& spec : o_.specs)
    for (const Grid* grid : {&o_.speed, &o_.memory})
      for (const Pass pass : grid->passes)
        for (const DType dtype : grid->dtypes) {
          const Result<Spec> parsed = ParseSpec(spec);
          if (!parsed.ok()) return parsed.status();
          if (Offers(*parsed->variant, pass, dtype) &&
              seen.insert(GateKey(spec, pass, dtype)).second)
            checks.push_back({parsed->variant, pass, dtype});
        }
  for (size_t i = 0; i < checks.size() && !stopped(); ++i) {
    const Check& c = checks[i];
    progress_.Update(
        static_cast<double>(i) / static_cast<double>(checks.size()),
        fmt::format("verify {} {} {}", c.variant->name, NameOf(c.pass),
                    NameOf(c.dtype)));
    const Clock::time_point begin = Clock::now();
    const std::vector<VerifySummary> summaries = Verify(
        *c.variant, c.pass, c.dtype, Effort::kQuick, {}, ExecOf(MostThreads()));
    for (const VerifySummary& s : summaries) {
      if (s.failed > 0) {
        failed_ = true;
        failures_[GateKey(c.variant->name, c.pass, c.dtype)] =
            fmt::format("its check failed: {}; repeat it with {}", s.failure,
                        RepeatCheck(s));
      }
      const Status status = sink_->Write(VerifyRecord(s, Since(begin)));
      if (!status.ok()) return status;
    }
  }
  return {};
}

const std::string* Comparison::GateFailure(const CellSpec& cell) const {
  const auto it = failures_.find(GateKey(cell.spec, cell.pass, cell.dtype));
  return it == failures_.end() ? nullptr : &it->second;
}

// Plans what can be planned and was found correct; records the others.
Result<Comparison::PlannedGroup> Comparison::PlanGroup(
    const std::vector<CellSpec>& cells, std::string_view kind) {
  PlannedGroup group;
  for (const CellSpec& cell : cells) {
    Result<PlannedCell> planned = PlanCell(cell);
    const std::string* const failure = GateFailure(cell);
    if (planned.ok() && !failure) {
      group.push_back(std::move(*planned));
      continue;
    }
    const Json r = CellRecord(kind, cell, planned.ok() ? &*planned : nullptr);
    const Status status = sink_->Write(
        failure ? WithStatus(r, "fail", *failure)
                : WithStatus(r, "unsupported", planned.status().message()));
    if (!status.ok()) return status;
  }
  return group;
}

// Adds the peers' cells of the same problem; records those that are not to be
// had.
Status Comparison::PlanPeers(const CellSpec& like, PlannedGroup* group) {
  for (const OpenedPeer& one : peers_) {
    CellSpec cell = like;
    cell.spec = one.name;
    Status why = one.status;
    if (one.peer) {
      const auto [offer, fresh] = offers_.try_emplace(fmt::format(
          "{} {} {} {} {}", one.name, NameOf(like.pass), NameOf(like.dtype),
          NameOf(like.shape.mask), like.shape.dim));
      if (fresh)
        offer->second = PeerOffers(*one.peer, cell, ExecOf(like.threads));
      why = offer->second;
    }
    if (one.peer && why.ok()) {
      Result<PlannedCell> planned = PlanPeerCell(cell, one.peer.get());
      if (planned.ok()) {
        group->push_back(std::move(*planned));
        continue;
      }
      why = planned.status();
    }
    const Status status = sink_->Write(
        WithStatus(PeerRecord(cell, nullptr,
                              one.peer ? one.peer->version() : std::string()),
                   "unsupported", why.message()));
    if (!status.ok()) return status;
  }
  return {};
}

Status Comparison::Speed() {
  progress_.Begin("speed");
  progress_.Update(0, "speed");
  peers_ = OpenPeers(o_.peers, host_.places, host_.stop);
  const Clock::time_point begin = Clock::now();
  const double seconds = o_.seconds.find("speed")->second;
  SpeedBench bench(o_.timing, stream_ ? &*stream_ : nullptr, host_.stop,
                   &*model_);
  for (const std::vector<CellSpec>& cells : o_.speed.Groups(o_.specs)) {
    if (stopped()) return {};
    Result<PlannedGroup> group = PlanGroup(cells, "speed");
    if (!group.ok()) return group.status();
    const Status peers = PlanPeers(cells[0], &*group);
    if (!peers.ok()) return peers;
    std::vector<const PlannedCell*> pointers;
    for (const PlannedCell& p : *group) pointers.push_back(&p);
    if (pointers.empty()) continue;
    const int threads = cells[0].threads;
    const auto emit = [&](const SpeedResult& result) {
      // What fails elsewhere is no fault of ours.
      if (result.status == "fail" && !result.planned->peer) failed_ = true;
      return sink_->Write(SpeedRecord(result));
    };
    const auto tick = [&](double, std::string_view what) {
      progress_.Update(Since(begin) / seconds, what);
    };
    const auto peaks = [&](DType dtype, double flops, double stream) {
      auto& of = dtype == DType::kBF16 && MultipliesBF16() ? bf16_ : fma_;
      of[threads].push_back(flops);
      if (stream > 0) stream_rates_[threads].push_back(stream);
    };
    const Status status = bench.RunGroup(
        pointers, ExecOf(threads), seconds - Since(begin), emit, tick, peaks);
    if (!status.ok()) return status;
  }
  peers_.clear();
  return {};
}

Status Comparison::Memory() {
  progress_.Begin("memory");
  const Clock::time_point begin = Clock::now();
  const double seconds = o_.seconds.find("memory")->second;
  for (const std::vector<CellSpec>& cells : o_.memory.Groups(o_.specs))
    for (const CellSpec& cell : cells) {
      if (stopped()) return {};
      progress_.Update(Since(begin) / seconds,
                       fmt::format("memory {} {} {}", NameOf(cell.pass),
                                   cell.length, cell.spec));
      const Status status = MemoryCell(cell, seconds - Since(begin));
      if (!status.ok()) return status;
    }
  return {};
}

Status Comparison::MemoryCell(const CellSpec& cell, double seconds_left) {
  const Result<PlannedGroup> group = PlanGroup({cell}, "memory");
  if (!group.ok()) return group.status();
  if (group->empty()) return {};
  const PlannedCell& planned = group->front();
  const Needs needs = planned.needs();
  Json r = CellRecord("memory", cell, &planned);
  r["scratch_bytes"] = needs.scratch;
  r["saved_bytes"] = needs.saved;
  r["state_bytes"] = needs.state;
  r["io_bytes"] = planned.TensorBytes();
  const double takes = kChildStart + model_->Whole(planned);
  const double room =
      o_.timing.memory_share * static_cast<double>(AvailableMemory());
  std::string why;
  if (takes > std::min(o_.longest_child, seconds_left))
    why = fmt::format(
        "running it would take about {:.2g} s, more than {:.2g} s", takes,
        std::max(0.0, std::min(o_.longest_child, seconds_left)));
  if (room > 0 && static_cast<double>(planned.TotalBytes()) > room)
    why = fmt::format(
        "it needs {:.2f} GiB, more than {:.0f} % of what is "
        "available",
        static_cast<double>(planned.TotalBytes()) * 0x1p-30,
        100 * o_.timing.memory_share);
  if (!why.empty()) return sink_->Write(WithStatus(r, "skipped", why));
  const Result<int64_t> growth = MeasureGrowthInChild(
      host_.program, cell, 4 * o_.longest_child, host_.stop);
  if (stopped()) return {};
  if (!growth.ok())
    return sink_->Write(WithStatus(r, "skipped", growth.status().message()));
  r["rss_growth_bytes"] = *growth;
  return sink_->Write(r);
}

Status Comparison::Lenses() {
  progress_.Begin("lenses");
  return RunLenses(
      o_.lenses, ExecOf(MostThreads()),
      [this](const nlohmann::json& r) { return sink_->Write(Json(r)); },
      [this](double fraction, std::string_view what) {
        progress_.Update(fraction, what);
        return !stopped();
      });
}

Status Comparison::Learn() {
  const bool text = Wants("extrapolation");
  progress_.Begin(text ? "extrapolation" : "probes");
  const double first = text ? o_.seconds.find("extrapolation")->second : 0;
  const double both =
      first + (Wants("probes") ? o_.seconds.find("probes")->second : 0);
  bool probing = !text;
  LearnHooks hooks;
  hooks.record = [this](const nlohmann::json& r) {
    return sink_->Write(Json(r));
  };
  hooks.progress = [&](double fraction, std::string_view what) {
    // One run of the trainer is two phases here.
    if (!probing && Wants("probes") && fraction * both > first) {
      probing = true;
      progress_.Begin("probes");
    }
    const double begin = probing ? first : 0;
    const double length = probing           ? both - first
                          : Wants("probes") ? first
                                            : both;
    progress_.Update((fraction * both - begin) / length, what);
  };
  hooks.cancel = host_.stop;
  return RunExtrapolation(o_.learn, ExecOf(MostThreads()), hooks);
}

int Comparison::DryRun() {
  ChooseTarget();
  model_.emplace(SampleFmaPeak(1));
  SpeedBench bench(o_.timing, nullptr, nullptr, &*model_);
  fmt::print(host_.out, "profile {}, into {}\n", o_.profile, o_.out);
  double all = 0;
  for (const std::string_view m : kMeasures) {
    if (!Wants(m)) continue;
    const double seconds = o_.seconds.find(m)->second;
    all += seconds;
    fmt::print(host_.out, "{:<14} at most {:.0f} s\n", m, seconds);
  }
  fmt::print(host_.out, "{:<14} at most {:.0f} s\n\n", "in all", all);
  int cells = 0;
  if (Wants("speed"))
    for (const auto& group : o_.speed.Groups(o_.specs))
      for (const CellSpec& cell : group) {
        const Result<PlannedCell> planned = PlanCell(cell);
        ++cells;
        fmt::print(host_.out, "speed {} {} {} -t {} {}", NameOf(cell.pass),
                   cell.length, NameOf(cell.dtype), cell.threads, cell.spec);
        if (planned.ok()) {
          fmt::print(host_.out, ": {:.3g} GFLOP, {:.3g} MiB\n",
                     planned->flops() * 1e-9,
                     static_cast<double>(planned->TotalBytes()) * 0x1p-20);
        } else {
          fmt::print(host_.out, ": unsupported, {}\n",
                     planned.status().message());
        }
      }
  for (const std::string& peer : o_.peers)
    fmt::print(host_.out, "speed of peer {}, the same cells\n", peer);
  if (Wants("memory"))
    for (const auto& group : o_.memory.Groups(o_.specs))
      for (const CellSpec& cell : group)
        fmt::print(host_.out, "memory {} {} {} {}\n", NameOf(cell.pass),
                   cell.length, NameOf(cell.dtype), cell.spec);
  for (const std::string& spec : o_.lenses.specs)
    fmt::print(host_.out, "lenses {}\n", spec);
  for (const std::string& spec : o_.learn.specs)
    fmt::print(host_.out, "extrapolation {}\n", spec);
  for (const std::string& spec : o_.learn.probe_specs)
    for (const Probe* probe : o_.learn.probes)
      fmt::print(host_.out, "probe {} {}\n", probe->name, spec);
  return kExitOk;
}

}  // namespace

int Compare(const CompareOptions& options, const Host& host) {
  return Comparison(options, host).Run();
}

}  // namespace saccade::bench
