#include "bench/memory.h"

#include <algorithm>
#include <fstream>

#include "bench/child.h"
#include "record/json.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes; 0 when the
// system has none.
int64_t StatusBytes(std::string_view name) {
  std::ifstream in("/proc/self/status");
  std::string line;
  while (std::getline(in, line))
    if (line.rfind(name, 0) == 0)
      return std::atoll(line.c_str() + name.size()) * 1024;
  return 0;
}

// Makes the peak equal to what is resident now. Where the kernel does not
// offer it the peak stays; tensors were touched last, so it is near.
void ResetPeak() {
  std::ofstream out("/proc/self/clear_refs");
  out << 5;
}

Status RunOnce(const CellSpec& cell, uint64_t seed, Exec& exec) {
  const Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) return planned.status();
  const Result<std::unique_ptr<Workload>> work =
      Workload::Make(&*planned, Pages::kSmall, seed);
  if (!work.ok()) return work.status();
  Status status = (*work)->Allocate();
  if (status.ok()) status = (*work)->Prepare(exec);
  if (status.ok()) status = (*work)->Run(exec);
  return status;
}

}  // namespace

json ToJson(const CellSpec& cell) {
  return {{"spec", cell.spec},
          {"pass", NameOf(cell.pass)},
          {"dtype", NameOf(cell.dtype)},
          {"mask", static_cast<int>(cell.shape.mask)},
          {"batch", cell.shape.batch},
          {"heads", cell.shape.heads},
          {"kv_heads", cell.shape.kv_heads},
          {"dim", cell.shape.dim},
          {"length", cell.length},
          {"threads", cell.threads}};
}

Result<CellSpec> CellFromJson(std::string_view text) {
  const json j = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Status bad = Invalid("the cell is not what this program wrote");
  if (!j.is_object()) return bad;
  const auto number = [&j](const char* name) -> int64_t {
    const auto it = j.find(name);
    return it != j.end() && it->is_number_integer() ? it->get<int64_t>() : -1;
  };
  const auto word = [&j](const char* name) -> std::string {
    const auto it = j.find(name);
    return it != j.end() && it->is_string() ? it->get<std::string>() : "";
  };
  CellSpec cell;
  const Result<Pass> pass = ParsePass(word("pass"));
  const int64_t mask = number("mask"), threads = number("threads");
  if (!pass.ok() || mask < 0 || mask > 2 || threads < 1 || threads > 4096)
    return bad;
  cell.spec = word("spec");
  cell.pass = *pass;
  cell.dtype =
      word("dtype") == NameOf(DType::kBF16) ? DType::kBF16 : DType::kF32;
  cell.shape.mask = static_cast<Mask>(mask);
  cell.shape.batch = number("batch");
  cell.shape.heads = number("heads");
  cell.shape.kv_heads = number("kv_heads");
  cell.shape.dim = number("dim");
  cell.length = number("length");
  cell.threads = static_cast<int>(threads);
  if (cell.shape.batch < 1 || cell.shape.heads < 1 || cell.shape.dim < 1 ||
      cell.shape.kv_heads < 0 || cell.length < 1)
    return bad;
  return cell;
}

size_t PlannedBytes(const PlannedCell& cell) {
  const Needs n = cell.needs();
  size_t learned = 0;
  if (cell.variant != nullptr && cell.variant->parameters != nullptr)
    learned = static_cast<size_t>(cell.problem.q_heads *
                                  cell.variant->parameters(cell.problem)) *
              sizeof(float);
  return n.scratch + n.saved + n.state + learned;
}

Result<int64_t> MeasureGrowth(const CellSpec& cell, uint64_t seed) {
  const std::unique_ptr<Exec> exec = MakeTbbExec(cell.threads);
  CellSpec tiny = cell;
  tiny.length = std::min<int64_t>(cell.length, 64);
  const Status warm = RunOnce(tiny, seed, *exec);
  if (!warm.ok()) return warm;

  const Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) return planned.status();
  const Result<std::unique_ptr<Workload>> work =
      Workload::Make(&*planned, Pages::kSmall, seed);
  if (!work.ok()) return work.status();

  ResetPeak();
  const int64_t before = StatusBytes("VmRSS:");
  // A second plan, so that what a plan itself holds is seen as well.
  const Result<PlannedCell> again = PlanCell(cell);
  Status status = again.ok() ? (*work)->Allocate() : again.status();
  if (status.ok()) status = (*work)->Prepare(*exec);
  if (status.ok()) status = (*work)->Run(*exec);
  if (!status.ok()) return status;
  const int64_t peak = StatusBytes("VmHWM:");
  if (before == 0 || peak == 0)
    return IoError("this system does not say how much memory a process holds");
  return std::max<int64_t>(0, peak - before);
}

Result<int64_t> MeasureGrowthInChild(const std::string& program,
                                     const CellSpec& cell, double longest,
                                     const StopFlag* stop) {
  const auto child = ChildProcess::Start(
      {program, std::string(kMemoryCommand), record::Dump(ToJson(cell))});
  if (!child.ok()) return child.status();
  const Result<json> heard = (*child)->Ask(nullptr, longest, stop);
  if (!heard.ok()) return heard.status();
  const json& answer = *heard;
  if (answer.contains("error") && answer["error"].is_string())
    return Exhausted(answer["error"].get<std::string>());
  if (!answer.contains("rss_growth_bytes") ||
      !answer["rss_growth_bytes"].is_number_integer())
    return IoError("the child process gave no answer");
  return answer["rss_growth_bytes"].get<int64_t>();
}

}  // namespace saccade::bench
