// The shape that all probes share: small tasks with known answers, made to
// show what a variant can recall, count or line up, and how far.
//
// A probe is a generator of sequences in which some symbols are marked: they
// are what a model is asked for. Training, reading and scoring are written
// once for all (bench/learn/probing.h); a probe is one file here and one line
// in probes.def.
#ifndef SACCADE_BENCH_PROBES_PROBE_H_
#define SACCADE_BENCH_PROBES_PROBE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/random.h"
#include "saccade/status.h"

namespace saccade::bench {

/// A symbol that a model must foretell.
struct Mark {
  int64_t at = 0;  // its place in the text
  /// The farthest place of the text that must have been seen to know it; before
  /// `at`.
  int64_t source = 0;
  /// Which answer of the text it is a part of: 0, 1, ... in order.
  int64_t answer = 0;
  /// By what readings are told apart; see Probe::bucket.
  int64_t bucket = 0;
};

/// A sequence: its symbols, and what is asked about them.
struct Sample {
  std::vector<int32_t> text;
  std::vector<Mark> marks;  // by rising `at`
};

/// Which sequence is wanted.
struct SampleShape {
  int64_t len = 0;     // symbols of text
  bool train = false;  // mixed sizes, where the task has a size; else the most
};

/// What is known of a model before it is trained: what theory goes by. Made of
/// traits, plans and weights, never of names.
struct Facts {
  int64_t train_len = 0, len = 0;  // tokens
  int64_t bucket = 0;
  /// Share of the marks of this bucket whose source some path through all
  /// layers joins to the place where they are asked for.
  double in_sight = 1;
  /// What decoding carries from token to token has one size, however much was
  /// read, although all of it is in sight.
  bool fixed_state = false;
  int64_t width = 0;           // of the keys of all heads together
  bool new_positions = false;  // it meets ones that training did not have
  bool no_positions = false;   // none, or biases that have a rule for any
  double times() const {
    return static_cast<double>(len) / static_cast<double>(train_len);
  }
};

/// What theory says of the token accuracy: that it lies in [low, high].
struct Expectation {
  double low = 0, high = 1;
  std::string why;
};

struct Probe {
  std::string_view name;
  std::string_view title;        // how a sequence is made, in a sentence
  std::string_view source;       // author, year, section
  std::string_view expectation;  // what theory or the literature says
  std::string_view bucket;       // what buckets are, with the unit
  int64_t symbols = 0;           // 0 .. symbols - 1
  /// Token accuracy of the best constant answer, on sequences of any length.
  double chance = 0;
  /// Symbols of a sequence, rising; the first is what is trained at.
  std::vector<int64_t> lengths;
  /// The model and its training, chosen so that softmax attention learns what
  /// it can within about a minute on one core.
  int64_t model_width = 64, heads = 4, steps = 700;
  double rate = 3e-3;
  bool shift = false;   // of all its models: ModelOptions::shift
  bool recall = false;  // asks for what stood somewhere before, and no more
  /// Fills sample->text, which has shape.len symbols, 0 at first, and adds
  /// marks. At least one of lengths is at most shape.len.
  void (*generate)(Random& random, const SampleShape& shape,
                   Sample* sample) = nullptr;
  Expectation (*expect)(const Facts& facts) = nullptr;

  int64_t train_len() const { return lengths.front(); }
};

/// All probes, in report order.
std::span<const Probe* const> Probes();

/// By name; kNotFound with the nearest names.
Result<const Probe*> FindProbe(std::string_view name);

/// By names, each once; "all" stands for all of them. kNotFound as FindProbe;
/// kInvalid for no name.
Result<std::vector<const Probe*>> FindProbes(
    const std::vector<std::string>& names);

/// A sequence of that shape. kInvalid below the probe's shortest length.
Status Draw(const Probe& probe, Random& random, const SampleShape& shape,
            Sample* sample);

/// How large a task is where sequences have room for `most`: 1 .. most at
/// random in training, so that no answer stands a fixed way from its source;
/// most in a test.
int64_t SizeOf(Random& random, const SampleShape& shape, int64_t most);

/// A symbol of an answer, the place in the question that it is known from, and
/// its bucket.
struct Answered {
  int32_t symbol = 0;
  int64_t source = 0, bucket = 0;
};

/// Writes the question and behind it its one answer, which is all marked, at
/// the beginning of the text. What comes after matters to nobody.
void Ask(std::span<const int32_t> question, std::span<const Answered> answer,
         Sample* sample);

/// What is out of sight is guessed, what is in sight may all be known.
Expectation InSight(const Facts& facts, double chance);

/// As InSight; and learned at the training length by whoever sees all and keeps
/// all of it.
Expectation Learned(const Facts& facts, double chance);

/// Of recall, where one look back is enough: as Learned; kept at any length by
/// whoever has no positions to be surprised by; and lost where positions turn
/// as they never did in training.
Expectation Recall(const Facts& facts, double chance);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PROBES_PROBE_H_
