// What this machine can do at best, to hold every measurement against.
#ifndef SACCADE_BENCH_PEAKS_H_
#define SACCADE_BENCH_PEAKS_H_

#include "bench/memory_block.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade::bench {

/// f32 multiply-and-adds on the widest vectors of the chosen target, in
/// independent chains in registers, on `threads` threads at once for about two
/// milliseconds; of bf16 its dot products where MultipliesBF16(). FLOP/s of all
/// together, two per multiply-and-add.
double SampleFmaPeak(int threads, DType dtype = DType::kF32);

/// Seconds of processor time that the calling thread has had: what others took
/// of its core does not count.
double OwnSeconds();

/// The FMA peak of the calling thread, in FLOP per own second.
double SampleOwnFmaPeak(DType dtype = DType::kF32);

/// Reads a block far larger than the caches, each thread its own part in eight
/// streams.
class StreamPeak {
 public:
  /// kExhausted when there is no memory for a block of that many bytes.
  static Result<StreamPeak> Make(size_t bytes = size_t{256} << 20);

  /// Bytes per second read by `threads` threads together, the block once.
  double Sample(int threads) const;

  /// The same of the calling thread alone, per own second.
  double SampleOwn() const;

 private:
  MemoryBlock block_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PEAKS_H_
