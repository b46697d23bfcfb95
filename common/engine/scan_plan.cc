// The plan that stands behind a ScanSpec: memory, the three passes, and what
// they cost.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "arena.h"
#include "engine/extend.h"
#include "engine/pattern.h"
#include "engine/scan.h"
#include "engine/scan_norm.h"
#include "engine/scan_state.h"

namespace saccade {
namespace {

// What precedes the engine's own state in the caller's memory.
struct Header {
  uint64_t mark;
  int64_t tokens;
};
static_assert(sizeof(Header) <= kAlign);

// Rows of f32 of what a scan gives when a norm follows: whole vectors, so that
// kernels write them as they stand.
View Scanned(float* data, const ScanSpec& spec, int64_t len) {
  return Contiguous<void>(data, DType::kF32, spec.batch, spec.q_heads, len,
                          ScanRoundUp(spec.v_dim, kScanPad));
}

float* TakeScanned(Arena& arena, const ScanSpec& spec, int64_t len) {
  return arena.Take<float>(
      spec.norm > 0 ? Scanned(nullptr, spec, len).elements() : 0);
}

// What forward keeps for backward.
struct Saved {
  Saved(Arena& arena, const ScanSpec& spec, const Problem& p)
      : factor(arena.Take<float>(spec.read_out == ReadOut::kPlain
                                     ? 0
                                     : p.batch * p.q_heads * p.q_len)),
        frames(arena.Take<float>(ScanFrameFloats(spec, p.kv_len))),
        scanned(TakeScanned(arena, spec, p.q_len)) {}

  void Give(ScanCall* call) const {
    call->factor = factor;
    call->frames = frames;
  }

  float *factor, *frames;
  float* scanned;  // what the scan gave, before its norm
};

class ScanPlan final : public Plan {
 public:
  ScanPlan(const Problem& problem, ScanSpec spec)
      : Plan(problem), spec_(std::move(spec)) {}

 private:
  std::string DoDescribe() const override {
    return "scan engine, " + std::to_string(kScanRun) + " tokens a run, " +
           std::to_string(kScanTile) + " a tile, " +
           std::to_string(kScanPanel) + " columns a panel";
  }
  bool causal() const { return problem_.mask != Mask::kNone; }

  Footprint DoMemory(int slots) const override {
    Footprint bytes;
    Arena rows;
    TakeScanned(rows, spec_, problem_.q_len);
    bytes.forward_scratch = rows.used() + ScanForwardScratch(spec_, slots);
    bytes.backward_scratch =
        rows.used() + ScanBackwardScratch(spec_, slots, problem_.q_len);
    Arena saved;
    Saved(saved, spec_, problem_);
    bytes.saved = saved.used();
    if (causal()) {
      bytes.extend_scratch = rows.used() + ScanExtendScratch(spec_, slots);
      bytes.state = kAlign + ScanStateBytes(spec_);
    }
    return bytes;
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    ScanCall call{.q = in.q, .k = in.k, .v = in.v, .out = out.out};
    Arena rows(scratch);
    float* scanned = TakeScanned(rows, spec_, problem_.q_len);
    if (!saved.empty()) {
      Arena arena(saved);
      const Saved keep(arena, spec_, problem_);
      keep.Give(&call);
      if (spec_.norm > 0) scanned = keep.scanned;
    }
    if (spec_.norm > 0) call.out = Scanned(scanned, spec_, in.q.len);
    ScanForward(spec_, call, scratch.subspan(rows.used()), exec);
    if (spec_.norm > 0)
      NormForward({call.out, in.extra[0], out.out, spec_.norm}, exec);
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    ScanBackwardCall call{.forward = {.q = in.q, .k = in.k, .v = in.v},
                          .out = up.out,
                          .dout = up.dout,
                          .dq = grad.dq,
                          .dk = grad.dk,
                          .dv = grad.dv};
    // Backward only reads what was saved.
    Arena arena({const_cast<std::byte*>(up.saved.data()), up.saved.size()});
    const Saved kept(arena, spec_, problem_);
    kept.Give(&call.forward);
    Arena rows(scratch);
    float* const dscanned = TakeScanned(rows, spec_, problem_.q_len);
    if (spec_.norm > 0) {
      const View gradient =
          Contiguous<void>(dscanned, spec_.dtype, spec_.batch, spec_.q_heads,
                           in.q.len, spec_.v_dim);
      NormBackward({.forward = {Scanned(kept.scanned, spec_, in.q.len),
                                in.extra[0],
                                {},
                                spec_.norm},
                    .dout = up.dout,
                    .do_ = gradient,
                    .dgate = grad.dextra[0]},
                   exec);
      call.dout = gradient;
    }
    ScanBackward(spec_, call, scratch.subspan(rows.used()), exec);
  }

  // Tells the states of different plans apart, and both from garbage.
  uint64_t Mark() const {
    uint64_t mark = 0x5361636353636101;
    for (const int64_t x :
         {spec_.batch, spec_.q_heads, spec_.kv_heads, spec_.qk_dim, spec_.v_dim,
          problem_.kv_len, static_cast<int64_t>(ScanStateBytes(spec_))})
      mark = (mark ^ static_cast<uint64_t>(x)) * 0x100000001b3;
    return mark;
  }

