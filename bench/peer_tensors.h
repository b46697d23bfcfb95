// Tensors of a pass in memory that another process can map as well.
#ifndef SACCADE_BENCH_PEER_TENSORS_H_
#define SACCADE_BENCH_PEER_TENSORS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/verify.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// q, k, v and out, and for backward dout, dq, dk and dv; each contiguous
/// [B, H, T, D], on pages of its own.
class PeerTensors {
 public:
  struct Item {
    std::string_view name;
    bool result = false;  // the peer writes it
    View view;
    size_t offset = 0;  // in the file, bytes
  };

  /// All zeros. kExhausted.
  static Result<PeerTensors> Make(const Problem& problem, Pass pass);
  ~PeerTensors();
  PeerTensors(PeerTensors&& other) noexcept { *this = std::move(other); }
  PeerTensors& operator=(PeerTensors&& other) noexcept;

  /// Every bit of the results set: NaN, until they are written.
  void PoisonResults();

  const std::vector<Item>& items() const { return items_; }
  /// By name; the pass must have it.
  const View& operator[](std::string_view name) const;
  /// Another process of this user opens it while this object lives.
  std::string path() const;

 private:
  PeerTensors() = default;
  int file_ = -1;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::vector<Item> items_;
};

/// Element i of a contiguous view.
double ElementAt(const View& view, int64_t i);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PEER_TENSORS_H_
