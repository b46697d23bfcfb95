// What the fuzzers share: inputs as texts and as files.
#ifndef SACCADE_TESTS_FUZZ_INPUT_H_
#define SACCADE_TESTS_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "saccade/status.h"

namespace saccade::fuzz {

inline std::string_view TextOf(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A finding unless the condition holds.
inline void Require(bool condition) {
  if (!condition) std::abort();
}

/// Errors say something. They may quote what was given, byte for byte: bench's
/// Say cleans what it shows.
inline void RequireClear(const Status& status) {
  Require(status.ok() || !status.message().empty());
}

/// A file in a folder of its own, in memory where the system has that; the
/// folder goes with the process.
class InputFile {
 public:
  explicit InputFile(const char* name) {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::path base = fs::is_directory("/dev/shm", error)
                              ? fs::path("/dev/shm")
                              : fs::temp_directory_path();
    std::string folder = (base / "saccade-fuzz-XXXXXX").string();
    Require(mkdtemp(folder.data()) != nullptr);
    folder_ = folder;
    path_ = folder_ / name;
  }
  ~InputFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// The path of the file, which now holds these bytes.
  std::string Write(std::string_view bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
    return path_.string();
  }

 private:
  std::filesystem::path folder_, path_;
};

}  // namespace saccade::fuzz

#endif  // SACCADE_TESTS_FUZZ_INPUT_H_
