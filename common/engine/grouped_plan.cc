#include "engine/grouped_plan.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "arena.h"
#include "content_free.h"
#include "engine/chunk.h"
#include "engine/tile.h"
#include "rows.h"

namespace saccade {
namespace {

// Elements of squared scores; the others are of linear ones.
int64_t Within(int64_t qk_dim) { return (qk_dim + 1) / 2; }

// The first half of every row, or the second.
template <class View>
View Half(View x, bool second) {
  const int64_t within = Within(x.dim);
  x.dim = second ? x.dim - within : within;
  if (second && x.data != nullptr)
    x.data = x.dtype == DType::kF32
                 ? static_cast<decltype(x.data)>(
                       x.template Row<float>(0, 0, 0) + within)
                 : x.template Row<BF16>(0, 0, 0) + within;
  return x;
}

Problem Narrow(const Problem& p, bool second) {
  Problem narrow = p;
  narrow.qk_dim = second ? p.qk_dim - Within(p.qk_dim) : Within(p.qk_dim);
  return narrow;
}

TileSpec WithinSpec(const Problem& p, int64_t group, float scale) {
  TileSpec spec = MakeTileSpec(Narrow(p, false));
  spec.normaliser = Normaliser::kReluSquared;
  spec.scale = scale;
  Part& part = spec.pattern.front();
  part.kind = Part::Kind::kFixed;
  part.block = group;
  return spec;
}

ChunkSpec BeforeSpec(const Problem& p, int64_t group, float scale) {
  ChunkSpec spec = MakeChunkSpec(Narrow(p, true));
  spec.scale = scale;
  spec.group = group;
  return spec;
}

// Calls row(b, h, t) for all rows, in tasks.
template <class F>
void ForAllRows(const ConstView& x, Exec& exec, F row) {
  ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
    for (int64_t t = first; t < end; ++t) row(b, h, t);
  });
}

template <class T>
class GroupedPlan final : public Plan {
 public:
  GroupedPlan(const Problem& p, int64_t group, float scale)
      : Plan(p),
        within_(MakeTilePlan(Narrow(p, false), WithinSpec(p, group, scale))),
        before_(BeforeSpec(p, group, scale)) {}

 private:
  std::string DoDescribe() const override {
    return "groups of " + std::to_string(before_.group) + " tokens: within, " +
           within_->Describe() + "; before, chunk engine";
  }

  // Floats of what is added to what is within groups.
  View Rows(Arena& a, int64_t len) const {
    const Problem& p = problem_;
    return Contiguous<void>(a.Take<float>(p.batch * p.q_heads * len * p.v_dim),
                            DType::kF32, p.batch, p.q_heads, len, p.v_dim);
  }
  int64_t Positions() const {
    return std::max<int64_t>(0, QueryOffset(problem_) + problem_.q_len);
  }

  struct Saved {
    Saved(Arena& a, const GroupedPlan& plan)
        : bytes(plan.within_->Memory(1).saved),
          within(a.Take<std::byte>(static_cast<int64_t>(bytes))),
          states(
              a.Take<float>(ChunkSavedFloats(plan.before_, plan.Positions()))),
          sum(plan.Rows(a, plan.problem_.q_len)) {}
    size_t bytes;
    std::byte* within;
    float* states;
    View sum;  // before the gate
  };

  struct BackwardScratch {
    BackwardScratch(Arena& a, const Problem& p)
        : dsum(Contiguous<void>(
              a.Take<T>(p.batch * p.q_heads * p.q_len * p.v_dim), p.dtype,
              p.batch, p.q_heads, p.q_len, p.v_dim)),
          dv(Contiguous<void>(
              a.Take<T>(p.batch * p.kv_heads * p.kv_len * p.v_dim), p.dtype,
              p.batch, p.kv_heads, p.kv_len, p.v_dim)),
          used(a.used()) {}
    View dsum, dv;
    size_t used;
  };

  Footprint DoMemory(int slots) const override {
    const Footprint within = within_->Memory(slots);
    const size_t before = ChunkForwardScratch(before_, slots);
    Arena rows, saved, scratch;
    Rows(rows, problem_.q_len);
    Saved(saved, *this);
    Footprint f;
    f.forward_scratch = rows.used() + std::max(within.forward_scratch, before);
    f.extend_scratch = rows.used() + std::max(within.extend_scratch, before);
    f.backward_scratch = BackwardScratch(scratch, problem_).used +
                         std::max(within.backward_scratch,
                                  ChunkBackwardScratch(before_, problem_.q_len,
                                                       problem_.kv_len, slots));
    f.saved = saved.used();
    f.state = kAlign + within.state + Floats(ChunkStateFloats(before_));
    return f;
  }
  static size_t Floats(int64_t n) {
    return static_cast<size_t>(n) * sizeof(float);
  }

  static Inputs Halves(const Inputs& in) {
    Inputs half = in;
    half.q = Half(in.q, false);
    half.k = Half(in.k, false);
    half.extra = {};
    return half;
  }
  ChunkCall CallOf(const Inputs& in) const {
    return {.q = Half(in.q, true),
            .k = Half(in.k, true),
            .v = in.v,
            .decay = {},
            .beta = {},
            .offset = QueryOffset(problem_)};
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status& status) { (void)status; }

