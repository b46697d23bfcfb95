#include "saccade/exec.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>

namespace saccade {
namespace {

class SerialExec final : public Exec {
 public:
  int slots() const override { return 1; }
  void For(int64_t tasks, LoopBody body) override {
    for (int64_t t = 0; t < tasks; ++t) body(t, 0);
  }
};

// One worker a slot, each taking the next task from a shared counter: tasks
// start in order whatever the scheduler does, and the longest go first.
void ForInArena(int64_t tasks, int slots, LoopBody body) {
  std::atomic<int64_t> next{0};
  tbb::parallel_for(
      0, static_cast<int>(std::min<int64_t>(tasks, slots)),
      [&](int slot) {
        for (int64_t t; (t = next.fetch_add(1)) < tasks;) body(t, slot);
      },
      tbb::simple_partitioner());
}

class TbbExec final : public Exec {
 public:
  explicit TbbExec(int threads)
      : arena_(threads > 0 ? threads : tbb::task_arena::automatic) {
    arena_.initialize();
  }

  int slots() const override { return arena_.max_concurrency(); }

  void For(int64_t tasks, LoopBody body) override {
    if (tasks <= 1 || slots() <= 1) return Serial().For(tasks, body);
    arena_.execute([&] { ForInArena(tasks, slots(), body); });
  }

 private:
  tbb::task_arena arena_;
};

class AttachedTbbExec final : public Exec {
 public:
  AttachedTbbExec() : slots_(tbb::this_task_arena::max_concurrency()) {}

  int slots() const override { return slots_; }

  // Isolated: a thread that waits here for others must not begin a task of the
  // caller's, which might come here with the same scratch.
  void For(int64_t tasks, LoopBody body) override {
    if (tasks <= 1 || slots_ <= 1) return Serial().For(tasks, body);
    tbb::this_task_arena::isolate([&] { ForInArena(tasks, slots_, body); });
  }

 private:
  const int slots_;
};

}  // namespace

Exec::~Exec() = default;

Exec& Serial() {
  static SerialExec exec;
  return exec;
}

std::unique_ptr<Exec> MakeTbbExec(int threads) {
  return std::make_unique<TbbExec>(threads);
}

std::unique_ptr<Exec> MakeAttachedTbbExec() {
  return std::make_unique<AttachedTbbExec>();
}

}  // namespace saccade
