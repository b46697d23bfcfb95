// Who was right, how fast, at what cost in memory and quality: a row each, and
// what follows from all rows in a few sentences.
#ifndef SACCADE_REPORTS_VERDICT_H_
#define SACCADE_REPORTS_VERDICT_H_

#include <string>
#include <vector>

#include "reports/model.h"
#include "reports/page.h"

namespace saccade::reports {

/// A variant as timed and as trained: the same spec, or the only two of a name.
struct VerdictRow {
  int timed = -1, trained = -1;  // entries; -1: neither
  Outcome check;                 // worst over passes and targets
  bool checked = false;
  std::string failed;  // the passes that failed
  double worst = kNaN, kappa = kNaN;
  const Timing* time = nullptr;  // of the pass, at the reference length
  double speedup = kNaN;         // against the baseline; NaN: no baseline
  bool tied_with_baseline = false;
  bool fastest = false;  // or tied with the fastest
  bool least_scratch = false, least_state = false;
  PowerFit growth;
  const Weight* weight = nullptr;  // of the pass, at memory figures' length
  const Weight* decode = nullptr;
  Estimate near, far, far_window;  // bits a byte
  // By seed: far or far_window, whichever is less.
  const BySeed* best_far = nullptr;
  // Of that, against the best row's.
  Difference behind;
  bool best_text = false;  // far or far_window, or tied with the best
  Estimate recall;         // of the first probe, at its longest length
  bool best_recall = false;
  // Half the answers right at a length that it was trained at. If not, what it
  // does farther off says nothing of distance.
  bool learned_probe = false;
  Outcome learned;  // why near, far are missing
  std::string words;

  int entry() const { return timed >= 0 ? timed : trained; }
};

/// Which cells a verdict is about. Without a pass: forward, or the first that
/// was timed; without a length: the longest at which the baseline and at least
/// half of the others have a time.
struct Focus {
  size_t setting = 0;  // in Model::settings
  std::string pass = {};
  int64_t length = 0;
};

struct Verdict {
  std::vector<VerdictRow> rows;
  // The best rows, places in `rows`; -1: none. A row whose check failed is
  // never one of them.
  int fastest = -1, least_scratch = -1, least_state = -1, best_text = -1;
  int most_recall = -1;
  const Setting* setting = nullptr;  // none: nothing was timed or weighed
  std::string pass = "forward";      // that was timed
  int64_t length = 0;    // the reference length; 0: nothing was timed
  int64_t weighed = 0;   // the length of memory figures; 0: none
  int baseline = -1;     // entry
  std::string protocol;  // of near and far; empty: nothing was read
  int64_t near_multiple = 0, far_multiple = 0;
  bool window = false;  // far_window was read
  std::string probe;    // empty: none
  int64_t probe_length = 0, probe_multiple = 0;
  std::vector<std::string> findings;
};

/// Points into the model, which must outlive it.
Verdict MakeVerdict(const Model& model, const Focus& focus = {});

/// What the rows come to, in sentences.
std::vector<std::string> MakeFindings(const Model& model,
                                      const Verdict& verdict);

/// How time grows over the longest lengths.
PowerFit GrowthOf(const ByLength<Timing>& lengths);

/// Bits at the far length: plain or under a test window, whichever is less.
Estimate BestFar(const VerdictRow& row);

/// The best rows by time, memory, text and recall, with what each costs in the
/// others; no rows where fewer than two measures were taken.
Table ChoiceTableOf(const Model& model, const Verdict& verdict);

Table VerdictTableOf(const Model& model, const Verdict& verdict);

/// What its dashes stand for, as the beginning of a sentence; "" when it has
/// none.
std::string DashNote(const Model& model, const Table& table);

/// What stands in place of a verdict without rows.
std::string WithoutRows(const Model& model);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_VERDICT_H_
