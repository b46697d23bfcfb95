// The parts that a diff is made of. For diff*.cc alone.
#ifndef SACCADE_REPORTS_DIFF_PARTS_H_
#define SACCADE_REPORTS_DIFF_PARTS_H_

#include <functional>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "reports/diff.h"

namespace saccade::reports {

using Runs = std::vector<record::Run>;

/// The last record of a cell, run by run; null where a run has none.
using OfRuns = std::vector<const record::Record*>;

struct Both {
  record::Json cell;
  OfRuns a, b;
};

/// The fields that tell a cell from others; not the SIMD target, of which
/// another machine or build may have chosen another.
record::Json CellOf(const record::Record& record);

/// Cells of these kinds, in the order in which A's runs, then B's, name them.
std::vector<Both> Pair(
    const Runs& a, const Runs& b, std::initializer_list<std::string_view> kinds,
    const std::function<record::Json(const record::Record&)>& cell_of);

/// Those that came to something.
OfRuns Good(const OfRuns& records);

/// Why there is nothing good among them: "skipped: it takes too long".
std::string WhyNot(const OfRuns& records);

/// Figures are rounded once, so that all formats and limits see the same.
Estimate Rounded(const Estimate& estimate);

/// Takes a cell that only one side has: as a gap, or, where it fails in the
/// other, as a check that broke.
void TakeGap(const Both& both, Diff* diff);

bool SameMachine(const Runs& a, const Runs& b);

// What they find goes into the diff.
void AddRemarks(const Runs& a, const Runs& b, Diff* diff);
void CompareTimes(const Runs& a, const Runs& b, Diff* diff);
void CompareBytes(const Runs& a, const Runs& b, Diff* diff);
void CompareReadings(const Runs& a, const Runs& b, Diff* diff);
void CompareChecks(const Runs& a, const Runs& b, Diff* diff);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_DIFF_PARTS_H_
