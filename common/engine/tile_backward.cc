// The schedule of the backward pass: memory, the order of work, and who waits
// for whom. The kernels are in tile_backward_block.cc.
//
// A task is a block of keys of a pair of heads. dk and dv of the block are the
// task's own; dq is shared by all key blocks of the head, who add to it in
// turn, in ascending order (Turn). Exec starts tasks in order and a task waits
// only for tasks before it, so the first unfinished task never waits. Sums are
// thus made in one order, whatever number of threads makes them.
#include "engine/tile_backward.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <thread>

#include "hwy/cache_control.h"
#include "simd/target.h"

namespace saccade {
namespace backward {
namespace {

constexpr int64_t kFinished = std::numeric_limits<int64_t>::max();
constexpr int kSpins = 256;  // before a thread offers its core to others

// The bits of strips that hold elements begin .. end - 1; end > begin.
uint32_t Strips(int begin, int end) {
  const int first = begin / kStrip, last = (end - 1) / kStrip;
  return (uint32_t{2} << last) - (uint32_t{1} << first);
}

Cells::Masks Transpose(const Cells::Masks& masks) {
  Cells::Masks out{};
  for (int s = 0; s < kStrips; ++s)
    for (int g = 0; g < kStrips; ++g) out[g] |= (masks[s] >> g & 1) << s;
  return out;
}

}  // namespace

void Cells::SetAll(int n_queries, int n_keys) {
  for (int s = 0; s < kStrips; ++s) {
    const bool there = s * kStrip < n_queries;
    scores[s] = queries[s] = there ? Strips(0, n_keys) : 0;
    keys[s] = s * kStrip < n_keys ? Strips(0, n_queries) : 0;
  }
  part.fill(0);
  careful.fill(0);
  any_careful = hides = false;
}

void Cells::SetPart(const Interval* seen, int64_t first, int n_queries,
                    int n_keys) {
  scores.fill(0);
  part.fill(0);
  hides = false;
  low.fill(0);
  high.fill(0);
  for (int g = 0; g * kStrip < n_keys; ++g) {
    const int begin = g * kStrip, end = std::min(n_keys, begin + kStrip);
    uint32_t any = 0, all = ~uint32_t{0};
    for (int j = begin; j < end; ++j) {
      const Interval rows =
          Interval{seen[j].begin - first, seen[j].end - first}.Cut(
              {0, n_queries});
      if (rows.empty()) {
        all = 0;
        continue;
      }
      low[j] = static_cast<int32_t>(rows.begin);
      high[j] = static_cast<int32_t>(rows.end);
      any |= Strips(low[j], high[j]);
      // Strips that lie in the rows from end to end.
      const int whole = (low[j] + kStrip - 1) / kStrip;
      const int past = high[j] == n_queries ? kStrips : high[j] / kStrip;
      all &= whole < past ? Strips(whole * kStrip, past * kStrip) : 0;
    }
    for (int s = 0; s * kStrip < n_queries; ++s) {
      scores[s] |= (any >> s & 1) << g;
      part[s] |= ((any & ~all) >> s & 1) << g;
    }
  }
  SetCareful(0, 0);
}

void Cells::SetCareful(uint32_t query_strips, uint32_t key_strips) {
  any_careful = false;
  for (int s = 0; s < kStrips; ++s) {
    careful[s] = part[s] & (query_strips >> s & 1 ? ~uint32_t{0} : key_strips);
    queries[s] = scores[s] & ~careful[s];
    any_careful |= careful[s] != 0;
  }
  keys = Transpose(queries);
}

void Turn::Await(int64_t place) {
  int spins = 0;
  for (int64_t t = first_; t < own_; ++t) {
    int64_t there;
    while ((there = progress_[t].load(std::memory_order_acquire)) < place) {
      if (++spins < kSpins)
        hwy::Pause();
      else
        std::this_thread::yield();
    }
    if (there == kFinished && t == first_) ++first_;
  }
}

void Turn::Finish() {
  Leave(kFinished);
  while (first_ < own_ &&
         progress_[first_].load(std::memory_order_acquire) == kFinished)
    ++first_;
  done_->store(first_, std::memory_order_release);
}

SlotScratch::SlotScratch(Arena& arena, const TileSpec& spec,
                         int64_t distances) {
  const int64_t d = RoundUp(spec.qk_dim, kStrip);
  const int64_t e = RoundUp(spec.v_dim, kStrip);
  kt = arena.Take<float>(kKeys * d);
  vt = arena.Take<float>(kKeys * e);
  p = arena.Take<float>(kQueries * kScoreRow);
  ds = arena.Take<float>(kQueries * kScoreRow);
  q = arena.Take<float>(kQueries * d);
  dout = arena.Take<float>(kQueries * e);
  k = arena.Take<float>(kKeys * d);
  const bool bf16 = spec.dtype == DType::kBF16;
  p_pairs = arena.Take<float>(bf16 ? kQueries / 2 * kScoreRow : 0);
  ds_pairs = arena.Take<float>(bf16 ? kQueries / 2 * kScoreRow : 0);
  ds_rows = arena.Take<float>(bf16 ? kQueries * kPairRow : 0);
  start = arena.Take<float>(kQueries);
  start_dp = arena.Take<float>(kQueries);
  inverse = arena.Take<float>(kQueries);
  dbias = arena.Take<float>(distances);
  cells = arena.Take<Cells>(1);
  seen = arena.Take<Interval>(kKeys);
}

namespace {

Rows<float> GradRows(const View& view, float* copies, int64_t b, int64_t head,
                     int64_t copy) {
  if (view.dtype == DType::kF32)
    return {view.Row<float>(b, head, 0), view.row_stride};
  return {copies + copy * view.len * view.dim, view.dim};
}

}  // namespace

Rows<float> Pass::Dq(int64_t pair, int64_t h) const {
  return GradRows(call->dq, dq, Batch(pair), QueryHead(pair, h),
                  pair * group + h);
}
Rows<float> Pass::Dk(int64_t pair) const {
  return GradRows(call->dk, dk, Batch(pair), KeyHead(pair), pair);
}
Rows<float> Pass::Dv(int64_t pair) const {
  return GradRows(call->dv, dv, Batch(pair), KeyHead(pair), pair);
}

namespace {

// How the keys of a part are cut into blocks, none across a multiple of the
// part's grain.
struct KeyBlocks {
  KeyBlocks(const Part& part, int64_t kv_len)
      : classes(std::min(part.step, kv_len)) {
    const int64_t keys = classes == 0 ? 0 : (kv_len - 1) / part.step + 1;
    grain = part.Grain() == kFar ? std::max<int64_t>(keys, 1) : part.Grain();
    in_grain = (grain + kKeys - 1) / kKeys;
    count = (keys + grain - 1) / grain * in_grain;
  }
  Interval operator[](int64_t n) const {
    const int64_t begin = n / in_grain * grain + n % in_grain * kKeys;
    return {begin, std::min(begin + kKeys, (n / in_grain + 1) * grain)};
  }
  int64_t classes, grain, in_grain, count;
};

// The indices in the residue class of `offset` of the positions in `all`.
Interval InClass(Interval all, int64_t offset, int64_t step) {
  return {FloorDiv(all.begin - offset + step - 1, step),
          FloorDiv(all.end - offset + step - 1, step)};
}

int64_t RoundPairs(const TileSpec& spec, int slots) {
  const int64_t pairs = spec.batch * spec.kv_heads;
  return spec.dtype == DType::kF32 ? pairs : std::min<int64_t>(pairs, slots);
}

int64_t KeyBlocksOfRound(const TileSpec& spec, int64_t kv_len, int64_t pairs) {
  int64_t most = 0;
  for (const Part& part : spec.pattern) {
    const KeyBlocks cut(part, kv_len);
    most = std::max(most, cut.classes * pairs * cut.count);
  }
  return most;
}

struct Scratch {
  Scratch(Arena& arena, const TileSpec& spec, int64_t q_len, int64_t kv_len,
          int slots)
      : pairs(RoundPairs(spec, slots)),
        distances(BiasGradient::MostDistances(spec, q_len, kv_len)),
        dbias(arena, spec, KeyBlocksOfRound(spec, kv_len, pairs)) {
    Arena count;
    SlotScratch(count, spec, distances);
    slot_bytes = count.used();
    const int64_t group = spec.q_heads / std::max<int64_t>(spec.kv_heads, 1);
    const bool copies = spec.dtype != DType::kF32;
    int64_t chains = 0;
    for (const Part& part : spec.pattern)
      chains = std::max(chains, KeyBlocks(part, kv_len).classes * pairs);
    progress =
        arena.Take<std::atomic<int64_t>>(KeyBlocksOfRound(spec, kv_len, pairs));
    done = arena.Take<std::atomic<int64_t>>(chains);
    if (spec.normaliser == Normaliser::kSoftmax) {
      inner = arena.Take<float>(pairs * group * q_len);
    } else {
      inverse = arena.Take<float>(q_len);
      if (spec.normaliser == Normaliser::kReluSquaredRows)
        steps = arena.Take<int64_t>(q_len + 1);
    }
    if (copies) {
      dq = arena.Take<float>(pairs * group * q_len * spec.qk_dim);
      dk = arena.Take<float>(pairs * kv_len * spec.qk_dim);
      dv = arena.Take<float>(pairs * kv_len * spec.v_dim);
    }
    slot = arena.Take<std::byte>(slots * static_cast<int64_t>(slot_bytes));
  }
  SlotScratch Slot(int n, const TileSpec& spec) const {
    Arena arena({slot + n * slot_bytes, slot_bytes});
    return {arena, spec, distances};
  }

