// Times of both sides.
#include <algorithm>
#include <cmath>
#include <utility>

#include "reports/diff_parts.h"
#include "reports/paired.h"

namespace saccade::reports {
namespace {

using record::Json;
using record::Record;

double MeanOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

Json Without(Json cell, std::initializer_list<const char*> fields) {
  for (const char* field : fields) cell.erase(field);
  return cell;
}

// Samples, relieved of how slow the machine was at each.
std::vector<double> SamplesOf(const Record& record) {
  std::vector<double> ns = record.Numbers("ns");
  const std::vector<double> pace = record.Numbers("pace");
  if (pace.size() == ns.size())
    for (size_t i = 0; i < ns.size(); ++i) ns[i] /= pace[i];
  return ns;
}

constexpr char kArithmetic[] = "arithmetic", kStream[] = "stream";

// The roof that a cell is nearer to: the stream's where it takes at least half
// of it (more than all is served by caches), else that of arithmetic.
const char* RoofOf(const Record& record) {
  const double stream = record.Number("bandwidth_share");
  const bool streams =
      stream >= 0.5 && stream <= 1.1 && !(record.Number("peak_share") > stream);
  return streams ? kStream : kArithmetic;
}

// The log of a peak's inverse: the record has the work, the time and the share
// of the peak that was sampled in the same rounds.
double ClockOf(const Record& record, std::string_view roof) {
  const bool stream = roof == kStream;
  const double work = record.Number(stream ? "bytes" : "flops");
  const double share = record.Number(stream ? "bandwidth_share" : "peak_share");
  const double clock =
      std::log(share) + std::log(record.Number("median_ns")) - std::log(work);
  return std::isfinite(clock) ? clock : kNaN;
}

double MeanClock(const OfRuns& records, std::string_view roof) {
  double sum = 0;
  for (const Record* record : records) sum += ClockOf(*record, roof);
  return sum / static_cast<double>(records.size());
}

RunTime ReadTime(const Record& record, std::string_view roof) {
  RunTime time = TimeOf(SamplesOf(record));
  if (!time.median.known()) {
    time.median = {record.Number("median_ns"), record.Number("low_ns"),
                   record.Number("high_ns")};
    time.error =
        (time.median.high - time.median.low) / (2 * 1.96 * time.median.value);
  }
  time.clock = ClockOf(record, roof);
  return time;
}

double GeometricMean(const std::vector<RunTime>& runs) {
  double sum = 0;
  for (const RunTime& run : runs) sum += std::log(run.median.value);
  return std::exp(sum / static_cast<double>(runs.size()));
}

Change ChangeOf(const TimeRatio& ratio, double same_within) {
  const Estimate& r = ratio.ratio;
  if (r.low >= 1 - same_within && r.high <= 1 + same_within)
    return Change::kSame;
  if (!(ratio.p < 0.05)) return Change::kUnclear;
  return r.value > 1 ? Change::kSlower : Change::kFaster;
}

DiffRow TimeRow(Json cell, double a, double b, const TimeRatio& ratio,
                double same_within) {
  DiffRow row{std::move(cell), "median_ns", a, b};
  row.by = ratio.ratio;
  if (!row.by.known()) row.by.value = b / a;
  row.by = Rounded(row.by);
  row.p = ratio.p;
  row.change = ChangeOf(ratio, same_within);
  return row;
}

// A cell of both sides, ready to be compared.
TimedCell TimedCellOf(const Both& both, const OfRuns& a, const OfRuns& b,
                      bool same_machine) {
  const char* roof = RoofOf(*a.front());
  TimedCell cell;
  for (const Record* record : a) cell.a.push_back(ReadTime(*record, roof));
  for (const Record* record : b) cell.b.push_back(ReadTime(*record, roof));
  // On another machine there is no clock to divide by.
  if (!same_machine)
    for (auto* side : {&cell.a, &cell.b})
      for (RunTime& run : *side) run.clock = kNaN;
  cell.pass = a.front()->Text("pass");
  cell.length = a.front()->Count("kv_len");
  cell.series = Without(both.cell, {"q_len", "kv_len"}).dump();
  cell.batch = Without(both.cell, {"kind", "variant", "peer", "q_heads",
                                   "kv_heads", "qk_dim", "v_dim"})
                   .dump();
  return cell;
}

// Whether each run of B was timed in turn with the same one of A.
bool Paired(const Runs& a, const Runs& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const std::string pair = a[i].header.Text("pair");
    if (pair.empty() || pair != b[i].header.Text("pair")) return false;
  }
  return true;
}

PairedCell PairedCellOf(const Both& both) {
  PairedCell cell;
  for (size_t i = 0; i < both.a.size(); ++i) {
    const Record *a = both.a[i], *b = both.b[i];
    if (!a || !b || !a->ok() || !b->ok()) continue;
    const std::vector<double> ns_a = a->Numbers("ns"), ns_b = b->Numbers("ns");
    const size_t turns = std::min(ns_a.size(), ns_b.size());
    cell.a.insert(cell.a.end(), ns_a.begin(), ns_a.begin() + turns);
    cell.b.insert(cell.b.end(), ns_b.begin(), ns_b.begin() + turns);
    cell.pass = a->Text("pass");
  }
  return cell;
}

}  // namespace

void CompareTimes(const Runs& a, const Runs& b, Diff* diff) {
  const bool same_machine = SameMachine(a, b), in_turn = Paired(a, b);
  std::vector<PairedCell> turns;
  std::vector<Both> pairs;
  std::vector<TimedCell> cells;
  std::map<std::string, std::vector<double>> peaks;
  for (Both& both : Pair(a, b, {"speed", "peer"}, CellOf)) {
    const OfRuns in_a = Good(both.a), in_b = Good(both.b);
    if (in_a.empty() || in_b.empty()) {
      TakeGap(both, diff);
      continue;
    }
    for (const char* roof : {kArithmetic, kStream}) {
      const double log = MeanClock(in_a, roof) - MeanClock(in_b, roof);
      if (std::isfinite(log)) peaks[roof].push_back(log);
    }
    cells.push_back(TimedCellOf(both, in_a, in_b, same_machine));
    if (in_turn) turns.push_back(PairedCellOf(both));
    pairs.push_back(std::move(both));
  }
  const Shifts shifts = in_turn ? ComparePaired(turns) : ComputeShifts(cells);
  diff->in_turn = in_turn;
  diff->noise = shifts.noise;
  for (const auto& [name, logs] : peaks)
    diff->peaks[name] = std::exp(MeanOf(logs));
  for (size_t i = 0; i < cells.size(); ++i)
    diff->times.push_back(TimeRow(pairs[i].cell, GeometricMean(cells[i].a),
                                  GeometricMean(cells[i].b), shifts.cells[i],
                                  diff->same_within));
  for (const auto& [pass, mean] : shifts.means)
    diff->means.push_back(
        TimeRow({{"pass", pass}}, kNaN, kNaN, mean, diff->same_within));
  if (shifts.means.size() > 1)
    diff->means.push_back(
        TimeRow(Json::object(), kNaN, kNaN, shifts.all, diff->same_within));
}

}  // namespace saccade::reports
