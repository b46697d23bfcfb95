// Outside implementations against ours, cell by cell.
#ifndef SACCADE_REPORTS_CONTEST_H_
#define SACCADE_REPORTS_CONTEST_H_

#include <string>
#include <vector>

#include "reports/model.h"

namespace saccade::reports {

/// A cell that a peer and a variant were timed in.
struct Contest {
  size_t setting = 0;  // in Model::settings
  std::string pass;
  int64_t length = 0;
  int peer = 0;  // entry
  const Timing* theirs = nullptr;
  /// Of the variant whose function the peer computes; of the baseline's
  /// function, of the fastest that does the same visible work.
  const Timing* ours = nullptr;

  double ratio() const { return theirs->ns.value / ours->ns.value; }
  bool tie() const { return Overlap(theirs->ns, ours->ns); }
  bool behind() const { return ratio() < 1 && !tie(); }
};

/// By pass (forward, backward, decode), setting, length and peer. Points into
/// the model.
std::vector<Contest> ContestsOf(const Model& model);

/// Contests of one cell: those of a list that begin at `first` and have its
/// pass, setting and length; the place behind the last.
size_t EndOfCell(const std::vector<Contest>& contests, size_t first);

/// How many cells ours is ahead of all peers in, and of how many.
struct Standing {
  int cells = 0, ahead = 0, tied = 0;  // tied: behind none, a tie with some
};
Standing StandingOf(const std::vector<Contest>& contests);

/// Of ratios above zero; NaN of none.
double GeometricMean(const std::vector<double>& ratios);

/// What tells a setting from the others: "causal, bf16, 2 threads". Its whole
/// name when there is one only.
std::vector<std::string> SettingLabels(const Model& model);

/// A title in the i-th setting: with its label, where there are others.
std::string TitleIn(const Model& model, size_t i, const std::string& title);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_CONTEST_H_
