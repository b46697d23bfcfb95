// One cell of a comparison: a variant, a problem and a pass, made ready to run.
#ifndef SACCADE_BENCH_WORKLOAD_H_
#define SACCADE_BENCH_WORKLOAD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/interrupt.h"
#include "bench/memory_block.h"
#include "bench/verify.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// "forward", "backward", "decode"; kNotFound for anything else.
Result<Pass> ParsePass(std::string_view name);

inline constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};
inline constexpr Mask kMasks[] = {Mask::kNone, Mask::kCausal,
                                  Mask::kCausalTopLeft};

/// Heads of a comparison: variants of another layer shape (Variant::layer)
/// get theirs for the same width of the model.
struct Shape {
  int64_t batch = 1;
  int64_t heads = 4, kv_heads = 0;  // 0: as many as heads
  int64_t dim = 64;
  Mask mask = Mask::kCausal;
};

/// What caches hold when a timed run begins.
enum class Cache : uint8_t {
  kWarm,  // what the run before left there
  kCold,  // nothing of the cell
};
std::string_view NameOf(Cache cache);  // "warm", "cold"

/// A spec string at a length: tokens for forward and backward, context for
/// decode.
struct CellSpec {
  std::string spec;
  Shape shape;
  Pass pass = Pass::kForward;
  DType dtype = DType::kF32;
  int64_t length = 0;
  int threads = 1;
  Cache cache = Cache::kWarm;
};

class Peer;

/// Bytes that a cell needs beyond its tensors, by the plan.
struct Needs {
  size_t scratch = 0;  // for backward, of the forward pass before it too
  size_t saved = 0;
  size_t state = 0;
};

/// What a cell runs, looked up and planned; no tensors yet.
struct PlannedCell {
  CellSpec cell;
  const Variant* variant = nullptr;
  Peer* peer = nullptr;  // who runs it; null: the variant, by the plan
  std::string computes;  // the spec; of a peer, that whose function it computes
  Problem problem;       // resolved; q_len 1 and kv_len the context for decode
  std::unique_ptr<Plan> plan;  // of another problem for decode, see `capacity`
  int64_t chunk = 0;           // decode: tokens that the plan takes at once
  int64_t capacity = 0;        // decode: tokens that the state can hold
  Footprint memory;            // for cell.threads slots
  Cost cost;                   // of `problem`

  double flops() const;  // of one run of the pass
  double bytes() const;  // read and written at least, once each
  Needs needs() const;
  /// Bytes of everything that a Workload allocates.
  size_t TotalBytes() const;
  /// Bytes of inputs and outputs of one pass alone.
  size_t TensorBytes() const;
};

/// kInvalid, kNotFound or kUnsupported, with the reason.
Result<PlannedCell> PlanCell(const CellSpec& cell);

/// Fills a contiguous tensor with normal numbers from `seed`. The tensors of a
/// pass are numbered from 1 (q, k, v, out, extras, dout); each has its own.
void FillNormal(const View& view, uint64_t seed, int number);

/// Tensors and buffers of a cell, filled, and the pass to be run over them.
class Workload {
 public:
  /// Allocates and fills. Fills from `seed` alone. kExhausted when there is
  /// no memory. Runs nothing yet.
  static Result<std::unique_ptr<Workload>> Make(const PlannedCell* planned,
                                                Pages pages, uint64_t seed);

  /// Scratch, saved and state, allocated separately so that their growth can
  /// be told from the tensors'.
  Status Allocate();

  /// What must come before the pass and is not timed: a forward pass for
  /// backward, a context of length - 1 tokens for decode.
  Status Prepare(Exec& exec);

  /// Decode only: makes room for `runs` runs without straying from the
  /// context's length. A copy of the state, or nothing.
  Status Rewind(int64_t runs);

  /// One pass; for decode one token.
  Status Run(Exec& exec);

  /// Whether the pass wrote only finite numbers.
  bool Finite() const;

  const PlannedCell& planned() const { return planned_; }

 private:
  struct Tensor {
    MemoryBlock memory;
    View view;
  };
  explicit Workload(const PlannedCell& planned) : planned_(planned) {}

  Status MakeTensors(uint64_t seed);
  Result<Tensor> Make(int64_t heads, int64_t len, int64_t dim) const;
  Inputs Rows(int64_t begin, int64_t end) const;
  Status ExtendBy(int64_t tokens, Exec& exec);

  const PlannedCell& planned_;
  Pages pages_ = Pages::kSmall;
  Tensor q_, k_, v_, out_, dout_, dq_, dk_, dv_;
  std::vector<Tensor> extras_, dextras_;
  MemoryBlock scratch_, saved_, state_, snapshot_;
  int64_t held_ = 0;           // tokens in the state
  int64_t snapshot_held_ = 0;  // tokens in the copy of it
};

/// A workload that was run once or twice: the first run touches scratch and
/// wakes the threads, the second is what the others will be like. A long one
/// tells enough at once.
struct WarmWorkload {
  std::unique_ptr<Workload> workload;
  double before = 0;   // seconds of what is not timed, Prepare
  double seconds = 0;  // of the last run
};
Result<WarmWorkload> MakeWarm(const PlannedCell* planned, uint64_t seed,
                              Exec& exec, const StopFlag* stop);

/// Runs of a pass that takes `seconds`, for a sample of at least
/// `sample_seconds`; fewer where the state of decode has room for fewer.
int64_t RunsOfSample(const PlannedCell& planned, double seconds,
                     double sample_seconds);

/// Seconds of one run, of so many in a row; after Rewind(runs). `handicap`
/// makes them longer by this share.
Result<double> TimeRuns(Workload* work, int64_t runs, double handicap,
                        Exec& exec);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_WORKLOAD_H_
