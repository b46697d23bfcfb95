// The keys that a tile of queries sees, cut into strips that a kernel can run
// through: each unmasked, or masked and as narrow as what it sees.
#ifndef SACCADE_COMMON_ENGINE_TILE_STRIPS_H_
#define SACCADE_COMMON_ENGINE_TILE_STRIPS_H_

#include <algorithm>
#include <cstdint>

#include "engine/pattern.h"

namespace saccade {

constexpr int kKeyBlock = 256;  // keys in a batch, at most
constexpr int kMaxStrips = 64;  // strips in a batch, at most
constexpr int kMaxTile = 64;    // queries in a tile, at most, on any target

/// A tile's queries stand in `vecs` vectors of `lanes`; a register tile takes
/// `rows` keys at a time. `splits`: it can run through split strips.
struct TileShape {
  int lanes = 0, vecs = 0, rows = 0;
  bool splits = false;
  int queries() const { return lanes * vecs; }
  /// Vectors that hold that many queries.
  constexpr int VecsOf(int64_t n) const {
    return static_cast<int>((n + lanes - 1) / lanes);
  }
};

/// Keys key .. key + keys - 1, seen by vectors first_vec .. first_vec + vecs -
/// 1 of the tile; by all their lanes unless masked. `row` is the first key's
/// row in the tensors, `start` its place in the batch.
///
/// Split: the lanes that no longer see key i of these see key other_key + i,
/// which those before do not see yet, so that no lane is idle; see
/// tile_split-inl.h.
struct Strip {
  int64_t key, row;
  int start, keys;
  int first_vec, vecs;
  bool masked;
  bool split = false;
  // When split: `keys` of those, or one less.
  int64_t other_key = 0, other_row = 0;
  int others = 0;
};

/// Behind the last key of a strip.
inline int64_t EndOf(const Strip& strip) {
  return strip.split ? strip.other_key + strip.others : strip.key + strip.keys;
}

/// Strips whose scores are held at once.
struct Batch {
  int strips, keys;
  Strip strip[kMaxStrips];
  // Lanes of the tile that see a key of a masked or split strip, by place in
  // the batch; as floats, which compare with lanes straight from memory.
  float seen_begin[kKeyBlock], seen_end[kKeyBlock];

  void Clear() { strips = keys = 0; }
};

/// Cuts runs of keys into batches, and hands each batch on when it is full.
/// Keys are in the coordinates of one residue class (see pattern.h).
///
/// On the diagonal of a causal mask strips get `lanes` keys and shrink from all
/// vectors to one; keys next to it are moved between strips so that as few as
/// possible are left over when taken shape.rows at a time. The two borders of a
/// window become split strips.
template <class Compute>
class StripCutter {
 public:
  StripCutter(const Part& part, Interval queries, TileShape shape, Batch& batch,
              Compute& compute)
      : part_(part),
        queries_(queries),
        shape_(shape),
        vecs_(shape.VecsOf(queries.size())),
        batch_(batch),
        compute_(compute) {
    batch_.Clear();
  }

  /// Adds keys; the first one stands in row `row`, the others `step` apart.
  void Add(Interval keys, int64_t row, int64_t step) {
    row_ = row - keys.begin * step;
    step_ = step;
    if (part_.kind == Part::Kind::kBand) return AddBand(keys);
    for (int64_t j = keys.begin; j < keys.end; j += kKeyBlock)
      Split({j, std::min(keys.end, j + kKeyBlock)});
  }

  void Flush() {
    if (batch_.strips > 0) compute_(batch_);
    batch_.Clear();
  }

 private:
  static constexpr int64_t kSmall = 16;  // keys worth looking at one by one

