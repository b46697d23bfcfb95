#include "bench/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

namespace saccade::bench {
namespace {

constexpr size_t kMaxFile = size_t{1} << 30;

Result<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return IoError(fmt::format("corpus '{}' is a folder, not a file", path));
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) {
    const int why = errno;
    const std::string text =
        fmt::format("corpus '{}': {}", path, std::strerror(why));
    return why == ENOENT ? NotFound(text) : IoError(text);
  }
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (const size_t n =
             std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    text.append(buffer.data(), n);
    if (text.size() > kMaxFile) {
      return IoError(fmt::format("corpus '{}' is larger than 1 GiB", path));
    }
  }
  if (std::ferror(file.get())) {
    return IoError(fmt::format("corpus '{}' cannot be read", path));
  }
  return text;
}

Status CheckText(const std::string& path, const std::string& text) {
  if (text.empty()) return Invalid(fmt::format("corpus '{}' is empty", path));
  if (const size_t at = text.find('\0'); at != std::string::npos) {
    return Invalid(
        fmt::format("corpus '{}' is not text: byte {} is zero", path, at));
  }
  const auto control = [](unsigned char c) {
    return c == 127 || (c < 32 && !(c >= '\b' && c <= '\r'));
  };
  const size_t controls =
      static_cast<size_t>(std::count_if(text.begin(), text.end(), control));
  if (controls * 100 > text.size()) {
    return Invalid(
        fmt::format("corpus '{}' is not text: {} of its {} bytes are control "
                    "characters",
                    path, controls, text.size()));
  }
  return {};
}

}  // namespace

Result<Corpus> ReadCorpus(std::span<const std::string> files) {
  if (files.empty()) return Invalid("a corpus needs at least one file");
  Corpus corpus;
  for (const std::string& path : files) {
    Result<std::string> text = ReadFile(path);
    if (!text.ok()) return text.status();
    if (Status status = CheckText(path, *text); !status.ok()) return status;
    const std::string base = std::filesystem::path(path).filename().string();
    corpus.name += corpus.name.empty() ? base : ", " + base;
    if (files.size() == 1) {
      const size_t split = text->size() - text->size() / 10;
      corpus.test = text->substr(split);
      corpus.train = std::move(*text);
      corpus.train.resize(split);
    } else if (&path == &files.back()) {
      corpus.test = std::move(*text);
    } else {
      corpus.train += *text;
    }
  }
  if (corpus.train.size() < kMinTrain || corpus.test.size() < kMinTest) {
    return Invalid(
        fmt::format("corpus '{}' is too small: {} bytes to train on and {} to "
                    "test on, at least {} and {} are needed",
                    files.back(), corpus.train.size(), corpus.test.size(),
                    kMinTrain, kMinTest));
  }
  return corpus;
}

}  // namespace saccade::bench
