// Looking through all lenses, and the records of it.
#ifndef SACCADE_BENCH_LENSES_LOOK_H_
#define SACCADE_BENCH_LENSES_LOOK_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

struct LensOptions {
  std::vector<std::string> specs;
  ModelOptions model;  // whose spec is each of them in turn
  uint64_t seed = 1;
};

/// Where `lens` records go; an error ends the run.
using LensSink = std::function<Status(const nlohmann::json&)>;

/// Called before each look with the share done, in [0, 1], and what is next;
/// returns false to stop.
using LensTick = std::function<bool(double fraction, std::string_view text)>;

/// Looks at each variant by itself, on random inputs, and in a model that has
/// learned nothing. What cannot be looked at becomes a record with the reason.
/// Errors: those of the sink.
Status RunLenses(const LensOptions& options, Exec& exec, const LensSink& sink,
                 const LensTick& tick);

/// Looks at attention by itself: subject "inputs".
Status LookAtInputs(const std::string& spec, uint64_t seed, Exec& exec,
                    const LensSink& sink);

/// Looks at a model: subject "trained" or "fresh". Its weights are read on the
/// beginning of `text`, or on random bytes where that is shorter than needed.
Status LookAtModel(const Model& model, bool trained, std::string_view text,
                   uint64_t seed, Exec& exec, const LensSink& sink);

/// Looks at a model only for what is to be seen before it learns `text`, of
/// which it draws sequences: lenses that see a start, subject "fresh".
Status LookAtStart(const Model& fresh, std::string_view text, uint64_t seed,
                   Exec& exec, const LensSink& sink);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LENSES_LOOK_H_
