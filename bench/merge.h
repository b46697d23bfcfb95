// Shards of a comparison, put together.
#ifndef SACCADE_BENCH_MERGE_H_
#define SACCADE_BENCH_MERGE_H_

#include <string>
#include <vector>

#include "record/record.h"
#include "saccade/status.h"

namespace saccade::bench {

struct MergeRules {
  bool partial = false;          // shards may be missing, or cut short
  bool machines_differ = false;  // cells then say which machine they are of
};

/// A run made of shards.
struct MergedRun {
  record::Json header;                // its command is that of the first shard
  std::vector<record::Json> records;  // in the order of one run; no end
  double seconds = 0;                 // of all shards
  std::string missing;                // why it is not whole; or empty
};

/// The union of shards' records. What several shards say alike, such as which
/// variants there are, is said once. kInvalid names the file of what does not
/// belong together: no shard, shards of different settings, builds or machines,
/// a shard that is missing, there twice or unfinished, a cell that two shards
/// have measured.
Result<MergedRun> MergeShards(const std::vector<record::Run>& shards,
                              const MergeRules& rules);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_MERGE_H_
