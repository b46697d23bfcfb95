// Kernels of an LSTM: one token of a few sequences of one head at a time.
//
// What holds them together is a product of a state of `width` numbers with a
// matrix four times as wide, token after token. Columns lie in the lanes, one
// vector of each gate side by side, so that when a product is done the four
// pre-activations of a unit stand in the same lane; sequences share the reads
// of the matrix.
#ifndef SACCADE_COMMON_ENGINE_LSTM_H_
#define SACCADE_COMMON_ENGINE_LSTM_H_

#include <cstdint>

namespace saccade::lstm {

/// Input gate, forget gate, candidate, output gate.
constexpr int64_t kGates = 4;
constexpr int64_t kRows = 8;  // sequences that go together, at most

/// Rows of states and gates are padded, with zeros, to whole vectors.
constexpr int64_t Padded(int64_t width) { return (width + 15) / 16 * 16; }

/// Learned numbers of a head: row k holds what unit k of the state before adds
/// to pre-activations, [width][gate][width]; then [gate][width], their biases.
constexpr int64_t Numbers(int64_t width) {
  return kGates * width * (width + 1);
}

/// A row of each sequence.
template <class T>
struct BasicRows {
  T* at;
  int64_t stride;
  T* operator[](int64_t row) const { return at + row * stride; }
};
using Rows = BasicRows<float>;
using ConstRows = BasicRows<const float>;

/// A head's matrix, read in vectors (panel, unit k, gate), and its biases
/// [gate], a row of `padded` or of `width` each.
struct Matrix {
  const float* u;
  int64_t panel, unit, gate;  // strides
  const float* bias;
  int64_t bias_gate;  // stride
  int64_t width, padded;
};

/// Packs learned numbers; to: PackedFloats(width). A pack is for one target.
int64_t PackedFloats(int64_t width);
void Pack(const float* learned, int64_t width, float* to);
Matrix Packed(const float* pack, int64_t width);
/// Learned numbers as they stand, for few products: width a multiple of 16.
Matrix InPlace(const float* learned, int64_t width);

/// One token. gates [gate][padded] holds what the layer gives and receives what
/// Back reads: of a gate's sigmoid the distance from 0, or minus that from 1,
/// whichever is nearer, and of the candidate the argument of its tanh. State
/// rows are padded; c may be c_before.
void Step(const Matrix& m, int64_t rows, Rows gates, ConstRows c_before, Rows c,
          ConstRows h_before, Rows h);

/// Packs the transpose, for Back; to: PackedBackFloats(width).
int64_t PackedBackFloats(int64_t width);
void PackBack(const float* learned, int64_t width, float* to);

/// One token backward. dh: the loss's gradient by h, becomes that by h_before
/// (from this token alone); dc likewise; dz [gate][padded] is written.
void StepBack(const float* packed, int64_t width, int64_t rows, ConstRows gates,
              ConstRows c_before, ConstRows c, Rows dh, Rows dc, Rows dz);

/// sum[k][column] += sum over tokens of h[t][k] dz[t][column], for `width`
/// units k and `columns`, a multiple of 16; rows of h are `padded` apart, of dz
/// dz_stride, of sum `columns`.
void AddOuter(const float* h, const float* dz, int64_t tokens, int64_t width,
              int64_t dz_stride, int64_t columns, float* sum);

}  // namespace saccade::lstm

#endif  // SACCADE_COMMON_ENGINE_LSTM_H_
