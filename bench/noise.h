// What disturbs timing on this machine.
#ifndef SACCADE_BENCH_NOISE_H_
#define SACCADE_BENCH_NOISE_H_

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "record/schema.h"

namespace saccade::bench {

/// One thing that makes timings less sure.
struct Noise {
  std::string name;    // steal, load, memory_pressure ...
  std::string reason;  // a sentence with the figure in it
  double value = 0;    // how much, in the unit that the sentence has
};

record::Json NoiseRecord(const Noise& noise);

/// From so much on, of 1, a change of pace or of a peak is noise.
inline constexpr double kMuchDrift = 0.05;

/// Adds what the FMA peak of `threads` threads did in the course of a run when
/// it moved by more: what lasts, not what disturbs one sample. It shows
/// throttling on machines that do not tell of it. `samples` in FLOP/s.
void AddPeakDrift(int threads, std::span<const double> samples,
                  std::vector<Noise>* noise);

/// Where noise is looked for: tests have a machine of their own.
struct NoisePlace {
  std::string root = {};  // before /proc and /sys
  std::vector<int> processors = UsableProcessors();
};

/// Looks at the machine when made and when asked. What the system does not
/// tell is left out.
class NoiseWatch {
 public:
  /// `threads`: how many the work will have.
  explicit NoiseWatch(int threads = 1, NoisePlace place = {});

  /// What disturbs whatever runs: this build, few cores, a quota, how
  /// frequencies are governed.
  std::vector<Noise> Standing() const;

  /// Standing, and what disturbs before anything of ours runs: looks on for a
  /// tenth of a second.
  std::vector<Noise> AtStart() const;

  /// What disturbed since the watch was made.
  std::vector<Noise> SinceStart() const;

 private:
  /// Counts that only grow; what is missing is not told.
  struct Vitals {
    double at = 0;                        // seconds, by a clock
    double all = 0, idle = 0, steal = 0;  // seconds of our processors
    double siblings = 0;  // busy seconds of those that share our cores
    double own = 0;       // of this process and its children that ended
    std::map<std::string, double> stalls;  // seconds, by resource
    std::optional<double> throttles, swaps, withheld;
  };
  Vitals Read() const;
  void ReadProcessors(Vitals* vitals) const;
  std::string Text(const std::string& path) const;
  std::vector<std::string> QuotaFolders() const;
  double QuotaCores() const;
  void AddBusy(const Vitals& from, const Vitals& to, const std::string& when,
               std::vector<Noise>* noise) const;

  int threads_;
  NoisePlace place_;
  std::vector<int> siblings_;  // of our processors, not ours
  Vitals start_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_NOISE_H_
