// Position schemes: which there are, and the numbers of their formulas.
#ifndef SACCADE_COMMON_POSITION_H_
#define SACCADE_COMMON_POSITION_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "saccade/problem.h"
#include "saccade/status.h"

namespace saccade {

/// Where a scheme acts. A problem has at most one of each kind.
enum class PositionKind : uint8_t {
  kEmbedding,  // added to a model's embeddings: attention has nothing to do
  kRotary,     // turns q and k
  kScale,      // multiplies q
  kBias,       // added to the scores
};
/// "added to embeddings", "turns q and k", ...
const char* NameOf(PositionKind kind);

struct PositionScheme {
  std::string_view name;
  std::string_view title;  // the formula, in a line
  std::string_view source;
  PositionKind kind;
  std::vector<Knob> knobs;
};

/// All schemes, in the order reports list them. "none" is not among them.
const std::vector<PositionScheme>& PositionSchemes();
const PositionScheme* FindPosition(std::string_view name);

/// The one of a kind, or null.
const Position* PositionOf(const std::vector<Position>& positions,
                           PositionKind kind);

/// The one of that name, or null.
const Position* FindIn(const std::vector<Position>& positions,
                       std::string_view name);

/// What knobs that fit one by one must satisfy together. kInvalid.
Status CheckKnobs(const Position& resolved);

/// What a problem's resolved positions ask of its mask and lengths.
/// kUnsupported.
Status CheckPositions(const Problem& problem);

/// "+rope:base=500+logn:length=128" of positions as they are; "" of none.
std::string ToText(const std::vector<Position>& positions);

/// How far pairs m = 0 .. dim/2 - 1 turn from one position to the next, in
/// radians, by a resolved rope, xpos or rerope. Su et al. 2021,
/// arXiv:2104.09864, equation 34: base^(-2m/dim); with scaling
///   pi    base^(-2m/dim) / factor           Chen et al. 2023, arXiv:2306.15595
///   ntk   base factor^(dim/(dim-2)) for the base      bloc97 2023; Peng et al.
///   yarn  from pi's to the plain, as the pair makes `slow` .. `fast` turns in
///         `length` tokens      Peng et al. 2023, arXiv:2309.00071, section 3.2
std::vector<double> RotaryFrequencies(const Position& position, int64_t dim);

/// What yarn multiplies q by, and k: 0.1 ln factor + 1. Else 1.
double RotaryGain(const Position& position);

/// xpos's zeta of each pair, which q is multiplied by to the power of its
/// position over `scale` and k divided by: (2m/dim + 0.4) / 1.4.
/// Sun et al. 2022, arXiv:2212.10554, algorithm 1.
std::vector<double> XposZeta(int64_t dim);

/// ALiBi's slope of each of `heads` heads: 2^(-8(h+1)/p) for h < p, p the
/// largest power of two <= heads, and 2^(-4(2(h-p)+1)/p) for the others.
/// Press et al. 2021, arXiv:2108.12409.
std::vector<float> AlibiSlopes(int64_t heads);

}  // namespace saccade

#endif  // SACCADE_COMMON_POSITION_H_