  // Keys before, of, and after those that all queries see.
  void AddBand(Interval keys) {
    const bool sinks = keys.begin < part_.sinks;
    const int64_t low = sinks ? part_.low : std::max(part_.low, -part_.reach);
    const int64_t high = sinks ? part_.high : std::min(part_.high, part_.reach);
    const Interval full =
        Interval{queries_.end - 1 - high, queries_.begin - low + 1}.Cut(keys);
    if (full.empty()) return AddBorder(keys, low, high);
    const int64_t border = queries_.size() - 1;
    if (shape_.splits && queries_.size() == shape_.queries() &&
        full.begin - keys.begin == border && keys.end - full.end == border) {
      AddSplit(keys.begin, full.end);
      return AddFull({full.begin + 1, full.end});
    }
    AddBorder({keys.begin, full.begin}, low, high);
    AddFull(full);
    AddBorder({full.end, keys.end}, low, high);
  }

  // Key j is seen by queries j + low .. j + high. Keys that are seen by the
  // same vectors are added at once.
  void AddBorder(Interval keys, int64_t low, int64_t high) {
    const int64_t lanes = shape_.lanes;
    while (!keys.empty()) {
      const int64_t begin = keys.begin + low - queries_.begin;
      const int64_t end = keys.begin + high + 1 - queries_.begin;
      // Until `begin` or `end` comes to its next vector, or to the tile.
      int64_t n = keys.size();
      n = std::min(n, begin < 0 ? lanes - begin : lanes - begin % lanes);
      if (end < queries_.size())
        n = std::min(n, end <= 0 ? 1 - end : (lanes - end % lanes) % lanes + 1);
      n = AddSeen({keys.begin, keys.begin + n}, {begin, end}, 1);
      keys.begin += n;
    }
  }

  // As many keys from `key` on as there are lanes, of which key i is seen by
  // lanes 0 .. i, and those from `other` on, one less: the lanes behind see
  // these.
  void AddSplit(int64_t key, int64_t other) {
    const int lanes = shape_.lanes;
    if (batch_.keys + shape_.queries() > kKeyBlock ||
        batch_.strips + vecs_ >= kMaxStrips)
      Flush();
    for (int vec = 0; vec < vecs_; ++vec, key += lanes, other += lanes) {
      Strip& strip = Open(key, 0, vecs_, false);
      strip.split = true;
      strip.keys = lanes;
      strip.other_key = other, strip.other_row = RowOf(other);
      strip.others = vec + 1 < vecs_ ? lanes : lanes - 1;
      for (int i = 0; i < lanes; ++i) {
        batch_.seen_begin[batch_.keys + i] = 0;
        batch_.seen_end[batch_.keys + i] =
            static_cast<float>(vec * lanes + i + 1);
      }
      batch_.keys += lanes;
    }
  }

  // Halves what is seen in part until it is small.
  void Split(Interval keys) {
    const Seen seen = part_.See(queries_, keys);
    if (seen == Seen::kNone) return;
    if (seen == Seen::kAll) return AddFull(keys);
    if (keys.size() > kSmall) {
      const int64_t half = (keys.size() / 2 + kSmall - 1) / kSmall * kSmall;
      Split({keys.begin, keys.begin + half});
      Split({keys.begin + half, keys.end});
      return;
    }
    for (int64_t j = keys.begin; j < keys.end; ++j) AddKey(j);
  }

  // The last strip, when `key` would continue it.
  Strip* Last(int64_t key) {
    if (batch_.strips == 0) return nullptr;
    Strip& last = batch_.strip[batch_.strips - 1];
    const bool next = !last.split && last.key + last.keys == key &&
                      last.row + last.keys * step_ == RowOf(key);
    return next ? &last : nullptr;
  }

  bool Whole(const Strip& s) const {
    return s.first_vec == 0 && s.vecs == vecs_;
  }

  void AddFull(Interval keys) {
    while (!keys.empty()) {
      MakeRoom();
      int n = static_cast<int>(
          std::min<int64_t>(keys.size(), kKeyBlock - batch_.keys));
      Strip* const last = Last(keys.begin);
      const int over =
          last && last->masked && Whole(*last) ? last->keys % shape_.rows : 0;
      if (over > 0) {
        n = std::min(n, shape_.rows - over);
        Extend(*last, n);
      } else if (last && !last->masked) {
        Extend(*last, n);
      } else {
        Extend(Open(keys.begin, 0, vecs_, false), n);
      }
      keys.begin += n;
    }
  }

