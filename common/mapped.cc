#include "mapped.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "arena.h"

namespace saccade {
namespace {

class MappedPlan final : public Plan {
 public:
  MappedPlan(const Problem& problem, std::unique_ptr<const RowMap> map,
             std::unique_ptr<Plan> inner)
      : Plan(problem), inner_(std::move(inner)), map_(std::move(map)) {}

 private:
  std::string DoDescribe() const override {
    return map_->Describe() + ", then " + inner_->Describe();
  }

  // Mapped copies of q and k, and what the map prepares for their positions.
  struct Scratch {
    Scratch(Arena& a, const Problem& p, const RowMap& map, const Stretch& at)
        : q(a.Take<std::byte>(QueryBytes(p, map, at))),
          k(a.Take<std::byte>(map.maps_keys() ? KeyBytes(p, map, at) : 0)),
          bytes(map.TableBytes(at)),
          table(a.Take<std::byte>(static_cast<int64_t>(bytes))),
          used(a.used()) {}
    static int64_t QueryBytes(const Problem& p, const RowMap& map,
                              const Stretch& at) {
      return p.batch * p.q_heads * at.queries.size() * map.width(p.qk_dim) *
             SizeOf(p.dtype);
    }
    static int64_t KeyBytes(const Problem& p, const RowMap& map,
                            const Stretch& at) {
      return p.batch * p.kv_heads * at.keys.size() * map.width(p.qk_dim) *
             SizeOf(p.dtype);
    }
    std::byte *q, *k;
    size_t bytes;
    std::byte* table;
    size_t used;
    Bytes Table() const { return {table, bytes}; }
  };

  // Gradients by mapped rows, where these are wider than the caller's.
  struct Wide {
    Wide(Arena& a, const Problem& p, const RowMap& map, const Stretch& at)
        : needed(map.width(p.qk_dim) != p.qk_dim),
          q(a.Take<std::byte>(needed ? Scratch::QueryBytes(p, map, at) : 0)),
          k(a.Take<std::byte>(needed ? Scratch::KeyBytes(p, map, at) : 0)) {}
    bool needed;
    std::byte *q, *k;
  };
  View WideLike(const View& x, std::byte* data) const {
    return Contiguous<void>(data, x.dtype, x.batch, x.heads, x.len,
                            map_->width(x.dim));
  }

  Stretch Whole() const {
    const int64_t first = QueryOffset(problem_);
    return {{first, first + problem_.q_len}, {0, problem_.kv_len}};
  }
  static Stretch Step(int64_t first, int64_t n) {
    return {{first, first + n}, {first, first + n}};
  }
  Scratch LayOut(Arena& arena, const Stretch& at) const {
    return {arena, problem_, *map_, at};
  }

  Footprint DoMemory(int slots) const override {
    Arena whole, step;
    const size_t pass = LayOut(whole, Whole()).used;
    Footprint f = inner_->Memory(slots);
    f.forward_scratch += pass;
    Wide(whole, problem_, *map_, Whole());
    f.backward_scratch += whole.used();
    f.extend_scratch += LayOut(step, Step(0, problem_.q_len)).used;
    f.sequences_scratch = 0;
    if (f.state > 0) f.state += kAlign + Own();
    return f;
  }

  // The map's part of a state, behind the count of tokens.
  size_t Own() const {
    return (map_->StateBytes() + kAlign - 1) / kAlign * kAlign;
  }

  Inputs Mapped(const Inputs& in, const Stretch& at, const Scratch& s,
                Bytes state, Exec& exec) const {
    Inputs mapped = in;
    const View q = Contiguous<void>(s.q, in.q.dtype, in.q.batch, in.q.heads,
                                    in.q.len, map_->width(in.q.dim));
    View k;
    if (map_->maps_keys())
      k = Contiguous<void>(s.k, in.k.dtype, in.k.batch, in.k.heads, in.k.len,
                           map_->width(in.k.dim));
    map_->Apply(at, s.Table(), in, state, q, k, exec);
    mapped.q = q;
    if (map_->maps_keys()) mapped.k = k;
    return mapped;
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status& status) { (void)status; }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    const Scratch s = LayOut(arena, Whole());
    Done(inner_->Forward(Mapped(in, Whole(), s, {}, exec), out, saved,
                         scratch.subspan(s.used), exec));
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    const Scratch s = LayOut(arena, Whole());
    const Wide wide(arena, problem_, *map_, Whole());
    Gradients own = grad;
    if (wide.needed) {
      own.dq = WideLike(grad.dq, wide.q);
      own.dk = WideLike(grad.dk, wide.k);
    }
    Done(inner_->Backward(Mapped(in, Whole(), s, {}, exec), up, own,
                          scratch.subspan(arena.used()), exec));
    map_->Return(Whole(), s.Table(), in, own.dq, own.dk, grad, exec);
  }

  // The state: how many tokens there were, then the inner plan's.
  void DoReset(Bytes state) const override {
    std::fill_n(state.data(), kAlign + Own(), std::byte{0});
    Done(inner_->Reset(state.subspan(kAlign + Own())));
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    int64_t tokens;
    std::memcpy(&tokens, state.data(), sizeof tokens);
    Arena arena(scratch);
    // Laid out as it was counted; fewer tokens use less of it.
    const Scratch s = LayOut(arena, Step(tokens, problem_.q_len));
    const Stretch at = Step(tokens, fresh.q.len);
    const Bytes own = state.subspan(kAlign, map_->StateBytes());
    const Status status = inner_->Extend(Mapped(fresh, at, s, own, exec), out,
                                         state.subspan(kAlign + Own()),
                                         scratch.subspan(s.used), exec);
    if (!status.ok()) return status;
    map_->Carry(at, s.Table(), own);
    tokens += fresh.q.len;
    std::memcpy(state.data(), &tokens, sizeof tokens);
    return {};
  }

  std::unique_ptr<Plan> inner_;
  std::unique_ptr<const RowMap> map_;
};

}  // namespace

std::unique_ptr<Plan> MakeMappedPlan(const Problem& problem,
                                     std::unique_ptr<const RowMap> map,
                                     std::unique_ptr<Plan> inner) {
  return std::make_unique<MappedPlan>(problem, std::move(map),
                                      std::move(inner));
}

}  // namespace saccade
