// The only file here that knows the insides of the tile engine: it calls the
// register tiles of engine/tile_products-inl.h as engine/tile_forward-inl.h
// does, on the strips that engine/tile_strips.h cuts for it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/kernels/parts.cc"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/highway.h>

#include "engine/tile_products-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

#ifndef SACCADE_BENCH_KERNELS_PARTS_ONCE
#define SACCADE_BENCH_KERNELS_PARTS_ONCE

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "arena.h"
#include "bench/kernels/parts.h"
#include "engine/tile_forward.h"

namespace saccade::bench::kernels {

// A tile of queries and all the keys that it sees, cut beforehand: cutting is
// no part's work.
struct CutTile {
  Interval queries;
  std::vector<Batch> batches;
};

struct PartJob {
  PartJob(const Kernel& kernel, int64_t width, Part part);

  /// Calls keep(batch) for all that a tile sees.
  template <class F>
  void Cut(const CutTile& tile, const F& keep) const {
    const saccade::Part& part = pass.spec.pattern[0];
    StripCutter cutter(part, tile.queries, shape, *scratch.strips, keep);
    part.ForKeys(tile.queries, pass.problem.kv_len,
                 [&](Interval run) { cutter.Add(run, run.begin, 1); });
    cutter.Flush();
  }

  TilePass pass;
  TileScratch scratch;
  TileShape shape;
  std::vector<CutTile> tiles;  // the same in every head
};

inline void CutAll(const PartJob& job) {
  for (int64_t head = 0; head < job.pass.spec.q_heads; ++head)
    for (const CutTile& tile : job.tiles) job.Cut(tile, [](const Batch&) {});
}

}  // namespace saccade::bench::kernels

#endif  // SACCADE_BENCH_KERNELS_PARTS_ONCE

HWY_BEFORE_NAMESPACE();
namespace saccade {
namespace HWY_NAMESPACE {
namespace {

using bench::kernels::CutTile;
using bench::kernels::PartJob;

// What the engine's policies do to a score.
struct Softmax {
  static constexpr bool kRunning = true;
  static constexpr float kHidden = -std::numeric_limits<float>::infinity();
  HWY_INLINE V Score(V s, int64_t) const { return s; }
};
struct ReluSquared {
  static constexpr bool kRunning = false;
  static constexpr float kHidden = 0;
  HWY_INLINE V Score(V s, int64_t) const {
    const V positive = hn::Max(hn::Zero(d), s);
    return hn::Mul(positive, positive);
  }
};

// Calls run(kVecs constant) for a strip of that many vectors.
template <int kVecs = kShape.vecs, class F>
HWY_INLINE void ByVectors(int vecs, F run) {
  if constexpr (kVecs > 1)
    if (vecs < kVecs) return ByVectors<kVecs - 1>(vecs, run);
  run(std::integral_constant<int, kVecs>());
}

// A strip of the pass, and where it stands.
struct StripAt {
  int64_t head;
  const CutTile& tile;
  const Batch& batch;
  const Strip& strip;
  int lane;       // the first that it concerns
  bool rescales;  // its values' product multiplies the sums beforehand
};

// Calls run(StripAt) for every strip of the pass.
template <class F>
HWY_INLINE void ForStrips(const PartJob& job, F run) {
  const bool running = job.pass.spec.normaliser == Normaliser::kSoftmax;
  for (int64_t head = 0; head < job.pass.spec.q_heads; ++head)
    for (const CutTile& tile : job.tiles)
      for (const Batch& batch : tile.batches) {
        bool rescales = running;
        for (int s = 0; s < batch.strips; ++s) {
          const Strip& strip = batch.strip[s];
          run(StripAt{head, tile, batch, strip, strip.first_vec * kLanes,
                      rescales && !strip.masked});
          rescales &= strip.masked;
        }
      }
}

Rows RowsOf(const ConstView& from, int64_t head, const Strip& strip,
            const float* packed) {
  if (from.dtype == DType::kBF16)
    return {packed + strip.start * from.dim, from.dim};
  return {from.Row<float>(0, head, strip.row), from.row_stride};
}

Sight SightOf(const StripAt& x) {
  return {x.batch.seen_begin + x.strip.start, x.batch.seen_end + x.strip.start,
          x.strip.first_vec};
}

float* ScoresOf(const TileScratch& s, const StripAt& x) {
  return s.scores + x.strip.start * kTile + x.lane;
}

template <class Policy>
void Scores(const PartJob& job) {
  const TileScratch& s = job.scratch;
  Fetches nothing;  // there is no next tile to ask for
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    const Rows keys = RowsOf(job.pass.call.k, x.head, x.strip, s.keys);
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      const auto kernel = x.strip.masked ? ScoreStrip<Policy, vecs(), true>
                                         : ScoreStrip<Policy, vecs(), false>;
      kernel(Policy(), keys, job.pass.spec.qk_dim, s.queries + x.lane,
             ScoresOf(s, x), s.max + x.lane, x.strip.keys, SightOf(x),
             x.tile.queries.begin + x.lane - x.strip.key, nothing);
    });
  });
}

