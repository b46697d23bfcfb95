// What a trained model is asked, and the records of its answers.
#ifndef SACCADE_BENCH_LEARN_READINGS_H_
#define SACCADE_BENCH_LEARN_READINGS_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "bench/extrapolation.h"
#include "bench/learn/jobs.h"
#include "bench/learn/model.h"
#include "saccade/exec.h"

namespace saccade::bench {

/// Called as tokens are read among `len` at once; false to stop.
using ReadTick = std::function<bool(int64_t tokens, int64_t len)>;

/// `extrapolation` records of a model of text: every protocol at every length,
/// as trained and with the mask cut to the training length. When stopped, some
/// are missing. Nothing but the model's bits decides what they say.
std::vector<nlohmann::json> ReadTextJob(const LearnOptions& options,
                                        const Job& job, const Model& model,
                                        std::string_view test, Exec& exec,
                                        const ReadTick& tick);

/// `probe` records of a model of a probe, at every length.
std::vector<nlohmann::json> ReadProbeJob(const LearnOptions& options,
                                         const Job& job, const Model& model,
                                         Exec& exec, const ReadTick& tick);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_READINGS_H_