  int64_t pairs;  // of a round
  int64_t distances;
  BiasGradient dbias;
  size_t slot_bytes = 0;
  std::atomic<int64_t>*progress = nullptr, *done = nullptr;
  float *inner = nullptr, *inverse = nullptr;
  int64_t* steps = nullptr;
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;
  std::byte* slot = nullptr;
};

Interval AllQueries(const TileCall& call) {
  return {call.q_position, call.q_position + call.q.len};
}

// inverse[i] = 1 / number of keys that query i sees; 0 when it sees none.
// Each key adds 1 to the queries of an interval: 1 at its begin, -1 at its end.
void InverseCounts(const TileSpec& spec, const TileCall& call, int64_t* steps,
                   float* inverse) {
  const Interval all = AllQueries(call);
  std::fill_n(inverse, all.size(), 0.0f);
  for (const Part& part : spec.pattern) {
    const KeyBlocks cut(part, call.kv_end);
    for (int64_t c = 0; c < cut.classes; ++c) {
      const Interval queries = InClass(all, c, part.step);
      const int64_t n = InClass({0, call.kv_end}, c, part.step).end;
      std::fill_n(steps, queries.size() + 1, int64_t{0});
      for (int64_t block = 0; block < cut.count; ++block) {
        const Interval keys = cut[block].Cut({0, n});
        part.ForQueries(keys, queries, [&](Interval run) {
          for (int64_t j = keys.begin; j < keys.end; ++j) {
            const Interval seen = part.Queries(j, run);
            if (seen.empty()) continue;
            ++steps[seen.begin - queries.begin];
            --steps[seen.end - queries.begin];
          }
        });
      }
      int64_t sees = 0;
      for (int64_t i = queries.begin; i < queries.end; ++i) {
        sees += steps[i - queries.begin];
        inverse[c + part.step * i - all.begin] += static_cast<float>(sees);
      }
    }
  }
  for (int64_t i = 0; i < all.size(); ++i)
    if (inverse[i] > 0) inverse[i] = 1 / inverse[i];
}

void Zero(Rows<float> rows, Interval range, int64_t dim) {
  for (int64_t r = range.begin; r < range.end; ++r)
    std::fill_n(rows[r], dim, 0.0f);
}

// Calls rows of all query heads and key heads of a round, a block at a time.
template <class OnQueries, class OnKeys>
void ForRows(const Pass& pass, int64_t pairs, Exec& exec, OnQueries on_queries,
             OnKeys on_keys) {
  const int64_t q_blocks = (pass.q_len() + kQueries - 1) / kQueries;
  const int64_t k_blocks = (pass.kv_len() + kKeys - 1) / kKeys;
  const int64_t on_q = pairs * pass.group * q_blocks;
  exec.For(on_q + pairs * k_blocks, [&](int64_t task, int) {
    if (task < on_q) {
      const int64_t head = task / q_blocks, first = task % q_blocks * kQueries;
      on_queries(head / pass.group, head % pass.group,
                 Interval{first, first + kQueries}.Cut({0, pass.q_len()}));
    } else {
      const int64_t n = task - on_q, first = n % k_blocks * kKeys;
      on_keys(n / k_blocks,
              Interval{first, first + kKeys}.Cut({0, pass.kv_len()}));
    }
  });
}

// Whether the CPU's bf16 dot product makes the pass's products.
bool InPairs(const Pass& pass) {
  const TileCall& call = pass.call->forward;
  return MultipliesBF16() &&
         std::ranges::all_of(
             std::array{call.q, call.k, call.v, pass.call->dout},
             [](const ConstView& v) { return v.dtype == DType::kBF16; });
}

// One part for a round of pairs. Chains are the pairs' residue classes; as many
// go side by side as there are slots, so that few have to wait, and a slot
// stays with few heads.
void AddPart(const Pass& pass, int64_t nth, int64_t pairs,
             const Scratch& scratch, Exec& exec) {
  const Part& part = pass.spec->pattern[nth];
  const KeyBlocks cut(part, pass.kv_len());
  const int64_t chains = pairs * cut.classes;
  const int64_t abreast = std::min<int64_t>(chains, exec.slots());
  const auto add = InPairs(pass) ? AddKeyPairBlock : AddKeyBlock;
  for (int64_t n = 0; n < chains * cut.count; ++n)
    new (scratch.progress + n) std::atomic<int64_t>(0);
  for (int64_t n = 0; n < chains; ++n)
    new (scratch.done + n) std::atomic<int64_t>(0);
  exec.For(chains * cut.count, [&](int64_t task, int slot) {
    const int64_t first = task / (abreast * cut.count) * abreast;
    const int64_t in_step = std::min(abreast, chains - first);
    const int64_t in_group = task - first * cut.count;
    const int64_t chain = first + in_group % in_step;
    const int64_t block = in_group / in_step;
    const int64_t c = chain % cut.classes;
    const Job job{
        .part = &part,
        .nth = nth,
        .offset = c,
        .keys = cut[block].Cut(InClass({0, pass.kv_len()}, c, part.step)),
        .queries = InClass(AllQueries(pass.call->forward), c, part.step),
        .pair = chain / cut.classes,
        .dbias = pass.dbias == nullptr
                     ? nullptr
                     : pass.dbias->Block(chain * cut.count + block)};
    Turn turn(scratch.progress + chain * cut.count, scratch.done + chain,
              block);
    if (!job.keys.empty() && !job.queries.empty()) {
      SlotScratch own = scratch.Slot(slot, *pass.spec);
      add(pass, job, own, turn);
    }
    turn.Finish();
  });
  for (int64_t n = 0; pass.dbias != nullptr && n < chains * cut.count; ++n)
    pass.dbias->AddBlock(n, pass.first_pair + n / cut.count / cut.classes);
}

void StoreRound(const Pass& pass, int64_t pairs, Exec& exec) {
  const auto store = [](Rows<float> from, const View& to, int64_t b,
                        int64_t head, Interval rows) {
    StoreRows({from.data, from.stride}, rows, to.dim, to.Row<BF16>(b, head, 0),
              to.row_stride);
  };
  ForRows(
      pass, pairs, exec,
      [&](int64_t pair, int64_t h, Interval rows) {
        store(pass.Dq(pair, h), pass.call->dq, pass.Batch(pair),
              pass.QueryHead(pair, h), rows);
      },
      [&](int64_t pair, Interval rows) {
        const int64_t b = pass.Batch(pair), head = pass.KeyHead(pair);
        store(pass.Dk(pair), pass.call->dk, b, head, rows);
        store(pass.Dv(pair), pass.call->dv, b, head, rows);
      });
}

}  // namespace
}  // namespace backward

size_t TileBackwardScratch(const TileSpec& spec, int64_t q_len, int64_t kv_len,
                           int slots) {
  Arena count;
  backward::Scratch(count, spec, q_len, kv_len, slots);
  return count.used();
}

void TileBackward(const TileSpec& spec, const TileBackwardCall& call,
                  Bytes bytes, Exec& exec) {
  Arena arena(bytes);
  const backward::Scratch scratch(arena, spec, call.forward.q.len,
                                  call.forward.kv_end, exec.slots());
  if (spec.normaliser == Normaliser::kReluSquared)
    std::fill_n(scratch.inverse, call.forward.q.len,
                static_cast<float>(1 / spec.divisor));
  if (spec.normaliser == Normaliser::kReluSquaredRows)
    backward::InverseCounts(spec, call.forward, scratch.steps, scratch.inverse);

  const bool by_bias = call.dbias.data != nullptr && spec.bias != nullptr &&
                       spec.bias->parameters() > 0;
  if (by_bias) scratch.dbias.Start(spec);

  const int64_t all = spec.batch * spec.kv_heads;
  for (int64_t first = 0; first < all; first += scratch.pairs) {
    const int64_t pairs = std::min(scratch.pairs, all - first);
    const backward::Pass pass{.spec = &spec,
                              .call = &call,
                              .group = spec.q_heads / spec.kv_heads,
                              .first_pair = first,
                              .inner = scratch.inner,
                              .inverse = scratch.inverse,
                              .dq = scratch.dq,
                              .dk = scratch.dk,
                              .dv = scratch.dv,
                              .dbias = by_bias ? &scratch.dbias : nullptr};
    backward::ForRows(
        pass, pairs, exec,
        [&](int64_t pair, int64_t h, Interval rows) {
          backward::Zero(pass.Dq(pair, h), rows, spec.qk_dim);
          if (pass.softmax()) backward::InnerProducts(pass, pair, h, rows);
        },
        [&](int64_t pair, Interval rows) {
          backward::Zero(pass.Dk(pair), rows, spec.qk_dim);
          backward::Zero(pass.Dv(pair), rows, spec.v_dim);
        });
    for (size_t n = 0; n < spec.pattern.size(); ++n)
      backward::AddPart(pass, static_cast<int64_t>(n), pairs, scratch, exec);
    if (spec.dtype != DType::kF32) backward::StoreRound(pass, pairs, exec);
  }
  if (by_bias) scratch.dbias.Store(spec, call.dbias);
}

}  // namespace saccade
