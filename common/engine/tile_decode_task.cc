// The tasks of a decoding step: a chunk of keys for a key head, and the merge
// of a head's chunks. See tile_decode.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tile_decode_task.cc"
#include <hwy/foreach_target.h>
// Above this line once, below it once for every target.
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/tile_decode-inl.h"
#include "engine/tile_decode.h"
#include "simd/target.h"

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {

// Keys that are processed together, as rows of the cache.
template <class T>
struct DecodeKeys {
  int64_t n = 0;
  const T* k[kDecodeBlock];
  const T* v[kDecodeBlock];
  int16_t run_end[kDecodeBlock];       // behind the rows from j on that are
  int64_t k_stride = 0, v_stride = 0;  // as far apart as these say
  // With slopes: position of query 0 minus the key's; with a table the same in
  // the part's coordinates, counted as if query 0 stood among its queries.
  alignas(64) float back[kDecodeBlock];
  int64_t part = 0;
  int64_t first = 0, queries = 0;  // the call's query rows that see some
  bool masked = false;             // not every query sees every key
  bool scored = false;             // its scores are made
  uint8_t seen[kDecodeBlock];      // bit t: query first + t sees the key
};

// One task: a chunk of the list for a key head of a sequence.
template <class T>
class DecodeTask {
 public:
  DecodeTask(const DecodeJob& job, int64_t kv_head, int64_t chunk, int slot)
      : job_(job),
        spec_(job.spec),
        call_(*job.call),
        batch_(kv_head / spec_.kv_heads),
        head_(kv_head % spec_.kv_heads),
        begin_(chunk * job.chunk),
        end_(std::min(job.keys, begin_ + job.chunk)),
        part_(job.Partial(kv_head, chunk)),
        q_(job.slot + slot * job.slot_floats),
        s_(q_ + job.most_rows * job.d_pad) {}

  HWY_NOINLINE void Run() {
    LoadQueries();
    for (int64_t r = 0; r < call_.q.len * job_.group; ++r) {
      part_.m[r] = kDecodeLowest;
      part_.l[r] = 0;
      std::fill_n(part_.o + r * job_.e_pad, job_.e_pad, 0.0f);
    }
    int64_t listed = 0;  // keys before the run at hand
    ForGroups(
        spec_.pattern, call_.q_position, call_.q.len, call_.kv_end,
        [&](const DecodeGroup& group) HWY_ATTR {
          group.part->ForKeys(
              group.queries, group.keys, [&](Interval run) HWY_ATTR {
                const Interval mine =
                    Interval{begin_ - listed, end_ - listed}.Cut(
                        {0, run.size()});
                if (!mine.empty())
                  Gather(group, {run.begin + mine.begin, run.begin + mine.end});
                listed += run.size();
              });
          Finish(group);
        });
    if (waiting_) Process(blocks_[1 - at_], nullptr);
  }

 private:
  // q [R, d_pad], scaled so that weights are powers of two, 0 behind qk_dim.
  HWY_INLINE void LoadQueries() {
    const bool softmax = spec_.normaliser == Normaliser::kSoftmax;
    const float scale = softmax ? spec_.scale * kLog2E : spec_.scale;
    for (int64_t t = 0; t < call_.q.len; ++t) {
      for (int64_t g = 0; g < job_.group; ++g) {
        const T* const from = call_.q.Row<T>(batch_, head_ * job_.group + g, t);
        float* const to = q_ + (t * job_.group + g) * job_.d_pad;
        for (int64_t c = 0; c < spec_.qk_dim; ++c)
          to[c] = scale * AsFloat(from[c]);
        std::fill(to + spec_.qk_dim, to + job_.d_pad, 0.0f);
      }
    }
  }

  // Adds a run's keys to the block at hand, and finishes it when it is full.
  HWY_INLINE void Gather(const DecodeGroup& group, Interval run) {
    while (!run.empty()) {
      DecodeKeys<T>& keys = blocks_[at_];
      const int64_t step = group.part->step;
      const int64_t position = group.residue + step * run.begin;
      int64_t n = std::min(run.size(), kDecodeBlock - keys.n);
      if (step == 1) n = call_.RowsEnd(position, position + n) - position;
      const Interval piece{run.begin, run.begin + n};
      const int64_t row = call_.KeyRow(position);
      const T* const k = call_.k.Row<T>(batch_, head_, row);
      const T* const v = call_.v.Row<T>(batch_, head_, row);
      keys.k_stride = step * call_.k.row_stride;
      keys.v_stride = step * call_.v.row_stride;
      for (int64_t j = 0; j < n; ++j) {
        keys.k[keys.n + j] = k + j * keys.k_stride;
        keys.v[keys.n + j] = v + j * keys.v_stride;
      }
      std::fill_n(keys.run_end + keys.n, n, static_cast<int16_t>(keys.n + n));
      if (!spec_.slopes.empty())
        for (int64_t j = 0; j < n; ++j)
          keys.back[keys.n + j] =
              static_cast<float>(call_.q_position - position - j * step);
      if (call_.bias != nullptr)
        for (int64_t j = 0; j < n; ++j)
          keys.back[keys.n + j] = static_cast<float>(
              group.queries.begin - group.first - piece.begin - j);
      Look(group, piece, keys);
      keys.n += n;
      run.begin += n;
      if (keys.n == kDecodeBlock) Finish(group);
    }
  }

  // Notes which queries see the piece, unless all see all of it.
  HWY_INLINE void Look(const DecodeGroup& group, Interval piece,
                       DecodeKeys<T>& keys) {
    const Part& part = *group.part;
    const auto all = static_cast<uint8_t>((1 << group.queries.size()) - 1);
    uint8_t* const seen = keys.seen + keys.n;
    if (part.See(group.queries, piece) == Seen::kAll) {
      std::fill_n(seen, piece.size(), all);
      return;
    }
    keys.masked = true;
    for (int64_t j = piece.begin; j < piece.end; ++j) {
      const Interval by = part.Queries(j, group.queries);
      const int64_t first = by.begin - group.queries.begin;
      seen[j - piece.begin] = static_cast<uint8_t>(
          by.empty() ? 0 : ((1 << by.size()) - 1) << first);
    }
  }

  // The block at hand waits until the next is known, whose scores are made
  // while its values are read.
  HWY_INLINE void Finish(const DecodeGroup& group) {
    DecodeKeys<T>& keys = blocks_[at_];
    if (keys.n == 0) return;
    keys.first = group.first;
    keys.part = group.nth;
    keys.queries = group.queries.size();
    if (waiting_) Process(blocks_[1 - at_], &keys);
    waiting_ = true;
    at_ = 1 - at_;
    blocks_[at_].n = 0;
    blocks_[at_].masked = blocks_[at_].scored = false;
  }

  // Under a mask each query takes the keys that it sees and no other, so that
  // none can touch its result.
  HWY_INLINE void Process(DecodeKeys<T>& keys, DecodeKeys<T>* next) {
    if (!keys.masked) {
      Multiply(keys.first, keys.queries, keys, next);
      return;
    }
    DecodeKeys<T> seen;
    seen.part = keys.part;
    seen.k_stride = keys.k_stride;
    seen.v_stride = keys.v_stride;
    for (int64_t t = 0; t < keys.queries; ++t) {
      seen.n = 0;
      for (int64_t j = 0; j < keys.n;) {
        const int64_t first = seen.n;
        for (const int64_t end = keys.run_end[j];
             j < end && (keys.seen[j] >> t & 1); ++j, ++seen.n) {
          seen.k[seen.n] = keys.k[j];
          seen.v[seen.n] = keys.v[j];
          seen.back[seen.n] = keys.back[j];
        }
        std::fill(seen.run_end + first, seen.run_end + seen.n,
                  static_cast<int16_t>(seen.n));
        while (j < keys.n && !(keys.seen[j] >> t & 1)) ++j;
      }
      if (seen.n > 0) Multiply(keys.first + t, 1, seen, nullptr);
    }
  }

  // Queries first .. first + count - 1 of all heads of the group against keys
  // that all of them see.
  HWY_NOINLINE void Multiply(int64_t first, int64_t count, DecodeKeys<T>& keys,
                             DecodeKeys<T>* next) {
    const int64_t begin = first * job_.group, rows = count * job_.group;
    const int64_t padded = PadTo(keys.n, kDecodePad);
    if (!keys.scored) ScoresOf(first, count, keys).MakeRest(0);
    float* const s = SOf(keys) + begin * kDecodeBlock;
    float* const alpha = s_ + 2 * job_.most_rows * kDecodeBlock;
    for (int64_t r = 0; r < rows; ++r) {
      float* const row = s + r * kDecodeBlock;
      if (spec_.softcap > 0) {
        std::fill(row + keys.n, row + padded, 0.0f);
        DecodeCap(spec_.softcap * kLog2E, padded, row);
      }
      if (!spec_.slopes.empty()) {
        std::fill(keys.back + keys.n, keys.back + padded, 0.0f);
        const int64_t g = (begin + r) % job_.group;
        const int64_t t = (begin + r) / job_.group;
        DecodeBias(keys.back, t,
                   Slope(call_.Slope(spec_, batch_, head_ * job_.group + g)),
                   padded, row);
      }
      if (call_.bias != nullptr) {
        const float* const bias = call_.bias->Zero(
            keys.part, head_ * job_.group + (begin + r) % job_.group);
        const int64_t t = (begin + r) / job_.group;
        for (int64_t j = 0; j < keys.n; ++j)
          row[j] += bias[static_cast<int64_t>(keys.back[j]) + t];
      }
      std::fill(row + keys.n, row + padded,
                -std::numeric_limits<float>::infinity());
      alpha[r] = 1;
      if (spec_.normaliser == Normaliser::kSoftmax)
        alpha[r] =
            SoftmaxWeights(row, padded, part_.m[begin + r], part_.l[begin + r]);
      else
        ReluSquaredWeights(row, padded);
    }
    Scores<T> scores;
    // Zen 4 reads one stream faster, unless rows are short.
    const bool two = !OnZen4() || (rows <= 2 && KeyBytes() <= 128);
    if (next != nullptr && !next->masked && two) {
      scores = ScoresOf(next->first, next->queries, *next);
      next->scored = true;
    }
    DecodeValues(RowRuns<T>{keys.v, keys.run_end, keys.v_stride}, keys.n, rows,
                 spec_.v_dim, s, alpha, part_.o + begin * job_.e_pad,
                 job_.e_pad, scores);
  }

  // Of a block's keys: one half of the room is for each of the two blocks.
  HWY_INLINE float* SOf(const DecodeKeys<T>& keys) const {
    return s_ + (&keys == &blocks_[1] ? job_.most_rows * kDecodeBlock : 0);
  }

  int64_t KeyBytes() const {
    return spec_.qk_dim * static_cast<int64_t>(sizeof(T));
  }

  // How to make the scores of queries first .. first + count - 1.
  HWY_INLINE Scores<T> ScoresOf(int64_t first, int64_t count,
                                DecodeKeys<T>& keys) const {
    for (int64_t j = keys.n; j < PadTo(keys.n, kDotKeys); ++j)
      keys.k[j] = keys.k[keys.n - 1];
    const int64_t begin = first * job_.group;
    return {.keys = {keys.k, keys.run_end, keys.k_stride},
            .values = keys.v,
            .n = keys.n,
            .q = q_ + begin * job_.d_pad,
            .q_ld = job_.d_pad,
            .rows = count * job_.group,
            .dim = spec_.qk_dim,
            .v_dim = spec_.v_dim,
            .s = SOf(keys) + begin * kDecodeBlock,
            .asks = !OnZen4(),
            .wide = KeyBytes() >= 512,
            .ahead = std::clamp<int64_t>(4096 / KeyBytes(), 4, 64)};
  }

  float Slope(float slope) const {
    return spec_.normaliser == Normaliser::kSoftmax ? slope * kLog2E : slope;
  }

  const DecodeJob& job_;
  const TileSpec& spec_;
  const TileCall& call_;
  const int64_t batch_, head_;  // of keys
  const int64_t begin_, end_;   // of the list of keys
  const DecodePartial part_;
  float* const q_;           // [R, d_pad]
  float* const s_;           // [2, R, kDecodeBlock], then [R] rescales
  DecodeKeys<T> blocks_[2];  // the one being gathered, and the one before
  int at_ = 0;               // which is being gathered
  bool waiting_ = false;     // the other is to be processed
};

// Merges the rows of one key head and writes them out.
template <class T>
class Merge {
 public:
  Merge(const DecodeJob& job, int64_t kv_head)
      : job_(job),
        spec_(job.spec),
        call_(*job.call),
        kv_head_(kv_head),
        softmax_(spec_.normaliser == Normaliser::kSoftmax) {}

  void Row(int64_t r) const {
    const int64_t b = kv_head_ / spec_.kv_heads;
    const int64_t t = r / job_.group;
    const int64_t h = kv_head_ % spec_.kv_heads * job_.group + r % job_.group;
    const DecodePartial sum = job_.Partial(kv_head_, 0);
    float m = sum.m[r], l = sum.l[r];
    float* const o = sum.o + r * job_.e_pad;
    for (int64_t c = 1; c < job_.chunks; ++c)
      Add(job_.Partial(kv_head_, c), r, m, l, o);
    if (spec_.sinks) AddSink(*call_.sinks.Row<float>(0, h, 0), m, l, o);

    const float norm = Norm(l, t);
    T* const out = call_.out.Row<T>(b, h, t);
    for (int64_t c = 0; c < spec_.v_dim; ++c) {
      // A row that sees nothing is 0.
      o[c] = norm == 0 ? 0 : o[c] / norm;
    }
    if (spec_.gated && call_.ungated.data != nullptr)
      std::copy_n(o, spec_.v_dim, call_.ungated.Row<float>(b, h, t));
    const T* const gate = spec_.gated ? call_.gate.Row<T>(b, h, t) : nullptr;
    for (int64_t c = 0; c < spec_.v_dim; ++c)
      Store(gate ? o[c] * AsFloat(gate[c]) : o[c], out[c]);
    if (call_.lse != nullptr && softmax_)
      call_.Lse(spec_, b, h)[t] = l == 0
                                      ? -std::numeric_limits<float>::infinity()
                                      : m * kLn2 + std::log(l);
  }

 private:
  static void Store(float x, float& to) { to = x; }
  static void Store(float x, BF16& to) { to = ToBF16(x); }

  void Add(const DecodePartial& part, int64_t r, float& m, float& l,
           float* o) const {
    const float* const more = part.o + r * job_.e_pad;
    float old = 1, fresh = 1;
    if (softmax_) {
      const float top = std::max(m, part.m[r]);
      old = std::exp2(m - top);
      fresh = std::exp2(part.m[r] - top);
      m = top;
      l = l * old + part.l[r] * fresh;
    }
    for (int64_t c = 0; c < job_.e_pad; ++c)
      o[c] = o[c] * old + more[c] * fresh;
  }

  void AddSink(float sink, float& m, float& l, float* o) const {
    const float top = std::max(m, sink * kLog2E);
    const float old = std::exp2(m - top);
    l = l * old + std::exp2(sink * kLog2E - top);
    for (int64_t c = 0; c < job_.e_pad; ++c) o[c] *= old;
    m = top;
  }

  // What the sum is divided by; 0 when query t sees nothing.
  float Norm(float l, int64_t t) const {
    if (softmax_) return l;
    int64_t keys = 0;
    ForGroups(spec_.pattern, call_.q_position + t, 1, call_.kv_end,
              [&](const DecodeGroup& group) {
                group.part->ForKeys(group.queries, group.keys,
                                    [&](Interval run) { keys += run.size(); });
              });
    if (keys == 0) return 0;
    return static_cast<float>(spec_.normaliser == Normaliser::kReluSquared
                                  ? spec_.divisor
                                  : static_cast<double>(keys));
  }

  const DecodeJob& job_;
  const TileSpec& spec_;
  const TileCall& call_;
  int64_t kv_head_;
  bool softmax_;
};

void Chunk(const DecodeJob& job, int64_t kv_head, int64_t chunk, int slot) {
  if (job.spec.dtype == DType::kF32)
    DecodeTask<float>(job, kv_head, chunk, slot).Run();
  else
    DecodeTask<BF16>(job, kv_head, chunk, slot).Run();
}

void MergeHead(const DecodeJob& job, int64_t kv_head) {
  const int64_t rows = job.call->q.len * job.group;
  for (int64_t r = 0; r < rows; ++r) {
    if (job.spec.dtype == DType::kF32)
      Merge<float>(job, kv_head).Row(r);
    else
      Merge<BF16>(job, kv_head).Row(r);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace saccade
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade {

HWY_EXPORT(Chunk);
HWY_EXPORT(MergeHead);

void DecodeChunk(const DecodeJob& job, int64_t kv_head, int64_t chunk,
                 int slot) {
  HWY_DYNAMIC_DISPATCH(Chunk)(job, kv_head, chunk, slot);
}

void DecodeMerge(const DecodeJob& job, int64_t kv_head) {
  HWY_DYNAMIC_DISPATCH(MergeHead)(job, kv_head);
}

}  // namespace saccade
#endif  // HWY_ONCE
