// Of a comparison: what it would do, and how long that would take.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>

#include "bench/cli_parse.h"
#include "bench/comparison.h"
#include "bench/learn/jobs.h"
#include "reports/text.h"
#include "simd/target.h"

namespace saccade::bench {
namespace {

// Long enough to show a variant's pace, short enough for the slowest.
constexpr int64_t kTrialLength = 1024;

// The most memory that cells of a measure take, in bytes.
struct Largest {
  std::string cell, group;  // which
  size_t cell_bytes = 0, group_bytes = 0;

  void Add(std::string_view what, size_t bytes) {
    if (bytes <= cell_bytes) return;
    cell = what;
    cell_bytes = bytes;
  }
  void AddGroup(std::string_view what, size_t bytes) {
    if (bytes <= group_bytes) return;
    group = what;
    group_bytes = bytes;
  }
};

std::string BytesText(size_t bytes) {
  return reports::FormatBytes(static_cast<double>(bytes));
}

// A cell without its variant.
std::string GroupName(const CellSpec& cell) {
  return fmt::format("{} {} {} {} -d {} -t {}", NameOf(cell.pass), cell.length,
                     NameOf(cell.dtype), NameOf(cell.shape.mask),
                     cell.shape.dim, cell.threads);
}

constexpr double kLookSeconds = 1;  // through all lenses, by itself and fresh

}  // namespace

// Runs each variant's passes once at a length that is soon over.
void Comparison::Calibrate() {
  std::set<std::string> seen;
  for (const Part& part : o_.speed) {
    SpeedBench bench(part.timing, nullptr, host_.stop, &*model_);
    for (const auto& group : part.groups)
      for (CellSpec cell : group) {
        cell.length = std::min(cell.length, kTrialLength);
        const std::string key =
            fmt::format("{} {} {} {}", cell.spec, NameOf(cell.pass),
                        NameOf(cell.dtype), cell.threads);
        if (stopped() || !seen.insert(key).second) continue;
        const Result<PlannedCell> planned = PlanCell(cell);
        if (planned.ok()) bench.Try(*planned, ExecOf(cell.threads));
      }
  }
}

void Comparison::Foretell(std::string_view measure, int count, double seconds,
                          double most) {
  foretold_ += fmt::format(
      "{:<9} {:4} to make, about {} (at most {})\n", measure, count,
      FormatDuration(std::min(seconds, most)), FormatDuration(most));
}

void Comparison::ForetellSpeed() {
  double seconds = 0;
  int count = 0;
  Largest largest;
  for (const Part& part : o_.speed) {
    const SpeedBench bench(part.timing, nullptr, host_.stop, &*model_);
    for (const auto& group : part.groups) {
      size_t together = 0;
      for (const CellSpec& cell : group) {
        const Result<PlannedCell> planned = PlanCell(cell);
        if (recorded_.Find(
                CellRecord("speed", cell, planned.ok() ? &*planned : nullptr)))
          continue;
        ++count;
        fmt::print(host_.out, "speed {} {}: ", GroupName(cell), cell.spec);
        if (!planned.ok()) {
          fmt::print(host_.out, "unsupported, {}\n",
                     planned.status().message());
          continue;
        }
        const std::string why = bench.WhySkip(*planned, 1e9);
        const double takes = why.empty() ? bench.Estimate(*planned) : 0;
        seconds += takes;
        const size_t bytes = planned->TotalBytes();
        if (why.empty()) {
          together += bytes;
          largest.Add(GroupName(cell) + " " + cell.spec, bytes);
        }
        fmt::print(
            host_.out, "{:.3g} GFLOP, {}, {}\n", planned->flops() * 1e-9,
            BytesText(bytes),
            why.empty() ? fmt::format("{:.2g} s", takes) : "skipped: " + why);
      }
      if (!group.empty()) largest.AddGroup(GroupName(group.front()), together);
    }
  }
  for (const std::string& peer : o_.peers)
    fmt::print(host_.out, "speed of peer {}, the same cells\n", peer);
  Foretell("speed", count, seconds, o_.seconds.find("speed")->second);
  if (largest.cell_bytes > 0)
    foretold_ += fmt::format(
        "{:<9} largest cell {} ({}); variants that take turns, together {} "
        "({}), in parts where that is more than the machine has free\n",
        "", BytesText(largest.cell_bytes), largest.cell,
        BytesText(largest.group_bytes), largest.group);
}

void Comparison::ForetellMemory() {
  double seconds = 0;
  int count = 0;
  Largest largest;
  for (const Part& part : o_.memory)
    for (const auto& group : part.groups)
      for (const CellSpec& cell : group) {
        const Result<PlannedCell> planned = PlanCell(cell);
        if (recorded_.Find(
                CellRecord("memory", cell, planned.ok() ? &*planned : nullptr)))
          continue;
        ++count;
        const double takes =
            planned.ok() ? kChildStart + model_->Whole(*planned) : 0;
        if (takes <= part.longest_child) {
          seconds += takes;
          if (planned.ok())
            largest.Add(GroupName(cell) + " " + cell.spec,
                        planned->TotalBytes());
        }
        fmt::print(host_.out, "memory {} {} {} {}: {:.2g} s\n",
                   NameOf(cell.pass), cell.length, NameOf(cell.dtype),
                   cell.spec, takes);
      }
  Foretell("memory", count, seconds, o_.seconds.find("memory")->second);
  if (largest.cell_bytes > 0)
    foretold_ += fmt::format("{:<9} one at a time, largest cell {} ({})\n", "",
                             BytesText(largest.cell_bytes), largest.cell);
}

Status Comparison::ForetellTrainings() {
  const Result<std::vector<PlannedTraining>> planned =
      PlanTrainings(o_.learn, ExecOf(MostThreads()));
  if (!planned.ok()) return planned.status();
  double seconds = 0;
  int count = 0;
  for (const PlannedTraining& t : *planned) {
    const bool known = std::any_of(
        recorded_.run().records.begin(), recorded_.run().records.end(),
        [&t](const record::Record& r) {
          return r.kind() == "train" && r.Text("variant") == t.spec &&
                 r.Text("task") == t.task &&
                 (r.Text("match") == kByFlops) == t.by_flops &&
                 r.Count("seed") == static_cast<int64_t>(t.seed);
        });
    if (known) continue;
    fmt::print(host_.out, "training {} {} seed {}{}: ", t.task, t.spec, t.seed,
               t.by_flops ? ", matched by FLOPs" : "");
    if (!t.status.ok()) {
      fmt::print(host_.out, "{}\n", t.status.message());
      continue;
    }
    ++count;
    seconds += t.seconds;
    fmt::print(host_.out, "{:.3g} TFLOP at {:.0f} GFLOP/s, {:.0f} s in all\n",
               t.flops * 1e-12, t.gflops, t.seconds);
  }
  Foretell("training", count, seconds, TrainingSeconds());
  return {};
}

int Comparison::DryRun() {
  ChooseTarget();
  model_.emplace(SampleFmaPeak(1));
  if (Wants("speed") || Wants("memory")) Calibrate();
  fmt::print(host_.out, "profile {}, into {}\n\n", o_.profile, o_.out);
  Status status;
  if (Wants("verify"))
    foretold_ += fmt::format("verify    at most {}\n",
                             FormatDuration(o_.seconds.find("verify")->second));
  if (Wants("speed")) ForetellSpeed();
  if (Wants("memory")) ForetellMemory();
  if (Wants("lenses")) {
    const auto looks = static_cast<int>(o_.lenses.specs.size());
    Foretell("lenses", looks, kLookSeconds * looks,
             o_.seconds.find("lenses")->second);
  }
  if (TrainingSeconds() > 0) status = ForetellTrainings();
  fmt::print(host_.out, "\n{}", foretold_);
  if (status.ok()) return kExitOk;
  Say(host_, status.message());
  return kExitUsage;
}

}  // namespace saccade::bench
