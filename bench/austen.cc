// The default text: fetched as a Debian package, read without R.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <vector>

#include "bench/corpus.h"
#include "bench/rdata.h"
#include "record/file.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

constexpr char kPackage[] = "r-cran-janeaustenr";
constexpr char kData[] = "usr/lib/R/site-library/janeaustenr/data";
constexpr char kInstead[] = "; --corpus FILE trains on any text instead";

// Runs a program, found on PATH, in a folder; its messages go to `log`.
// Returns its exit status, or -1.
int Run(const std::vector<std::string>& words, const fs::path& folder,
        const fs::path& log) {
  std::vector<char*> argv;
  for (const std::string& w : words) {
    argv.push_back(const_cast<char*>(w.c_str()));
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions) != 0) return -1;
  // The order counts: `log` may be a path relative to the caller's folder.
  int failed =
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  failed |= posix_spawn_file_actions_addopen(
      &actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  failed |= posix_spawn_file_actions_adddup2(&actions, 1, 2);
  failed |= posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  pid_t child = 0;
  failed |= failed ? failed
                   : posix_spawnp(&child, argv[0], &actions, nullptr,
                                  argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

constexpr int64_t kMaxFile = int64_t{1} << 26;  // twenty times what it has

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The last line of a program's messages: where apt says what went wrong.
std::string LastLine(const fs::path& log) {
  std::ifstream file(log);
  std::string line, last = "no message";
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

// Downloads and unpacks in a folder of its own, then moves the data into
// place, so that a killed run leaves no half of them.
Status Fetch(const fs::path& cache, const fs::path& place) {
  std::error_code error;
  fs::create_directories(cache, error);
  std::string work = (cache / "fetch-XXXXXX").string();
  if (error || mkdtemp(work.data()) == nullptr) {
    return IoError(fmt::format("cannot write to the cache folder '{}'{}",
                               cache.string(), kInstead));
  }
  const fs::path folder = work, log = folder / "log";
  Status status;
  // Words to apt: give up soon where there is no network.
  if (Run({"apt-get", "-o", "Acquire::Retries=1", "-o",
           "Acquire::http::Timeout=20", "download", kPackage},
          folder, log) != 0) {
    status =
        IoError(fmt::format("cannot download the package {} (apt-get: {}){}",
                            kPackage, LastLine(log), kInstead));
  } else {
    std::string package;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".deb") package = entry.path().filename();
    }
    if (Run({"dpkg-deb", "-x", package, "unpacked"}, folder, log) != 0) {
      status = IoError(fmt::format("cannot unpack '{}' (dpkg-deb: {}){}",
                                   package, LastLine(log), kInstead));
    } else {
      fs::rename(folder / "unpacked" / kData, place, error);
      // Another run may have put it there first.
      if (error && !fs::exists(place / "Rdata.rdb")) {
        status = IoError(
            fmt::format("the package {} holds no data{}", kPackage, kInstead));
      }
    }
  }
  fs::remove_all(folder, error);
  return status;
}

}  // namespace

std::string DefaultCache() {
  if (const char* x = std::getenv("XDG_CACHE_HOME"); x && *x == '/') {
    return std::string(x) + "/saccade";
  }
  if (const char* home = std::getenv("HOME"); home && *home == '/') {
    return std::string(home) + "/.cache/saccade";
  }
  return ".saccade-cache";
}

Result<Corpus> ReadAusten(const std::string& cache) {
  fs::path place = fs::path("/") / kData;
  std::error_code error;
  if (!fs::exists(place / "Rdata.rdb", error)) {
    place = fs::path(cache) / "janeaustenr";
  }
  if (!fs::exists(place / "Rdata.rdb", error)) {
    if (Status status = Fetch(cache, place); !status.ok()) return status;
  }
  const Result<std::string> index =
      record::ReadFile(place / "Rdata.rdx", kMaxFile);
  if (!index.ok()) return index.status();
  const Result<std::string> data =
      record::ReadFile(place / "Rdata.rdb", kMaxFile);
  if (!data.ok()) return data.status();
  const Result<std::vector<RText>> novels =
      ReadLazyLoad(BytesOf(*index), BytesOf(*data));
  if (!novels.ok()) {
    return IoError(fmt::format("'{}': {}; remove that folder to fetch it anew",
                               place.string(), novels.status().message()));
  }
  Corpus corpus;
  corpus.name = "Jane Austen, six novels";
  for (const RText& novel : *novels) {
    std::string& part = novel.name == "persuasion" ? corpus.test : corpus.train;
    for (const std::string& line : novel.lines) part.append(line) += '\n';
  }
  if (corpus.train.size() < kMinTrain || corpus.test.size() < kMinTest) {
    return IoError(
        fmt::format("'{}' does not hold the six novels", place.string()));
  }
  return corpus;
}

}  // namespace saccade::bench
