// The engines' passes on tensors of their own, ready to be run again and again
// on one thread.
#ifndef SACCADE_BENCH_KERNELS_PASSES_H_
#define SACCADE_BENCH_KERNELS_PASSES_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "bench/memory_block.h"
#include "engine/chunk.h"
#include "engine/tile.h"
#include "saccade/variant.h"

namespace saccade::bench::kernels {

/// What a run's amount counts.
enum class Unit : uint8_t {
  kFlops,        // as the engines' own cost models do
  kStreamBytes,  // read and written at least, from memory
  kWeights,      // visible pairs of query and key
  kFloats,       // elements moved or converted
  kStrips,       // of keys, see engine/tile_strips.h
};

/// Something to time, with all it needs.
struct Work {
  Unit unit = Unit::kFlops;
  double amount = 0;  // of a run
  std::function<void()> run;
};

/// What is computed of the visible pairs.
struct Form {
  std::string_view name;
  Mask mask = Mask::kCausal;
  int64_t window = 0;  // keys; 0: no limit
  int64_t group = 1;   // query heads a key head
  bool gau = false;    // tile engine: relu squared and a gate, not softmax
  bool decay = false;  // scan engine: a decay, not features elu + 1
  // Chunk engine: what factors are, and whether states are corrected.
  ChunkDecay factors = ChunkDecay::kNone;
  bool delta = false;
};

/// A pass of an engine on a form: width, targets and parts come on top.
struct Kernel {
  std::string_view pass;
  Form form;
  int64_t kv_heads = 1;
  int64_t len = 0;  // tokens; keys when decoding
  DType dtype = DType::kF32;
  Result<Work> (*make)(const Kernel&, int64_t width) = nullptr;
  bool parts = false;  // measured in parts as well
};

/// Memory that is filled and stays.
class Memory {
 public:
  /// [1, heads, len, dim], normal numbers of variance 1. Null data, and a
  /// status that says so, when there is no memory.
  View Tensor(DType dtype, int64_t heads, int64_t len, int64_t dim);
  Bytes Take(size_t bytes);
  const Status& status() const { return status_; }

 private:
  std::vector<MemoryBlock> blocks_;
  Status status_;
  int tensors_ = 0;
};

/// A pass of the tile engine, made ready.
struct TilePass {
  /// Queries against as many keys, or one against all of them.
  TilePass(const Kernel& kernel, int64_t width, bool decode);

  Problem problem;
  TileSpec spec;
  Cost cost;
  Memory memory;
  TileCall call;
};

Result<Work> TileForwardWork(const Kernel& kernel, int64_t width);
Result<Work> TileBackwardWork(const Kernel& kernel, int64_t width);
Result<Work> TileDecodeWork(const Kernel& kernel, int64_t width);
Result<Work> ScanForwardWork(const Kernel& kernel, int64_t width);
Result<Work> ScanBackwardWork(const Kernel& kernel, int64_t width);
Result<Work> ChunkForwardWork(const Kernel& kernel, int64_t width);
Result<Work> ChunkBackwardWork(const Kernel& kernel, int64_t width);

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_PASSES_H_
