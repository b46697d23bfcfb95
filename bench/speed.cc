#include "bench/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/peer.h"

namespace saccade::bench {
namespace {

// Workers of the round before may still look for work when a sample begins, on
// cores that it needs: what is measured then is not the machine's.
double UndisturbedPeak(int threads, DType dtype) {
  constexpr int kTries = 4;
  double best = 0;
  for (int i = 0; i < kTries; ++i)
    best = std::max(best, SampleFmaPeak(threads, dtype));
  return best;
}

// Share of peak before anything is known: an optimist's, for what is skipped
// for a guess is never known better. The first run corrects it.
constexpr double kFirstGuess = 0.5;

// What emptying the caches is taken to need before it was done once.
constexpr double kSweepSeconds = 0.02;

// A first run that takes so many times the longest allowed is the last.
constexpr double kFarOff = 2;

std::string KeyOf(const PlannedCell& cell, Pass pass) {
  return fmt::format("{} {} {} {}", cell.cell.spec, NameOf(pass),
                     NameOf(cell.cell.dtype), cell.cell.threads);
}

// Of the whole sequence that a decode cell's context is filled with.
Cost WholeCost(const PlannedCell& cell) {
  Problem whole = cell.problem;
  whole.q_len = whole.kv_len;
  return cell.variant->cost(whole);
}

}  // namespace

void TimeModel::Learn(const PlannedCell& cell, double seconds) {
  seen_[KeyOf(cell, cell.cell.pass)] = {cell.flops(), cell.bytes(), seconds};
}

void TimeModel::LearnPrefill(const PlannedCell& cell, double seconds) {
  const Cost cost = WholeCost(cell);
  seen_["prefill " + KeyOf(cell, Pass::kForward)] = {
      cost.forward_flops, cost.forward_bytes, seconds};
}

double TimeModel::Scale(const std::string& key, int threads, double flops,
                        double bytes) const {
  const auto it = seen_.find(key);
  if (it == seen_.end()) return flops / (kFirstGuess * fma_peak_ * threads);
  const Seen& s = it->second;
  return s.seconds * std::max(flops / std::max(s.flops, 1.0),
                              bytes / std::max(s.bytes, 1.0));
}

double TimeModel::Run(const PlannedCell& cell) const {
  return Scale(KeyOf(cell, cell.cell.pass), cell.cell.threads, cell.flops(),
               cell.bytes());
}

double TimeModel::Prefill(const PlannedCell& cell) const {
  // A peer is given its context.
  if (cell.cell.pass != Pass::kDecode || cell.peer) return 0;
  const Cost cost = WholeCost(cell);
  const std::string forward = KeyOf(cell, Pass::kForward);
  const std::string own = "prefill " + forward;
  return Scale(seen_.contains(own) ? own : forward, cell.cell.threads,
               cost.forward_flops, cost.forward_bytes);
}

double TimeModel::Whole(const PlannedCell& cell) const {
  double before = Prefill(cell);
  if (cell.cell.pass == Pass::kBackward)
    before = Scale(KeyOf(cell, Pass::kForward), cell.cell.threads,
                   cell.cost.forward_flops, cell.cost.forward_bytes);
  return before + Run(cell);
}

struct SpeedBench::Active {
  const PlannedCell* planned = nullptr;
  std::unique_ptr<Workload> workload;  // of a variant
  std::unique_ptr<PeerRun> peer;       // of a peer
  int64_t iterations = 1;
  int rounds = 0;
  SpeedResult result;
};

double SpeedBench::Estimate(const PlannedCell& cell) const {
  const double run = model_->Run(cell);
  const double prefill = model_->Prefill(cell);
  if (run > settings_.longest_pass || prefill > settings_.longest_prefill)
    return 0;
  const double sample = cell.cell.cache == Cache::kCold
                            ? run + kSweepSeconds
                            : std::max(run, settings_.sample_seconds);
  const double rounds = std::clamp(settings_.cell_seconds / sample,
                                   static_cast<double>(settings_.least_rounds),
                                   static_cast<double>(settings_.most_rounds));
  return prefill + 2 * run + rounds * sample;
}

std::string SpeedBench::TooLong(double seconds) const {
  return fmt::format(
      "a pass takes longer than {:.3g} s (see --longest): about {:.2g} s",
      settings_.longest_pass, seconds);
}

std::string SpeedBench::WhySkip(const PlannedCell& cell,
                                double seconds_left) const {
  const double run = model_->Run(cell);
  if (run > settings_.longest_pass) return TooLong(run);
  const double prefill = model_->Prefill(cell);
  if (prefill > settings_.longest_prefill)
    return fmt::format(
        "filling the context takes longer than {:.3g} s (see --longest): about "
        "{:.2g} s",
        settings_.longest_prefill, prefill);
  const double needs = Estimate(cell);
  if (needs > seconds_left)
    return fmt::format(
        "the time for speed is used up (see --budget): it needs about {:.2g} "
        "s, and {:.2g} s "
        "are left",
        needs, std::max(0.0, seconds_left));
  const double gib = 0x1p-30;
  const double room =
      settings_.memory_share * static_cast<double>(AvailableMemory());
  const auto bytes = static_cast<double>(cell.TotalBytes());
  if (room > 0 && bytes > room)
    return fmt::format(
        "memory is short: it needs {:.2f} GiB, more than {:.0f} % of what is "
        "available "
        "({:.2f} GiB)",
        bytes * gib, 100 * settings_.memory_share, room * gib);
  return {};
}

Status SpeedBench::RunGroup(const std::vector<const PlannedCell*>& cells,
                            Exec& exec, double seconds_left, const Emit& emit,
                            const Tick& tick, const PeakSample& peaks) {
  // As many at a time as fit in memory together.
  std::vector<const PlannedCell*> batch;
  double batch_bytes = 0;
  const auto flush = [&]() -> Status {
    Status status;
    if (!batch.empty()) status = RunBatch(batch, exec, emit, tick, peaks);
    batch.clear();
    batch_bytes = 0;
    return status;
  };
  for (const PlannedCell* cell : cells) {
    if (stopped()) return {};
    const std::string why = WhySkip(*cell, seconds_left);
    if (!why.empty()) {
      const Status status = emit({cell, "skipped", why, {}});
      if (!status.ok()) return status;
      continue;
    }
    seconds_left -= Estimate(*cell);
    const auto bytes = static_cast<double>(cell->TotalBytes());
    const double room =
        settings_.memory_share * static_cast<double>(AvailableMemory());
    if (room > 0 && batch_bytes + bytes > room) {
      const Status status = flush();
      if (!status.ok()) return status;
    }
    batch.push_back(cell);
    batch_bytes += bytes;
  }
  return flush();
}

// Seconds of a run of the variant, after what comes before it.
Result<double> SpeedBench::WarmUp(Active* active, Exec& exec) {
  const PlannedCell& cell = *active->planned;
  Result<WarmWorkload> made = MakeWarm(&cell, settings_.seed, exec, stop_);
  if (!made.ok()) return made.status();
  active->workload = std::move(made->workload);
  if (cell.cell.pass == Pass::kDecode) model_->LearnPrefill(cell, made->before);
  return made->seconds;
}

// The same of a peer, and correct before fast. A peer may take more runs to
// come to itself: its first may compile, others choose kernels and fill pools.
Result<double> SpeedBench::WarmUpPeer(Active* active, Exec& exec) {
  Result<std::unique_ptr<PeerRun>> made =
      PeerRun::Make(active->planned, settings_.seed, exec);
  if (!made.ok()) return made.status();
  active->peer = std::move(*made);
  Result<double> seconds = active->peer->Run(1);
  if (!seconds.ok()) return seconds;
  const CheckResult check = active->peer->Check(exec);
  if (check.kind == CheckResult::Kind::kRefused) return IoError(check.what);
  active->result.worst = check.ratio;
  if (check.kind == CheckResult::Kind::kFail)
    return IoError(fmt::format("its result is wrong: {}", check.what));
  for (int i = 0; i < 2 && seconds.ok() && !stopped(); ++i)
    if (i == 0 || *seconds < 0.02) seconds = active->peer->Run(1);
  return seconds;
}

Status SpeedBench::Begin(Active* active, Exec& exec) {
  const PlannedCell& cell = *active->planned;
  const Result<double> warm =
      cell.peer ? WarmUpPeer(active, exec) : WarmUp(active, exec);
  if (!warm.ok()) return warm.status();
  const double seconds = std::max(*warm, 1e-7);
  model_->Learn(cell, seconds);
  if (seconds > kFarOff * settings_.longest_pass)
    return Exhausted(TooLong(seconds));
  const bool cold = cell.cell.cache == Cache::kCold;
  if (cold && !sweep_) {
    Result<CacheSweep> made = CacheSweep::Make();
    if (!made.ok()) return made.status();
    sweep_ = std::move(*made);
  }
  active->iterations =
      cold ? 1 : RunsOfSample(cell, seconds, settings_.sample_seconds);
  active->rounds = static_cast<int>(
      std::clamp(settings_.cell_seconds /
                     (static_cast<double>(active->iterations) * seconds +
                      (cold ? sweep_->seconds() : 0)),
                 static_cast<double>(settings_.least_rounds),
                 static_cast<double>(settings_.most_rounds)));
  return {};
}

void SpeedBench::Try(const PlannedCell& cell, Exec& exec) {
  Active trial;
  trial.planned = &cell;
  // What cannot be run will say so when its turn comes.
  (void)Begin(&trial, exec);
}

Status SpeedBench::RunBatch(const std::vector<const PlannedCell*>& cells,
                            Exec& exec, const Emit& emit, const Tick& tick,
                            const PeakSample& peaks) {
  std::vector<Active> batch(cells.size());
  for (size_t i = 0; i < cells.size() && !stopped(); ++i) {
    Active& a = batch[i];
    a.planned = a.result.planned = cells[i];
    a.result.status = "ok";
    tick(0, cells[i]->cell.spec);
    const Status status = Begin(&a, exec);
    if (status.ok()) continue;
    a.rounds = 0;
    a.result.status = status.code() == Code::kExhausted     ? "skipped"
                      : status.code() == Code::kUnsupported ? "unsupported"
                                                            : "fail";
    a.result.reason = status.message();
  }
  const Course course = Rounds(&batch, exec, tick, peaks);
  if (stopped()) return {};
  for (size_t i = 0; i < batch.size(); ++i) {
    const SpeedResult result = ResultOf(batch[i], course, i);
    if (result.status == "ok")
      model_->Learn(*batch[i].planned, result.times.median * 1e-9);
    const Status status = emit(result);
    if (!status.ok()) return status;
  }
  return {};
}

SpeedResult SpeedBench::ResultOf(const Active& active, const Course& course,
                                 size_t lane) const {
  SpeedResult result = active.result;
  if (result.status != "ok") return result;
  result.times = Summarise(course, lane);
  const auto failed = [&result](std::string_view why) {
    result.status = "fail";
    result.reason = why;
    result.times = {};
  };
  if (!course.statuses[lane].ok()) {
    failed(course.statuses[lane].message());
  } else if (!(active.peer ? active.peer->Finite()
                           : active.workload->Finite())) {
    failed("the result of the timed pass is not finite");
  } else if (result.times.ns.empty()) {
    failed("no sample was taken");
  }
  return result;
}

Course SpeedBench::Rounds(std::vector<Active>* batch, Exec& exec,
                          const Tick& tick, const PeakSample& peaks) {
  const CellSpec& first = batch->front().planned->cell;
  const std::string what = fmt::format("{} {} {}", NameOf(first.pass),
                                       first.length, NameOf(first.dtype));
  std::vector<Lane> lanes;
  double planned = 0;
  for (Active& a : *batch) {
    lanes.push_back({[this, &a, &exec] { return Sample(&a, exec); }, a.rounds});
    if (a.planned) planned += Estimate(*a.planned);
  }
  RoundRules rules;
  rules.least = settings_.least_rounds;
  rules.tight = settings_.tight;
  rules.peak = [&] {
    PeakMoment now;
    now.flops = UndisturbedPeak(first.threads, first.dtype);
    if (stream_) now.stream = stream_->Sample(first.threads);
    peaks(first.dtype, now.flops, now.stream);
    return now;
  };
  rules.stopped = [this] { return stopped(); };
  rules.progress = [&](double done) { tick(planned * done, what); };
  return RunRounds(&lanes, rules);
}

// Seconds of a run, of as many as make a sample.
Result<double> SpeedBench::Sample(Active* active, Exec& exec) {
  Active& a = *active;
  const bool cold = a.planned->cell.cache == Cache::kCold;
  if (a.peer) {
    if (cold) sweep_->Run();
    return a.peer->Run(a.iterations);
  }
  const Status status = a.workload->Rewind(a.iterations);
  if (!status.ok()) return status;
  if (cold) {
    sweep_->Run();
    // Workers that sleep by now are woken, as a pass before this one had.
    exec.For(exec.slots(), [](int64_t, int) {});
  }
  return TimeRuns(a.workload.get(), a.iterations, 0, exec);
}

}  // namespace saccade::bench
