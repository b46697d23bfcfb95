// The shape that all lenses share: looks into a variant, by itself or in a
// model, fresh or trained, that end in a few numbers and perhaps a picture.
//
// A lens is one file here and one line in lenses.def; what it looks at, when,
// and how its readings are recorded is written once for all (look.h).
#ifndef SACCADE_BENCH_LENSES_LENS_H_
#define SACCADE_BENCH_LENSES_LENS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/lenses/weights.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// What a lens needs to see anything.
enum class Sees : uint8_t {
  kWeights,  // effective weights: variants that are linear in v
  kRepeats,  // those of random tokens that come again
  kInputs,   // attention by itself, on random queries and keys
  kModel,    // a model, fresh or trained
  kStart,    // a fresh model
};

/// What is looked at.
struct Subject {
  const Spec& spec;
  const Model* model = nullptr;      // null: attention by itself
  bool trained = false;              // of a model
  const Weights* weights = nullptr;  // null: there are none
  const Weights* repeats = nullptr;  // the last 100 tokens: 4 times the same 25
  std::string_view text = {};        // a fresh model's to learn; may be empty
  uint64_t seed = 1;
};

constexpr int64_t kRepeatPeriod = 25, kRepeats = 4;

/// A square picture of weights, [size, size] characters: row by row, each the
/// place of a level in kLevels. 0 stands for nothing at all, the others for the
/// square root of the share of the greatest.
struct Picture {
  int64_t size = 0;
  std::string levels;
};
inline constexpr std::string_view kLevels =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// Of values [size, size], none negative.
Picture Paint(std::span<const double> values, int64_t size);

struct Reading {
  std::string_view name;  // of one of the lens's quantities
  double value = 0;
  Picture picture = {};
  std::vector<double> curve = {};
};

/// What a reading is called, how it is made, and what theory expects.
struct Quantity {
  std::string_view name, how, expected;
};

struct Lens {
  std::string_view name;
  std::string_view source;
  Sees sees;
  std::vector<Quantity> quantities;
  /// Called only with subjects that have what the lens needs. A quantity that
  /// has no meaning for a subject is left out.
  Result<std::vector<Reading>> (*look)(const Subject& subject,
                                       Exec& exec) = nullptr;
};

/// All lenses, in report order.
std::span<const Lens* const> Lenses();

/// Whether the subject has what the lens needs.
bool CanLook(const Lens& lens, const Subject& subject);

/// The least-squares slope of y over x; as many of both, two at least.
double Slope(std::span<const double> x, std::span<const double> y);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LENSES_LENS_H_
