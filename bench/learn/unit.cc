#include "bench/learn/unit.h"

#include <algorithm>
#include <cmath>

#include "bench/learn/ops.h"

namespace saccade::bench {

bool PlainPieces(const Unit& unit) {
  return unit.mid_cols == unit.in_cols &&
         std::all_of(unit.pieces.begin(), unit.pieces.end(),
                     [](const Piece& p) {
                       return p.activation == Activation::kNone &&
                              p.gamma < 0 && !p.shared;
                     });
}

View HeadsOf(const Rows& rows, int64_t column, int64_t heads, int64_t dim,
             const TokenRows& of) {
  return {rows.data + column,   DType::kF32, of.batch,   heads, of.len, dim,
          of.len * rows.stride, dim,         rows.stride};
}

Inputs AttentionInputs(const Model& model, const Unit& unit, const Rows& mid,
                       const TokenRows& of, const Problem& resolved) {
  Inputs inputs;
  if (const int64_t n = LearnedParameters(*model.spec().variant, resolved);
      n > 0) {
    inputs.bias = Contiguous<const void>(model.parameters().value(unit.bias),
                                         DType::kF32, 1, unit.heads, 1, n);
  }
  inputs.q = HeadsOf(mid, unit.q, unit.heads, unit.qk_dim, of);
  inputs.k = HeadsOf(mid, unit.k, unit.heads, unit.qk_dim, of);
  inputs.v = HeadsOf(mid, unit.v, unit.heads, unit.v_dim, of);
  for (size_t i = 0; i < unit.extras.size(); ++i) {
    inputs.extra[i] =
        HeadsOf(mid, unit.extras[i], unit.heads, unit.extra_dims[i], of);
  }
  return inputs;
}

Status RunUnit(const Model& model, const Unit& unit, const UnitSteps& steps,
               const Attend& attend, Exec& exec) {
  const Parameters& p = model.parameters();
  RmsNorm(steps.x, p.value(unit.gain), steps.h, steps.inverse, exec);
  Project(steps.h, p.value(unit.in), steps.in, Write::kSet, exec);
  const bool plain = PlainPieces(unit);
  const Rows& mid = plain ? steps.in : unit.attention ? steps.mid : steps.out;
  for (const Piece& piece : unit.pieces) {
    if (plain) break;
    Activate(piece.activation, steps.in.Columns(piece.from, piece.cols),
             piece.gamma < 0 ? nullptr : p.value(piece.gamma),
             piece.gamma < 0 ? nullptr : p.value(piece.beta),
             mid.Columns(piece.to, piece.cols), exec);
  }
  return unit.attention ? attend(mid, steps.out) : Status();
}

std::vector<float> Sinusoids(int64_t len, int64_t width) {
  const double share = 1 / std::sqrt(static_cast<double>(width));
  std::vector<float> table(len * width);
  for (int64_t t = 0; t < len; ++t) {
    for (int64_t c = 0; c < width; ++c) {
      const double exponent =
          static_cast<double>(c / 2 * 2) / static_cast<double>(width);
      const double angle = static_cast<double>(t) / std::pow(1e4, exponent);
      table[t * width + c] = static_cast<float>(
          share * (c % 2 ? std::cos(angle) : std::sin(angle)));
    }
  }
  return table;
}

}  // namespace saccade::bench
