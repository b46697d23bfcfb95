#include "bench/child.h"

#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "record/json.h"

extern char** environ;

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr size_t kMostHeard = 65536;  // bytes of one line
constexpr size_t kMostWords = 300;    // bytes of last words

Status Failed(std::string_view what, int error) {
  return IoError(fmt::format("cannot {}: {}", what,
                             std::generic_category().message(error)));
}

// Fit for a message of one line.
std::string OneLine(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.pop_back();
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return text;
}

}  // namespace

Result<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& argv) {
  std::unique_ptr<ChildProcess> child(new ChildProcess);
  int ends[2];
  // Sockets and not pipes: a write to a child that is gone must fail, not
  // raise a signal.
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return Failed("make a socket", errno);
  child->talk_ = ends[0];
  child->errors_ = memfd_create("saccade-child-errors", MFD_CLOEXEC);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  if (child->errors_ >= 0)
    posix_spawn_file_actions_adddup2(&actions, child->errors_, STDERR_FILENO);
  std::vector<std::string> copy = argv;
  std::vector<char*> pointers;
  for (std::string& a : copy) pointers.push_back(a.data());
  pointers.push_back(nullptr);
  const int error = posix_spawn(&child->pid_, argv[0].c_str(), &actions,
                                nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error == 0) return child;
  child->pid_ = -1;
  return Failed("run " + argv[0], error);
}

ChildProcess::~ChildProcess() {
  if (talk_ >= 0) close(talk_);
  if (errors_ >= 0) close(errors_);
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool ChildProcess::Say(const std::string& line) {
  for (size_t at = 0; at < line.size();) {
    const ssize_t n =
        send(talk_, line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

Result<json> ChildProcess::Ask(const json& question, double patience,
                               const StopFlag* stop) {
  if (pid_ <= 0) return IoError("the child process has ended");
  if (std::exchange(paused_, false)) kill(pid_, SIGCONT);
  // One that has ended may have said why before: that is heard below.
  if (!question.is_null()) (void)Say(record::Dump(question) + "\n");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration<double>(patience);
  size_t newline;
  while ((newline = heard_.find('\n')) == std::string::npos) {
    if (stop && stop->load()) return Invalid("stopped");
    if (std::chrono::steady_clock::now() > end)
      return IoError(
          fmt::format("it did not answer within {:.3g} s", patience));
    pollfd ready{talk_, POLLIN, 0};
    if (poll(&ready, 1, 50) <= 0) continue;
    char buffer[4096];
    const ssize_t n = read(talk_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Ended();
    heard_.append(buffer, static_cast<size_t>(n));
    if (heard_.size() > kMostHeard) return IoError("it said far too much");
  }
  const std::string line = heard_.substr(0, newline);
  heard_.erase(0, newline + 1);
  json answer = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (answer.is_object()) return answer;
  return IoError(fmt::format("it said what is no answer: '{}'",
                             OneLine(line.substr(0, kMostWords))));
}

void ChildProcess::Pause() {
  if (pid_ > 0) paused_ = kill(pid_, SIGSTOP) == 0;
}

Status ChildProcess::Ended() {
  int how = 0;
  pid_t ended = 0;
  // It closed its end; it may have to be helped to the rest.
  for (int i = 0; i < 100 && ended == 0; ++i) {
    ended = waitpid(pid_, &how, WNOHANG);
    if (ended == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::string what = "it closed its output";
  if (ended == pid_) {
    pid_ = -1;
    what = WIFSIGNALED(how)
               ? fmt::format("signal {} ended it: {}", WTERMSIG(how),
                             strsignal(WTERMSIG(how)))
               : fmt::format("it ended with code {}", WEXITSTATUS(how));
  }
  const std::string words = LastWords();
  return IoError(words.empty() ? what : what + "; its last words: " + words);
}

std::string ChildProcess::LastWords() const {
  const off_t size = errors_ < 0 ? 0 : lseek(errors_, 0, SEEK_END);
  if (size <= 0) return {};
  std::string text(std::min(kMostWords, static_cast<size_t>(size)), '\0');
  const ssize_t n = pread(errors_, text.data(), text.size(),
                          size - static_cast<off_t>(text.size()));
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  text = OneLine(std::move(text));
  // The end of a message says most; what is cut off before it may begin
  // within a character.
  size_t begin = 0;
  while (begin < text.size() && (text[begin] & 0xC0) == 0x80) ++begin;
  return text.substr(begin);
}

}  // namespace saccade::bench
