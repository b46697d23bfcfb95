#include "engine/tile_fetch.h"

#include <algorithm>
#include <cstddef>

#include "engine/tile_forward.h"

namespace saccade {
namespace {

// The keys between the first and the last one that any of a band's queries
// sees.
Interval Hull(const TileWork& work) {
  const Part& part = *work.part;
  const int64_t low = std::max(part.low, -part.reach);
  const int64_t high = std::min(part.high, part.reach);
  return Interval{work.queries.begin - high, work.queries.end - low}.Cut(
      {0, FloorDiv(work.call->kv_end - 1 - work.residue, part.step) + 1});
}

void FetchKeys(const TileWork& work, int64_t begin, int64_t end,
               Fetches& fetches) {
  // More than tiles of neighbours bring in: it would come too early.
  constexpr int64_t kMostKeys = 256;
  if (begin >= end) return;
  const int64_t head = work.KvHead();
  const int64_t step = work.part->step;
  const int64_t row = work.call->KeyRow(work.residue + step * begin);
  int64_t count = std::min(end - begin, kMostKeys);
  if (step == 1) count = work.call->RowsEnd(begin, begin + count) - begin;
  fetches.AddRows(work.call->k, work.batch, head, row, step, count);
  fetches.AddRows(work.call->v, work.batch, head, row, step, count);
}

}  // namespace

void FetchOut(const TileWork& work, Fetches& fetches) {
  const int64_t step = work.part->step, count = work.queries.size();
  const auto bytes =
      work.spec->v_dim * static_cast<int64_t>(sizeof *work.carry.out);
  if (work.carry.out != nullptr)
    fetches.Add(work.carry.out, step * bytes, count, bytes);
  else
    fetches.AddRows(work.call->out, work.batch, work.head, work.q_row, step,
                    count);
}

void FetchFollowing(const TileWork& work, int64_t key, Fetches& fetches) {
  constexpr int64_t kShort = 256;  // bytes; of 512, asking cost 4 points
  const ConstView& k = work.call->k;
  if (work.part->kind != Part::Kind::kBand) return;
  if (k.dim * SizeOf(k.dtype) > kShort) return;
  if (work.part->step * k.row_stride < 2 * k.dim) return;
  FetchKeys(work, key, std::min(key + kKeyBlock, Hull(work).end), fetches);
}

void FetchNext(const TileWork& work, const TileWork& next, Fetches& fetches) {
  fetches.AddRows(next.call->q, next.batch, next.head, next.q_row,
                  next.part->step, next.queries.size());
  FetchOut(next, fetches);
  if (next.part->kind != Part::Kind::kBand) return;
  Interval now = Hull(work);
  const Interval then = Hull(next);
  if (next.head != work.head || next.batch != work.batch ||
      next.residue != work.residue)
    now = {then.end, then.end};
  FetchKeys(next, then.begin, std::min(then.end, now.begin), fetches);
  FetchKeys(next, std::max(then.begin, now.end), then.end, fetches);
}

}  // namespace saccade
