// The plan that stands behind a ChunkSpec: memory, the three passes, and what
// they cost.
#include <algorithm>
#include <string>

#include "arena.h"
#include "engine/chunk.h"
#include "engine/chunk_buffers.h"
#include "engine/extend.h"
#include "engine/scan_norm.h"

namespace saccade {
namespace {

// What precedes the states in the caller's memory.
struct Header {
  uint64_t mark;
  int64_t tokens;
};
static_assert(sizeof(Header) <= kAlign);

class ChunkPlan final : public Plan {
 public:
  ChunkPlan(const Problem& problem, const ChunkSpec& spec)
      : Plan(problem), spec_(spec) {}

 private:
  std::string DoDescribe() const override {
    return "chunk engine, " + std::to_string(ChunkLength(spec_)) +
           " tokens a chunk, " + std::to_string(ChunkShares(spec_)) +
           (ChunkShares(spec_) == 1 ? " task a head" : " tasks a head");
  }

  // Rows before a norm, where one follows.
  View Rows(Arena& arena, DType dtype) const {
    const Problem& p = problem_;
    const int64_t n =
        spec_.norm > 0 ? p.batch * p.q_heads * p.q_len * p.v_dim : 0;
    void* const data = arena.Take<std::byte>(n * SizeOf(dtype));
    return Contiguous<void>(data, dtype, p.batch, p.q_heads, p.q_len, p.v_dim);
  }

  int64_t Positions() const {
    return std::max<int64_t>(0, QueryOffset(problem_) + problem_.q_len);
  }

  struct Saved {
    Saved(Arena& arena, const ChunkPlan& plan)
        : states(arena.Take<float>(
              ChunkSavedFloats(plan.spec_, plan.Positions()))),
          rows(plan.Rows(arena, DType::kF32)) {}
    float* states;
    View rows;
  };

  Footprint DoMemory(int slots) const override {
    Arena rows, state, saved;
    Rows(rows, DType::kF32);
    Saved(saved, *this);
    state.Take<float>(ChunkStateFloats(spec_));
    Footprint f;
    f.forward_scratch = rows.used() + ChunkForwardScratch(spec_, slots);
    f.backward_scratch =
        rows.used() +
        ChunkBackwardScratch(spec_, problem_.q_len, problem_.kv_len, slots);
    f.extend_scratch = f.forward_scratch;
    f.saved = saved.used();
    f.state = kAlign + state.used();
    return f;
  }

  ConstView Extra(const Inputs& in, int n) const {
    return n < 0 ? ConstView() : in.extra[static_cast<size_t>(n)];
  }
  ChunkCall CallOf(const Inputs& in, const View& out) const {
    return {.q = in.q,
            .k = in.k,
            .v = in.v,
            .decay = Extra(in, spec_.decay_input),
            .beta = Extra(in, spec_.beta_input),
            .out = out,
            .offset = QueryOffset(problem_)};
  }

  // Out, normed and gated if so asked; rows: room for what comes before.
  void Run(const Inputs& in, const Outputs& out, View rows, float* states,
           float* state, Bytes scratch, Exec& exec) const {
    rows.len = in.q.len;
    ChunkCall call = CallOf(in, spec_.norm > 0 ? rows : out.out);
    call.states = states;
    if (state != nullptr) call.offset = 0;
    ChunkForward(spec_, call, state, scratch, exec);
    if (spec_.norm > 0)
      NormForward({rows, Extra(in, spec_.gate_input), out.out, spec_.norm},
                  exec);
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    View rows = Rows(arena, DType::kF32);
    float* states = nullptr;
    if (!saved.empty()) {
      Arena kept(saved);
      const Saved keep(kept, *this);
      rows = keep.rows;
      states = keep.states;
    }
    Run(in, out, rows, states, nullptr, scratch.subspan(arena.used()), exec);
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    // Backward only reads what was saved.
    Arena kept({const_cast<std::byte*>(up.saved.data()), up.saved.size()});
    const Saved keep(kept, *this);
    const auto to = [&](int n) {
      return n < 0 ? View() : grad.dextra[static_cast<size_t>(n)];
    };
    ChunkBackwardCall call{.forward = CallOf(in, {}),
                           .dout = up.dout,
                           .dq = grad.dq,
                           .dk = grad.dk,
                           .dv = grad.dv,
                           .ddecay = to(spec_.decay_input),
                           .dbeta = to(spec_.beta_input)};
    call.forward.states = keep.states;
    Arena arena(scratch);
    if (spec_.norm > 0) {
      const View gradient = Rows(arena, spec_.dtype);
      NormBackward(
          {.forward = {keep.rows, Extra(in, spec_.gate_input), {}, spec_.norm},
           .dout = up.dout,
           .do_ = gradient,
           .dgate = to(spec_.gate_input)},
          exec);
      call.dout = gradient;
    }
    ChunkBackward(spec_, call, scratch.subspan(arena.used()), exec);
  }

