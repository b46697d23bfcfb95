// Decoding, cut into tasks: see tile_decode.h.
#include "engine/tile_decode.h"

#include <algorithm>

namespace saccade {
namespace {

// Keys that one group of a part may list.
int64_t MostKeysOfGroup(const Part& part, int64_t keys) {
  switch (part.kind) {
    case Part::Kind::kBand: {
      const int64_t back = std::min(part.high, part.reach);
      const int64_t ahead = std::min(-part.low, part.reach);
      if (back >= kFar || ahead >= kFar) return keys;
      return std::min(keys, part.sinks + back + ahead + kDecodeRows);
    }
    case Part::Kind::kFixed:
      return std::min(keys, kDecodeRows * part.block +
                                (keys / part.block + 1) * part.columns);
    case Part::Kind::kBlocks: {
      int64_t most = 0;
      const auto& offsets = part.blocks->offsets;
      for (size_t row = 1; row < offsets.size(); ++row)
        most = std::max(most, offsets[row] - offsets[row - 1]);
      return std::min(keys, most * part.block);
    }
  }
  return keys;
}

}  // namespace

int64_t MostDecodeKeys(const Pattern& pattern, int64_t kv_len) {
  int64_t most = 0;
  for (const Part& part : pattern) {
    const int64_t keys = PadTo(kv_len, part.step) / part.step;
    const bool together = part.step == 1 && part.Grain() == kFar;
    most += MostKeysOfGroup(part, keys) * (together ? 1 : kDecodeRows);
  }
  return most;
}

DecodeJob::DecodeJob(Arena& arena, const TileSpec& s, int64_t kv_len, int slots)
    : spec(s),
      group(s.q_heads / std::max<int64_t>(1, s.kv_heads)),
      most_rows(kDecodeRows * group),
      d_pad(PadTo(s.qk_dim, kDecodePad)),
      e_pad(PadTo(s.v_dim, kDecodePad)) {
  const int64_t row_floats = PadTo(most_rows, kDecodePad);
  most_rows = row_floats;
  partial_floats = most_rows * (2 + e_pad);
  slot_floats = most_rows * (d_pad + 2 * kDecodeBlock + 1);
  partial = arena.Take<float>(s.batch * s.kv_heads *
                              Chunks(MostDecodeKeys(s.pattern, kv_len)) *
                              partial_floats);
  slot = arena.Take<float>(slots * slot_floats);
}

void DecodeJob::Start(const TileCall& c) {
  call = &c;
  keys = 0;
  ForGroups(spec.pattern, c.q_position, c.q.len, c.kv_end,
            [&](const DecodeGroup& g) {
              g.part->ForKeys(g.queries, g.keys,
                              [&](Interval run) { keys += run.size(); });
            });
  chunks = Chunks(keys);
  chunk = PadTo((keys + chunks - 1) / chunks, kDecodePad);
}

size_t TileDecodeScratch(const TileSpec& spec, int64_t kv_len, int slots) {
  Arena count;
  DecodeJob(count, spec, kv_len, slots);
  return count.used();
}

void TileDecode(const TileSpec& spec, const TileCall& call, Bytes scratch,
                Exec& exec) {
  Arena arena(scratch);
  DecodeJob job(arena, spec, call.kv_end, exec.slots());
  job.Start(call);
  const int64_t heads = spec.batch * spec.kv_heads;
  exec.For(heads * job.chunks, [&](int64_t task, int slot) {
    const int64_t head = task / job.chunks;
    DecodeChunk(job, head, task % job.chunks, slot);
    if (job.chunks == 1) DecodeMerge(job, head);
  });
  if (job.chunks > 1)
    exec.For(heads, [&](int64_t head, int) { DecodeMerge(job, head); });
}

namespace {

size_t JobBytes(const TileSpec& spec, int64_t kv_len) {
  return TileDecodeScratch(spec, kv_len, 1);
}

}  // namespace

size_t TileDecodeAllScratch(const TileSpec& spec, int64_t kv_len, int slots) {
  return std::max(TileDecodeScratch(spec, kv_len, slots),
                  static_cast<size_t>(slots) * JobBytes(spec, kv_len));
}

void TileDecodeAll(const TileSpec& spec, std::span<const TileCall> calls,
                   int64_t kv_len, Bytes scratch, Exec& exec) {
  // Few long contexts are cut, each into chunks for all slots; of many, each
  // slot takes whole heads.
  const auto heads = static_cast<int64_t>(calls.size()) * spec.kv_heads;
  constexpr int64_t kHeadsPerSlot = 4;
  if (heads < kHeadsPerSlot * exec.slots() && kv_len > kDecodeChunk) {
    for (const TileCall& call : calls) TileDecode(spec, call, scratch, exec);
    return;
  }
  const size_t bytes = JobBytes(spec, kv_len);
  exec.For(heads, [&](int64_t task, int slot) {
    const TileCall& call = calls[static_cast<size_t>(task / spec.kv_heads)];
    Arena arena(scratch.subspan(static_cast<size_t>(slot) * bytes, bytes));
    DecodeJob job(arena, spec, call.kv_end, 1);
    job.Start(call);
    const int64_t head = task % spec.kv_heads;
    for (int64_t c = 0; c < job.chunks; ++c) DecodeChunk(job, head, c, 0);
    DecodeMerge(job, head);
  });
}

}  // namespace saccade
