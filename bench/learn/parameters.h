// A model's tensors: named, side by side in one array of values and one of
// gradients, which the optimiser walks through.
#ifndef SACCADE_BENCH_LEARN_PARAMETERS_H_
#define SACCADE_BENCH_LEARN_PARAMETERS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace saccade::bench {

struct Parameter {
  std::string name;
  int64_t rows, cols;  // a vector has one row
  float mean, sd;      // of its normal start
  int64_t at;          // of its first element in the arrays
  int64_t size() const { return rows * cols; }
  std::vector<float> start = {};  // instead of a draw, unless empty
};

class Parameters {
 public:
  /// Adds a tensor and returns its place. Tensors added one after the other
  /// with equal cols form one matrix of all their rows.
  int64_t Add(std::string name, int64_t rows, int64_t cols, float mean,
              float sd);

  /// Likewise a vector that starts at these values, whatever the seed.
  int64_t Add(std::string name, std::vector<float> start);

  /// Draws the start. A tensor's depends on the seed, its name and its shape
  /// alone, so that models share what they have in common.
  void Start(uint64_t seed);

  const std::vector<Parameter>& tensors() const { return tensors_; }
  int64_t count() const { return count_; }
  float* value(int64_t at) { return values_.data() + at; }
  const float* value(int64_t at) const { return values_.data() + at; }
  float* gradient(int64_t at) { return gradients_.data() + at; }

 private:
  std::vector<Parameter> tensors_;
  std::vector<float> values_, gradients_;
  int64_t count_ = 0;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_PARAMETERS_H_