void Weights(const PartJob& job) {
  const TileScratch& s = job.scratch;
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      Weigh<vecs()>(ScoresOf(s, x), s.max + x.lane, s.sum + x.lane,
                    x.strip.keys);
    });
  });
}

// Products of finite values are not masked.
void Values(const PartJob& job) {
  const TileScratch& s = job.scratch;
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    const Rows values = RowsOf(job.pass.call.v, x.head, x.strip, s.values);
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      ValueStrip<vecs(), false>(values, job.pass.spec.v_dim, ScoresOf(s, x),
                                x.rescales ? s.factor + x.lane : nullptr,
                                s.out + x.lane, x.strip.keys, SightOf(x));
    });
  });
}

void Queries(const PartJob& job) {
  const ConstView& q = job.pass.call.q;
  for (int64_t head = 0; head < q.heads; ++head)
    for (const CutTile& tile : job.tiles) {
      const int64_t n = tile.queries.size();
      Rows rows{job.scratch.scores, q.dim};
      if (q.dtype == DType::kF32)
        rows = {q.Row<float>(0, head, tile.queries.begin), q.row_stride};
      for (int64_t i = 0; i < n; i += kLanes)
        RowsToColumns(d, rows.at + i * rows.stride, rows.stride, n - 1 - i,
                      q.dim, job.pass.spec.scale, job.scratch.queries + i,
                      kTile);
    }
}

// The pass asks for a tile's rows of out before it writes them; here they
// are the same few rows every time.
void Outputs(const PartJob& job) {
  const TileScratch& s = job.scratch;
  const View& out = job.pass.call.out;
  Rows rows{s.scores, out.dim};
  if (out.dtype == DType::kF32 && !job.pass.spec.gated)
    rows = {out.Row<float>(0, 0, 0), out.row_stride};
  for (int64_t head = 0; head < out.heads; ++head)
    for (const CutTile& tile : job.tiles) {
      const int64_t n = tile.queries.size();
      for (int64_t i = 0; i < n; i += kLanes)
        ColumnsToRows(d, s.out + i, kTile, s.factor + i, out.dim,
                      const_cast<float*>(rows.at) + i * rows.stride,
                      rows.stride, n - 1 - i);
    }
}

template <class From, class To>
HWY_INLINE void ConvertRows(const From* from, int64_t from_stride, int64_t rows,
                            int64_t dim, To* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r)
    ConvertRow(from + r * from_stride, static_cast<size_t>(dim),
               to + r * to_stride);
}

void Conversions(const PartJob& job) {
  const TileCall& call = job.pass.call;
  const TileScratch& s = job.scratch;
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    const auto pack = [&](const ConstView& from, float* to) HWY_ATTR {
      ConvertRows(from.Row<BF16>(0, x.head, x.strip.row), from.row_stride,
                  x.strip.keys, from.dim, to + x.strip.start * from.dim,
                  from.dim);
    };
    pack(call.k, s.keys);
    pack(call.v, s.values);
  });
  for (int64_t head = 0; head < call.q.heads; ++head)
    for (const CutTile& tile : job.tiles) {
      const int64_t n = tile.queries.size(), row = tile.queries.begin;
      ConvertRows(call.q.Row<BF16>(0, head, row), call.q.row_stride, n,
                  call.q.dim, s.scores, call.q.dim);
      ConvertRows(s.scores, call.out.dim, n, call.out.dim,
                  call.out.Row<BF16>(0, head, row), call.out.row_stride);
    }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade

namespace saccade::bench::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace target = saccade::HWY_NAMESPACE;

