// Ctrl-C as a flag that loops look at.
#ifndef SACCADE_BENCH_INTERRUPT_H_
#define SACCADE_BENCH_INTERRUPT_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace saccade::bench {

/// Set once, by a signal or a caller; read between pieces of work.
using StopFlag = std::atomic<bool>;

/// While it lives, SIGINT and SIGTERM set `stop` instead of ending the
/// process. Signals belong to the process: at most one may live at a time.
class SignalStop {
 public:
  explicit SignalStop(StopFlag* stop);
  ~SignalStop();
  SignalStop(const SignalStop&) = delete;
  SignalStop& operator=(const SignalStop&) = delete;

 private:
  void (*old_int_)(int);
  void (*old_term_)(int);
};

/// Calls `expired`, on a thread of its own, when `grace` has passed since
/// `stop` was set and the object still lives: a piece of work that is too long
/// to wait for must not keep the user.
class StopWatchdog {
 public:
  StopWatchdog(const StopFlag* stop, std::chrono::milliseconds grace,
               std::function<void()> expired);
  ~StopWatchdog();

 private:
  std::mutex mutex_;
  std::condition_variable done_cv_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_INTERRUPT_H_
