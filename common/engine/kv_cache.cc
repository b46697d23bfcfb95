#include "engine/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "arena.h"

namespace saccade {

struct KvCache::Header {
  uint64_t mark;
  int64_t tokens;
  int64_t start;  // position in the first row after the sinks
};

namespace {

constexpr int64_t kRowPad = 32;  // rows: every head starts a cache line

// Slack of a window, in tokens: moves of rows stay a small part of the work,
// and a prompt is cut into pieces large enough for the tiled kernel.
constexpr int64_t kLeastSlack = 64, kPiece = 256;

// Prompts are copied by all slots; the few rows of a decoding step would take
// less time than waking them.
constexpr int64_t kSerialRows = 8;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

KvCache::KvCache(const Shape& shape) : shape_(shape) {
  static_assert(sizeof(Header) <= kAlign);
  Shape& s = shape_;
  rows_ = s.capacity;
  step_ = s.append;
  if (s.reach < s.capacity && s.sinks < s.capacity) {
    const int64_t slack =
        std::max({kLeastSlack, s.reach / 4, std::min(s.append, kPiece)});
    const int64_t rows = s.sinks + s.reach + slack;
    if (rows < rows_) {
      rows_ = rows;
      step_ = std::min(step_, slack);
    }
  }
  if (rows_ == s.capacity) s.sinks = 0, s.reach = kFar;  // all are kept
  const int64_t padded = RoundUp(rows_, kRowPad);
  const size_t heads = static_cast<size_t>(s.batch * s.heads * padded) *
                       static_cast<size_t>(SizeOf(s.dtype));
  k_bytes_ = heads * static_cast<size_t>(s.qk_dim);
  bytes_ = kAlign + k_bytes_ + heads * static_cast<size_t>(s.v_dim);
}

// Tells the states of different caches apart, and both from garbage.
uint64_t KvCache::Mark() const {
  uint64_t mark = 0x5361636b76303101;
  for (const int64_t x : {shape_.batch, shape_.heads, shape_.qk_dim,
                          shape_.v_dim, SizeOf(shape_.dtype), shape_.capacity,
                          shape_.sinks, shape_.reach, rows_})
    mark = (mark ^ static_cast<uint64_t>(x)) * 0x100000001b3;
  return mark;
}

KvCache::Header* KvCache::At(Bytes state) const {
  return reinterpret_cast<Header*>(state.data());
}

void KvCache::Reset(Bytes state) const {
  *At(state) = {Mark(), 0, shape_.sinks};
}

KvCache::Held KvCache::View(const Header& header, Bytes state) const {
  const Shape& s = shape_;
  const int64_t padded = RoundUp(rows_, kRowPad);
  Held held;
  held.tokens = header.tokens;
  if (header.start > s.sinks) {
    held.split = s.sinks;
    held.shift = header.start - s.sinks;
  }
  std::byte* const base = state.data() + kAlign;
  held.k =
      Contiguous<const void>(base, s.dtype, s.batch, s.heads, padded, s.qk_dim);
  held.v = Contiguous<const void>(base + k_bytes_, s.dtype, s.batch, s.heads,
                                  padded, s.v_dim);
  held.k.len = held.v.len = header.tokens - held.shift;
  return held;
}

Result<KvCache::Held> KvCache::Open(Bytes state) const {
  const Header& h = *At(state);
  // A start that Append could not have left would send reads out of bounds.
  const bool sound =
      h.mark == Mark() && h.tokens >= 0 && h.tokens <= shape_.capacity &&
      h.start >= shape_.sinks &&
      (h.start == shape_.sinks ||
       (h.tokens - h.start >= shape_.reach && h.start <= h.tokens)) &&
      h.tokens - (h.start - shape_.sinks) <= rows_;
  if (!sound)
    return Invalid(
        "state is not that of a sequence of this plan: Reset makes it one");
  return View(h, state);
}

void KvCache::Append(Bytes state, Held& held, const ConstView& k,
                     const ConstView& v, int64_t first, int64_t n,
                     Exec& exec) const {
  const Shape& s = shape_;
  Header& header = *At(state);
  const int64_t used = header.tokens - held.shift;
  // The last `reach` rows before the new ones are all that these can see.
  const bool compact = used + n > rows_;
  const int64_t from = used - s.reach;
  const int64_t row = compact ? s.sinks + s.reach : used;

  const auto head = [&](int64_t task, int) {
    const int64_t b = task / s.heads, h = task % s.heads;
    const auto copy = [&](const ConstView& held_rows, const ConstView& fresh) {
      const int64_t element = SizeOf(s.dtype);
      const auto bytes = static_cast<size_t>(fresh.dim * element);
      const auto at = [&](const ConstView& x, int64_t r) {
        return static_cast<const std::byte*>(x.data) +
               (b * x.batch_stride + h * x.head_stride + r * x.row_stride) *
                   element;
      };
      const auto place = [&](int64_t r) {
        return const_cast<std::byte*>(at(held_rows, r));
      };
      if (compact)
        std::memmove(place(s.sinks), at(held_rows, from),
                     static_cast<size_t>(s.reach) * bytes);
      for (int64_t t = 0; t < n; ++t)
        std::memcpy(place(row + t), at(fresh, first + t), bytes);
    };
    copy(held.k, k);
    copy(held.v, v);
  };
  const int64_t heads = s.batch * s.heads;
  if (n <= kSerialRows && !compact) {
    for (int64_t task = 0; task < heads; ++task) head(task, 0);
  } else {
    exec.For(heads, head);
  }

  header.tokens += n;
  if (compact) header.start = header.tokens - n - s.reach;
  held = View(header, state);
}

}  // namespace saccade
