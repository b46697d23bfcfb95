// The plan of attention to learned mixtures of tokens: products of their own
// before and after the tile engine's passes.
#include <algorithm>
#include <string>
#include <utility>

#include "arena.h"
#include "content_free.h"
#include "engine/projection.h"
#include "engine/tile.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr int64_t kBlock = 64;      // tokens of a task
constexpr int64_t kRankBlock = 32;  // mixtures of a task

class ProjectionPlan final : public Plan {
 public:
  ProjectionPlan(const Problem &p, int64_t rank, int64_t length,
                 std::vector<float> start)
      : Plan(p),
        rank_(rank),
        length_(length),
        k_width_(Padded(p.qk_dim)),
        v_width_(Padded(p.v_dim)),
        start_(std::move(start)) {
    Problem mixed = p;
    mixed.kv_len = rank;
    mixed.positions = {};
    spec_ = MakeTileSpec(mixed);
  }

 private:
  static int64_t Padded(int64_t n) {
    return (n + projection::Lanes() - 1) / projection::Lanes() *
           projection::Lanes();
  }

  std::string DoDescribe() const override {
    return std::to_string(rank_) + " mixtures of tokens, then tile engine";
  }

  int64_t Heads() const { return problem_.batch * problem_.q_heads; }
  int64_t Tokens() const { return Heads() * problem_.kv_len; }

  struct Saved {
    Saved(Arena &a, const ProjectionPlan &plan)
        : k(a.Take<float>(plan.Heads() * plan.rank_ * plan.k_width_)),
          v(a.Take<float>(plan.Heads() * plan.rank_ * plan.v_width_)),
          lse(a.Take<float>(plan.Heads() * plan.problem_.q_len)) {}
    float *k, *v;  // mixtures, [heads, rank, padded]
    float *lse;
  };
  struct Forwards {
    Forwards(Arena &a, const ProjectionPlan &plan)
        : saved(a, plan),
          k(a.Take<float>(plan.Tokens() * plan.k_width_)),
          v(a.Take<float>(plan.Tokens() * plan.v_width_)),
          used(a.used()) {}
    Saved saved;   // where the caller keeps none
    float *k, *v;  // padded copies
    size_t used;
  };
  struct Backwards {
    Backwards(Arena &a, const ProjectionPlan &plan)
        : k(a.Take<float>(plan.Heads() * plan.rank_ * plan.k_width_)),
          v(a.Take<float>(plan.Heads() * plan.rank_ * plan.v_width_)),
          used(a.used()) {}
    float *k, *v;  // by mixtures
    size_t used;
  };
  struct Slot {
    Slot(Arena &a, const ProjectionPlan &plan) {
      const int64_t most = std::max(plan.k_width_, plan.v_width_);
      turned = a.Take<float>(most * kBlock);
      rows = a.Take<float>(kBlock * most);
      learned = a.Take<float>(plan.rank_ * kBlock);
    }
    float *turned;   // tokens in the lanes
    float *rows;     // gradients of tokens
    float *learned;  // of columns of E or F
  };
  template <class Piece>
  size_t Size() const {
    Arena a;
    Piece(a, *this);
    return a.used();
  }

  Footprint DoMemory(int slots) const override {
    Footprint f;
    f.forward_scratch =
        Size<Forwards>() + TileForwardScratch(spec_, problem_.q_len, slots);
    f.backward_scratch =
        Size<Backwards>() +
        std::max(TileBackwardScratch(spec_, problem_.q_len, rank_, slots),
                 static_cast<size_t>(slots) * Size<Slot>());
    f.saved = Size<Saved>();
    return f;
  }

  // A head's E, or its F.
  const float *Learned(const Inputs &in, int64_t h, bool values) const {
    const float *const head = in.bias.data != nullptr
                                  ? in.bias.Row<float>(0, h, 0)
                                  : start_.data() + h * 2 * rank_ * length_;
    return values ? head + rank_ * length_ : head;
  }

  View Mixed(float *x, int64_t width, int64_t stride) const {
    View view = Contiguous<void>(x, DType::kF32, problem_.batch,
                                 problem_.q_heads, rank_, width);
    view.row_stride = stride;
    view.head_stride = rank_ * stride;
    view.batch_stride = problem_.q_heads * view.head_stride;
    return view;
  }

