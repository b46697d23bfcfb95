// The plan that stands behind a TileSpec: memory, the three passes, and what
// they cost.
#include <algorithm>
#include <cmath>
#include <new>
#include <numbers>
#include <string>
#include <type_traits>
#include <utility>

#include "arena.h"
#include "attn_mask.h"
#include "engine/extend.h"
#include "engine/kv_cache.h"
#include "engine/tile.h"
#include "engine/tile_backward.h"
#include "engine/tile_decode.h"
#include "engine/tile_strips.h"
#include "position.h"
#include "simd/bf16.h"
#include "simd/target.h"

namespace saccade {
namespace {

// Rows of a task of the gate's backward pass.
constexpr int64_t kGateRows = 64;

int64_t Rows(const TileSpec& spec, int64_t q_len) {
  return spec.batch * spec.q_heads * q_len;
}

size_t CountBytes(auto layout) {
  Arena count;
  layout(count);
  return count.used();
}

// Rows `first` .. `first` + n - 1 of a view.
template <class Void>
BasicView<Void> Slice(BasicView<Void> x, int64_t first, int64_t n) {
  if (x.data != nullptr) {
    using Byte =
        std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;
    x.data =
        static_cast<Byte*>(x.data) + first * x.row_stride * SizeOf(x.dtype);
  }
  x.len = n;
  return x;
}

// What Forward keeps for Backward.
struct Saved {
  Saved(Arena& arena, const TileSpec& spec, int64_t q_len) {
    if (spec.normaliser == Normaliser::kSoftmax)
      lse = arena.Take<float>(Rows(spec, q_len));
    if (spec.gated) ungated = arena.Take<float>(Rows(spec, q_len) * spec.v_dim);
  }
  View Ungated(const TileSpec& s, int64_t q_len) const {
    if (!s.gated) return {};
    return Contiguous<void>(ungated, DType::kF32, s.batch, s.q_heads, q_len,
                            s.v_dim);
  }
  float* lse = nullptr;
  float* ungated = nullptr;
};

struct BackwardScratch {
  BackwardScratch(Arena& arena, const TileSpec& spec, const Problem& p,
                  int slots)
      : tile_bytes(TileBackwardScratch(spec, p.q_len, p.kv_len, slots)),
        tile(arena.Take<std::byte>(static_cast<int64_t>(tile_bytes))) {
    if (spec.gated)
      dout = arena.Take<std::byte>(Rows(spec, p.q_len) * spec.v_dim *
                                   SizeOf(spec.dtype));
    if (spec.sinks) dsinks = arena.Take<double>(spec.batch * spec.q_heads);
  }
  size_t tile_bytes;
  std::byte* tile;
  std::byte* dout = nullptr;  // by the product before the gate
  double* dsinks = nullptr;   // of each sequence, [B, Hq]
};

struct ExtendScratch {
  ExtendScratch(Arena& arena, const TileSpec& spec, int64_t rows,
                bool piecewise, int64_t kv_len, int slots)
      : tile_bytes(std::max(TileForwardScratch(spec, rows, slots),
                            TileDecodeScratch(spec, kv_len, slots))),
        tile(arena.Take<std::byte>(static_cast<int64_t>(tile_bytes))) {
    if (piecewise && spec.normaliser == Normaliser::kSoftmax)
      lse = arena.Take<float>(Rows(spec, rows));
  }
  size_t tile_bytes;
  std::byte* tile;
  float* lse = nullptr;  // of a piece
};

float Widen(float x) { return x; }
float Widen(BF16 x) { return ToFloat(x); }
void Narrow(float x, float& to) { to = x; }
void Narrow(float x, BF16& to) { to = ToBF16(x); }

// One row of the gate's backward pass:
//   dgate = dout (.) ungated,  d ungated = dout (.) gate.
template <class T>
void GateRow(const T* dout, const T* gate, const float* ungated, int64_t dim,
             T* dgate, T* dungated) {
  for (int64_t c = 0; c < dim; ++c) {
    const float up = Widen(dout[c]);
    Narrow(up * ungated[c], dgate[c]);
    Narrow(up * Widen(gate[c]), dungated[c]);
  }
}

template <class T>
void GateBackward(const ConstView& dout, const ConstView& gate,
                  const ConstView& ungated, const View& dgate,
                  const View& dungated, Exec& exec) {
  const int64_t blocks = (dout.len + kGateRows - 1) / kGateRows;
  exec.For(dout.batch * dout.heads * blocks, [&](int64_t task, int) {
    const int64_t head = task / blocks, first = task % blocks * kGateRows;
    const int64_t b = head / dout.heads, h = head % dout.heads;
    const int64_t end = std::min(dout.len, first + kGateRows);
    for (int64_t t = first; t < end; ++t)
      GateRow(dout.Row<T>(b, h, t), gate.Row<T>(b, h, t),
              ungated.Row<float>(b, h, t), dout.dim, dgate.Row<T>(b, h, t),
              dungated.Row<T>(b, h, t));
  });
}

// Of lse = ln(e^sink + ...), by whose weight outputs shrink:
//   dsink = -sum over rows of e^(sink - lse) out.dout.
template <class T>
void SinkBackward(const ConstView& sinks, const float* lse,
                  const ConstView& out, const ConstView& dout, double* parts,
                  const View& dsinks, Exec& exec) {
  exec.For(out.batch * out.heads, [&](int64_t head, int) {
    const int64_t b = head / out.heads, h = head % out.heads;
    const double sink = *sinks.Row<float>(0, h, 0);
    parts[head] = 0;
    for (int64_t t = 0; t < out.len; ++t) {
      const T *const o = out.Row<T>(b, h, t), *const up = dout.Row<T>(b, h, t);
      double inner = 0;
      for (int64_t c = 0; c < out.dim; ++c)
        inner += double{Widen(o[c])} * double{Widen(up[c])};
      parts[head] -= std::exp(sink - double{lse[head * out.len + t]}) * inner;
    }
  });
  for (int64_t h = 0; h < out.heads; ++h) {
    double sum = 0;
    for (int64_t b = 0; b < out.batch; ++b) sum += parts[b * out.heads + h];
    *dsinks.Row<float>(0, h, 0) = static_cast<float>(sum);
  }
}

KvCache::Shape CacheShape(const Problem& problem, const TileSpec& spec) {
  KvCache::Shape shape{.batch = spec.batch,
                       .heads = spec.kv_heads,
                       .qk_dim = spec.qk_dim,
                       .v_dim = spec.v_dim,
                       .dtype = spec.dtype,
                       .capacity = problem.kv_len,
                       .append = problem.q_len};
  // A pure window forgets; any other pattern may come back to any key.
  const Part& part = spec.pattern.front();
  if (spec.pattern.size() == 1 && part.kind == Part::Kind::kBand &&
      part.step == 1) {
    shape.reach = std::min(part.reach, part.high);
    shape.sinks = part.sinks;
    // A mask that cuts at `high` cuts sinks too, but only there: until then
    // they are seen from beyond `reach`.
    if (part.high <= shape.reach + shape.sinks) {
      shape.reach = part.high;
      shape.sinks = 0;
    }
  }
  return shape;
}

class TilePlan final : public Plan {
 public:
  TilePlan(const Problem& problem, TileSpec spec)
      : Plan(problem),
        spec_(std::move(spec)),
        one_(OneOf()),
        bias_(spec_.bias, spec_.pattern, problem, std::numbers::log2e_v<float>),
        extends_(problem.mask != Mask::kNone &&
                 problem.attn_mask == AttnMask::kNone),
        cache_(CacheShape(problem, spec_)),
        no_sinks_(spec_.sinks ? spec_.q_heads : 0) {}

