#include "record/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <utility>

namespace saccade::record {
namespace {

// Closes a descriptor when it goes.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  bool Close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

Status SystemError(const std::string& path, std::string_view what) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return {full ? Code::kExhausted : Code::kIo,
          fmt::format("{}: {}: {}", path, what, std::strerror(error))};
}

// What a descriptor gives, up to `most` bytes, of which about `expected` come.
Result<std::string> ReadAll(int fd, const std::string& path, int64_t expected,
                            int64_t most, int64_t part) {
  constexpr int64_t kBlock = int64_t{1} << 18;
  const auto block = std::make_unique_for_overwrite<char[]>(kBlock);
  std::string bytes;
  bytes.reserve(static_cast<size_t>(std::min(expected, part)));
  for (;;) {
    const auto have = static_cast<int64_t>(bytes.size());
    const ssize_t got = ::read(fd, block.get(), std::min(kBlock, part - have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path, "cannot be read");
    if (got == 0) return bytes;
    if (have + got > most)
      return IoError(fmt::format("{}: grew beyond {} bytes", path, most));
    bytes.append(block.get(), static_cast<size_t>(got));
  }
}

}  // namespace

Result<std::string> ReadFile(const std::string& path, int64_t most,
                             int64_t part) {
  // A path of one's own may hold a zero byte, where the system's ends.
  if (path.find('\0') != std::string::npos)
    return NotFound("a path with a zero byte in it");
  // Without O_NONBLOCK, opening a pipe waits for its other end.
  const Descriptor file(
      ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat info = {};
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0)
    return Status(errno == ENOENT ? Code::kNotFound : Code::kIo,
                  fmt::format("{}: {}", path, std::strerror(errno)));
  if (S_ISDIR(info.st_mode))
    return IoError(fmt::format("{}: is a folder, not a file", path));
  if (!S_ISREG(info.st_mode))
    return IoError(fmt::format("{}: not a regular file", path));
  if (info.st_size > most)
    return IoError(fmt::format("{}: has {} bytes, more than {} allowed", path,
                               info.st_size, most));
  try {
    return ReadAll(file.get(), path, info.st_size, most, part);
  } catch (const std::bad_alloc&) {
    return Exhausted(
        fmt::format("{}: no memory for its {} bytes", path, info.st_size));
  }
}

Status WriteFile(const std::string& path, std::string_view bytes) {
  const std::string part = path + ".part";
  ::unlink(part.c_str());  // of a run that was killed
  Descriptor file(::open(part.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                         0644));
  if (file.get() < 0) return SystemError(path, "cannot write");
  const auto failed = [&](std::string_view what) {
    const Status status = SystemError(path, what);
    ::unlink(part.c_str());
    return status;
  };
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(file.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote == 0) errno = ENOSPC;
    if (wrote <= 0) return failed("cannot write");
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  if (::fsync(file.get()) != 0) return failed("cannot write");
  if (!file.Close()) return failed("closing failed");
  if (std::rename(part.c_str(), path.c_str()) != 0)
    return failed("cannot replace");
  return {};
}

Status StaysInFolder(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path link(path);
  if (!fs::is_symlink(fs::symlink_status(link, error))) return {};
  const fs::path folder =
      fs::weakly_canonical(fs::absolute(link, error).parent_path(), error);
  const fs::path target = fs::weakly_canonical(link, error);
  const auto [in_folder, in_target] =
      std::mismatch(folder.begin(), folder.end(), target.begin(), target.end());
  // What leads nowhere is said by whoever opens it.
  if (error || in_folder == folder.end()) return {};
  return IoError(
      fmt::format("{}: is a link out of its folder, to {}; name that file "
                  "itself, or copy it here",
                  path, target.string()));
}

}  // namespace saccade::record