  // mixed = E x, of padded rows; E is E or F.
  void Mix(const Inputs &in, const ConstView &x, bool values, int64_t width,
           float *padded, float *mixed, Exec &exec) const {
    const int64_t n = problem_.kv_len;
    ForRowRuns(x, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t) {
        float *const to = padded + ((b * problem_.q_heads + h) * n + t) * width;
        std::copy_n(x.Row<float>(b, h, t), x.dim, to);
        std::fill(to + x.dim, to + width, 0.0f);
      }
    });
    const int64_t blocks = (rank_ + kRankBlock - 1) / kRankBlock;
    exec.For(Heads() * blocks, [&](int64_t task, int) {
      const int64_t head = task / blocks, first = task % blocks * kRankBlock;
      const float *const e =
          Learned(in, head % problem_.q_heads, values) + first * length_;
      projection::Multiply(std::min(kRankBlock, rank_ - first), n, width,
                           {e, length_, 1}, padded + head * n * width, width,
                           false, mixed + (head * rank_ + first) * width,
                           width);
    });
  }

  TileCall CallOf(const Inputs &in, const Saved &saved) const {
    return {.q = in.q,
            .k = Mixed(saved.k, problem_.qk_dim, k_width_),
            .v = Mixed(saved.v, problem_.v_dim, v_width_),
            .lse = saved.lse,
            .kv_end = problem_.kv_len > 0 ? rank_ : 0};
  }

  void DoForward(const Inputs &in, const Outputs &out, Bytes kept,
                 Bytes scratch, Exec &exec) const override {
    Arena arena(scratch);
    const Forwards f(arena, *this);
    Arena keep(kept);
    const Saved saved = kept.empty() ? f.saved : Saved(keep, *this);
    Mix(in, in.k, false, k_width_, f.k, saved.k, exec);
    Mix(in, in.v, true, v_width_, f.v, saved.v, exec);
    TileCall call = CallOf(in, saved);
    call.out = out.out;
    TileForward(spec_, call, scratch.subspan(f.used), exec);
  }

  // From dmixed, by mixtures of x: dx = E^T dmixed.
  template <class Own>
  void BackTokens(const Inputs &in, bool values, int64_t width,
                  const float *dmixed, const View &dx, Own own,
                  Exec &exec) const {
    const int64_t n = problem_.kv_len, blocks = (n + kBlock - 1) / kBlock;
    exec.For(Heads() * blocks, [&](int64_t task, int slot) {
      const Slot s = own(slot);
      const int64_t head = task / blocks, first = task % blocks * kBlock;
      const int64_t b = head / problem_.q_heads, h = head % problem_.q_heads;
      const int64_t rows = std::min(kBlock, n - first);
      projection::Multiply(
          rows, rank_, width, {Learned(in, h, values) + first, 1, length_},
          dmixed + head * rank_ * width, width, false, s.rows, width);
      for (int64_t t = 0; t < rows; ++t)
        std::copy_n(s.rows + t * width, dx.dim, dx.Row<float>(b, h, first + t));
    });
  }

  // dE = sum over sequences of dmixed x^T.
  template <class Own>
  void BackLearned(const ConstView &x, bool values, int64_t width,
                   const float *dmixed, const View &dbias, Own own,
                   Exec &exec) const {
    const int64_t n = problem_.kv_len;
    const int64_t blocks = (length_ + kBlock - 1) / kBlock;
    exec.For(problem_.q_heads * blocks, [&](int64_t task, int slot) {
      const Slot s = own(slot);
      const int64_t h = task / blocks, first = task % blocks * kBlock;
      const int64_t columns = std::min(kBlock, length_ - first);
      const int64_t tokens = std::clamp<int64_t>(n - first, 0, columns);
      for (int64_t b = 0; b < problem_.batch && tokens > 0; ++b) {
        projection::Transpose(x.Row<float>(b, h, first), x.row_stride, tokens,
                              x.dim, s.turned, kBlock);
        projection::Multiply(
            rank_, x.dim, Padded(tokens),
            {dmixed + (b * problem_.q_heads + h) * rank_ * width, width, 1},
            s.turned, kBlock, b > 0, s.learned, kBlock);
      }
      float *const to =
          dbias.Row<float>(0, h, 0) + (values ? rank_ * length_ : 0) + first;
      for (int64_t r = 0; r < rank_; ++r) {
        const bool any = problem_.batch > 0;
        std::copy_n(s.learned + r * kBlock, any ? tokens : 0, to + r * length_);
        std::fill(to + r * length_ + (any ? tokens : 0),
                  to + r * length_ + columns, 0.0f);
      }
    });
  }

  void DoBackward(const Inputs &in, const Upstream &up, const Gradients &grad,
                  Bytes scratch, Exec &exec) const override {
    Arena arena(scratch);
    const Backwards x(arena, *this);
    const Bytes rest = scratch.subspan(x.used);
    // Read only.
    Arena kept(
        Bytes(const_cast<std::byte *>(up.saved.data()), up.saved.size()));
    const Saved saved(kept, *this);
    TileBackward(spec_,
                 {.forward = CallOf(in, saved),
                  .out = up.out,
                  .dout = up.dout,
                  .dq = grad.dq,
                  .dk = Mixed(x.k, problem_.qk_dim, k_width_),
                  .dv = Mixed(x.v, problem_.v_dim, v_width_)},
                 rest, exec);
    const auto own = [&](int slot) {
      Arena a(rest.subspan(static_cast<size_t>(slot) * Size<Slot>()));
      return Slot(a, *this);
    };
    BackTokens(in, false, k_width_, x.k, grad.dk, own, exec);
    BackTokens(in, true, v_width_, x.v, grad.dv, own, exec);
    if (grad.dbias.data == nullptr) return;
    BackLearned(in.k, false, k_width_, x.k, grad.dbias, own, exec);
    BackLearned(in.v, true, v_width_, x.v, grad.dbias, own, exec);
  }

  int64_t rank_, length_;
  int64_t k_width_, v_width_;  // padded
  std::vector<float> start_;
  TileSpec spec_;
};

}  // namespace

std::unique_ptr<Plan> MakeProjectionPlan(const Problem &problem, int64_t rank,
                                         int64_t length,
                                         std::vector<float> start) {
  ChooseTarget();
  return std::make_unique<ProjectionPlan>(problem, rank, length,
                                          std::move(start));
}

}  // namespace saccade
