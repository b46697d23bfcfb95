// Where the work runs: every kind of Exec keeps the same promises.
#include "saccade/exec.h"

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "allocations.h"
#include "saccade/attention.h"

namespace saccade {
namespace {

constexpr int kThreads = 3;

// Runs `work` with each kind of Exec.
void WithEach(const std::function<void(const char*, Exec&)>& work) {
  work("serial", Serial());
  work("oneTBB", *MakeTbbExec(kThreads));
  tbb::task_arena arena(kThreads);
  arena.execute([&] { work("attached", *MakeAttachedTbbExec()); });
  work("threads", *MakeThreadExec(kThreads));
  Team team(kThreads);
  std::vector<std::thread> threads;
  for (int i = 1; i < kThreads; ++i)
    threads.emplace_back([&team, i] { team.Join(i, [](Exec&) {}); });
  team.Join(0, [&](Exec& exec) { work("team", exec); });
  for (std::thread& t : threads) t.join();
}

TEST_CASE("a loop runs every task once, and no two at once in one slot") {
  WithEach([](const char* kind, Exec& exec) {
    CAPTURE(kind);
    for (const int64_t tasks : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
      std::vector<std::atomic<int>> busy(static_cast<size_t>(exec.slots()));
      std::atomic<int> clashes{0};
      exec.For(tasks, [&](int64_t task, int slot) {
        clashes += busy[static_cast<size_t>(slot)]++ != 0;
        ++done[static_cast<size_t>(task)];
        --busy[static_cast<size_t>(slot)];
      });
      CHECK(clashes == 0);
      for (const std::atomic<int>& times : done) CHECK(times == 1);
    }
  });
}

TEST_CASE("many short loops in a row come to an end") {
  WithEach([](const char* kind, Exec& exec) {
    CAPTURE(kind);
    std::atomic<int64_t> sum{0};
    for (int i = 0; i < 3000; ++i)
      exec.For(4, [&](int64_t task, int) { sum += task; });
    CHECK(sum == 3000 * 6);
  });
}

TEST_CASE("results are the same bits wherever the work runs") {
  constexpr int64_t kHeads = 3, kLen = 70, kDim = 20;
  const Problem problem{.q_heads = kHeads,
                        .kv_heads = kHeads,
                        .q_len = kLen,
                        .kv_len = kLen,
                        .qk_dim = kDim,
                        .v_dim = kDim,
                        .mask = Mask::kCausal};
  std::vector<float> x(kHeads * kLen * kDim);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = std::sin(0.37f * static_cast<float>(i));
  const auto in =
      Contiguous<const void>(x.data(), DType::kF32, 1, kHeads, kLen, kDim);
  for (const Variant* variant : Variants()) {
    if (!variant->inputs.empty()) continue;  // wants more than q, k, v
    CAPTURE(variant->name);
    Problem own = problem;
    if (!variant->traits.causal) own.mask = Mask::kNone;
    const auto plan = MakePlan(*variant, own);
    REQUIRE(plan.ok());
    std::vector<float> first;
    WithEach([&](const char* kind, Exec& exec) {
      CAPTURE(kind);
      const Buffer scratch((*plan)->Memory(exec.slots()).forward_scratch);
      std::vector<float> out(x.size());
      const auto to =
          Contiguous<void>(out.data(), DType::kF32, 1, kHeads, kLen, kDim);
      CHECK(
          (*plan)->Forward({in, in, in}, {to}, {}, scratch.bytes(), exec).ok());
      if (first.empty()) first = out;
      CHECK(out == first);
    });
  }
}

TEST_CASE("a team serves operation after operation, whoever is late") {
  Team team(kThreads);
  constexpr int kOperations = 200;
  std::atomic<int64_t> sum{0};
  const auto run = [&](int i) {
    for (int n = 0; n < kOperations; ++n) {
      if (n % 7 == i) std::this_thread::yield();
      team.Join(i, [&](Exec& exec) {
        CHECK(exec.slots() == kThreads);
        // Some operations are over before the others come.
        if (n % 2 == 0) exec.For(50, [&](int64_t task, int) { sum += task; });
      });
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < kThreads; ++i) threads.emplace_back(run, i);
  run(0);
  for (std::thread& t : threads) t.join();
  CHECK(sum == kOperations / 2 * 1225);
}

TEST_CASE("threads of our own are shared by callers, who take turns") {
  const std::unique_ptr<Exec> exec = MakeThreadExec(kThreads);
  std::atomic<int64_t> sum{0};
  const auto call = [&] {
    for (int i = 0; i < 200; ++i)
      exec->For(20, [&](int64_t task, int) { sum += task; });
  };
  std::thread other(call);
  call();
  other.join();
  CHECK(sum == 2 * 200 * 190);
}

TEST_CASE("loops on threads allocate nothing") {
  const std::unique_ptr<Exec> exec = MakeThreadExec(kThreads);
  const int64_t before = Allocations();
  exec->For(100, [](int64_t, int) {});
  CHECK(Allocations() == before);
}

TEST_CASE("every variant says whether it takes a problem, or why not") {
  Problem problem{.q_len = 8, .kv_len = 8, .qk_dim = 4, .v_dim = 4};
  for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
    problem.mask = mask;
    const std::vector<Explanation> all = Explain(problem);
    REQUIRE(all.size() == Variants().size());
    for (size_t i = 0; i < all.size(); ++i) {
      CAPTURE(all[i].variant->name);
      CHECK(all[i].variant == Variants()[i]);
      const Traits& t = all[i].variant->traits;
      const bool takes = mask == Mask::kNone ? t.bidirectional : t.causal;
      CHECK(all[i].status.ok() == takes);
      if (!takes) CHECK(!all[i].status.message().empty());
    }
  }
}

}  // namespace
}  // namespace saccade
