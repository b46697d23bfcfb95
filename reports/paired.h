// Times of two programs that were taken in turn.
#ifndef SACCADE_REPORTS_PAIRED_H_
#define SACCADE_REPORTS_PAIRED_H_

#include <span>
#include <string>
#include <vector>

#include "reports/shift.h"

namespace saccade::reports {

/// A cell's times, one a turn: time i of B was taken beside time i of A.
struct PairedCell {
  std::vector<double> a, b;  // ns
  std::string pass;
};

/// What B's time is over A's: by the trimmed mean of the logarithms of the
/// turns' ratios and its Student's interval (Yuen 1974), which a turn that was
/// disturbed does not move. Without interval of fewer than three turns. `p` is
/// not adjusted.
TimeRatio RatioOfTurns(std::span<const double> a, std::span<const double> b);

/// Ratios of all cells, and their geometric means by pass and of all; `p`
/// adjusted as in Shifts. What moves both programs alike, and where memory came
/// to lie, differs from turn to turn and so is in the intervals: nothing is
/// added to them, and there is no noise to tell of.
Shifts ComparePaired(const std::vector<PairedCell>& cells);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_PAIRED_H_
