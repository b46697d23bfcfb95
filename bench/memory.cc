#include "bench/memory.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <system_error>

extern char** environ;

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr size_t kMostOutput = 4096;  // bytes that a child may say

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

// A child process and the pipe it writes to.
class Child {
 public:
  ~Child() {
    if (out_ >= 0) close(out_);
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  Status Start(const std::string& program, const std::string& argument) {
    int ends[2];
    if (pipe(ends) != 0) return Failed("make a pipe", errno);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    std::string command = kMemoryCommand, cell = argument, name = program;
    char* argv[] = {name.data(), command.data(), cell.data(), nullptr};
    const int error =
        posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    out_ = ends[0];
    if (error != 0) {
      pid_ = -1;
      return Failed("run " + program, error);
    }
    return {};
  }

  /// All that the child writes until it closes its output.
  Status Read(double longest, const StopFlag* stop, std::string* text) {
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::duration<double>(longest);
    for (;;) {
      if (stop && stop->load()) return Exhausted("interrupted");
      if (std::chrono::steady_clock::now() > end)
        return Exhausted(fmt::format(
            "the child process did not finish within {:.2g} s", longest));
      pollfd ready{out_, POLLIN, 0};
      if (poll(&ready, 1, 50) <= 0) continue;
      char buffer[512];
      const ssize_t n = read(out_, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("read from the child", errno);
      if (n == 0) return {};
      text->append(buffer, static_cast<size_t>(n));
      if (text->size() > kMostOutput)
        return IoError("the child process says too much");
    }
  }

  /// Waits for the end; kExhausted when a signal ended it.
  Status Wait() {
    int how = 0;
    const pid_t pid = std::exchange(pid_, -1);
    while (waitpid(pid, &how, 0) < 0)
      if (errno != EINTR) return Failed("wait for the child", errno);
    if (WIFSIGNALED(how))
      return Exhausted(fmt::format("signal {} ended the child process: {}",
                                   WTERMSIG(how), strsignal(WTERMSIG(how))));
    return {};
  }

 private:
  static Status Failed(const std::string& what, int error) {
    return IoError(fmt::format("cannot {}: {}", what,
                               std::generic_category().message(error)));
  }

  pid_t pid_ = -1;
  int out_ = -1;
};

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
  return n.scratch + n.saved + n.state;
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
  Child child;
  Status status = child.Start(program, ToJson(cell).dump());
  std::string text;
  if (status.ok()) status = child.Read(longest, stop, &text);
  if (status.ok()) status = child.Wait();
  if (!status.ok()) return status;
  const json answer = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (answer.is_object() && answer.contains("error") &&
      answer["error"].is_string())
    return Exhausted(answer["error"].get<std::string>());
  if (!answer.is_object() || !answer.contains("rss_growth_bytes") ||
      !answer["rss_growth_bytes"].is_number_integer())
    return IoError("the child process gave no answer");
  return answer["rss_growth_bytes"].get<int64_t>();
}

}  // namespace saccade::bench
