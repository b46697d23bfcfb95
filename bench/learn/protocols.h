// Reading text at lengths a model was not trained at.
//
// A protocol is a list of segments of one length and the positions of each
// that count. Segments are the samples that intervals within a run are made
// from.
#ifndef SACCADE_BENCH_LEARN_PROTOCOLS_H_
#define SACCADE_BENCH_LEARN_PROTOCOLS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "bench/learn/statistics.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

struct Protocol;
std::vector<const Protocol*> AllProtocols();

struct ReadOptions {
  int64_t train_len = 128;  // L
  int64_t multiple = 1;     // r: segments are r L long
  int64_t longest = 16;     // the largest multiple that will be read
  int64_t before = 0;       // the largest below r that is read; 0: none
  int64_t test_bytes = 65536;
  int64_t targets = 64;
  std::vector<const Protocol*> protocols = AllProtocols();
  int64_t window = 0;                                   // as PassOptions
  std::optional<std::vector<Position>> positions = {};  // as PassOptions

  int64_t len() const { return multiple * train_len; }
  int64_t most() const { return longest * train_len; }
};

/// What is said of one set of positions.
struct TextReading {
  std::string_view protocol;
  std::optional<int64_t> bucket;  // of `position`: its first position
  Interval95 bits;                // a byte
  int64_t tokens = 0;             // scored
};

/// Losses of segments of one length, in bits, [segments, len].
struct SegmentLosses {
  int64_t len = 0;
  std::vector<double> bits;
};

struct Protocol {
  std::string_view name;
  std::string_view scores;  // which bytes, in a sentence
  /// Where its segments begin in a text of so many bytes. Protocols that share
  /// this function share the reading.
  std::vector<int64_t> (*segments)(int64_t text_bytes, const ReadOptions&);
  std::vector<TextReading> (*score)(std::string_view name, const SegmentLosses&,
                                    const ReadOptions&);
};

/// All of them:
///   nonoverlap   separate segments of r L that cover the text's first
///                test_bytes (in whole segments of the longest multiple);
///   tail         the last L positions of each of these;
///   same-target  `targets` stretches of L/4 bytes, spread evenly over the
///                text, each at the end of a segment of r L: the bytes are the
///                same for every r, their context is what changes;
///   sliding      a view of r L that moves on by L/4 and scores the L/4 bytes
///                that are new to it; `targets` steps over one passage, again
///                the same for every r. Neighbours are no independent samples,
///                so its interval is too narrow if anything;
///   position     the segments of nonoverlap by position: 0, 1, 2-3, 4-7 ...,
///                the number of bytes that stand before; each bucket where it
///                is whole at the smallest r, which has most segments.
/// Each byte is predicted from BOS and the bytes of its segment before it.
std::span<const Protocol> Protocols();

/// By names, or "all"; each once. kNotFound with the nearest names; kInvalid
/// for none.
Result<std::vector<const Protocol*>> FindProtocols(
    const std::vector<std::string>& names);

/// Gives the losses of segments of `len` bytes that begin there, [begins, len];
/// no losses at all to stop.
using Reader = std::function<Result<std::vector<double>>(
    std::span<const int64_t> begins, int64_t len)>;

/// What the protocols say of whatever `reader` reads; no reading when it
/// stopped. kUnsupported: the text is shorter than the longest segment. Other
/// errors are the reader's.
Result<std::vector<TextReading>> ReadBy(const Reader& reader,
                                        int64_t text_bytes,
                                        const ReadOptions& options);

/// ReadBy of a model, with the same bytes for every model. `tick(tokens)` (may
/// be empty) is called now and then and returns false to stop. kUnsupported
/// also as ModelPass::Make.
Result<std::vector<TextReading>> ReadText(
    const Model& model, std::string_view text, const ReadOptions& options,
    Exec& exec, const std::function<bool(int64_t tokens)>& tick);

/// Tokens that ReadText pushes through the model.
int64_t ReadTokens(int64_t text_bytes, const ReadOptions& options);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_PROTOCOLS_H_
