// The only file here that knows the insides of the tile engine: it calls the
// register tiles of engine/tile_products-inl.h as engine/tile_forward-inl.h
// does, on the strips that engine/tile_strips.h cuts for it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/kernels/parts.cc"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/highway.h>

// Before all that has kernels.
#include "simd/bf16_target-inl.h"
// These have.
#include "engine/tile_floats-inl.h"
#include "engine/tile_pairs-inl.h"
#include "engine/tile_policies-inl.h"
#include "engine/tile_products-inl.h"
#include "engine/tile_split-inl.h"
#include "simd/bf16-inl.h"
#include "simd/transpose-inl.h"

#ifndef SACCADE_BENCH_KERNELS_PARTS_ONCE
#define SACCADE_BENCH_KERNELS_PARTS_ONCE

#include <algorithm>
#include <bit>
#include <memory>
#include <type_traits>
#include <vector>

#include "arena.h"
#include "bench/kernels/parts.h"
#include "engine/tile_forward.h"
#include "simd/target.h"

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
  bool pairs;                       // in bf16's dot product
  bool packs;                       // or values are there already
  std::vector<CutTile> tiles;       // the same in every head
  int64_t run = 0;                  // tiles that share kept values
  mutable std::vector<float> kept;  // these
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

// Calls run(kVecs constant) for a strip of that many vectors.
template <int kVecs = kShape.vecs, class F>
HWY_INLINE void ByVectors(int vecs, F run) {
  if constexpr (kVecs > 1)
    if (vecs < kVecs) return ByVectors<kVecs - 1>(vecs, run);
  run(std::integral_constant<int, kVecs>());
}

// Calls run(TileWork, CutTile) for every tile of the pass.
template <class F>
HWY_INLINE void ForTiles(const PartJob& job, F run) {
  TileWork work;
  KeptValues kept;
  work.kept = &kept;
  int64_t nth = 0;
  work.spec = &job.pass.spec;
  work.call = &job.pass.call;
  work.part = &job.pass.spec.pattern[0];
  for (work.head = 0; work.head < job.pass.spec.q_heads; ++work.head)
    for (const CutTile& tile : job.tiles) {
      if (nth++ % job.run == 0)
        kept = {.at = job.kept.data(),
                .room = KeptRows(job.pass.spec, job.pass.problem.q_len)};
      kept.Of(work.batch, work.KvHead());
      if (!job.packs) kept.rows = kept.room;
      work.queries = tile.queries;
      work.q_row = tile.queries.begin;
      run(work, tile);
    }
}

// A strip of the pass, and where it stands.
struct StripAt {
  const TileWork& work;
  const Batch& batch;
  const Strip& strip;
  int lane;       // the first that it concerns
  bool rescales;  // its values' product multiplies the sums beforehand
  Sight sight;
  float* scores;
};

// Calls run(StripAt) for every strip of the pass.
template <class F>
HWY_INLINE void ForStrips(const PartJob& job, F run) {
  const bool running = job.pass.spec.normaliser == Normaliser::kSoftmax;
  ForTiles(job, [&](const TileWork& work, const CutTile& tile) HWY_ATTR {
    const int vecs = kShape.VecsOf(work.queries.size());
    for (const Batch& batch : tile.batches) {
      bool rescales = running;
      for (int i = 0; i < batch.strips; ++i) {
        const Strip& s = batch.strip[i];
        const int lane = s.first_vec * kLanes;
        const bool whole = s.vecs == vecs;
        run(StripAt{
            work,
            batch,
            s,
            lane,
            rescales && whole,
            {batch.seen_begin + s.start, batch.seen_end + s.start, s.first_vec},
            job.scratch.scores + s.start * kTile + lane});
        rescales &= !whole;
      }
    }
  });
}

template <class Policy, class Arithmetic>
void Scores(const PartJob& job) {
  using Keys = typename Arithmetic::Keys;
  const TileScratch& s = job.scratch;
  Fetches nothing;  // there is no next tile to ask for
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    if (x.strip.split)
      return ScoreSplit(Policy(x.work), Arithmetic(x.work, s),
                        job.pass.spec.qk_dim, s, x.batch, x.strip,
                        x.work.queries.begin - x.strip.key, nothing);
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      const auto kernel = x.strip.masked
                              ? ScoreStrip<Policy, vecs(), true, Keys>
                              : ScoreStrip<Policy, vecs(), false, Keys>;
      kernel(Policy(x.work), Arithmetic(x.work, s).KeysOf(x.strip),
             job.pass.spec.qk_dim, s.queries + x.lane, x.scores, s.max + x.lane,
             x.strip.keys, x.sight, x.work.queries.begin + x.lane - x.strip.key,
             nothing);
    });
  });
}

template <class Policy, class Arithmetic>
void Weights(const PartJob& job) {
  const TileScratch& s = job.scratch;
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      Arithmetic::template Weigh<Policy::kRunning, vecs(), false>(
          Policy(x.work).Weights(), x.scores, s.max + x.lane, s.sum + x.lane,
          x.strip.keys);
    });
  });
}

// Products of finite values are not masked.
template <class Arithmetic>
void Values(const PartJob& job) {
  using Rows = typename Arithmetic::Values;
  const TileScratch& s = job.scratch;
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    const float* const factor = x.rescales ? s.factor + x.lane : nullptr;
    if (x.strip.split)
      return AddSplitValues(Arithmetic(x.work, s), job.pass.spec.v_dim, s,
                            x.batch, x.strip, factor);
    ByVectors(x.strip.vecs, [&](auto vecs) HWY_ATTR {
      ValueStrip<vecs(), false, Rows>(
          Arithmetic(x.work, s).ValuesOf(x.strip), job.pass.spec.v_dim,
          x.scores, factor, s.out + x.lane, Arithmetic::Steps(x.strip.keys));
    });
  });
}

