// Keys and values of many sequences that are decoded at once, in pages that
// they share: a sequence takes a page when it grows and gives all back when it
// ends.
//
//   auto cache = saccade::PagedCache::Make({.kv_heads = 8, .qk_dim = 64,
//       .v_dim = 64, .pages = 4096, .sequences = 32, .kv_len = 32768});
//   int32_t s = *cache->Begin();                    // as often as they come
//   cache->Append({&s, 1}, starts, k, v);           // each step: new rows,
//   attention->ForwardSequences({q, cache->k(), cache->v()}, {out},
//                               cache->Describe({&s, 1}, starts));
//   cache->End(s);
#ifndef SACCADE_PAGED_CACHE_H_
#define SACCADE_PAGED_CACHE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "saccade/attention.h"
#include "saccade/export.h"
#include "saccade/plan.h"
#include "saccade/status.h"
#include "saccade/tensor.h"

namespace saccade {

/// A pool of pages. Allocates when it is made, and never after. Used by one
/// thread at a time.
class SACCADE_API PagedCache {
 public:
  struct Shape {
    int64_t kv_heads = 1;
    int64_t qk_dim = 0, v_dim = 0;
    DType dtype = DType::kF32;
    int64_t page = 64;      // tokens: a power of two keeps tiles whole
    int64_t pages = 0;      // in the pool
    int64_t sequences = 1;  // at once
    int64_t kv_len = 0;     // tokens of the longest
  };

  /// kInvalid where a size makes no sense; kExhausted where the pool would pass
  /// 2^50 bytes.
  static Result<PagedCache> Make(const Shape& shape);

  /// A new, empty sequence's number. kExhausted when all are in use.
  Result<int32_t> Begin();
  /// Gives its pages back. kInvalid where there is no such sequence.
  Status End(int32_t sequence);

  /// Appends rows starts[s] .. starts[s + 1] - 1 of k [1, kv_heads, all,
  /// qk_dim] and of v to sequences[s]. kExhausted, before anything is written,
  /// where pages run out or a sequence would pass kv_len.
  Status Append(std::span<const int32_t> sequences,
                std::span<const int32_t> starts, const ConstView& k,
                const ConstView& v);

  /// What Plan::ForwardSequences is to read for these sequences, whose queries
  /// are rows q_starts of q. Valid until the next call of a member.
  Sequences Describe(std::span<const int32_t> sequences,
                     std::span<const int32_t> q_starts);

  ConstView k() const { return k_; }
  ConstView v() const { return v_; }
  int64_t tokens(int32_t sequence) const { return lens_[At(sequence)]; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }

 private:
  explicit PagedCache(const Shape& shape);
  static size_t At(int64_t n) { return static_cast<size_t>(n); }
  bool Lives(int32_t sequence) const;
  int64_t PagesFor(int64_t tokens) const {
    return (tokens + shape_.page - 1) / shape_.page;
  }
  Status CheckAppend(std::span<const int32_t> sequences,
                     std::span<const int32_t> starts, const ConstView& k,
                     const ConstView& v) const;

  Shape shape_;
  int64_t width_;  // pages of the longest sequence
  Buffer memory_;
  View k_, v_;
  std::vector<int32_t> free_;                     // pages, the next one last
  std::vector<int32_t> lens_;                     // by sequence; -1: not in use
  std::vector<int32_t> tables_;                   // [sequence][width]
  std::vector<int32_t> step_lens_, step_tables_;  // what Describe shows
};

}  // namespace saccade

#endif  // SACCADE_PAGED_CACHE_H_