 protected:
  std::string DoDescribe() const override;
  Footprint DoMemory(int slots) const override;
  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override;
  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override;
  Status DoForwardSequences(const Inputs& in, const Outputs& out,
                            const Sequences& sequences, Bytes scratch,
                            Exec& exec) const override;
  void DoReset(Bytes state) const override { cache_.Reset(state); }
  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override;

 private:
  bool Piecewise() const { return cache_.step() < problem_.q_len; }
  ExtendScratch LayOutExtend(Arena& arena, int slots) const {
    return {arena, spec_, cache_.step(), Piecewise(), problem_.kv_len, slots};
  }

  // A pass's scratch: a table of the caller's bias, then the engine's.
  Bytes AfterTable(Bytes scratch, float** room) const {
    Arena arena(scratch);
    *room = bias_.Room(arena);
    return scratch.subspan(arena.used());
  }
  size_t TableBytes() const {
    return CountBytes([&](Arena& arena) { bias_.Room(arena); });
  }

  // One of several sequences.
  TileSpec OneOf() const {
    TileSpec one = spec_;
    one.batch = 1;
    return one;
  }
  TileCall CallOf(const Inputs& in, const Outputs& out, const Sequences& s,
                  int64_t n) const;
  ConstView SinksOf(const Inputs& in) const {
    if (!spec_.sinks || in.bias.data != nullptr) return in.bias;
    return Contiguous<const void>(no_sinks_.data(), DType::kF32, 1,
                                  spec_.q_heads, 1, 1);
  }