template <class Policy, class Arithmetic>
void Queries(const PartJob& job) {
  ForTiles(job, [&](const TileWork& work, const CutTile&) HWY_ATTR {
    Arithmetic(work, job.scratch).LoadQueries(Policy(work).Factor());
  });
}

// The pass asks for a tile's rows of out before it writes them; here they are
// the same few rows every time.
void Outputs(const PartJob& job) {
  const TileScratch& s = job.scratch;
  const View& out = job.pass.call.out;
  const bool direct = out.dtype == DType::kF32 && !job.pass.spec.gated;
  float* const rows = direct ? out.Row<float>(0, 0, 0) : s.scores;
  const int64_t stride = direct ? out.row_stride : out.dim;
  ForTiles(job, [&](const TileWork& work, const CutTile&) HWY_ATTR {
    const int64_t n = work.queries.size();
    for (int64_t i = 0; i < n; i += kLanes)
      ColumnsToRows(d, s.out + i, kTile, s.factor + i, out.dim,
                    rows + i * stride, stride, n - 1 - i);
    for (int64_t i = 0; out.dtype == DType::kBF16 && i < n; ++i)
      ConvertRow(rows + i * stride, static_cast<size_t>(out.dim),
                 out.Row<BF16>(0, 0, i));
  });
}

template <class Arithmetic>
void Packing(const PartJob& job) {
  ForStrips(job, [&](const StripAt& x) HWY_ATTR {
    Arithmetic(x.work, job.scratch).Pack(x.strip);
  });
}

template <class Policy, class Arithmetic>
void RunOf(const PartJob& job, bench::kernels::Part part) {
  using bench::kernels::Part;
  switch (part) {
    case Part::kScores:
      return Scores<Policy, Arithmetic>(job);
    case Part::kValues:
      return Values<Arithmetic>(job);
    case Part::kWeights:
      return Weights<Policy, Arithmetic>(job);
    case Part::kQueries:
      return Queries<Policy, Arithmetic>(job);
    case Part::kOutputs:
      return Outputs(job);
    case Part::kPacking:
      return Packing<Arithmetic>(job);
    case Part::kCutting:
      return CutAll(job);
    case Part::kDiagonal:
      Scores<Policy, Arithmetic>(job);
      return Values<Arithmetic>(job);
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
  using target::ReluSquared, target::Softmax;
  const bool softmax = job.pass.spec.normaliser == Normaliser::kSoftmax;
#if HWY_TARGET == HWY_AVX3
  using target::Pairs, target::RawSoftmax;
  if (job.pairs)
    return softmax ? target::RunOf<RawSoftmax, Pairs>(job, part)
                   : target::RunOf<ReluSquared, Pairs>(job, part);
#endif
  using target::Floats;
  return softmax ? target::RunOf<Softmax, Floats>(job, part)
                 : target::RunOf<ReluSquared, Floats>(job, part);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade::bench::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::bench::kernels {
namespace {

HWY_EXPORT(RunPart);

// Numbers as a pass has them: weights below 1, as floats and as pairs of bf16,
// and a maximum under which exponentials taken again and again stay normal.
constexpr float kWeight = std::bit_cast<float>(0x3c243c24u), kMax = 7;

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

// Visible pairs of a batch's masked and split strips.
int64_t MaskedPairs(const CutTile& tile, const Batch& batch) {
  int64_t pairs = 0;
  for (int s = 0; s < batch.strips; ++s) {
    const Strip& strip = batch.strip[s];
    if (strip.split) pairs += strip.keys * tile.queries.size();
    for (int k = strip.start; strip.masked && k < strip.start + strip.keys; ++k)
      pairs += std::min(static_cast<int64_t>(batch.seen_end[k]),
                        tile.queries.size()) -
               static_cast<int64_t>(batch.seen_begin[k]);
  }
  return pairs;
}

void DropWhole(Batch& batch) {
  Strip* const end =
      std::remove_if(batch.strip, batch.strip + batch.strips,
                     [](const Strip& s) { return !s.masked && !s.split; });
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
    case Part::kPacking:
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
                                                         : ReluTileShape()),
      pairs(kernel.dtype == DType::kBF16 && MultipliesBF16()),
      packs(part == Part::kPacking),
      kept(KeptRows(pass.spec, kernel.len) / 2 * pass.spec.v_dim) {
  shape.splits &= pairs || kernel.dtype == DType::kF32;
  if (!pass.memory.status().ok()) return;
  Fill(pass.spec, scratch);
  for (int64_t i = 0; i < kernel.len; i += shape.queries()) {
    CutTile tile{{i, std::min(kernel.len, i + shape.queries())}, {}};
    Cut(tile, [&](const Batch& batch) { tile.batches.push_back(batch); });
    if (part == Part::kDiagonal)
      std::for_each(tile.batches.begin(), tile.batches.end(), DropWhole);
    tiles.push_back(std::move(tile));
  }
  run = TilesInRun(static_cast<int64_t>(tiles.size()) * pass.spec.q_heads, 1);
}

bool HasPart(const Kernel& kernel, Part part) {
  switch (part) {
    case Part::kWeights:
      return !kernel.form.gau;
    case Part::kPacking:
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
