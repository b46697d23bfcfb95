// Where the work runs: a parallel loop over independent tasks.
#ifndef SACCADE_EXEC_H_
#define SACCADE_EXEC_H_

#include <cstdint>
#include <memory>
#include <type_traits>

namespace saccade {

/// A reference to a callable that outlives the call. Allocates nothing.
class LoopBody {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, LoopBody>)
      LoopBody(F&& f)  // NOLINT: implicit on purpose, for lambdas
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, int64_t task, int slot) {
          (*static_cast<std::remove_reference_t<F>*>(o))(task, slot);
        }) {}
  void operator()(int64_t task, int slot) const { call_(object_, task, slot); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int);
};

/// Runs loops. Bodies must not run loops themselves.
///
/// Results never depend on the Exec: tasks are cut by the problem alone, and
/// the slot serves only to choose scratch memory.
class Exec {
 public:
  virtual ~Exec() = default;

  /// At most this many bodies run at once; slots are 0 .. slots() - 1.
  virtual int slots() const = 0;

  /// Calls body(task, slot) once for each task in 0 .. tasks - 1, starting
  /// them in that order, and returns when all are done. No two bodies that run
  /// at the same time have the same slot.
  virtual void For(int64_t tasks, LoopBody body) = 0;
};

/// Runs everything on the calling thread. Starts and allocates nothing.
Exec& Serial();

/// A oneTBB arena of that many threads; 0 means as many as the machine has.
/// May be shared by threads.
std::unique_ptr<Exec> MakeTbbExec(int threads);

}  // namespace saccade

#endif  // SACCADE_EXEC_H_
