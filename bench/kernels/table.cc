#include "bench/kernels/table.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <ostream>

#include "bench/machine.h"
#include "bench/noise.h"
#include "simd/target.h"

namespace saccade::bench::kernels {
namespace {

constexpr const char* kHow = R"(
Kernels on one thread, every SIMD target by itself, in processor time of that
thread. A rate is the fastest run's, of FLOPs as the engines count them: of
visible pairs only. "of peak" is its share of what independent multiply-adds
reach on the same target, sampled between the runs; "of machine" its share of
the same on the best target; a decoding step's is of stream bandwidth. "median"
says how much slower the median run was. A part (tile_forward.scores) does by
itself what it does in its pass, as often and on the same sizes; "diagonal" is
both products on the borders of the mask.

)";

constexpr const char* kHowSplit = R"(
Where a forward pass's time goes, in % of it: each part's fastest run by
itself, and the pass's, in units of the peak that was sampled beside it. The
rest is what remains: rescaling, tasks, and what parts lose to each other, above
all the near caches; or gain, then it is negative.

)";

constexpr int kPassWidth = 44;

std::string Counter(const benchmark::UserCounters& counters,
                    std::string_view name, const char* format) {
  const auto it = counters.find(std::string(name));
  if (it == counters.end()) return {};
  return fmt::format(fmt::runtime(format), 100 * it->second.value);
}

double Get(const benchmark::UserCounters& counters, std::string_view name) {
  const auto it = counters.find(std::string(name));
  return it == counters.end() ? 0 : it->second.value;
}

std::string Seconds(double s) {
  if (s < 1e-3) return fmt::format("{:.3g} us", 1e6 * s);
  if (s < 1) return fmt::format("{:.3g} ms", 1e3 * s);
  return fmt::format("{:.3g} s", s);
}

std::string Rate(double rate, const std::string& unit) {
  return rate < 1e9 ? fmt::format("{:.3g} M{}", 1e-6 * rate, unit)
                    : fmt::format("{:.3g} G{}", 1e-9 * rate, unit);
}

}  // namespace

bool TableReporter::ReportContext(const Context&) {
  std::ostream& out = GetOutputStream();
  const record::Json facts = MachineFacts();
  const auto text = [&](const char* key) {
    return facts.at(key).get<std::string>();
  };
  fmt::print(out, "{}; {}; commit {}\ntargets: {}\n", text("machine"),
             text("compiler"), text("commit"), fmt::join(TargetNames(), ", "));
  for (const Noise& noise : NoiseWatch().AtStart())
    fmt::print(out, "noise: {}\n", noise.reason);
  out << kHow;
  for (const Case& c : cases_)
    width_ = std::max(width_, static_cast<int>(c.Name().size()));
  fmt::print(out, "{:<{}} {:>8} {:>6} {:>15} {:>8} {:>10}\n", "kernel", width_,
             "fastest", "median", "rate", "of peak", "of machine");
  return true;
}

void TableReporter::ReportRuns(const std::vector<Run>& runs) {
  std::ostream& out = GetOutputStream();
  for (const Run& run : runs) {
    if (run.run_type != Run::RT_Iteration) continue;
    const std::string& name = run.run_name.function_name;
    if (run.error_occurred) {
      fmt::print(out, "{:<{}} {}\n", name, width_, run.error_message);
      continue;
    }
    const double fastest = Get(run.counters, kFastest);
    const bool stream = run.counters.contains(std::string(kOfStream));
    fmt::print(out, "{:<{}} {:>8} {:>+4.0f} % {:>15} {:>8} {:>10}\n", name,
               width_, Seconds(fastest),
               100 * (Get(run.counters, kMedian) / fastest - 1),
               Rate(Get(run.counters, kRate), run.report_label),
               Counter(run.counters, stream ? kOfStream : kOfPeak, "{:.0f} %"),
               Counter(run.counters, kOfMachine, "{:.0f} %"));
    results_[name] = {fastest * Get(run.counters, kPeak),
                      100 * Get(run.counters, stream ? kOfStream : kOfPeak)};
  }
  out.flush();
}

double TableReporter::TimeOf(const Case& c) const {
  const auto it = results_.find(c.Name());
  return it == results_.end() ? 0 : it->second.time;
}

// A row a pass, a column a target and width: share of peak.
void TableReporter::PrintShares() const {
  std::vector<std::string> columns, rows;
  std::map<std::string, std::map<std::string, double>> shares;  // row, column
  const auto add = [](std::vector<std::string>& to, const std::string& name) {
    if (std::find(to.begin(), to.end(), name) == to.end()) to.push_back(name);
  };
  for (const Case& c : cases_) {
    const auto it = results_.find(c.Name());
    if (c.part != nullptr || it == results_.end()) continue;
    const Kernel& k = *c.kernel;
    const std::string row = fmt::format("{}/{}/n{}/{}", k.pass, k.form.name,
                                        k.len, NameOf(k.dtype));
    const std::string column = fmt::format("{}/d{}", c.target, c.width);
    add(rows, row);
    add(columns, column);
    shares[row][column] = it->second.share;
  }
  if (columns.size() < 2) return;
  std::ostream& out = GetOutputStream();
  fmt::print(out, "\n{:<{}}", "share of the target's peak, %", kPassWidth);
  for (const std::string& column : columns) fmt::print(out, " {:>14}", column);
  out << '\n';
  for (const std::string& row : rows) {
    fmt::print(out, "{:<{}}", row, kPassWidth);
    for (const std::string& column : columns) {
      const auto it = shares[row].find(column);
      fmt::print(out, " {:>14}",
                 it == shares[row].end() ? std::string("-")
                                         : fmt::format("{:.0f}", it->second));
    }
    out << '\n';
  }
}

void TableReporter::PrintSplit(const Case& pass) const {
  const double whole = TimeOf(pass);
  std::array<double, std::size(kShares)> shares{};
  double rest = 100;
  for (const PartEntry& entry : kParts) {
    if (!HasPart(*pass.kernel, entry.part)) continue;
    Case part = pass;
    part.part = &entry;
    if (entry.share == Share::kNone) continue;
    const double share = 100 * TimeOf(part) / whole;
    shares[static_cast<size_t>(entry.share)] += share;
    rest -= share;
  }
  std::ostream& out = GetOutputStream();
  fmt::print(out, "{:<{}}", pass.Name(), kPassWidth);
  for (const double share : shares) fmt::print(out, " {:>11.1f}", share);
  fmt::print(out, " {:>6.1f}\n", rest);
}

void TableReporter::Finalize() {
  PrintShares();
  // Passes of which all parts were run.
  std::vector<const Case*> whole;
  for (const Case& c : cases_) {
    if (c.part != nullptr || !c.kernel->parts || TimeOf(c) == 0) continue;
    const bool all = std::all_of(
        std::begin(kParts), std::end(kParts), [&](const PartEntry& entry) {
          Case part = c;
          part.part = &entry;
          return !HasPart(*c.kernel, entry.part) || TimeOf(part) > 0;
        });
    if (all) whole.push_back(&c);
  }
  if (whole.empty()) return;
  std::ostream& out = GetOutputStream();
  out << kHowSplit;
  fmt::print(out, "{:<{}}", "pass", kPassWidth);
  for (const std::string_view share : kShares)
    fmt::print(out, " {:>11}", share);
  fmt::print(out, " {:>6}\n", "rest");
  for (const Case* c : whole) PrintSplit(*c);
}

}  // namespace saccade::bench::kernels
