#include "bench/learn/parameters.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/learn/random.h"

namespace saccade::bench {

int64_t Parameters::Add(std::string name, int64_t rows, int64_t cols,
                        float mean, float sd) {
  tensors_.push_back({std::move(name), rows, cols, mean, sd, count_});
  count_ += rows * cols;
  values_.resize(count_);
  gradients_.resize(count_);
  return tensors_.back().at;
}

int64_t Parameters::Add(std::string name, std::vector<float> start) {
  const int64_t at =
      Add(std::move(name), 1, static_cast<int64_t>(start.size()), 0, 0);
  tensors_.back().start = std::move(start);
  return at;
}

void Parameters::Start(uint64_t seed) {
  for (const Parameter& t : tensors_) {
    Random random(seed, fmt::format("{} {}x{}", t.name, t.rows, t.cols));
    float* const x = value(t.at);
    std::copy(t.start.begin(), t.start.end(), x);
    if (!t.start.empty()) continue;
    for (int64_t i = 0; i < t.size(); ++i) {
      x[i] = t.mean +
             (t.sd > 0 ? t.sd * static_cast<float>(random.Normal()) : 0.0f);
    }
  }
  std::fill(gradients_.begin(), gradients_.end(), 0.0f);
}

}  // namespace saccade::bench
