// What a call costs beyond its arithmetic, where there is hardly any.
#ifndef SACCADE_BENCH_KERNELS_OVERHEAD_H_
#define SACCADE_BENCH_KERNELS_OVERHEAD_H_

namespace saccade::bench::kernels {

/// Prints, of each variant, what a forward pass over 16 tokens of one head 64
/// wide takes on the calling thread by each of the library's faces, and how
/// much of it is not arithmetic: what one more such sequence adds to a batch.
/// Returns false where none could be run.
bool PrintOverheads();

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_OVERHEAD_H_
