#include "bench/kernels/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "bench/statistics.h"
#include "simd/target.h"

namespace saccade::bench::kernels {
namespace {

// Time in a kernel after which peaks are sampled again: they take 2 to 4 ms, or
// for a stream about 10.
constexpr double kBetweenPeaks = 0.005, kBetweenStreams = 0.02;
constexpr int kFirstSamples = 3;
// Shorter runs are timed together.
constexpr double kShortest = 1e-4;

// The best seen of what the machine can do while a case runs: like the fastest
// run, it is what others' work disturbed least.
class Peaks {
 public:
  Peaks(DType dtype, const StreamPeak* stream)
      : dtype_(dtype),
        stream_(stream),
        between_(stream ? kBetweenStreams : kBetweenPeaks) {
    for (int i = 0; i < kFirstSamples; ++i) Sample();
  }

  // To be told of every run before it is timed, and after.
  void Before() {
    if (since_ < between_) return;
    since_ = 0;
    Sample();
  }
  void After(double seconds) { since_ += seconds; }

  double target() const { return target_; }
  double machine() const { return machine_; }
  double stream() const { return stream_best_; }

 private:
  void Sample() {
    if (stream_ != nullptr) {
      stream_best_ = std::max(stream_best_, stream_->SampleOwn());
      return;
    }
    target_ = std::max(target_, SampleOwnFmaPeak(dtype_));
    const std::string_view best = TargetNames().front();
    if (ChosenTarget() != best) {
      const ScopedTarget scope(best);
      machine_ = std::max(machine_, SampleOwnFmaPeak(dtype_));
    }
    machine_ = std::max(machine_, target_);
  }

  const DType dtype_;
  const StreamPeak* stream_;
  const double between_;
  double since_ = 0;  // seconds of runs
  double target_ = 0, machine_ = 0, stream_best_ = 0;
};

const char* UnitOf(Unit unit) {
  switch (unit) {
    case Unit::kFlops:
      return "FLOP/s";
    case Unit::kStreamBytes:
      return "B/s";
    case Unit::kWeights:
      return "weight/s";
    case Unit::kFloats:
      return "float/s";
    case Unit::kStrips:
      return "strip/s";
  }
  return "";
}

void SetCounters(const Work& work, const std::vector<double>& seconds,
                 const Peaks& peaks, benchmark::UserCounters& counters) {
  const auto set = [&](std::string_view name, double value) {
    counters[std::string(name)] = value;
  };
  const double fastest = *std::min_element(seconds.begin(), seconds.end());
  const double rate = work.amount / fastest;
  set(kFastest, fastest);
  set(kMedian, Median(seconds));
  set(kRate, rate);
  if (work.unit == Unit::kStreamBytes) {
    set(kOfStream, rate / peaks.stream());
    return;
  }
  set(kPeak, peaks.target());
  if (work.unit != Unit::kFlops) return;
  set(kOfPeak, rate / peaks.target());
  set(kOfMachine, rate / peaks.machine());
}

}  // namespace

std::string Case::Name() const {
  return fmt::format("{}{}{}/{}/{}/d{}/n{}/{}", kernel->pass, part ? "." : "",
                     part ? part->name : "", kernel->form.name, target, width,
                     kernel->len, NameOf(kernel->dtype));
}

const Status& Meter::MakeReady(const Case& c) {
  const std::string name = c.Name();
  if (at_hand_ != name) {
    work_ = Invalid("nothing to run yet");  // frees the last one's memory
    work_ = c.part ? PartWork(*c.kernel, c.width, c.part->part)
                   : c.kernel->make(*c.kernel, c.width);
    at_hand_ = name;
    if (work_.ok()) Warm();
  }
  return work_.status();
}

// The first run touches scratch; the second is like the others.
void Meter::Warm() {
  constexpr double kTick = 1e-9;
  double seconds = kTick;
  for (int i = 0; i < 2; ++i) {
    const double start = OwnSeconds();
    work_->run();
    seconds = std::max(kTick, OwnSeconds() - start);
  }
  together_ = std::max(1, static_cast<int>(kShortest / seconds));
}

void Meter::Run(const Case& c, benchmark::State& state) {
  const ScopedTarget scope(c.target);
  Status status = MakeReady(c);
  const StreamPeak* stream = nullptr;
  if (status.ok() && work_->unit == Unit::kStreamBytes) {
    if (!stream_) stream_ = StreamPeak::Make();
    status = stream_->status();
    if (status.ok()) stream = &**stream_;
  }
  if (!status.ok()) {
    state.SkipWithError(status.message().c_str());
    return;
  }
  Peaks peaks(c.kernel->dtype, stream);
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(state.max_iterations));
  for (auto _ : state) {
    peaks.Before();
    const double start = OwnSeconds();
    for (int i = 0; i < together_; ++i) work_->run();
    const double all = OwnSeconds() - start;
    peaks.After(all);
    seconds.push_back(all / together_);
    state.SetIterationTime(all);
  }
  SetCounters(*work_, seconds, peaks, state.counters);
  state.SetLabel(UnitOf(work_->unit));
}

}  // namespace saccade::bench::kernels
