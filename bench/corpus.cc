#include "bench/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "record/file.h"

namespace saccade::bench {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 30;
constexpr int64_t kStart = int64_t{1} << 16;

Status CheckText(const std::string& path, const std::string& text) {
  if (text.empty()) return Invalid(fmt::format("corpus {}: is empty", path));
  if (const size_t at = text.find('\0'); at != std::string::npos) {
    return Invalid(
        fmt::format("corpus {}: is not text: byte {} is zero", path, at));
  }
  const auto control = [](unsigned char c) {
    return c == 127 || (c < 32 && !(c >= '\b' && c <= '\r'));
  };
  const size_t controls =
      static_cast<size_t>(std::count_if(text.begin(), text.end(), control));
  if (controls * 100 > text.size()) {
    return Invalid(
        fmt::format("corpus {}: is not text: {} of its {} bytes are control "
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
    // What is no text is mostly none from the start: a gigabyte of it is not
    // worth reading.
    const Result<std::string> start = record::ReadFile(path, kMaxFile, kStart);
    if (start.ok() && !start->empty())
      if (Status status = CheckText(path, *start); !status.ok()) return status;
    Result<std::string> text = record::ReadFile(path, kMaxFile);
    if (!text.ok())
      return Status(text.status().code(), "corpus " + text.status().message());
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
        fmt::format("corpus {}: is too small: {} bytes to train on and {} to "
                    "test on, at least {} and {} are needed",
                    files.back(), corpus.train.size(), corpus.test.size(),
                    kMinTrain, kMinTest));
  }
  return corpus;
}

}  // namespace saccade::bench
