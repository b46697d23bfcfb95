// Running a model on sequences of one shape: the memory, the plan and the
// passes.
#ifndef SACCADE_BENCH_LEARN_PASS_H_
#define SACCADE_BENCH_LEARN_PASS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "bench/learn/matrix.h"
#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/variant.h"

namespace saccade::bench {

struct PassOptions {
  int64_t batch = 1;   // sequences
  int64_t len = 1;     // tokens of each
  int64_t window = 0;  // keys that a query sees at most; 0: the variant's own
  bool train = false;  // keep what Backward needs
  /// In place of the model's own positions, which it was trained with: see
  /// Model::TestPositions.
  std::optional<std::vector<Position>> positions = {};
};

/// For one thread at a time; the work inside is spread over the Exec.
class ModelPass {
 public:
  /// kUnsupported with the reason when the variant cannot do it: a window it
  /// does not offer, positions that end before `len`.
  static Result<std::unique_ptr<ModelPass>> Make(const Model& model,
                                                 const PassOptions& options,
                                                 Exec& exec);

  /// Reads tokens [batch, len] and scores targets (negative: not scored). The
  /// losses are in nats, see CrossEntropy.
  Status Forward(const Model& model, std::span<const int32_t> tokens,
                 std::span<const int32_t> targets);

  /// After a Forward of a training pass: the gradients of the mean loss over
  /// scored targets, into the model's parameters.
  Status Backward(Model& model);

  std::span<const float> losses() const { return losses_; }  // [batch, len]
  std::span<const uint8_t> hits() const { return hits_; }    // [batch, len]
  double mean_loss() const;  // over scored targets; 0 when there are none

  /// The stream x as a unit read it, [batch * len, width]; past the last unit,
  /// as the logits read it. Of a training pass.
  Rows Stream(size_t unit) const {
    return unit < kept_.size() ? kept_[unit].x : last_x_;
  }

  /// What the attention of a unit read. Of a training pass.
  Inputs AttentionRead(const Model& model, size_t unit) const;

  /// After Backward: the gradient by the stream as the first unit read it,
  /// [batch * len, width].
  const Rows& StreamGradient() const { return dx_; }

 private:
  // What a unit computes on the way; shared by all units when not training.
  struct Kept {
    Matrix x, h, in, mid, out;
    std::vector<float> inverse;  // 1 / rms
    Buffer saved;
  };

  ModelPass(const Model& model, const PassOptions& options, Exec& exec);

  Kept& KeptBy(size_t unit) { return kept_[options_.train ? unit : 0]; }
  Inputs AttentionInputs(const Model& model, const Unit& unit,
                         const Rows& mid) const;
  View Heads(const Rows& rows, int64_t column, int64_t heads,
             int64_t dim) const;
  Status UnitForward(const Model& model, size_t index);
  Status UnitBackward(Model& model, size_t index);
  void Score(const Model& model);

  PassOptions options_;
  Exec& exec_;
  std::unique_ptr<Plan> plan_;
  std::vector<Kept> kept_;
  std::vector<int32_t> tokens_, targets_;
  std::vector<Position> positions_;
  std::vector<float> sinusoids_;
  Matrix last_x_, last_h_, logits_;
  std::vector<float> last_inverse_;
  Buffer scratch_;
  int64_t scored_ = 0;
  // Gradients by the stream, and by what units compute.
  Matrix dx_, dh_, din_, dmid_, dout_;
  std::vector<float> partial_;
  std::vector<float> losses_;
  std::vector<uint8_t> hits_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_PASS_H_
