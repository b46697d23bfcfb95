#include "bench/interrupt.h"

#include <csignal>
#include <utility>

namespace saccade::bench {
namespace {

// A signal handler is given nothing but the signal's number, so what it sets
// must be found from here.
std::atomic<StopFlag*> signal_target{nullptr};
static_assert(std::atomic<StopFlag*>::is_always_lock_free &&
              StopFlag::is_always_lock_free);

void OnSignal(int) {
  if (StopFlag* const stop = signal_target.load()) stop->store(true);
}

}  // namespace

SignalStop::SignalStop(StopFlag* stop) {
  signal_target.store(stop);
  old_int_ = std::signal(SIGINT, OnSignal);
  old_term_ = std::signal(SIGTERM, OnSignal);
}

SignalStop::~SignalStop() {
  std::signal(SIGINT, old_int_);
  std::signal(SIGTERM, old_term_);
  signal_target.store(nullptr);
}

StopWatchdog::StopWatchdog(const StopFlag* stop,
                           std::chrono::milliseconds grace,
                           std::function<void()> expired)
    : thread_([this, stop, grace, expired = std::move(expired)] {
        std::unique_lock lock(mutex_);
        const auto done = [this] { return done_; };
        while (!stop->load())
          if (done_cv_.wait_for(lock, std::chrono::milliseconds(100), done))
            return;
        if (!done_cv_.wait_for(lock, grace, done)) expired();
      }) {}

StopWatchdog::~StopWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  done_cv_.notify_all();
  thread_.join();
}

}  // namespace saccade::bench