  // sum += out, out = gate sum.
  void Finish(const ConstView& gate, const View& sum, const View& out,
              Exec& exec) const {
    ForAllRows(out, exec, [&](int64_t b, int64_t h, int64_t t) {
      float* const s = sum.Row<float>(b, h, t);
      const T* const u = gate.Row<T>(b, h, t);
      T* const o = out.Row<T>(b, h, t);
      for (int64_t c = 0; c < out.dim; ++c) {
        s[c] += Get(o[c]);
        Put(Get(u[c]) * s[c], o + c);
      }
    });
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    ChunkCall call = CallOf(in);
    call.out = Rows(arena, in.q.len);
    Bytes within;
    if (!saved.empty()) {
      Arena kept(saved);
      const Saved keep(kept, *this);
      call.out = keep.sum;
      call.states = keep.states;
      within = {keep.within, keep.bytes};
    }
    const Bytes rest = scratch.subspan(arena.used());
    Done(within_->Forward(Halves(in), {out.out, nullptr}, within, rest, exec));
    ChunkForward(before_, call, nullptr, rest, exec);
    Finish(in.extra[0], call.out, out.out, exec);
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    // Backward only reads what was saved.
    Arena kept({const_cast<std::byte*>(up.saved.data()), up.saved.size()});
    const Saved keep(kept, *this);
    Arena arena(scratch);
    const BackwardScratch own(arena, problem_);
    const Bytes rest = scratch.subspan(own.used);
    ForAllRows(up.dout, exec, [&](int64_t b, int64_t h, int64_t t) {
      const T* const d = up.dout.Row<T>(b, h, t);
      const T* const u = in.extra[0].Row<T>(b, h, t);
      const float* const s = keep.sum.template Row<float>(b, h, t);
      for (int64_t c = 0; c < up.dout.dim; ++c) {
        Put(Get(d[c]) * Get(u[c]), own.dsum.template Row<T>(b, h, t) + c);
        Put(Get(d[c]) * s[c], grad.dextra[0].Row<T>(b, h, t) + c);
      }
    });
    Gradients within = grad;
    within.dq = Half(grad.dq, false);
    within.dk = Half(grad.dk, false);
    within.dextra = {};
    Done(within_->Backward(Halves(in),
                           {up.out, {keep.within, keep.bytes}, own.dsum},
                           within, rest, exec));
    ChunkBackwardCall call{.forward = CallOf(in),
                           .dout = own.dsum,
                           .dq = Half(grad.dq, true),
                           .dk = Half(grad.dk, true),
                           .dv = own.dv,
                           .ddecay = {},
                           .dbeta = {}};
    call.forward.states = keep.states;
    ChunkBackward(before_, call, rest, exec);
    ForAllRows(grad.dv, exec, [&](int64_t b, int64_t h, int64_t t) {
      T* const to = grad.dv.Row<T>(b, h, t);
      const T* const from = own.dv.template Row<T>(b, h, t);
      for (int64_t c = 0; c < grad.dv.dim; ++c)
        Put(Get(to[c]) + Get(from[c]), to + c);
    });
  }

  // The state: how many tokens there were, keys and values, the sums.
  Bytes SumsOf(Bytes state) const {
    return state.subspan(kAlign + within_->Memory(1).state);
  }
  void DoReset(Bytes state) const override {
    std::fill_n(state.data(), kAlign, std::byte{0});
    Done(within_->Reset(state.subspan(kAlign)));
    std::fill_n(SumsOf(state).data(), Floats(ChunkStateFloats(before_)),
                std::byte{0});
  }
  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    int64_t tokens;
    std::memcpy(&tokens, state.data(), sizeof tokens);
    Arena arena(scratch);
    ChunkCall call = CallOf(fresh);
    call.out = Rows(arena, problem_.q_len);
    call.out.len = fresh.q.len;
    call.offset = 0;
    call.first = tokens;
    const Bytes rest = scratch.subspan(arena.used());
    const Status status = within_->Extend(Halves(fresh), {out.out, nullptr},
                                          state.subspan(kAlign), rest, exec);
    if (!status.ok()) return status;
    ChunkForward(before_, call, reinterpret_cast<float*>(SumsOf(state).data()),
                 rest, exec);
    Finish(fresh.extra[0], call.out, out.out, exec);
    tokens += fresh.q.len;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    return {};
  }

  std::unique_ptr<Plan> within_;
  ChunkSpec before_;
};

}  // namespace

std::unique_ptr<Plan> MakeGroupedPlan(const Problem& problem, int64_t group,
                                      float scale) {
  if (problem.dtype == DType::kF32)
    return std::make_unique<GroupedPlan<float>>(problem, group, scale);
  return std::make_unique<GroupedPlan<BF16>>(problem, group, scale);
}

Cost GroupedCost(const Problem& p, int64_t group) {
  TileSpec spec = WithinSpec(p, group, 1);
  spec.gated = true;
  Cost cost = TileCost(Narrow(p, false), spec);
  const Cost sums = ChunkCost(Narrow(p, true), BeforeSpec(p, group, 1));
  const double element = static_cast<double>(SizeOf(p.dtype));
  const auto half = static_cast<double>(p.qk_dim / 2);
  const auto rows = static_cast<double>(
      p.batch * (p.q_heads * p.q_len + p.kv_heads * p.kv_len));
  cost.forward_flops += sums.forward_flops;
  cost.backward_flops += sums.backward_flops;
  cost.forward_bytes += element * half * rows;
  cost.decode_flops += sums.decode_flops;
  cost.decode_bytes += sums.decode_bytes;
  return cost;
}

}  // namespace saccade
