// Trained models in .safetensors files: the parameters by name, and in the
// metadata what it takes to make the model that they belong to.
#ifndef SACCADE_BENCH_LEARN_SAVED_H_
#define SACCADE_BENCH_LEARN_SAVED_H_

#include <map>
#include <string>
#include <string_view>

#include "bench/learn/model.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Writes a model, or leaves the old file. `about`: what else its metadata is
/// to say, by keys other than those of ModelOptions. A tensor of one row is a
/// vector. kInvalid when a parameter is not finite; kIo, kExhausted.
Status SaveModel(const std::string& path, const Model& model,
                 const std::map<std::string, std::string>& about = {});

/// The model of such a file; with another attention than its own where `spec`
/// is not empty, which then finds the parameters it needs by name and shape.
/// kInvalid names what the file does not have; else as ReadSafetensors and
/// Model::Make.
Result<Model> LoadModel(const std::string& path, std::string_view spec = {});

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_SAVED_H_