  TileSpec spec_, one_;
  PlannedBias bias_;
  bool extends_;
  KvCache cache_;
  std::vector<float> no_sinks_;  // [Hq], those before training
};

std::string TilePlan::DoDescribe() const {
  return "tile engine, forward " + std::to_string(kKeyBlock) +
         " keys a batch, backward " + std::to_string(backward::kQueries) +
         " x " + std::to_string(backward::kKeys) + " tokens, decode " +
         std::to_string(kDecodeChunk) + " keys a task";
}

Footprint TilePlan::DoMemory(int slots) const {
  const Problem& p = problem_;
  Footprint bytes;
  const size_t table = TableBytes();
  bytes.forward_scratch = table + TileForwardScratch(spec_, p.q_len, slots);
  bytes.backward_scratch = table + CountBytes([&](Arena& arena) {
                             BackwardScratch(arena, spec_, p, slots);
                           });
  bytes.saved = CountBytes([&](Arena& arena) { Saved(arena, spec_, p.q_len); });
  bytes.sequences_scratch = CountBytes([&](Arena& arena) {
    arena.Take<TileCall>(p.batch);
    arena.Take<std::byte>(static_cast<int64_t>(
        std::max(TileForwardAllScratch(one_, p.q_len, p.batch, slots),
                 TileDecodeAllScratch(one_, p.kv_len, slots))));
  });
  if (extends_) {
    bytes.extend_scratch =
        table + CountBytes([&](Arena& arena) { LayOutExtend(arena, slots); });
    bytes.state = cache_.bytes();
  }
  return bytes;
}

void TilePlan::DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                         Bytes scratch, Exec& exec) const {
  BiasTable own;
  float* room;
  const Bytes tile = AfterTable(scratch, &room);
  TileCall call{.q = in.q,
                .k = in.k,
                .v = in.v,
                .gate = in.extra[0],
                .out = out.out,
                .lse = out.lse,
                .slopes = SlopesOf(problem_, in),
                .sinks = SinksOf(in),
                .bias = bias_.TableOf(in, room, &own, exec),
                .q_position = QueryOffset(problem_),
                .kv_end = problem_.kv_len,
                .attn_mask = Broadcast(in.attn_mask)};
  if (!saved.empty()) {
    Arena kept(saved);
    const Saved keep(kept, spec_, problem_.q_len);
    call.ungated = keep.Ungated(spec_, problem_.q_len);
    if (keep.lse != nullptr) call.lse = keep.lse;
  }
  if (spec_.normaliser != Normaliser::kSoftmax) call.lse = nullptr;
  TileForward(spec_, call, tile, exec);
  if (out.lse != nullptr && call.lse != nullptr && call.lse != out.lse)
    std::copy_n(call.lse, Rows(spec_, problem_.q_len), out.lse);
}

void TilePlan::DoBackward(const Inputs& in, const Upstream& up,
                          const Gradients& grad, Bytes scratch,
                          Exec& exec) const {
  const Problem& p = problem_;
  BiasTable own;
  float* room;
  Arena arena(AfterTable(scratch, &room));
  const BackwardScratch space(arena, spec_, p, exec.slots());
  // The arena only lays the pieces out; nothing is written to what was saved.
  Arena kept({const_cast<std::byte*>(up.saved.data()), up.saved.size()});
  const Saved keep(kept, spec_, p.q_len);

  TileBackwardCall call{.forward = {.q = in.q,
                                    .k = in.k,
                                    .v = in.v,
                                    .lse = keep.lse,
                                    .slopes = SlopesOf(problem_, in),
                                    .bias = bias_.TableOf(in, room, &own, exec),
                                    .q_position = QueryOffset(p),
                                    .kv_end = p.kv_len,
                                    .attn_mask = Broadcast(in.attn_mask)},
                        .out = up.out,
                        .dout = up.dout,
                        .dq = grad.dq,
                        .dk = grad.dk,
                        .dv = grad.dv,
                        .dbias = spec_.sinks ? View{} : grad.dbias};
  if (bias_.bias() != nullptr) call.bias_parameters = bias_.ParametersOf(in);
  if (spec_.gated) {
    const View ungated = keep.Ungated(spec_, p.q_len);
    const View dungated = Contiguous<void>(space.dout, spec_.dtype, spec_.batch,
                                           spec_.q_heads, p.q_len, spec_.v_dim);
    const auto pass =
        spec_.dtype == DType::kF32 ? GateBackward<float> : GateBackward<BF16>;
    pass(up.dout, in.extra[0], ungated, grad.dextra[0], dungated, exec);
    call.out = ungated;
    call.dout = dungated;
  }
  TileBackward(spec_, call, {space.tile, space.tile_bytes}, exec);
  if (spec_.sinks && grad.dbias.data != nullptr) {
    const auto pass =
        spec_.dtype == DType::kF32 ? SinkBackward<float> : SinkBackward<BF16>;
    pass(SinksOf(in), keep.lse, up.out, up.dout, space.dsinks, grad.dbias,
         exec);
  }
}

TileCall TilePlan::CallOf(const Inputs& in, const Outputs& out,
                          const Sequences& s, int64_t n) const {
  const auto at = static_cast<size_t>(n);
  const int64_t q_first = s.q_starts[at];
  TileCall call{.q = Slice(in.q, q_first, s.q_starts[at + 1] - q_first),
                .k = in.k,
                .v = in.v,
                .out = Slice(out.out, q_first, s.q_starts[at + 1] - q_first),
                .lse = out.lse == nullptr ? nullptr : out.lse + q_first,
                .lse_len = in.q.len,
                .slopes = SlopesOf(problem_, in),
                .sinks = SinksOf(in)};
  if (call.slopes.data != nullptr)
    call.slopes.data = call.slopes.Row<float>(n, 0, 0);
  if (s.kv_starts.empty()) {
    call.kv_end = s.kv_lens[at];
    call.pages = s.pages.data() + at * (s.pages.size() / s.kv_lens.size());
    call.page = s.page;
  } else {
    const int64_t first = s.kv_starts[at];
    call.kv_end = s.kv_starts[at + 1] - first;
    call.k = Slice(in.k, first, call.kv_end);
    call.v = Slice(in.v, first, call.kv_end);
  }
  if (problem_.mask != Mask::kCausalTopLeft)
    call.q_position = call.kv_end - call.q.len;
  return call;
}

Status TilePlan::DoForwardSequences(const Inputs& in, const Outputs& out,
                                    const Sequences& s, Bytes scratch,
                                    Exec& exec) const {
  const bool paged = s.kv_starts.empty();
  if (spec_.bias != nullptr || spec_.gated ||
      spec_.normaliser != Normaliser::kSoftmax)
    return Unsupported(
        "sequences of different lengths want softmax with no bias but ALiBi");
  for (const Part& part : spec_.pattern)
    if (paged && part.step != 1)
      return Unsupported("keys in pages are not read by residue classes");
  Arena arena(scratch);
  auto* const calls = arena.Take<TileCall>(problem_.batch);
  const auto n = static_cast<int64_t>(s.q_starts.size()) - 1;
  // Steps of decoding in front.
  int64_t steps = 0, others = 0;
  const auto is_step = [&](int64_t at) {
    return paged && s.q_starts[at + 1] - s.q_starts[at] <= kDecodeRows;
  };
  for (int64_t at = 0; at < n; ++at) steps += is_step(at);
  for (int64_t at = 0, step = 0; at < n; ++at)
    new (calls + (is_step(at) ? step++ : steps + others++))
        TileCall(CallOf(in, out, s, at));
  const Bytes tile = scratch.subspan(arena.used());
  const auto count = static_cast<size_t>(steps);
  if (steps > 0)
    TileDecodeAll(one_, {calls, count}, problem_.kv_len, tile, exec);
  if (others > 0)
    TileForwardAll(one_, {calls + steps, static_cast<size_t>(others)}, tile,
                   exec);
  return {};
}

Status TilePlan::DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                          Bytes scratch, Exec& exec) const {
  const int64_t n = fresh.q.len;
  Result<KvCache::Held> held = cache_.Open(state);
  if (!held.ok()) return held.status();
  const Status fits = CheckRoom(held->tokens, n, problem_.kv_len);
  if (!fits.ok()) return fits;

  BiasTable own;
  float* room;
  Arena arena(AfterTable(scratch, &room));
  const BiasTable* const bias = bias_.TableOf(fresh, room, &own, exec);
  const ExtendScratch space = LayOutExtend(arena, exec.slots());
  for (int64_t first = 0; first < n; first += cache_.step()) {
    const int64_t rows = std::min(cache_.step(), n - first);
    const int64_t position = held->tokens;
    cache_.Append(state, *held, fresh.k, fresh.v, first, rows, exec);
    const bool whole = rows == n;
    TileCall call{.q = Slice(fresh.q, first, rows),
                  .k = held->k,
                  .v = held->v,
                  .gate = Slice(fresh.extra[0], first, rows),
                  .out = Slice(out.out, first, rows),
                  .lse = whole && out.lse != nullptr ? out.lse : space.lse,
                  .slopes = SlopesOf(problem_, fresh),
                  .sinks = SinksOf(fresh),
                  .bias = bias,
                  .q_position = position,
                  .kv_end = held->tokens,
                  .k_split = held->split,
                  .k_shift = held->shift};
    const Bytes tile{space.tile, space.tile_bytes};
    if (rows <= kDecodeRows)
      TileDecode(spec_, call, tile, exec);
    else
      TileForward(spec_, call, tile, exec);
    if (whole || out.lse == nullptr || call.lse == nullptr) continue;
    for (int64_t head = 0; head < spec_.batch * spec_.q_heads; ++head)
      std::copy_n(call.lse + head * rows, rows, out.lse + head * n + first);
  }
  return {};
}

}  // namespace