  void AddKey(int64_t key) {
    const Interval seen = part_.Queries(key, queries_);
    if (seen.empty()) return;
    if (seen.size() == queries_.size()) return AddFull({key, key + 1});
    AddSeen({key, key + 1},
            {seen.begin - queries_.begin, seen.end - queries_.begin}, 0);
  }

  // Adds the first of `keys`, all seen by some lanes of the same vectors:
  // the first key by lanes seen.begin .. seen.end - 1 of the tile, each
  // further one by those `move` lanes on. Returns how many keys found room.
  int AddSeen(Interval keys, Interval seen, int move) {
    const auto lanes = static_cast<int64_t>(vecs_) * shape_.lanes;
    const int64_t size = queries_.size();
    // Lanes past the last query may see what they like.
    const auto begin_of = [&](int64_t i) {
      return std::max<int64_t>(0, seen.begin + i * move);
    };
    const auto end_of = [&](int64_t i) {
      const int64_t end = seen.end + i * move;
      return end >= size ? lanes : end;
    };
    if (seen.end <= 0 || seen.begin >= size)
      return static_cast<int>(keys.size());
    MakeRoom();
    const int first = static_cast<int>(begin_of(0)) / shape_.lanes;
    const int vecs =
        (static_cast<int>(end_of(0)) + shape_.lanes - 1) / shape_.lanes - first;
    Strip* last = Last(keys.begin);
    if (last && !last->masked && first == 0 && vecs == vecs_) {
      last = TakeOver(*last);
    } else if (!last || !last->masked || last->first_vec != first ||
               last->vecs != vecs) {
      last = nullptr;
    }
    if (!last) last = &Open(keys.begin, first, vecs, true);
    const int n = static_cast<int>(
        std::min<int64_t>(keys.size(), kKeyBlock - batch_.keys));
    float* const begins = batch_.seen_begin + batch_.keys;
    float* const ends = batch_.seen_end + batch_.keys;
    for (int i = 0; i < n; ++i) {
      begins[i] = static_cast<float>(begin_of(i));
      ends[i] = static_cast<float>(end_of(i));
    }
    last->keys += n;
    batch_.keys += n;
    return n;
  }

  // Makes a masked strip of the keys at the end of an unmasked one that would
  // be left over; null when there are none.
  Strip* TakeOver(Strip& full) {
    const int over = full.keys % shape_.rows;
    if (over == 0) return nullptr;
    if (over == full.keys) {
      full.masked = true;
      Mark(full.start, over);
      return &full;
    }
    full.keys -= over;
    batch_.keys -= over;
    Strip& strip = Open(full.key + full.keys, 0, vecs_, true);
    Extend(strip, over);
    return &strip;
  }

  Strip& Open(int64_t key, int first_vec, int vecs, bool masked) {
    Strip& strip = batch_.strip[batch_.strips++];
    strip = {};
    strip.key = key, strip.row = RowOf(key), strip.start = batch_.keys;
    strip.first_vec = first_vec, strip.vecs = vecs, strip.masked = masked;
    return strip;
  }

  void Extend(Strip& strip, int keys) {
    if (strip.masked) Mark(batch_.keys, keys);
    strip.keys += keys;
    batch_.keys += keys;
  }

  // All lanes see these keys.
  void Mark(int start, int keys) {
    std::fill_n(batch_.seen_begin + start, keys, 0.0f);
    std::fill_n(batch_.seen_end + start, keys,
                static_cast<float>(vecs_ * shape_.lanes));
  }

  // For a key, and two strips: TakeOver opens one besides.
  void MakeRoom() {
    if (batch_.keys == kKeyBlock || batch_.strips + 2 > kMaxStrips) Flush();
  }

  int64_t RowOf(int64_t key) const { return row_ + key * step_; }

  const Part& part_;
  const Interval queries_;
  const TileShape shape_;
  const int vecs_;
  Batch& batch_;
  Compute& compute_;
  int64_t row_ = 0, step_ = 1;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_TILE_STRIPS_H_