  void DoReset(Bytes state) const override {
    std::fill_n(state.data(), kAlign + ScanStateBytes(spec_), std::byte{0});
    *reinterpret_cast<Header*>(state.data()) = {Mark(), 0};
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Header& header = *reinterpret_cast<Header*>(state.data());
    if (header.mark != Mark() || header.tokens < 0 ||
        header.tokens > problem_.kv_len)
      return Invalid(
          "Extend: state is not that of a sequence of this plan (Reset it "
          "first)");
    const int64_t n = fresh.q.len;
    const Status room = CheckRoom(header.tokens, n, problem_.kv_len);
    if (!room.ok()) return room;
    ScanCall call{.q = fresh.q,
                  .k = fresh.k,
                  .v = fresh.v,
                  .out = out.out,
                  .first = header.tokens};
    Arena rows(scratch);
    float* const scanned = TakeScanned(rows, spec_, problem_.q_len);
    if (spec_.norm > 0) call.out = Scanned(scanned, spec_, n);
    ScanExtend(spec_, call, state.subspan(kAlign), scratch.subspan(rows.used()),
               exec);
    if (spec_.norm > 0)
      NormForward({call.out, fresh.extra[0], out.out, spec_.norm}, exec);
    header.tokens += n;
    return {};
  }

  ScanSpec spec_;
};

}  // namespace

void SetTurn(double radians, ScanSpec* spec) {
  spec->feature = FeatureMap::kTurnedRelu;
  spec->turn = radians;
  spec->turns.resize(2 * kScanRun);
  for (int64_t t = 0; t < kScanRun; ++t) {
    spec->turns[t] = std::cos(radians * static_cast<double>(t));
    spec->turns[kScanRun + t] = std::sin(radians * static_cast<double>(t));
  }
}

void SetRandomFeatures(const std::vector<float>& rows, float scale,
                       double beside, ScanSpec* spec) {
  const int64_t d = spec->qk_dim, m = std::ssize(rows) / d;
  const auto panels = [](int64_t n) { return ScanRoundUp(n, kScanPanel); };
  auto random = std::make_shared<ScanRandom>();
  random->scale = scale;
  random->beside = static_cast<float>(beside);
  constexpr int64_t kLine = std::size(ScanRandom::Line().x);
  random->to_features.resize(panels(m) * d / kLine);
  random->to_elements.resize(panels(d) * m / kLine);
  float* const to_features = random->to_features.data()->x;
  float* const to_elements = random->to_elements.data()->x;
  const double half = std::sqrt(static_cast<double>(scale)) / 2;
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < d; ++c) {
      const auto x = static_cast<float>(half * rows[r * d + c]);
      to_features[ScanAt(d, c, r)] = x;
      to_elements[ScanAt(m, r, c)] = x;
    }
  spec->feature = FeatureMap::kRandom;
  spec->features = m;
  spec->random = std::move(random);
}

int64_t ScanFeatures(const ScanSpec& spec) {
  switch (spec.feature) {
    case FeatureMap::kTurnedRelu:
      return 2 * ScanRoundUp(spec.qk_dim, kScanPad);
    case FeatureMap::kRandom:
      return spec.features;
    case FeatureMap::kTaylor:
      return 1 + spec.elements + spec.elements * (spec.elements + 1) / 2;
    default:
      return spec.qk_dim;
  }
}

std::unique_ptr<Plan> MakeScanPlan(const Problem& problem, ScanSpec spec) {
  return std::make_unique<ScanPlan>(problem, std::move(spec));
}

ScanSpec MakeScanSpec(const Problem& problem) {
  return {.batch = problem.batch,
          .q_heads = problem.q_heads,
          .kv_heads = problem.kv_heads,
          .qk_dim = problem.qk_dim,
          .v_dim = problem.v_dim,
          .dtype = problem.dtype,
          .mask = problem.mask,
          .scale = problem.scale};
}

Cost ScanCost(const Problem& problem, const ScanSpec& spec) {
  const auto d = static_cast<double>(spec.qk_dim);
  const auto m = static_cast<double>(ScanFeatures(spec));
  const auto e = static_cast<double>(spec.v_dim);
  const auto batch = static_cast<double>(spec.batch);
  const double q_heads = batch * static_cast<double>(spec.q_heads);
  const double kv_heads = batch * static_cast<double>(spec.kv_heads);
  const auto element = static_cast<double>(SizeOf(spec.dtype));
  // Queries that see a key, and keys that are seen.
  const int64_t offset = QueryOffset(problem);
  const bool causal = problem.mask != Mask::kNone;
  const int64_t q_len = problem.q_len, kv_len = problem.kv_len;
  const int64_t blind = causal ? std::clamp<int64_t>(-offset, 0, q_len) : 0;
  const auto queries = static_cast<double>(kv_len > 0 ? q_len - blind : 0);
  const auto keys =
      static_cast<double>(q_len == 0 ? 0
                          : causal   ? std::min(kv_len, offset + q_len)
                                     : kv_len);

  Cost cost;
  cost.forward_flops = 2 * m * e * (q_heads * queries + kv_heads * keys);
  cost.backward_flops = 3 * cost.forward_flops;
  cost.forward_bytes = element * (d + e) *
                       (q_heads * static_cast<double>(q_len) + kv_heads * keys);
  if (causal) {
    // The state is read and written.
    cost.decode_flops = 2 * m * e * (q_heads + kv_heads);
    cost.decode_bytes = element * (d + e) * (q_heads + kv_heads) +
                        kv_heads * 2 * sizeof(float) * m * e;
  }
  return cost;
}

}  // namespace saccade
