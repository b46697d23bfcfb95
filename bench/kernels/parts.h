// What a tile of the forward pass does, taken apart: each part does by itself
// what it does in the pass, as often and on the same sizes.
#ifndef SACCADE_BENCH_KERNELS_PARTS_H_
#define SACCADE_BENCH_KERNELS_PARTS_H_

#include <cstdint>
#include <string_view>

#include "bench/kernels/passes.h"

namespace saccade::bench::kernels {

enum class Part : uint8_t {
  kScores,    // keys times queries, with the running maximum
  kValues,    // values times weights, added to the sums
  kWeights,   // exponentials, and their sums
  kQueries,   // rows of queries to columns
  kOutputs,   // columns of sums to rows of out, which are at hand
  kPacking,   // bf16 keys and values, as products want them
  kCutting,   // looking for what is visible, and cutting it into strips
  kDiagonal,  // of both products, what is on the border of a mask
};

/// Which column of the cost split a part belongs to.
enum class Share : uint8_t {
  kProducts,
  kExponentials,
  kTransposes,
  kPacking,
  kCutting,
  kNone,  // none: it is in others
};
constexpr std::string_view kShares[] = {"products", "exp", "transposes",
                                        "packing", "cutting"};

struct PartEntry {
  Part part;
  std::string_view name;
  Share share;
};
constexpr PartEntry kParts[] = {
    {Part::kScores, "scores", Share::kProducts},
    {Part::kValues, "values", Share::kProducts},
    {Part::kWeights, "exp", Share::kExponentials},
    {Part::kQueries, "queries", Share::kTransposes},
    {Part::kOutputs, "outputs", Share::kTransposes},
    {Part::kPacking, "packing", Share::kPacking},
    {Part::kCutting, "cutting", Share::kCutting},
    {Part::kDiagonal, "diagonal", Share::kNone},
};

/// Whether a pass has that part at all.
bool HasPart(const Kernel& kernel, Part part);

/// A part of a forward pass, for the target that is chosen now.
Result<Work> PartWork(const Kernel& kernel, int64_t width, Part part);

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_PARTS_H_
