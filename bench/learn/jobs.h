// The trainings that make up a run: which, in what order, how long each of them
// will take, and which are dropped when that is too long.
#ifndef SACCADE_BENCH_LEARN_JOBS_H_
#define SACCADE_BENCH_LEARN_JOBS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/extrapolation.h"
#include "bench/learn/estimate.h"
#include "bench/learn/model.h"
#include "bench/learn/probing.h"
#include "bench/learn/protocols.h"
#include "bench/learn/train.h"
#include "saccade/exec.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Of records about what was learned from text; probes have their own names.
inline constexpr char kText[] = "text";

/// One model to train, and to read afterwards.
struct Job {
  std::string task;              // kText or the probe's name
  const Probe* probe = nullptr;  // null: text
  std::string spec;
  uint64_t seed = 0;
  /// Trained with the steps that make its FLOPs another model's; otherwise with
  /// the steps of all, and models are matched by parameters alone.
  bool by_flops = false;
  ModelOptions model;
  TrainOptions training;
  int64_t longest = 0;  // tokens at once, when it is read
  double flops = 0;     // of the whole training
  Speed speed;
  double seconds = 0;  // estimated
  Status status = {};  // why it cannot run

  /// Tokens that a step learns from.
  int64_t StepTokens() const { return training.batch * training.len; }

  /// GFLOP/s of training, by the estimate.
  double Rate() const;

  /// The model in words.
  std::string Name() const;

  /// Same model, task and match, whatever the seed.
  bool SameWork(const Job& other) const {
    return task == other.task && spec == other.spec &&
           by_flops == other.by_flops;
  }
};

/// The value of a record's "match" for jobs by_flops; others have none.
inline constexpr char kByFlops[] = "flops";

/// Everything that will be done, in the order it will be done: by turns, so
/// that what a short budget drops is the end of all lists; then what is matched
/// by FLOPs, but for models that cannot be made, or whose steps are the same. Of
/// a shard, its share of them.
std::vector<Job> JobsOf(const LearnOptions& options);

/// What a job's model of text is read by: everything; matched by FLOPs, plain
/// and under a window, at the least and the greatest length.
LearnOptions ReadingsOf(const LearnOptions& options, const Job& job);

/// What text is read with at a multiple of the training length.
ReadOptions ReadingAt(const LearnOptions& options, int64_t multiple);

/// What the probe is read with at a length.
ProbeOptions ProbingAt(const LearnOptions& options, const Probe& probe,
                       int64_t len);

/// The lengths that a probe is read at: always the one it is trained at.
std::vector<int64_t> LengthsOf(const LearnOptions& options, const Probe& probe);

/// Fills in work, speeds, seconds and, where a model cannot be made, the
/// status. The rate is measured: a few steps of each model on this Exec.
void EstimateJobs(const LearnOptions& options, int64_t text_bytes, Exec& exec,
                  std::vector<Job>& jobs);

/// Seconds of all jobs that can run.
double SecondsOf(const std::vector<Job>& jobs);

/// Drops jobs (status kExhausted, with the reason) until what is left fits in
/// `seconds`: those matched by FLOPs, the last first; then rule by rule of the
/// options; after the last rule from the end.
/// Returns a sentence for each rule that dropped something.
std::vector<std::string> DropToFit(const LearnOptions& options, double seconds,
                                   std::vector<Job>& jobs);

/// What is trained, in words that differ whenever its result would; `data`
/// stands for the text's bytes.
std::string OwnerOf(const Job& job, uint64_t data);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_JOBS_H_
