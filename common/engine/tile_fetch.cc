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

}  // namespace

// Rows row, row + step, ... of a head.
template <class View>
void Fetches::AddRows(const View& view, const TileWork& work, int64_t head,
                      int64_t row, int64_t count) {
  const int64_t size = SizeOf(view.dtype), step = work.part->step;
  const int64_t first = work.batch * view.batch_stride +
                        head * view.head_stride + row * view.row_stride;
  Add(static_cast<const std::byte*>(view.data) + first * size,
      step * view.row_stride * size, count, view.dim * size);
}

void Fetches::AddOut(const TileWork& work) {
  const auto bytes =
      work.spec->v_dim * static_cast<int64_t>(sizeof *work.carry.out);
  if (work.carry.out != nullptr)
    Add(work.carry.out, work.part->step * bytes, work.queries.size(), bytes);
  else
    AddRows(work.call->out, work, work.head, work.q_row, work.queries.size());
}

void Fetches::AddKeys(const TileWork& work, int64_t begin, int64_t end) {
  // More than tiles of neighbours bring in: it would come too early.
  constexpr int64_t kMostKeys = 4 * kMaxTile;
  if (begin >= end) return;
  const TileSpec& spec = *work.spec;
  const int64_t head = work.head / (spec.q_heads / spec.kv_heads);
  const int64_t row = work.call->KeyRow(work.residue + work.part->step * begin);
  const int64_t count = std::min(end - begin, kMostKeys);
  AddRows(work.call->k, work, head, row, count);
  AddRows(work.call->v, work, head, row, count);
}

void Fetches::AddFollowing(const TileWork& work, int64_t key) {
  constexpr int64_t kShort = 256;  // bytes; of 512, asking cost 4 points
  const ConstView& k = work.call->k;
  if (work.part->kind != Part::Kind::kBand) return;
  if (k.dim * SizeOf(k.dtype) > kShort) return;
  if (work.part->step * k.row_stride < 2 * k.dim) return;
  AddKeys(work, key, std::min(key + kKeyBlock, Hull(work).end));
}

void Fetches::AddNext(const TileWork& work, const TileWork& next) {
  AddRows(next.call->q, next, next.head, next.q_row, next.queries.size());
  AddOut(next);
  if (next.part->kind != Part::Kind::kBand) return;
  Interval now = Hull(work);
  const Interval then = Hull(next);
  if (next.head != work.head || next.batch != work.batch ||
      next.residue != work.residue)
    now = {then.end, then.end};
  AddKeys(next, then.begin, std::min(then.end, now.begin));
  AddKeys(next, std::max(then.begin, now.end), then.end);
}

}  // namespace saccade
