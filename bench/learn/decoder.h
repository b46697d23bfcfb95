// A trained model that goes on with a text, token by token, through the public
// face of the library: an Attention with its state for each attention unit.
#ifndef SACCADE_BENCH_LEARN_DECODER_H_
#define SACCADE_BENCH_LEARN_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bench/learn/matrix.h"
#include "bench/learn/model.h"
#include "saccade/attention.h"
#include "saccade/status.h"

namespace saccade::bench {

/// One sequence. `model` must outlive it.
class Decoder {
 public:
  /// For sequences of at most `capacity` tokens. kUnsupported when the variant
  /// does not decode, or learned positions end before; else as Attention::Make.
  static Result<Decoder> Make(const Model& model, int64_t capacity,
                              int threads);

  /// Appends tokens, at least one, and returns the logits [symbols] of what
  /// follows the last; they stay until the next call. kInvalid for no tokens or
  /// what is no symbol, kExhausted beyond the capacity.
  Result<std::span<const float>> Extend(std::span<const int32_t> tokens);

  int64_t length() const { return length_; }  // tokens so far
  size_t StateBytes() const;                  // of all units

 private:
  Decoder(const Model& model, int64_t capacity);

  Status Read(std::span<const int32_t> tokens);
  void EmbedRows(std::span<const int32_t> tokens);
  Status RunUnits(int64_t rows);

  const Model* model_;
  int64_t capacity_ = 0, length_ = 0;
  int32_t last_ = 0;                   // token, once there is one
  std::vector<Attention> attentions_;  // of the attention units, in order
  std::vector<float> sinusoids_;
  Matrix x_, h_, in_, mid_, out_, logits_;
  std::vector<float> inverse_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_DECODER_H_
