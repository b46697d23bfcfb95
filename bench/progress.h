// How far a long run has come, for whoever waits in front of it.
#ifndef SACCADE_BENCH_PROGRESS_H_
#define SACCADE_BENCH_PROGRESS_H_

#include <chrono>
#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace saccade::bench {

/// A bar over all phases with the time that is gone and that remains; on
/// anything but a terminal a line per phase. One thread only.
///
///   Progress p(std::cerr, isatty(2));
///   p.AddPhase("speed", 90);  p.AddPhase("memory", 20);
///   p.Begin("speed");  p.Update(0.25, "softmax.flash 4096");
///   p.Finish();
class Progress {
 public:
  /// A terminal is redrawn in place, at most ten times a second. A quiet one
  /// says nothing at all.
  Progress(std::ostream& err, bool terminal, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Expected seconds of a phase; phases come in this order.
  void AddPhase(std::string_view name, double seconds);

  /// A phase will take so many seconds in all, as is known by now.
  void Expect(std::string_view name, double seconds);

  /// Enters a phase; earlier ones are done.
  void Begin(std::string_view name);

  /// `done` of the phase, 0 to 1, and what is under way now.
  void Update(double done, std::string_view what);

  /// A line that stays, also where there is no terminal.
  void Say(std::string_view line);

  /// Clears the bar until the next call, so that results can be printed.
  void Clear();

  /// Clears the bar. Further calls do nothing.
  void Finish();

  /// Seconds left, from the phases' expectations and the pace in this one.
  double Remaining() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Phase {
    std::string name;
    double seconds;
  };
  Phase* Find(std::string_view name);
  void Draw(std::string_view what);

  std::ostream& err_;
  const bool terminal_, quiet_;
  bool finished_ = false;
  std::vector<Phase> phases_;
  size_t current_ = 0;
  double done_ = 0;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point phase_start_ = start_;
  Clock::time_point last_draw_ = {};
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PROGRESS_H_
