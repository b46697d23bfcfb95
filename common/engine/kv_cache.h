// Keys and values of a sequence so far, held in a caller's memory between
// Extends. A windowed problem holds no more than its window needs.
#ifndef SACCADE_COMMON_ENGINE_KV_CACHE_H_
#define SACCADE_COMMON_ENGINE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>

#include "engine/pattern.h"
#include "saccade/exec.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// What is held, and where: the caller's memory is a header, then keys
/// [B, H, rows, qk_dim], then values [B, H, rows, v_dim].
///
/// With a finite reach, positions below `sinks` keep their rows and the others
/// follow in a region that is filled to its end and then compacted: the last
/// `reach` rows move to its front. The slack behind them makes that rare:
/// appended one by one, each token is moved about four times at most.
class KvCache {
 public:
  struct Shape {
    int64_t batch = 0, heads = 0;  // of keys and values
    int64_t qk_dim = 0, v_dim = 0;
    DType dtype = DType::kF32;
    int64_t capacity = 0;  // tokens of a sequence
    int64_t append = 0;    // tokens of the largest append that a caller plans
    int64_t sinks = 0;     // first tokens that stay in sight
    int64_t reach = kFar;  // how far back other tokens stay in sight
  };

  /// Where a sequence stands. A position p of it has row
  /// p < split ? p : p - shift.
  struct Held {
    int64_t tokens = 0;
    int64_t split = kFar, shift = 0;
    ConstView k, v;  // len: rows in use
  };

  explicit KvCache(const Shape& shape);

  /// Of the state.
  size_t bytes() const { return bytes_; }
  /// Tokens of the largest Append; more must go in pieces.
  int64_t step() const { return step_; }

  /// Makes `state` an empty sequence.
  void Reset(Bytes state) const;

  /// kInvalid when `state` was not reset for a cache of this shape.
  Result<Held> Open(Bytes state) const;

  /// Adds rows first .. first + n - 1 of k and v; n <= step(), and not more
  /// than capacity in all. `held` follows.
  void Append(Bytes state, Held& held, const ConstView& k, const ConstView& v,
              int64_t first, int64_t n, Exec& exec) const;

 private:
  struct Header;
  Header* At(Bytes state) const;
  Held View(const Header& header, Bytes state) const;
  uint64_t Mark() const;

  Shape shape_;
  int64_t rows_ = 0;  // a head
  int64_t step_ = 0;
  size_t k_bytes_ = 0, bytes_ = 0;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_KV_CACHE_H_
