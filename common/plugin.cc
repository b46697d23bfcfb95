// Loading plug-ins: first in a child process, where a crash costs nothing.
#include "saccade/plugin.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "registry.h"

namespace saccade {
namespace {

constexpr int kTrialMilliseconds = 10'000;

struct Entry {
  const char* (*version)() = nullptr;
  uint64_t (*layout)() = nullptr;
  void (*variants)(TakeVariant, void*) = nullptr;
};

Status Refused(const std::string& path, const std::string& why) {
  return Invalid("plug-in " + path + ": " + why);
}

template <class F>
bool Look(void* object, const char* symbol, F* function) {
  *function = reinterpret_cast<F>(dlsym(object, symbol));
  return *function != nullptr;
}

// What dlopen says, without the path that stands before it.
std::string WhyNotOpened(const std::string& path) {
  const char* const error = dlerror();
  std::string why = error ? error : "it cannot be opened";
  if (why.starts_with(path + ": ")) why.erase(0, path.size() + 2);
  return why;
}

Status Open(const std::string& path, Entry* entry) {
  void* const object = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (object == nullptr) return Refused(path, WhyNotOpened(path));
  for (const char* symbol : {"saccade_plugin_version", "saccade_plugin_layout",
                             "saccade_plugin_variants"})
    if (dlsym(object, symbol) == nullptr)
      return Refused(path, "it has no symbol " + std::string(symbol) +
                               ": is it one (SACCADE_PLUGIN)?");
  Look(object, "saccade_plugin_version", &entry->version);
  Look(object, "saccade_plugin_layout", &entry->layout);
  Look(object, "saccade_plugin_variants", &entry->variants);
  const std::string version = entry->version();
  if (version != SACCADE_VERSION_TEXT || entry->layout() != PluginLayout())
    return Refused(path, "it was built against Saccade " + version +
                             (version == SACCADE_VERSION_TEXT
                                  ? std::string(" with another compiler")
                                  : ", this is " SACCADE_VERSION_TEXT) +
                             ": build it again");
  return {};
}

bool IsName(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  const size_t dot = name.find('.');
  return dot != std::string_view::npos && dot > 0 && dot + 1 < name.size() &&
         std::count(name.begin(), name.end(), '.') == 1 &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return c == '.' || plain(c); });
}

// A small problem that a variant should take.
Problem Small(const Variant& v) {
  return {.q_len = 4,
          .kv_len = 4,
          .qk_dim = 4,
          .v_dim = 4,
          .mask = v.traits.causal ? Mask::kCausal : Mask::kNone};
}

Status CheckVariant(const std::string& path, const Variant* v) {
  if (v == nullptr) return Refused(path, "a variant is null");
  const std::string name(v->name);
  if (!IsName(name))
    return Refused(path, "'" + name +
                             "' is no name of a variant: family.method, of "
                             "a-z, 0-9 and _");
  if (Find(name) != nullptr)
    return Refused(path, "there is a variant '" + name + "' already");
  if (v->title.empty() || v->source.empty())
    return Refused(path, name + " has no title or no source");
  if (!v->cost || !v->plan || !v->oracle)
    return Refused(path, name + " lacks one of cost, plan and oracle");
  if (!(v->kappa > 0)) return Refused(path, name + " has no error budget");
  if (v->inputs.size() > static_cast<size_t>(kMaxExtras))
    return Refused(path, name + " wants too many inputs");
  const auto plan = MakePlan(*v, Small(*v));
  if (!plan.ok())
    return Refused(
        path, name + " refuses a plain problem: " + plan.status().message());
  return {};
}

Status Collect(const std::string& path, const Entry& entry,
               std::vector<const Variant*>* found) {
  entry.variants(
      [](void* to, const Variant* v) {
        static_cast<std::vector<const Variant*>*>(to)->push_back(v);
      },
      found);
  if (found->empty()) return Refused(path, "it brings no variant");
  for (const Variant* v : *found)
    if (Status status = CheckVariant(path, v); !status.ok()) return status;
  return {};
}

Status OpenAndCollect(const std::string& path,
                      std::vector<const Variant*>* found) {
  Entry entry;
  if (Status status = Open(path, &entry); !status.ok()) return status;
  return Collect(path, entry, found);
}

// All that the child writes, or what it had written when time was up.
std::string ReadAll(int fd, bool* timely) {
  std::string text;
  std::array<char, 512> piece;
  for (;;) {
    pollfd ready{fd, POLLIN, 0};
    *timely = poll(&ready, 1, kTrialMilliseconds) > 0;
    if (!*timely) return text;
    const ssize_t n = read(fd, piece.data(), piece.size());
    if (n <= 0) return text;
    text.append(piece.data(), static_cast<size_t>(n));
  }
}

// Does all of it in a child process, and throws that away.
Status Try(const std::string& path) {
  int ends[2];
  if (pipe(ends) != 0) return IoError("plug-in " + path + ": no pipe");
  const pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return IoError("plug-in " + path + ": no process to try it in");
  }
  if (child == 0) {
    close(ends[0]);
    // A crash is expected here, and reported by who waits.
    for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL})
      ::signal(signal, SIG_DFL);
    std::vector<const Variant*> found;
    const std::string why = OpenAndCollect(path, &found).message();
    const bool told = write(ends[1], why.data(), why.size()) ==
                      static_cast<ssize_t>(why.size());
    _exit(told ? 0 : 1);
  }
  close(ends[1]);
  bool timely = true;
  const std::string why = ReadAll(ends[0], &timely);
  close(ends[0]);
  if (!timely) kill(child, SIGKILL);
  int how = 0;
  while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  if (!timely) return Refused(path, "it did not answer within ten seconds");
  if (WIFSIGNALED(how))
    return Refused(path, std::string("it crashed when it was tried (") +
                             strsignal(WTERMSIG(how)) + ")");
  if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
    return Refused(path, "it ended the process that tried it");
  return why.empty() ? Status() : Invalid(why);
}

}  // namespace

Status LoadPlugin(const std::string& path) {
  // dlopen takes a name without a slash for one of the system's libraries.
  const std::string file =
      path.find('/') == std::string::npos ? "./" + path : path;
  if (access(file.c_str(), R_OK) != 0)
    return NotFound("plug-in " + path + ": " + std::strerror(errno));
  if (Status status = Try(file); !status.ok()) return status;
  std::vector<const Variant*> found;
  if (Status status = OpenAndCollect(file, &found); !status.ok()) return status;
  for (const Variant* v : found)
    if (Status status = Register(v); !status.ok()) return status;
  return {};
}

}  // namespace saccade
