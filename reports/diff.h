// Two sides of runs compared: two builds, two commits, two machines.
#ifndef SACCADE_REPORTS_DIFF_H_
#define SACCADE_REPORTS_DIFF_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "record/record.h"
#include "reports/shift.h"
#include "reports/stats.h"

namespace saccade::reports {

/// What became of a measurement from A to B.
enum class Change : uint8_t {
  kSame,
  kUnclear,  // too uncertain to say
  kFaster,
  kSlower,
  kSmaller,
  kBigger,
  kBetter,
  kWorse,
  kMended,  // fails its check in A alone
  kBroken,  // fails its check in B alone
};
std::string_view NameOf(Change change);

/// A measurement that both sides have.
struct DiffRow {
  record::Json cell;  // the fields of its identity; of a mean its pass, if any
  std::string measure;        // a field of the schema, or "check"
  double a = kNaN, b = kNaN;  // in that field's unit; over runs or seeds
  /// Of times and bytes B / A, of bits and accuracy B - A, with three decimals;
  /// NaN where it is nothing that changed.
  Estimate by = {};
  double p = kNaN;  // of times and readings: that nothing changed, adjusted
  Change change = Change::kUnclear;
  std::string reason = {};  // of a check that fails
};

/// A measurement that one side has and the other does not, or not as a number.
struct DiffGap {
  record::Json cell;
  char side = 'A';  // the one without it
  std::string reason;
};

/// What a reader must know before he trusts the table.
struct DiffRemark {
  enum class Kind : uint8_t {
    kBuild,   // builds or commits differ: what is mostly compared
    kUnlike,  // machines, compilers or settings differ
    kNoise,   // something disturbed one of the runs
    kNote,
  };
  Kind kind = Kind::kNote;
  std::string text;  // a sentence without its full stop
};

struct Diff {
  std::vector<std::string> a, b;  // the runs in words
  std::vector<DiffRemark> remarks;
  double same_within = 0;
  bool in_turn = false;  // both were timed in turn: see paired.h
  std::map<std::string, RunNoise> noise;  // by pass; empty in turn
  std::map<std::string, double> peaks;    // B / A of the machine's own, by name
  std::vector<DiffRow> means;             // of times: by pass, then of all
  std::vector<DiffRow> times, bytes, readings, checks;
  std::vector<DiffGap> gaps;

  bool Has(DiffRemark::Kind kind) const;
};

/// Compares what both sides have; of each side the runs are of the same
/// program. A time is "same" when its interval lies within 1 +- same_within,
/// else faster or slower when p < .05; growth of a process is measured, other
/// bytes are exact; bits a byte and accuracy are paired by seed, and the same
/// within kTieBits.
Diff MakeDiff(const std::vector<record::Run>& a,
              const std::vector<record::Run>& b, double same_within);

enum class DiffFormat : uint8_t { kText, kMarkdown, kJson };

/// A row in words: "softmax.flash, forward, n 4k: B / A 1.062, slower".
std::string Describe(const DiffRow& row);

/// Ends with a newline. Text and Markdown leave out rows that are the same,
/// unless `all`; JSON has all of them. Figures are the same in each.
std::string ShowDiff(const Diff& diff, DiffFormat format, bool all);

/// A kind of change, and by how much it may be.
struct DiffLimit {
  Change change = Change::kSlower;
  double beyond = 0;  // a share of times and bytes; bits or accuracy
};

/// The rows of `diff` that go beyond the limits; a check that broke always
/// does.
std::vector<const DiffRow*> Beyond(const Diff& diff,
                                   const std::vector<DiffLimit>& limits);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_DIFF_H_
