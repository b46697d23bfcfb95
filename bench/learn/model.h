// A small language model around one attention variant.
//
// x = embedding of the tokens (+ positions); then residual units
//   x <- x + mix(norm(x) W_in) W_out,
// where mix is either attention or an MLP's activation; then logits
// norm(x) E^T, E the embedding. A layer is an attention unit and an
// MLP, or two attention units where the variant stands for both. What W_in
// makes (q, k, v and a variant's extra inputs) follows from Variant::layer and
// Variant::inputs: no variant is named here.
#ifndef SACCADE_BENCH_LEARN_MODEL_H_
#define SACCADE_BENCH_LEARN_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/learn/parameters.h"
#include "saccade/status.h"
#include "saccade/variant.h"

namespace saccade::bench {

struct ModelOptions {
  std::string spec;  // the attention and its positions
  int64_t width = 64, layers = 2, heads = 8;
  int64_t symbols = 257;    // of the vocabulary
  int64_t train_len = 128;  // where learned positions end
  /// A token's row also has that of the token before it, times a weight for
  /// each column: what follows what is then known without a layer of its own
  /// (Peng et al. 2023, arXiv:2305.13048: token shift).
  bool shift = false;
};

/// A range of columns that W_in makes, and what becomes of it: range
/// [from, from + cols) of norm(x) W_in gives [to, to + cols) of the inputs to
/// attention, f(.) or gamma * f(.) + beta.
struct Piece {
  int64_t from = 0, to = 0, cols = 0;
  Activation activation = Activation::kNone;
  int64_t gamma = -1, beta = -1;  // places of parameters, or -1
  bool shared = false;            // the columns were already read by another
};

/// One residual branch.
struct Unit {
  bool attention = false;
  int64_t gain = 0, in = 0, out = 0;  // places of parameters
  int64_t in_cols = 0;                // made by W_in
  int64_t mid_cols = 0;               // after the pieces
  int64_t out_cols = 0;               // read by W_out
  std::vector<Piece> pieces;
  /// Attention: shapes, and the columns of q, k, v and each extra input.
  int64_t heads = 0, qk_dim = 0, v_dim = 0;
  int64_t q = 0, k = 0, v = 0;
  std::vector<int64_t> extras, extra_dims;  // first columns, widths of a head
  int64_t bias = -1;  // place of a learned bias's parameters, [heads][n], or -1
};

class Model {
 public:
  /// kUnsupported when the variant cannot be trained here (no causal mask, no
  /// backward pass); kInvalid for impossible options; else as ParseSpec.
  static Result<Model> Make(const ModelOptions& options);

  const ModelOptions& options() const { return options_; }
  const Spec& spec() const { return spec_; }
  const std::vector<Unit>& units() const { return units_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }

  int64_t embedding() const { return embedding_; }  // [symbols, width]
  int64_t positions() const { return positions_; }  // [train_len, width] or -1
  int64_t shift() const { return shift_; }          // [1, width] or -1
  int64_t last_gain() const { return last_gain_; }
  /// The beginning-of-sequence token: the last symbol.
  int32_t bos() const { return static_cast<int32_t>(options_.symbols - 1); }

  /// The longest sequence the model can read, in tokens; 0: no limit.
  int64_t max_len() const;

  /// Positions to read the model with in place of its own, from text:
  /// "rope:scaling=yarn,factor=16" replaces them, "+logn:length=128" adds to
  /// them, "" leaves them. kUnsupported when they have learned parameters that
  /// the model does not have; else as ParsePositions.
  Result<std::vector<Position>> TestPositions(std::string_view text) const;

  /// What attention is asked for, for `batch` sequences of `len` tokens.
  Problem AttentionProblem(int64_t batch, int64_t len, int64_t window) const;

  /// Multiplications and additions of a training step, a token of sequences of
  /// `len`: 6 for each weight of a product with a matrix, the logits' included
  /// (forward, and back to either factor), and what the variant's Cost says of
  /// both passes of attention. Errors as Resolve.
  Result<double> FlopsPerToken(int64_t len) const;

  /// Whether the model has what these positions learn. kUnsupported.
  Status CheckLearned(const std::vector<Position>& positions) const;

 private:
  Problem ProblemOf(const Unit& unit, int64_t batch, int64_t len,
                    int64_t window) const;
  void AddAttention(const std::string& name, int64_t v_dim);
  void AddMlp(const std::string& name, int64_t hidden);

  ModelOptions options_;
  Spec spec_;
  Parameters parameters_;
  std::vector<Unit> units_;
  int64_t embedding_ = 0, positions_ = -1, shift_ = -1, last_gain_ = 0;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_MODEL_H_
