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

class TbbExec final : public Exec {
 public:
  explicit TbbExec(int threads)
      : arena_(threads > 0 ? threads : tbb::task_arena::automatic) {
    arena_.initialize();
  }

  int slots() const override { return arena_.max_concurrency(); }

  // One worker a slot, each taking the next task from a shared counter: tasks
  // start in order whatever the scheduler does, and the longest go first.
  void For(int64_t tasks, LoopBody body) override {
    const int workers =
        static_cast<int>(std::min<int64_t>(tasks, arena_.max_concurrency()));
    if (workers <= 1) {
      for (int64_t t = 0; t < tasks; ++t) body(t, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    arena_.execute([&] {
      tbb::parallel_for(
          0, workers,
          [&](int slot) {
            for (int64_t t; (t = next.fetch_add(1)) < tasks;) body(t, slot);
          },
          tbb::simple_partitioner());
    });
  }

 private:
  tbb::task_arena arena_;
};

}  // namespace

Exec& Serial() {
  static SerialExec exec;
  return exec;
}

std::unique_ptr<Exec> MakeTbbExec(int threads) {
  return std::make_unique<TbbExec>(threads);
}

}  // namespace saccade