  // Tells the states of different plans apart, and both from garbage.
  uint64_t Mark() const {
    uint64_t mark = 0x5361636353636102;
    for (const int64_t x : {spec_.batch, spec_.q_heads, spec_.kv_heads,
                            spec_.qk_dim, spec_.v_dim, problem_.kv_len})
      mark = (mark ^ static_cast<uint64_t>(x)) * 0x100000001b3;
    return mark;
  }

  void DoReset(Bytes state) const override {
    std::fill_n(state.data(), Memory(1).state, std::byte{0});
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
    Arena arena(scratch);
    const View rows = Rows(arena, DType::kF32);
    Run(fresh, out, rows, nullptr,
        reinterpret_cast<float*>(state.data() + kAlign),
        scratch.subspan(arena.used()), exec);
    header.tokens += n;
    return {};
  }

  ChunkSpec spec_;
};

}  // namespace

std::unique_ptr<Plan> MakeChunkPlan(const Problem& problem,
                                    const ChunkSpec& spec) {
  return std::make_unique<ChunkPlan>(problem, spec);
}

ChunkSpec MakeChunkSpec(const Problem& problem) {
  return {.batch = problem.batch,
          .q_heads = problem.q_heads,
          .kv_heads = problem.kv_heads,
          .qk_dim = problem.qk_dim,
          .v_dim = problem.v_dim,
          .dtype = problem.dtype,
          .scale = problem.scale};
}

Cost ChunkCost(const Problem& problem, const ChunkSpec& spec) {
  const auto d = static_cast<double>(spec.qk_dim);
  const auto e = static_cast<double>(spec.v_dim);
  const auto batch = static_cast<double>(spec.batch);
  const double q_heads = batch * static_cast<double>(spec.q_heads);
  const double kv_heads = batch * static_cast<double>(spec.kv_heads);
  const auto element = static_cast<double>(SizeOf(spec.dtype));
  // Queries that see a key, and keys that are seen.
  const int64_t offset = QueryOffset(problem), end = offset + problem.q_len;
  const auto queries = static_cast<double>(
      problem.kv_len > 0 ? std::clamp<int64_t>(end, 0, problem.q_len) : 0);
  const auto keys =
      static_cast<double>(std::clamp<int64_t>(end, 0, problem.kv_len));
  const double update = 2 * d * e * (IsDelta(spec) ? 2 : 1);
  const double factors = spec.decay == ChunkDecay::kNone     ? 0
                         : spec.decay == ChunkDecay::kNumber ? 1
                                                             : d;
  const double key_extras = factors + (IsDelta(spec) ? 1 : 0);
  const double gate = spec.norm > 0 ? e : 0;
  Cost cost;
  cost.forward_flops = 2 * d * e * q_heads * queries + update * kv_heads * keys;
  cost.backward_flops = 2 * cost.forward_flops;
  cost.forward_bytes =
      element * (q_heads * static_cast<double>(problem.q_len) * (d + e + gate) +
                 kv_heads * keys * (d + e + key_extras));
  // The state is read and written.
  cost.decode_flops = 2 * d * e * q_heads + update * kv_heads;
  cost.decode_bytes =
      element * (q_heads * (d + e + gate) + kv_heads * (d + e + key_extras)) +
      kv_heads * 2 * sizeof(float) * d * e;
  return cost;
}

}  // namespace saccade
