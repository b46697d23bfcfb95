// Of a comparison: what a shard of it measures.
#include <algorithm>
#include <utility>

#include "bench/compare.h"

namespace saccade::bench {
namespace {

// FLOP/s. Any will do: what counts is that all machines take the same.
constexpr double kNominalPeak = 1e11;

// What a cell would take on a machine of that peak, seconds.
double NominalSeconds(const Part& part, const CellSpec& cell) {
  const Result<PlannedCell> planned = PlanCell(cell);
  if (!planned.ok()) return 0;
  const SpeedSettings& t = part.timing;
  return t.cell_seconds + std::min(TimeModel(kNominalPeak).Whole(*planned),
                                   t.longest_pass + t.longest_prefill);
}

// Some cells of a part that go together.
struct Bundle {
  size_t part;
  std::vector<CellSpec> cells;
};

void KeepBundles(const Shard& shard, std::vector<Bundle> bundles,
                 std::vector<Part>* parts) {
  KeepShare(
      shard,
      [&](const Bundle& bundle) {
        double seconds = 0;
        for (const CellSpec& cell : bundle.cells)
          seconds += NominalSeconds((*parts)[bundle.part], cell);
        return seconds;
      },
      &bundles);
  for (Part& part : *parts) part.groups.clear();
  for (Bundle& bundle : bundles)
    (*parts)[bundle.part].groups.push_back(std::move(bundle.cells));
}

}  // namespace

void KeepShard(const Shard& shard, CompareOptions* options) {
  options->shard = options->learn.shard = shard;
  std::vector<Bundle> groups, cells;
  for (size_t i = 0; i < options->speed.size(); ++i)
    for (const auto& group : options->speed[i].groups)
      groups.push_back({i, group});
  for (size_t i = 0; i < options->memory.size(); ++i)
    for (const auto& group : options->memory[i].groups)
      for (const CellSpec& cell : group) cells.push_back({i, {cell}});
  KeepBundles(shard, std::move(groups), &options->speed);
  KeepBundles(shard, std::move(cells), &options->memory);
  KeepShare(
      shard, [](const std::string&) { return 1.0; }, &options->lenses.specs);
}

}  // namespace saccade::bench