std::unique_ptr<Plan> MakeTilePlan(const Problem& problem, TileSpec spec) {
  ChooseTarget();
  return std::make_unique<TilePlan>(problem, std::move(spec));
}

TileSpec MakeTileSpec(const Problem& problem) {
  TileSpec spec{.batch = problem.batch,
                .q_heads = problem.q_heads,
                .kv_heads = problem.kv_heads,
                .qk_dim = problem.qk_dim,
                .v_dim = problem.v_dim,
                .dtype = problem.dtype,
                .scale = problem.scale,
                .softcap = problem.softcap,
                .masked = problem.attn_mask != AttnMask::kNone,
                .pattern = {MaskPart(problem)}};
  if (FindIn(problem.positions, "alibi"))
    spec.slopes = AlibiSlopes(problem.q_heads);
  else
    spec.bias = MakeDistanceBias(problem);
  return spec;
}

Cost TileCost(const Problem& problem, const TileSpec& spec) {
  const auto batch = static_cast<double>(spec.batch);
  const double q_heads = batch * static_cast<double>(spec.q_heads);
  const double kv_heads = batch * static_cast<double>(spec.kv_heads);
  const auto d = static_cast<double>(spec.qk_dim);
  const auto e = static_cast<double>(spec.v_dim);
  const auto element = static_cast<double>(SizeOf(spec.dtype));
  // Of one query: q and out, and the gate.
  const double q_width = d + e + (spec.gated ? e : 0);

  const double pairs =
      q_heads * VisiblePairs(spec.pattern, QueryOffset(problem), problem.q_len,
                             problem.kv_len);
  Cost cost;
  cost.forward_flops = 2 * pairs * (d + e);           // q k, w v
  cost.backward_flops = 2 * pairs * (3 * d + 2 * e);  // q k, dk, dq; do v, dv
  cost.forward_bytes =
      element * (q_heads * static_cast<double>(problem.q_len) * q_width +
                 kv_heads * static_cast<double>(problem.kv_len) * (d + e));
  if (problem.mask != Mask::kNone && problem.kv_len > 0) {
    const auto keys = static_cast<double>(
        VisibleKeys(spec.pattern, problem.kv_len - 1, problem.kv_len));
    cost.decode_flops = 2 * q_heads * keys * (d + e);
    cost.decode_bytes =
        element * (q_heads * q_width + kv_heads * keys * (d + e));
  }
  return cost;
}

}  // namespace saccade
