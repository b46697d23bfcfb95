// What a bits-per-byte figure means: the same text under models that everybody
// knows, counts of n-grams and a compressor.
#ifndef SACCADE_BENCH_LEARN_ANCHORS_H_
#define SACCADE_BENCH_LEARN_ANCHORS_H_

#include <string>
#include <string_view>
#include <vector>

#include "saccade/exec.h"

namespace saccade::bench {

struct Anchor {
  std::string name;  // "order 3", "xz"
  double bits_per_byte;
};

/// Bits a byte of `test` under models of 0 .. `order` preceding bytes (at most
/// 7) counted on `train`, each backing off to the one below, down to uniform
/// bytes (Witten-Bell, in the interpolated form of Chen & Goodman 1998, eq.
/// 18).
std::vector<double> NgramBits(std::string_view train, std::string_view test,
                              int order);

/// Bits a byte that xz -6 needs for `test` once it has compressed `train`.
/// Negative when the compressor fails (out of memory).
double XzBits(std::string_view train, std::string_view test);

/// Orders 1 to 6 and xz, side by side on `exec`; about 3 s for 4 MB.
std::vector<Anchor> Anchors(std::string_view train, std::string_view test,
                            Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_ANCHORS_H_
