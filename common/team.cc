// Threads that serve one another's loops: the caller's own, or ours.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "saccade/exec.h"

namespace saccade {

// Thread 0 leads: it opens a loop, works on it, closes it, and waits for those
// who are inside. The others wait for an open loop. `phase` counts up: odd
// while a loop is open, even while none is. A thread that wants in counts
// itself first and looks at the phase again afterwards, so that the leader, who
// closes first and looks at the count afterwards, never misses it.
class Crew final : public Exec {
 public:
  explicit Crew(int threads)
      : slots_(std::max(threads, 1)), served_(static_cast<size_t>(slots_)) {}

  int slots() const override { return slots_; }

  void For(int64_t tasks, LoopBody body) override {
    if (tasks <= 1 || slots_ == 1) {
      for (int64_t t = 0; t < tasks; ++t) body(t, 0);
      return;
    }
    body_ = &body;
    tasks_ = tasks;
    next_.store(0);
    phase_.fetch_add(1);
    phase_.notify_all();
    Work(0);
    phase_.fetch_add(1);
    // They are in their last tasks: this wait is short, or as long as a task.
    for (int n, spins = 0; (n = inside_.load()) != 0; ++spins)
      if (spins > kSpins) inside_.wait(n);
  }

  // Serves loops until the leader has ended more operations than this slot has
  // served: who comes when its operation is over returns at once.
  void Serve(int slot) {
    uint32_t& served = served_[static_cast<size_t>(slot)].count;
    while (ends_.load() == served) {
      const uint32_t phase = phase_.load();
      if (phase % 2 == 1) {
        inside_.fetch_add(1);
        if (phase_.load() == phase) Work(slot);
        if (inside_.fetch_sub(1) == 1) inside_.notify_all();
      }
      Await(phase, served);
    }
    ++served;
  }

  // Ends an operation. Waiters look at the phase: changed by two, it stays
  // even.
  void End() {
    ends_.fetch_add(1);
    phase_.fetch_add(2);
    phase_.notify_all();
  }

 private:
  // A loop usually follows the last one soon.
  static constexpr int kSpins = 2000;

  // Until the phase has changed, as it does when an operation ends.
  void Await(uint32_t phase, uint32_t served) {
    for (int i = 0; i < kSpins; ++i)
      if (phase_.load() != phase || ends_.load() != served) return;
    phase_.wait(phase);
  }
  void Work(int slot) {
    for (int64_t t; (t = next_.fetch_add(1)) < tasks_;) (*body_)(t, slot);
  }

  // Each of its own slot's thread, on a cache line of its own.
  struct alignas(64) Served {
    uint32_t count = 0;
  };

  const int slots_;
  std::vector<Served> served_;
  const LoopBody* body_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<uint32_t> phase_{0}, ends_{0};
  std::atomic<int> inside_{0};
};

namespace {

// Threads of our own that serve until the end, which is one operation long.
class ThreadExec final : public Exec {
 public:
  explicit ThreadExec(int threads) : crew_(threads) {
    for (int slot = 1; slot < crew_.slots(); ++slot)
      threads_.emplace_back([this, slot] { crew_.Serve(slot); });
  }
  ~ThreadExec() override {
    crew_.End();
    for (std::thread& t : threads_) t.join();
  }

  int slots() const override { return crew_.slots(); }
  void For(int64_t tasks, LoopBody body) override {
    const std::lock_guard<std::mutex> turn(turn_);
    crew_.For(tasks, body);
  }

 private:
  Crew crew_;
  std::mutex turn_;
  std::vector<std::thread> threads_;
};

}  // namespace

Team::Team(int threads) : crew_(std::make_unique<Crew>(threads)) {}
Team::~Team() = default;
int Team::size() const { return crew_->slots(); }
Exec& Team::Begin() { return *crew_; }
void Team::End() { crew_->End(); }
void Team::Serve(int i) { crew_->Serve(i); }

std::unique_ptr<Exec> MakeThreadExec(int threads) {
  if (threads <= 0)
    threads = static_cast<int>(std::thread::hardware_concurrency());
  return std::make_unique<ThreadExec>(threads);
}

}  // namespace saccade
