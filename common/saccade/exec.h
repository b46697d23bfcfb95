// Where the work runs: a parallel loop over independent tasks.
#ifndef SACCADE_EXEC_H_
#define SACCADE_EXEC_H_

#include <cstdint>
#include <memory>
#include <type_traits>

#include "saccade/export.h"

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
class SACCADE_API Exec {
 public:
  virtual ~Exec();

  /// At most this many bodies run at once; slots are 0 .. slots() - 1.
  virtual int slots() const = 0;

  /// Calls body(task, slot) once for each task in 0 .. tasks - 1, starting
  /// them in that order, and returns when all are done. No two bodies that run
  /// at the same time have the same slot.
  virtual void For(int64_t tasks, LoopBody body) = 0;
};

/// Runs everything on the calling thread. Starts and allocates nothing.
SACCADE_API Exec& Serial();

/// A oneTBB arena of that many threads; 0 means as many as the machine has.
/// May be shared by threads.
SACCADE_API std::unique_ptr<Exec> MakeTbbExec(int threads);

/// The oneTBB arena that the caller is in, for programs that keep one. Has as
/// many slots as that arena now lets threads in; starts none of its own. May be
/// shared by threads.
SACCADE_API std::unique_ptr<Exec> MakeAttachedTbbExec();

/// That many threads, the caller's among them, without oneTBB: the others are
/// started here, wait for loops, and end with the Exec. 0 means as many as the
/// machine has. May be shared by threads, whose loops then take turns.
SACCADE_API std::unique_ptr<Exec> MakeThreadExec(int threads);

class Crew;

/// For programs with threads of their own that all enter an operation together,
/// each as slice i of n. Starts no thread: thread 0 does the work, the others
/// serve its loops.
///
///   saccade::Team team(n);  // made once
///   // on each of the n threads:
///   team.Join(i, [&](saccade::Exec& exec) {
///     status = plan->Forward(in, {out}, {}, scratch, exec);
///   });
class SACCADE_API Team {
 public:
  /// For n >= 1 threads.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const;

  /// Called by all threads, each with its own i in 0 .. size() - 1. Thread 0
  /// runs `work` and all return when it has returned and its loops are done;
  /// the others' `work` is not called.
  template <class F>
  void Join(int i, F&& work) {
    if (i > 0) return Serve(i);
    work(Begin());
    End();
  }

 private:
  Exec& Begin();
  void End();
  void Serve(int i);

  std::unique_ptr<Crew> crew_;
};

}  // namespace saccade

#endif  // SACCADE_EXEC_H_
