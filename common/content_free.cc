#include "content_free.h"

#include <cstring>
#include <string>
#include <utility>

#include "arena.h"
#include "rows.h"

namespace saccade {
namespace {

Problem Narrow(const Problem& p) {
  Problem narrow = p;
  narrow.qk_dim = 1;
  return narrow;
}

// Rows of one 0, all of them the same element.
ConstView ZerosLike(const ConstView& x) {
  static constexpr float kZero = 0;  // of bf16, too
  return {.data = &kZero,
          .dtype = x.dtype,
          .batch = x.batch,
          .heads = x.heads,
          .len = x.len,
          .dim = 1};
}

class ContentFreePlan final : public Plan {
 public:
  ContentFreePlan(const Problem& p, std::unique_ptr<Plan> inner)
      : Plan(p), inner_(std::move(inner)) {}

 private:
  // Gradients of width 1 that nobody asked for.
  struct Unread {
    Unread(Arena& a, const Problem& p)
        : dq(a.Take<std::byte>(p.batch * p.q_heads * p.q_len *
                               SizeOf(p.dtype))),
          dk(a.Take<std::byte>(p.batch * p.kv_heads * p.kv_len *
                               SizeOf(p.dtype))),
          used(a.used()) {}
    std::byte *dq, *dk;
    size_t used;
  };

  std::string DoDescribe() const override {
    return "no content, " + inner_->Describe();
  }

  Footprint DoMemory(int slots) const override {
    Arena count;
    Footprint f = inner_->Memory(slots);
    f.backward_scratch += Unread(count, problem_).used;
    f.sequences_scratch = 0;
    return f;
  }

  static Inputs Blank(const Inputs& in) {
    Inputs blank = in;
    blank.q = ZerosLike(in.q);
    blank.k = ZerosLike(in.k);
    return blank;
  }

  // The checks have been passed: the inner plan cannot refuse.
  static void Done(const Status& status) { (void)status; }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Done(inner_->Forward(Blank(in), out, saved, scratch, exec));
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    Arena arena(scratch);
    const Unread unread(arena, p);
    Gradients own = grad;
    own.dq =
        Contiguous<void>(unread.dq, p.dtype, p.batch, p.q_heads, p.q_len, 1);
    own.dk =
        Contiguous<void>(unread.dk, p.dtype, p.batch, p.kv_heads, p.kv_len, 1);
    Done(inner_->Backward(Blank(in), up, own, scratch.subspan(unread.used),
                          exec));
    ZeroRows(grad.dq, exec);
    ZeroRows(grad.dk, exec);
  }

  void DoReset(Bytes state) const override { Done(inner_->Reset(state)); }
  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    return inner_->Extend(Blank(fresh), out, state, scratch, exec);
  }

  std::unique_ptr<Plan> inner_;
};

}  // namespace

void ZeroRows(const View& x, Exec& exec) {
  const auto bytes = static_cast<size_t>(x.dim * SizeOf(x.dtype));
  ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
    for (int64_t t = first; t < end; ++t)
      std::memset(RowAt(x, b, h, t), 0, bytes);
  });
}

TileSpec ContentFreeSpec(const Problem& problem) {
  return MakeTileSpec(Narrow(problem));
}

std::unique_ptr<Plan> MakeContentFreePlan(const Problem& problem,
                                          TileSpec spec) {
  return std::make_unique<ContentFreePlan>(
      problem, MakeTilePlan(Narrow(problem), std::move(spec)));
}

Cost ContentFreeCost(const Problem& problem, const TileSpec& spec) {
  TileSpec values = spec;
  values.qk_dim = 0;
  return TileCost(problem, values);
}

}  // namespace saccade
