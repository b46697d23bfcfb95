// A file is: "SACCADE1", the owner, the numbers, and a sum of all that (64 bits
// FNV-1a); each list behind its length. Bytes are in the machine's own order:
// a run never goes on on another machine.
#include "bench/learn/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "bench/learn/random.h"

namespace saccade::bench {
namespace {

constexpr std::string_view kMagic = "SACCADE1";

class Packer {
 public:
  Packer() : bytes_(kMagic) {}

  template <class T>
  void Put(std::span<const T> items) {
    const auto count = static_cast<uint64_t>(items.size());
    bytes_.append(reinterpret_cast<const char*>(&count), sizeof count);
    bytes_.append(reinterpret_cast<const char*>(items.data()),
                  items.size_bytes());
  }
  std::string Sealed() && {
    const uint64_t sum = Hash(bytes_);
    bytes_.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Every length is held against what is left, so that no file can ask for more
// memory than it has bytes.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {
    uint64_t sum = 0;
    ok_ =
        bytes.size() >= kMagic.size() + sizeof sum && bytes.starts_with(kMagic);
    if (!ok_) return;
    left_.remove_suffix(sizeof sum);
    std::memcpy(&sum, bytes.data() + left_.size(), sizeof sum);
    ok_ = Hash(left_) == sum;
    left_.remove_prefix(kMagic.size());
  }

  template <class List>
  void Take(List* list) {
    using T = typename List::value_type;
    uint64_t count = 0;
    ok_ = ok_ && left_.size() >= sizeof count;
    if (!ok_) return;
    std::memcpy(&count, left_.data(), sizeof count);
    left_.remove_prefix(sizeof count);
    ok_ = count <= left_.size() / sizeof(T);
    if (!ok_) return;
    list->resize(count);
    std::memcpy(list->data(), left_.data(), count * sizeof(T));
    left_.remove_prefix(count * sizeof(T));
  }
  bool whole() const { return ok_ && left_.empty(); }

 private:
  std::string_view left_;
  bool ok_ = false;
};

Status SystemError(const std::string& path, std::string_view what) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  return {full ? Code::kExhausted : Code::kIo,
          fmt::format("{}: {}: {}", path, what, std::strerror(errno))};
}

// The bytes are on the disk before this returns.
Status WriteFile(const std::string& path, std::string_view bytes) {
  const int fd =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(path, "cannot open for writing");
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  const bool whole = bytes.empty() && ::fsync(fd) == 0;
  Status status = whole ? Status() : SystemError(path, "cannot write");
  if (::close(fd) != 0 && status.ok())
    status = SystemError(path, "closing failed");
  return status;
}

}  // namespace

Status WriteCheckpoint(const std::string& path, std::string_view owner,
                       const TrainState& state) {
  Packer packer;
  packer.Put(std::span(owner));
  packer.Put(std::span<const double>(state.loss));
  packer.Put(std::span<const double>(&state.seconds, 1));
  packer.Put(std::span<const int64_t>(&state.moments.step, 1));
  for (const auto* floats :
       {&state.values, &state.moments.first, &state.moments.second})
    packer.Put(std::span<const float>(*floats));
  const std::string fresh = path + ".new";
  Status status = WriteFile(fresh, std::move(packer).Sealed());
  if (status.ok() && std::rename(fresh.c_str(), path.c_str()) != 0)
    status = SystemError(path, "cannot replace");
  if (!status.ok()) ::unlink(fresh.c_str());
  return status;
}

Result<TrainState> ReadCheckpoint(const std::string& path,
                                  std::string_view owner, int64_t parameters) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return NotFound(fmt::format("{}: there is none", path));
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in) return IoError(fmt::format("{}: cannot be read", path));
  Unpacker unpacker(bytes);
  TrainState state;
  std::string of;
  std::vector<double> seconds;
  std::vector<int64_t> step;
  unpacker.Take(&of);
  unpacker.Take(&state.loss);
  unpacker.Take(&seconds);
  unpacker.Take(&step);
  for (auto* floats :
       {&state.values, &state.moments.first, &state.moments.second})
    unpacker.Take(floats);
  if (!unpacker.whole() || seconds.size() != 1 || step.size() != 1)
    return Invalid(fmt::format("{}: not a whole checkpoint", path));
  if (of != owner)
    return Invalid(fmt::format("{}: of another training: {}", path, of));
  const auto count = static_cast<size_t>(parameters);
  state.seconds = seconds[0];
  state.moments.step = step[0];
  if (step[0] != state.step() || state.values.size() != count ||
      state.moments.first.size() != count ||
      state.moments.second.size() != count)
    return Invalid(fmt::format("{}: of another model", path));
  return state;
}

}  // namespace saccade::bench