void RunPart(const PartJob& job, Part part) {
  const bool softmax = job.pass.spec.normaliser == Normaliser::kSoftmax;
  switch (part) {
    case Part::kScores:
      return softmax ? target::Scores<target::Softmax>(job)
                     : target::Scores<target::ReluSquared>(job);
    case Part::kValues:
      return target::Values(job);
    case Part::kWeights:
      return target::Weights(job);
    case Part::kQueries:
      return target::Queries(job);
    case Part::kOutputs:
      return target::Outputs(job);
    case Part::kConversions:
      return target::Conversions(job);
    case Part::kCutting:
      return CutAll(job);
    case Part::kDiagonal:
      RunPart(job, Part::kScores);
      return RunPart(job, Part::kValues);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade::bench::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::bench::kernels {
namespace {

HWY_EXPORT(RunPart);

// Numbers as a pass has them: weights below 1, and a maximum under which
// exponentials taken again and again stay normal numbers.
constexpr float kWeight = 0.01f, kMax = 7;

TileScratch MakeScratch(TilePass& pass) {
  Arena count;
  TileScratch(count, pass.spec);
  Arena arena(pass.memory.Take(count.used()));
  return {arena, pass.spec};
}

void Fill(const TileSpec& spec, const TileScratch& s) {
  std::fill_n(s.queries, kMaxTile * spec.qk_dim, kWeight);
  std::fill_n(s.out, kMaxTile * spec.v_dim, kWeight);
  std::fill_n(s.scores, kMaxTile * kKeyBlock, kWeight);
  std::fill_n(s.max, kMaxTile, kMax);
  std::fill_n(s.sum, kMaxTile, 0.0f);
  std::fill_n(s.factor, kMaxTile, 1.0f);
  std::fill_n(s.keys, kKeyBlock * spec.qk_dim, kWeight);
  std::fill_n(s.values, kKeyBlock * spec.v_dim, kWeight);
}

// The sum of count(tile, batch) over all tiles of all heads.
template <class F>
double Sum(const PartJob& job, F count) {
  int64_t sum = 0;
  for (const CutTile& tile : job.tiles)
    for (const Batch& batch : tile.batches) sum += count(tile, batch);
  return static_cast<double>(sum * job.pass.spec.q_heads);
}

// Visible pairs of a batch's masked strips.
int64_t MaskedPairs(const CutTile& tile, const Batch& batch) {
  int64_t pairs = 0;
  for (int s = 0; s < batch.strips; ++s) {
    const Strip& strip = batch.strip[s];
    for (int k = strip.start; strip.masked && k < strip.start + strip.keys; ++k)
      pairs += std::min(static_cast<int64_t>(batch.seen_end[k]),
                        tile.queries.size()) -
               static_cast<int64_t>(batch.seen_begin[k]);
  }
  return pairs;
}

void DropWhole(Batch& batch) {
  Strip* const end = std::remove_if(batch.strip, batch.strip + batch.strips,
                                    [](const Strip& s) { return !s.masked; });
  batch.strips = static_cast<int>(end - batch.strip);
}

Work Describe(const PartJob& job, Part part) {
  const Problem& p = job.pass.problem;
  const auto heads = static_cast<double>(p.q_heads);
  const auto d = static_cast<double>(p.qk_dim);
  const auto e = static_cast<double>(p.v_dim);
  const double pairs =
      heads * VisiblePairs(job.pass.spec.pattern, job.pass.call.q_position,
                           p.q_len, p.kv_len);
  const double rows = heads * static_cast<double>(p.q_len);
  switch (part) {
    case Part::kScores:
      return {Unit::kFlops, 2 * pairs * d, {}};
    case Part::kValues:
      return {Unit::kFlops, 2 * pairs * e, {}};
    case Part::kWeights:
      return {Unit::kWeights, pairs, {}};
    case Part::kQueries:
      return {Unit::kFloats, rows * d, {}};
    case Part::kOutputs:
      return {Unit::kFloats, rows * e, {}};
    case Part::kConversions:
      return {
          Unit::kFloats,
          (d + e) * (rows + Sum(job, [](const CutTile&,
                                        const Batch& b) { return b.keys; })),
          {}};
    case Part::kCutting:
      return {Unit::kStrips,
              Sum(job, [](const CutTile&, const Batch& b) { return b.strips; }),
              {}};
    case Part::kDiagonal:
      return {Unit::kFlops, 2 * (d + e) * Sum(job, MaskedPairs), {}};
  }
  return {};
}

}  // namespace

PartJob::PartJob(const Kernel& kernel, int64_t width, Part part)
    : pass(kernel, width, false),
      scratch(MakeScratch(pass)),
      shape(pass.spec.normaliser == Normaliser::kSoftmax ? SoftmaxTileShape()
                                                         : ReluTileShape()) {
  if (!pass.memory.status().ok()) return;
  Fill(pass.spec, scratch);
  for (int64_t i = 0; i < kernel.len; i += shape.queries()) {
    CutTile tile{{i, std::min(kernel.len, i + shape.queries())}, {}};
    Cut(tile, [&](const Batch& batch) { tile.batches.push_back(batch); });
    if (part == Part::kDiagonal)
      std::for_each(tile.batches.begin(), tile.batches.end(), DropWhole);
    tiles.push_back(std::move(tile));
  }
}

bool HasPart(const Kernel& kernel, Part part) {
  switch (part) {
    case Part::kWeights:
      return !kernel.form.gau;
    case Part::kConversions:
      return kernel.dtype == DType::kBF16;
    case Part::kDiagonal:
      return kernel.form.mask != Mask::kNone;
    default:
      return true;
  }
}

Result<Work> PartWork(const Kernel& kernel, int64_t width, Part part) {
  const auto job = std::make_shared<PartJob>(kernel, width, part);
  if (!job->pass.memory.status().ok()) return job->pass.memory.status();
  Work work = Describe(*job, part);
  work.run = [job, part] { HWY_DYNAMIC_DISPATCH(RunPart)(*job, part); };
  return work;
}

}  // namespace saccade::bench::kernels
#endif  // HWY_ONCE
