// The main job: verify, speed, memory, lenses, extrapolation and probes of
// variants,
// recorded as they are measured, and the report made from the records.
#ifndef SACCADE_BENCH_COMPARE_H_
#define SACCADE_BENCH_COMPARE_H_

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bench/extrapolation.h"
#include "bench/host.h"
#include "bench/lenses/look.h"
#include "bench/shard.h"
#include "bench/speed.h"
#include "bench/workload.h"

namespace CLI {
class App;
}

namespace saccade::bench {

/// Cells to measure: all combinations.
struct Grid {
  std::vector<Pass> passes;
  std::vector<int64_t> lengths, dims;
  std::vector<DType> dtypes;
  std::vector<Mask> masks;
  std::vector<int> threads;
  std::vector<Cache> caches = {Cache::kWarm};
  int64_t batch = 1, heads = 4, kv_heads = 0;

  /// Groups of cells that differ in the spec only, short lengths first.
  std::vector<std::vector<CellSpec>> Groups(
      const std::vector<std::string>& specs) const;
};

/// Part of a measure: cells of some variants, and how long they may take.
struct Part {
  Grid grid;
  std::vector<std::string> specs;
  SpeedSettings timing;
  double longest_child = 10;  // seconds for one cell of memory
  bool peers = false;         // whether peers are timed beside them
  /// What to measure: of a whole comparison all groups of the grid.
  std::vector<std::vector<CellSpec>> groups;
};

/// The measures, in the order they are made.
inline constexpr std::string_view kMeasures[] = {
    "verify", "speed", "memory", "lenses", "extrapolation", "probes"};

struct CompareOptions {
  std::string profile;
  std::vector<std::string> specs;
  std::vector<std::string> peers;  // timed beside them
  std::set<std::string, std::less<>> measures;
  std::map<std::string, double, std::less<>> seconds;  // by measure
  std::vector<Part> speed, memory;  // one after the other; the first is the
                                    // grid of all variants
  LearnOptions learn;
  LensOptions lenses;
  std::string out;
  bool resume = false;  // goes on with the run in `out`
  std::string command;  // as typed, for the header
  std::string note;     // likewise
  uint64_t digest = 0;  // of the profile and what was said in place of it
  Shard shard;          // what is left out here is in others
  bool dry_run = false;
  bool strict = false;  // noise is an error
};

/// What the command line says in place of the profile. Empty: the profile's.
struct CompareOverrides {
  std::string profile = "quick";
  std::string only, measures, probes, protocols, peers, lengths, dims, dtypes,
      threads, passes, masks, cache;
  std::string budget, longest, out, resume, command, note, shard, save_models;
  int64_t batch = 0, heads = 0, kv_heads = 0;
  std::vector<std::string> corpus;
  std::vector<int64_t> seeds;  // of trainings; the first also of data
  bool dry_run = false;
  bool strict = false;

  /// Of what is not trained.
  uint64_t seed() const {
    return seeds.empty() ? 1 : static_cast<uint64_t>(seeds.front());
  }
};

/// Declares the options that say what is timed, which are read into
/// `overrides`; it must outlive the app's parsing.
void DeclareCellOptions(CLI::App* app, CompareOverrides* overrides);

/// Those, and all others of `saccade compare`.
void DeclareCompareOptions(CLI::App* app, CompareOverrides* overrides);

/// Reads the profile and puts both together. kInvalid, kNotFound (with the
/// nearest name) or kIo; the message names the option or the profile's key.
Result<CompareOptions> MakeCompareOptions(const CompareOverrides& overrides);

/// Spec strings of "softmax.*,linear.elu:eps=1,size=4+rope": globs over names
/// stand for the variants they match with default knobs, specs for themselves.
/// A comma before knob= continues the spec. kNotFound with the nearest names.
Result<std::vector<std::string>> ExpandSpecs(std::string_view text);

/// That the glob matches no variant, with the nearest names.
Status NoMatch(std::string_view glob);

/// The parts of "speed" or "memory": the profile's grid for `specs`, then those
/// of its "also", unless the command line chose the lengths. kInvalid and
/// kNotFound name the profile's key or the option.
Result<std::vector<Part>> ReadParts(const nlohmann::json& profile,
                                    const char* measure,
                                    const CompareOverrides& overrides,
                                    const std::vector<std::string>& specs);

/// Leaves of everything what is the shard's. Cells that are timed against each
/// other stay together: a ratio only means something within one sitting.
void KeepShard(const Shard& shard, CompareOptions* options);

/// Specs of `list` that `only` names, or whose variant it names without knobs.
std::vector<std::string> Named(const std::vector<std::string>& list,
                               const std::vector<std::string>& only);

/// Measures, records, reports. Returns an exit code; says on host.err what went
/// wrong and prints the verdict and the report's path on host.out.
int Compare(const CompareOptions& options, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_COMPARE_H_
