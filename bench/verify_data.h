// What checks are made of: guarded memory, tensors of any layout, an Exec with
// many slots on one thread, and inputs made to be hostile.
#ifndef SACCADE_BENCH_VERIFY_DATA_H_
#define SACCADE_BENCH_VERIFY_DATA_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// Numbers that are the same everywhere for a seed (splitmix64).
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  /// 0 .. n - 1; n > 0.
  int64_t Below(int64_t n);
  /// In [0, 1).
  double Uniform();
  /// Standard normal.
  double Normal();

 private:
  uint64_t state_;
};

/// The value a storage type keeps: round to nearest, ties to even.
double Stored(double x, DType dtype);

/// `size` bytes, aligned to 64, every bit set: a NaN as f32 and as bf16, -1 as
/// an integer. Guards on both sides tell overruns; under ASan they are out of
/// bounds.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  Bytes bytes() const { return {memory_ + kGuard, size_}; }
  void Poison();
  /// Whether nothing was written outside of bytes().
  bool Intact() const;

 private:
  static constexpr size_t kGuard = 256;
  size_t size_;
  std::byte* memory_;
};

/// A [batch, heads, len, dim] tensor in guarded memory.
class Tensor {
 public:
  Tensor(int64_t batch, int64_t heads, int64_t len, int64_t dim, DType dtype,
         Layout layout);

  const View& view() const { return view_; }
  /// Values in [B, H, T, D] order, rounded to the storage type.
  void Set(const std::vector<double>& values);
  std::vector<double> Get() const;
  /// One element by its [B, H, T, D] index.
  void SetAt(int64_t index, double value);
  void Poison() { memory_.Poison(); }
  /// All of it, gaps too.
  Bytes memory() const { return memory_.bytes(); }
  /// Whether guards and gaps are as they were made.
  bool Intact() const;
  /// Everything, gaps too, to compare with later.
  std::vector<std::byte> Snapshot() const;

 private:
  static int64_t Extent(const View& view);
  std::byte* At(int64_t b, int64_t h, int64_t t) const;
  void SetRow(int64_t n, int64_t c, const double* values, int64_t count);

  View view_;
  GuardedBytes memory_;
};

/// A caller's mask in guarded memory.
class MaskTensor {
 public:
  /// `shape`: sizes and element; `dense`: [batch, heads, q_len, kv_len] of the
  /// problem, of which the mask holds what its sizes leave.
  MaskTensor(const MaskView& shape, const Problem& problem,
             const std::vector<double>& dense, Layout layout);
  const MaskView& view() const { return view_; }
  Bytes memory() const { return memory_->bytes(); }
  bool Intact() const { return memory_->Intact(); }

 private:
  MaskView view_;
  std::unique_ptr<GuardedBytes> memory_;
};

/// Runs tasks in order on the calling thread, handing out its slots in turn.
class SlotExec final : public Exec {
 public:
  explicit SlotExec(int slots) : slots_(slots) {}
  int slots() const override { return slots_; }
  void For(int64_t tasks, LoopBody body) override;

 private:
  int slots_;
  int next_ = 0;
};

/// Dense inputs in [B, H, T, D] order, as the storage type keeps them.
struct Data {
  std::vector<double> q, k, v, dout;
  std::vector<double> bias;  // learned parameters, f32 [Hq, n]
  std::array<std::vector<double>, kMaxExtras> extra;
  std::vector<double> attn_mask;  // [B, Hq, Tq, Tk], or none
  MaskView mask_shape;            // of the caller's mask: sizes, and element

  OracleInputs inputs() const;
};

/// Shape of an extra input of a variant for a problem.
struct ExtraShape {
  int64_t heads, len, dim;
};
ExtraShape ShapeOf(const ExtraInput& extra, const Problem& problem);

/// The inputs of a case; `problem` is resolved.
Data MakeData(const CheckCase& c, const Problem& problem);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERIFY_DATA_H_
