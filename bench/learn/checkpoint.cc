// A file is: "SACCADE1", the owner, the numbers, and a sum of all that (64 bits
// FNV-1a); each list behind its length. Bytes are in the machine's own order:
// a run never goes on on another machine.
#include "bench/learn/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "bench/learn/random.h"
#include "record/file.h"

namespace saccade::bench {
namespace {

constexpr std::string_view kMagic = "SACCADE1";
constexpr int64_t kMaxFile = int64_t{1} << 36;

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
  return record::WriteFile(path, std::move(packer).Sealed());
}

Result<TrainState> ReadCheckpoint(const std::string& path,
                                  std::string_view owner, int64_t parameters) {
  const Status own = record::StaysInFolder(path);
  if (!own.ok()) return own;
  const Result<std::string> bytes = record::ReadFile(path, kMaxFile);
  if (!bytes.ok()) return bytes.status();
  Unpacker unpacker(*bytes);
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
