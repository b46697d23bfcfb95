// Reading text at lengths a model was not trained at.
//
// Every protocol is a list of segments of one length and the positions of each
// that count; the segments are independent samples, which is what intervals
// are made from.
#ifndef SACCADE_BENCH_LEARN_PROTOCOLS_H_
#define SACCADE_BENCH_LEARN_PROTOCOLS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/statistics.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

struct ReadOptions {
  int64_t train_len = 128;  // L
  int64_t multiple = 1;     // r: segments are r L long
  int64_t longest = 16;     // the largest multiple that will be read
  int64_t test_bytes = 65536;
  int64_t targets = 64;
  int64_t window = 0;  // as PassOptions
};

struct Reading {
  std::string protocol;
  Interval95 bits;  // a byte
  int64_t tokens;   // scored
};

/// Reads the same bytes for every model:
///   nonoverlap   separate segments of r L that cover the text's first
///                test_bytes (in whole segments of the longest multiple);
///   tail         the last L positions of each of these;
///   same-target  `targets` stretches of L/4 bytes, spread evenly over the
///                text, each at the end of a segment of r L: the bytes are the
///                same for every r, their context is what changes.
/// Each byte is predicted from BOS and the bytes of its segment before it.
/// `tick(tokens)` (may be empty) is called now and then and returns false to
/// stop, which gives an empty list. kUnsupported: as Pass::Make, or the text is
/// shorter than the longest segment.
Result<std::vector<Reading>> ReadText(
    const Model& model, std::string_view text, const ReadOptions& options,
    Exec& exec, const std::function<bool(int64_t tokens)>& tick);

/// Tokens that ReadText pushes through the model.
int64_t ReadTokens(int64_t text_bytes, const ReadOptions& options);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_PROTOCOLS_H_
