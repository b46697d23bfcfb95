#include "bench/rounds.h"

#include <algorithm>
#include <cstdint>

#include "bench/drift.h"
#include "bench/statistics.h"

namespace saccade::bench {
namespace {

// Whether one of `count` samples, spread evenly over `rounds`, is due in this
// one: they lie in the middles of equal parts.
bool Due(int round, int count, int rounds) {
  const auto before = [&](int64_t r) {
    return (2 * r * count + rounds) / (2 * int64_t{rounds});
  };
  return before(round + 1) > before(round);
}

// Of what is known at some moments (seconds, value), at another: between two
// of them in proportion, before and after all as at the nearest. 0 of none.
double At(const std::vector<Moment>& moments, double at) {
  const auto after = std::find_if(moments.begin(), moments.end(),
                                  [at](const Moment& m) { return m.at >= at; });
  if (moments.empty()) return 0;
  if (after == moments.end()) return moments.back().value;
  if (after == moments.begin()) return moments.front().value;
  const Moment& before = *(after - 1);
  const double span = after->at - before.at;
  const double share = span > 0 ? (at - before.at) / span : 0;
  return before.value + share * (after->value - before.value);
}

std::vector<Moment> Of(const std::vector<PeakMoment>& peaks,
                       double PeakMoment::*what) {
  std::vector<Moment> moments;
  for (const PeakMoment& p : peaks) moments.push_back({p.at, p.*what});
  return moments;
}

double PaceAt(const Course& course, double at) {
  return course.pace.empty() ? 1 : At(course.pace, at);
}

std::vector<double> Paced(const Course& course, size_t lane) {
  std::vector<double> seconds;
  for (const LaneSample& s : course.samples[lane])
    seconds.push_back(s.seconds / PaceAt(course, s.at));
  return seconds;
}

class Run {
 public:
  Run(std::vector<Lane>* lanes, const RoundRules& rules)
      : lanes_(*lanes), rules_(rules), settled_(lanes->size()) {
    course_.samples.resize(lanes->size());
    course_.statuses.resize(lanes->size());
    for (const Lane& lane : lanes_) planned_ = std::max(planned_, lane.most);
  }

  Course All() {
    for (int r = 0; r < planned_ && !stopped(); ++r) {
      if (!Wanted(r)) continue;
      TakePeak();
      if (TakeRound(r)) ++course_.rounds;
      course_.pace = Pace();
      Settle();
      if (rules_.progress)
        rules_.progress((r + 1.0) / static_cast<double>(planned_));
    }
    if (!course_.peaks.empty()) TakePeak();
    course_.pace = Pace();
    return std::move(course_);
  }

 private:
  bool stopped() const { return rules_.stopped && rules_.stopped(); }

  int CountOf(size_t lane) const {
    if (!course_.statuses[lane].ok()) return 0;
    const int most = lanes_[lane].most;
    return settled_[lane] ? std::min(most, rules_.least) : most;
  }

  // Whether one that is not settled gives a sample in this round.
  bool Wanted(int round) const {
    for (size_t i = 0; i < lanes_.size(); ++i)
      if (!settled_[i] && Due(round, CountOf(i), planned_)) return true;
    return false;
  }

  void TakePeak() {
    if (!rules_.peak) return;
    const double begin = rules_.clock();
    PeakMoment peak = rules_.peak();
    peak.at = 0.5 * (begin + rules_.clock());
    course_.peaks.push_back(peak);
  }

  // Whether there was a sample in it.
  bool TakeRound(int round) {
    const size_t count = lanes_.size();
    bool any = false;
    for (size_t i = 0; i < count && !stopped(); ++i) {
      const size_t place = round % 2 ? count - 1 - i : i;
      const size_t lane = (place + static_cast<size_t>(round / 2)) % count;
      if (!Due(round, CountOf(lane), planned_)) continue;
      const double begin = rules_.clock();
      const Result<double> seconds = lanes_[lane].sample();
      course_.statuses[lane] = seconds.status();
      if (!seconds.ok()) continue;
      const double middle = 0.5 * (begin + rules_.clock());
      course_.samples[lane].push_back({course_.rounds, middle, *seconds});
      any = true;
    }
    return any;
  }

  // From what the lanes have in common, and the peak as one of them; each
  // round's at the mean time of its samples.
  std::vector<Moment> Pace() const {
    const auto rounds = static_cast<size_t>(course_.rounds);
    std::vector<std::vector<RoundTime>> rows;
    std::vector<double> sums(rounds), counts(rounds);
    for (const std::vector<LaneSample>& samples : course_.samples) {
      std::vector<RoundTime>& row = rows.emplace_back();
      for (const LaneSample& s : samples) {
        row.push_back({s.round, s.seconds});
        sums[s.round] += s.at;
        ++counts[s.round];
      }
    }
    const std::vector<Moment> peaks = Of(course_.peaks, &PeakMoment::flops);
    std::vector<RoundTime>& row = rows.emplace_back();
    for (size_t r = 0; r < rounds; ++r)
      if (const double peak = At(peaks, sums[r] / counts[r]); peak > 0)
        row.push_back({static_cast<int>(r), 1 / peak});
    const std::vector<double> paces = PaceOfRounds(rows, course_.rounds);
    std::vector<Moment> moments;
    for (size_t r = 0; r < paces.size(); ++r)
      moments.push_back({sums[r] / counts[r], paces[r]});
    return moments;
  }

  void Settle() {
    for (size_t i = 0; i < lanes_.size(); ++i) {
      if (std::ssize(course_.samples[i]) < rules_.least) continue;
      const std::vector<double> seconds = Paced(course_, i);
      const MedianInterval interval = IntervalOfMedian(seconds);
      settled_[i] = 0.5 * (interval.high - interval.low) <=
                    rules_.tight * Median(seconds);
    }
  }

  const std::vector<Lane>& lanes_;
  const RoundRules& rules_;
  int planned_ = 0;  // rounds
  std::vector<bool> settled_;
  Course course_;
};

}  // namespace

Course RunRounds(std::vector<Lane>* lanes, const RoundRules& rules) {
  return Run(lanes, rules).All();
}

LaneSummary Summarise(const Course& course, size_t lane) {
  const std::vector<Moment> peaks = Of(course.peaks, &PeakMoment::flops);
  const std::vector<Moment> streams = Of(course.peaks, &PeakMoment::stream);
  LaneSummary sum;
  std::vector<double> flops, bytes;
  for (const LaneSample& s : course.samples[lane]) {
    sum.ns.push_back(s.seconds * 1e9);
    if (!course.pace.empty()) sum.pace.push_back(PaceAt(course, s.at));
    flops.push_back(s.seconds * At(peaks, s.at));
    bytes.push_back(s.seconds * At(streams, s.at));
  }
  if (sum.ns.empty()) return sum;
  std::vector<double> ns = sum.ns;
  for (size_t i = 0; i < sum.pace.size(); ++i) ns[i] /= sum.pace[i];
  const MedianInterval interval = IntervalOfMedian(ns);
  sum.median = Median(ns);
  sum.low = interval.low;
  sum.high = interval.high;
  sum.flops = Median(flops);
  sum.bytes = Median(bytes);
  return sum;
}

}  // namespace saccade::bench
