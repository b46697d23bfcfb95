#include "saccade/paged_cache.h"

#include <algorithm>
#include <string>

#include "rows.h"

namespace saccade {

PagedCache::PagedCache(const Shape& shape)
    : shape_(shape), width_(PagesFor(shape.kv_len)) {
  const int64_t rows = shape.pages * shape.page;
  const auto bytes = [&](int64_t dim) {
    return static_cast<size_t>(
        (shape.kv_heads * rows * dim * SizeOf(shape.dtype) + 63) / 64 * 64);
  };
  memory_ = Buffer(bytes(shape.qk_dim) + bytes(shape.v_dim));
  std::byte* const at = memory_.as<std::byte>();
  k_ = Contiguous<void>(at, shape.dtype, 1, shape.kv_heads, rows, shape.qk_dim);
  v_ = Contiguous<void>(at + bytes(shape.qk_dim), shape.dtype, 1,
                        shape.kv_heads, rows, shape.v_dim);
  for (int64_t page = shape.pages; page > 0; --page)
    free_.push_back(static_cast<int32_t>(page - 1));
  lens_.assign(At(shape.sequences), -1);
  tables_.assign(At(shape.sequences * width_), 0);
  step_lens_.reserve(lens_.size());
  step_tables_.reserve(tables_.size());
}

Result<PagedCache> PagedCache::Make(const Shape& s) {
  const struct {
    const char* name;
    int64_t value, least;
  } sizes[] = {{"kv_heads", s.kv_heads, 1}, {"qk_dim", s.qk_dim, 1},
               {"v_dim", s.v_dim, 1},       {"page", s.page, 1},
               {"pages", s.pages, 0},       {"sequences", s.sequences, 1},
               {"kv_len", s.kv_len, 0}};
  for (const auto& size : sizes)
    if (size.value < size.least || size.value > (int64_t{1} << 30))
      return Invalid(std::string("paged cache: ") + size.name + " is " +
                     std::to_string(size.value) + ", must be from " +
                     std::to_string(size.least) + " to 2^30");
  int64_t product = 1;
  for (const int64_t n :
       {s.kv_heads, s.page, s.pages, std::max(s.qk_dim, s.v_dim), int64_t{4}})
    if (__builtin_mul_overflow(product, n, &product) ||
        product > (int64_t{1} << 50))
      return Exhausted("paged cache: its pages would pass 2^50 bytes");
  if (s.pages * s.page > (int64_t{1} << 31) - 1)
    return Invalid("paged cache: more than 2^31 - 1 rows");
  if ((s.kv_len + s.page - 1) / s.page * s.sequences > (int64_t{1} << 31))
    return Exhausted("paged cache: its tables would pass 2^31 entries");
  return PagedCache(s);
}

bool PagedCache::Lives(int32_t sequence) const {
  return sequence >= 0 && At(sequence) < lens_.size() &&
         lens_[At(sequence)] >= 0;
}

Result<int32_t> PagedCache::Begin() {
  const auto at = std::find(lens_.begin(), lens_.end(), -1);
  if (at == lens_.end())
    return Exhausted("paged cache: all " + std::to_string(lens_.size()) +
                     " sequences are in use");
  *at = 0;
  return static_cast<int32_t>(at - lens_.begin());
}

Status PagedCache::End(int32_t sequence) {
  if (!Lives(sequence))
    return Invalid("paged cache: no sequence " + std::to_string(sequence));
  const int32_t* const table = tables_.data() + sequence * width_;
  for (int64_t n = PagesFor(lens_[At(sequence)]); n > 0; --n)
    free_.push_back(table[n - 1]);
  lens_[At(sequence)] = -1;
  return {};
}

Status PagedCache::CheckAppend(std::span<const int32_t> sequences,
                               std::span<const int32_t> starts,
                               const ConstView& k, const ConstView& v) const {
  if (starts.size() != sequences.size() + 1 || starts.front() != 0 ||
      starts.back() != k.len || k.len != v.len)
    return Invalid("paged cache: starts do not cut the rows of k and v");
  if (k.heads != k_.heads || v.heads != v_.heads || k.dim != k_.dim ||
      v.dim != v_.dim || k.dtype != k_.dtype || v.dtype != v_.dtype)
    return Invalid("paged cache: k or v is of another shape or type");
  if (k.len > 0 && (k.data == nullptr || v.data == nullptr))
    return Invalid("paged cache: k or v is null");
  int64_t pages = 0;
  for (size_t n = 0; n < sequences.size(); ++n) {
    const int32_t s = sequences[n];
    if (!Lives(s))
      return Invalid("paged cache: no sequence " + std::to_string(s));
    if (std::count(sequences.begin(), sequences.end(), s) > 1)
      return Invalid("paged cache: sequence " + std::to_string(s) +
                     " is named twice");
    const int64_t fresh = int64_t{starts[n + 1]} - starts[n];
    const int64_t held = lens_[At(s)];
    if (fresh < 0)
      return Invalid("paged cache: starts do not cut the rows of k and v");
    if (held + fresh > shape_.kv_len)
      return Exhausted("paged cache: sequence " + std::to_string(s) +
                       " would have " + std::to_string(held + fresh) +
                       " tokens, of " + std::to_string(shape_.kv_len));
    pages += PagesFor(held + fresh) - PagesFor(held);
  }
  if (pages > free_pages())
    return Exhausted("paged cache: " + std::to_string(pages) +
                     " more pages are needed, " + std::to_string(free_pages()) +
                     " are free");
  return {};
}

Status PagedCache::Append(std::span<const int32_t> sequences,
                          std::span<const int32_t> starts, const ConstView& k,
                          const ConstView& v) {
  if (Status s = CheckAppend(sequences, starts, k, v); !s.ok()) return s;
  for (size_t n = 0; n < sequences.size(); ++n) {
    const int32_t s = sequences[n];
    const int64_t fresh = starts[n + 1] - starts[n], held = lens_[At(s)];
    int32_t* const table = tables_.data() + s * width_;
    for (int64_t i = PagesFor(held); i < PagesFor(held + fresh); ++i) {
      table[i] = free_.back();
      free_.pop_back();
    }
    const auto row = [&](int64_t t) {
      const int64_t p = held + t;
      return table[p / shape_.page] * shape_.page + p % shape_.page;
    };
    CopyRows(k, 0, starts[n], fresh, k_, 0, row);
    CopyRows(v, 0, starts[n], fresh, v_, 0, row);
    lens_[At(s)] = static_cast<int32_t>(held + fresh);
  }
  return {};
}

Sequences PagedCache::Describe(std::span<const int32_t> sequences,
                               std::span<const int32_t> q_starts) {
  step_lens_.clear();
  step_tables_.clear();
  for (const int32_t s : sequences) {
    // An unknown one has no keys, and its queries see nothing.
    const bool lives = Lives(s);
    step_lens_.push_back(lives ? lens_[At(s)] : 0);
    const int32_t* const table = tables_.data() + (lives ? s : 0) * width_;
    step_tables_.insert(step_tables_.end(), table, table + width_);
  }
  return {.q_starts = q_starts,
          .kv_lens = step_lens_,
          .pages = step_tables_,
          .page = shape_.page};
}

}  // namespace saccade
