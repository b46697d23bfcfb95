// Whether cells of one run, or of some, are faster or slower in another.
//
// What the samples of a process scatter by is only part of what tells two runs
// of one program apart: where memory came to lie, the clock of the processor
// and the neighbours differ from run to run (Mytkowicz et al. 2009, Kalibera &
// Jones 2013). So three things widen an interval beside its samples: what cells
// move by from run to run, what whole runs move by, and the drift of the
// machine's own peak.
#ifndef SACCADE_REPORTS_SHIFT_H_
#define SACCADE_REPORTS_SHIFT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "reports/stats.h"

namespace saccade::reports {

/// The times of a cell in one run.
struct RunTime {
  Estimate median;  // ns, with its interval by order statistics
  /// Relative standard error of the median, told from the samples' middle,
  /// which the tail of disturbed ones does not widen.
  double error = 0;
  /// Log of the time that this machine took then for what never changes, at the
  /// roof that the cell is nearer to; NaN where that is not known.
  double clock = kNaN;
};

/// Of samples in ns; those that are not above zero are left out.
RunTime TimeOf(std::vector<double> samples);

/// A cell that both sides timed.
struct TimedCell {
  std::vector<RunTime> a, b;  // one a run
  std::string pass;           // noise is estimated pass by pass
  std::string series;         // cells of one series differ in length alone
  int64_t length = 0;         // tokens
  std::string batch;  // cells of one batch were timed in the same rounds
};

/// What B's time is over A's.
struct TimeRatio {
  Estimate ratio;  // low and high: 95 %; NaN where one side has too few samples
  /// That it is 1, adjusted for the number of cells: of those with p < .05 one
  /// in twenty is wrong on average, and where nothing differs one table in
  /// twenty has any (Benjamini & Hochberg 1995).
  double p = kNaN;
};

/// Adjusts p of ratios that are looked at together.
void AdjustTogether(const std::vector<TimeRatio*>& ratios);

/// Standard deviations of log times between runs of one program.
struct RunNoise {
  double cell = 0;       // of a cell by itself
  double run = 0;        // of all cells of a run together; 0 when not known
  int evidence = 0;      // differences that `cell` was estimated from
  int run_freedom = 0;   // runs beyond the first of each side; 0: not known
  bool assumed = false;  // too little evidence
};

struct Shifts {
  std::vector<TimeRatio> cells;            // as given
  std::map<std::string, RunNoise> noise;   // by pass
  std::map<std::string, TimeRatio> means;  // geometric, by pass
  TimeRatio all;  // of all cells; p of means is adjusted among them
};

/// Where there is a run a side, the noise between them is told from cells of a
/// series that follow each other in length: a change of the program moves
/// neighbours alike, and so takes no part in it even where it moves all cells.
/// What moves all cells of a run alike cannot be told from the program then,
/// but by the machine's peak. With more runs a side both noises are told from
/// how runs of one side differ. Intervals hold the ratio as it is and the one
/// that is left when the clocks' ratio is divided out.
Shifts ComputeShifts(const std::vector<TimedCell>& cells);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_SHIFT_H_
