// The program as a process of its own, to be killed and interrupted.
#ifndef SACCADE_TESTS_PROCESS_H_
#define SACCADE_TESTS_PROCESS_H_

#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace saccade {

/// With its output thrown away. Killed at the end of the object's life.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), SACCADE_PROGRAM);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    for (const int fd : {1, 2})
      posix_spawn_file_actions_addopen(&quiet, fd, "/dev/null", O_WRONLY, 0);
    REQUIRE(posix_spawn(&pid_, SACCADE_PROGRAM, &quiet, nullptr, argv.data(),
                        environ) == 0);
    posix_spawn_file_actions_destroy(&quiet);
  }
  ~Process() {
    if (!ended_) Kill();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool Running() {
    ended_ = ended_ || waitpid(pid_, &how_, WNOHANG) == pid_;
    return !ended_;
  }
  void Signal(int signal) {
    if (Running()) kill(pid_, signal);
  }
  void Kill() {
    Signal(SIGKILL);
    Wait();
  }
  /// Its exit code; -1 when a signal ended it.
  int Wait() {
    if (!ended_) waitpid(pid_, &how_, 0);
    ended_ = true;
    return WIFEXITED(how_) ? WEXITSTATUS(how_) : -1;
  }

 private:
  pid_t pid_ = -1;
  int how_ = 0;
  bool ended_ = false;
};

/// Whole lines of a file; 0 when there is none.
inline int64_t LinesOf(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

}  // namespace saccade

#endif  // SACCADE_TESTS_PROCESS_H_
