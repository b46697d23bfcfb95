// A child process that is talked to in lines of JSON.
#ifndef SACCADE_BENCH_CHILD_H_
#define SACCADE_BENCH_CHILD_H_

#include <sys/types.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/interrupt.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Ends with this object, and when this process ends its input does.
class ChildProcess {
 public:
  /// argv[0] is a path. kIo.
  static Result<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& argv);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Says a line, unless `question` is null, and waits for a line that is a
  /// JSON object. kIo when the child ended, with its last words, was silent for
  /// `patience` seconds or said something else; kInvalid when `stop` was set.
  /// After either the child is of no more use.
  Result<nlohmann::json> Ask(const nlohmann::json& question, double patience,
                             const StopFlag* stop);

  /// Stops all its threads until it is asked again, so that what they do
  /// between answers (pools look for work in loops) takes no time from others.
  void Pause();

 private:
  ChildProcess() = default;
  bool Say(const std::string& line);
  Status Ended();
  /// The end of what it wrote to its standard error, in one line.
  std::string LastWords() const;

  pid_t pid_ = -1;
  int talk_ = -1;    // our end of its standard input and output
  int errors_ = -1;  // the file that is its standard error
  std::string heard_;
  bool paused_ = false;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CHILD_H_
