// What may follow a scan, row by row: each head's output normalised over its
// width, and gated.
//
//   out = (o - mean(o)) / sqrt(var(o) + epsilon) (.) gate
#ifndef SACCADE_COMMON_ENGINE_SCAN_NORM_H_
#define SACCADE_COMMON_ENGINE_SCAN_NORM_H_

#include <cstdint>

#include "saccade/exec.h"
#include "saccade/tensor.h"

namespace saccade {

/// o, f32 [B, H, T, e]; gate and out of one storage type and shape.
struct NormCall {
  ConstView o;
  ConstView gate;
  View out;
  float epsilon = 0;
};
void NormForward(const NormCall& call, Exec& exec);

/// forward.out is not used. do_ may be of fewer bits than f32.
struct NormBackwardCall {
  NormCall forward;
  ConstView dout;
  View do_, dgate;
};
void NormBackward(const NormBackwardCall& call, Exec& exec);

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCAN_NORM_H_
