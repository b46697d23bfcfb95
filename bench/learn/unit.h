// One residual branch of a model, forward: what reading whole sequences and
// decoding token by token share.
#ifndef SACCADE_BENCH_LEARN_UNIT_H_
#define SACCADE_BENCH_LEARN_UNIT_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "bench/learn/matrix.h"
#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// Whether W_in's columns need no change before attention reads them.
bool PlainPieces(const Unit& unit);

/// TokenRows side by side: token t of sequence b is row b * len + t.
struct TokenRows {
  int64_t batch = 1, len = 1;
};

/// Columns of rows as the tensor of some heads.
View HeadsOf(const Rows& rows, int64_t column, int64_t heads, int64_t dim,
             const TokenRows& of);

/// What the attention of a unit reads: `mid` is what its pieces made, or what
/// W_in made where they are plain. `resolved`: the plan's problem.
Inputs AttentionInputs(const Model& model, const Unit& unit, const Rows& mid,
                       const TokenRows& of, const Problem& resolved);

/// What a unit computes on the way, each as wide as the unit makes it. `mid` is
/// not used where pieces are plain, nor by an MLP.
struct UnitSteps {
  Rows x, h, in, mid, out;
  float* inverse;  // 1 / rms of each row of x
};

/// Computes `out` of what a unit's attention reads.
using Attend = std::function<Status(const Rows& mid, const Rows& out)>;

/// From x to `out`, which W_out is yet to read. Errors are those of `attend`,
/// which an MLP does not call.
Status RunUnit(const Model& model, const Unit& unit, const UnitSteps& steps,
               const Attend& attend, Exec& exec);

/// Vaswani et al. 2017, section 3.5: row t [width] is the sine and cosine of
/// t / 10000^(2m/width), over sqrt(width): there embeddings are multiplied by
/// it instead.
std::vector<float> Sinusoids(int64_t len, int64_t width);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_UNIT_H_
