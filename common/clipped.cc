#include "clipped.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "arena.h"
#include "position.h"
#include "rows.h"
#include "turning.h"

namespace saccade {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// y = a x + b y, one row; a row with a factor of 0 is not read.
template <class T>
void MixRow(float a, const T* x, float b, T* y, int64_t dim) {
  for (int64_t c = 0; c < dim; ++c)
    Put((a == 0 ? 0 : a * Get(x[c])) + (b == 0 ? 0 : b * Get(y[c])), y + c);
}

// For every row of x: y = a x + b y with (a, b) = factors(its number).
template <class F>
void Mix(const ConstView& x, const View& y, Exec& exec, F factors) {
  constexpr int64_t kRows = 64;
  const int64_t blocks = (x.len + kRows - 1) / kRows;
  exec.For(x.batch * x.heads * blocks, [&](int64_t task, int) {
    const int64_t head = task / blocks, first = task % blocks * kRows;
    const int64_t b = head / x.heads, h = head % x.heads;
    for (int64_t t = first; t < std::min(x.len, first + kRows); ++t) {
      const auto [of_x, of_y] = factors(head * x.len + t);
      if (x.dtype == DType::kF32)
        MixRow(of_x, x.Row<float>(b, h, t), of_y, y.Row<float>(b, h, t), x.dim);
      else
        MixRow(of_x, x.Row<BF16>(b, h, t), of_y, y.Row<BF16>(b, h, t), x.dim);
    }
  });
}

void AddTo(const View& sum, const View& x, Exec& exec) {
  Mix(x, sum, exec, [](int64_t) { return std::pair(1.0f, 1.0f); });
}

// ln(e^a + e^b); nothing and nothing are nothing.
float LogAdd(float a, float b) {
  const float top = std::max(a, b);
  if (top == kNothing || std::isnan(a) || std::isnan(b)) return a + b;
  return top + std::log1p(std::exp(std::min(a, b) - top));
}

// The share of a part in a whole, by their log-sum-exps.
float ShareOf(float part, float whole) {
  return part == kNothing ? 0 : std::exp(part - whole);
}

View Like(const View& shape, std::byte* data) {
  return Contiguous<void>(data, shape.dtype, shape.batch, shape.heads,
                          shape.len, shape.dim);
}

size_t Bytes64(size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

class ClippedPlan final : public Plan {
 public:
  ClippedPlan(const Problem& problem, std::vector<std::unique_ptr<Plan>> parts)
      : Plan(problem), parts_(std::move(parts)) {}

 private:
  std::string DoDescribe() const override {
    return "merged by log-sum-exp from " + std::to_string(parts_.size()) +
           " parts, each: " + parts_.front()->Describe();
  }
  int64_t Rows(int64_t q_len) const {
    return problem_.batch * problem_.q_heads * q_len;
  }
  int64_t OutBytes(int64_t q_len) const {
    return Rows(q_len) * problem_.v_dim * SizeOf(problem_.dtype);
  }

  // Scratch of Forward and Extend: one part's out and lse, what a caller does
  // not want of the whole, then the part's own.
  struct Work {
    Work(Arena& a, const ClippedPlan& plan, int64_t q_len)
        : lse(a.Take<float>(plan.Rows(q_len) * plan.Count())),
          whole(a.Take<float>(plan.Rows(q_len))),
          out(a.Take<std::byte>(plan.OutBytes(q_len))),
          used(a.used()) {}
    float *lse, *whole;
    std::byte* out;
    size_t used;
  };

  // Scratch of Backward.
  struct Back {
    Back(Arena& a, const ClippedPlan& plan) {
      const Problem& p = plan.problem_;
      const int64_t e = SizeOf(p.dtype);
      whole = a.Take<float>(plan.Rows(p.q_len));
      dout = a.Take<std::byte>(plan.OutBytes(p.q_len));
      dq = a.Take<std::byte>(plan.Rows(p.q_len) * p.qk_dim * e);
      const int64_t keys = p.batch * p.kv_heads * p.kv_len;
      dk = a.Take<std::byte>(keys * p.qk_dim * e);
      dv = a.Take<std::byte>(keys * p.v_dim * e);
      dbias = a.Take<float>(p.q_heads * BiasParameters(p));
      used = a.used();
    }
    float *whole, *dbias;
    std::byte *dout, *dq, *dk, *dv;
    size_t used;
  };

  // Forward keeps the parts' log-sum-exps [part][row], then what they keep.
  int64_t Count() const { return static_cast<int64_t>(parts_.size()); }
  size_t LseBytes() const {
    return Bytes64(static_cast<size_t>(Rows(problem_.q_len) * Count()) *
                   sizeof(float));
  }

  Footprint DoMemory(int slots) const override {
    Footprint f, most;
    f.saved = LseBytes();
    for (const auto& part : parts_) {
      const Footprint own = part->Memory(slots);
      most.forward_scratch =
          std::max(most.forward_scratch, own.forward_scratch);
      most.backward_scratch =
          std::max(most.backward_scratch, own.backward_scratch);
      most.extend_scratch = std::max(most.extend_scratch, own.extend_scratch);
      f.saved += Bytes64(own.saved);
      f.state += Bytes64(own.state);
    }
    Arena work, back;
    f.forward_scratch =
        most.forward_scratch + Work(work, *this, problem_.q_len).used;
    f.backward_scratch = most.backward_scratch + Back(back, *this).used;
    f.extend_scratch = most.extend_scratch + work.used();
    return f;
  }

  // The checks have been passed: a part cannot refuse.
  static void Done(const Status& status) { (void)status; }

  // out and whole, which hold what the parts before `n` came to, with part n.
  void Merge(int64_t n, const Work& w, const float* lse, const View& part,
             const View& out, Exec& exec) const {
    const int64_t rows = Rows(out.len);
    if (n == 0) {
      std::copy_n(lse, rows, w.whole);
      return;
    }
    Mix(part, out, exec, [&](int64_t row) {
      const float before = w.whole[row], all = LogAdd(before, lse[row]);
      w.whole[row] = all;
      return std::pair(ShareOf(lse[row], all), ShareOf(before, all));
    });
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    const Work w(arena, *this, problem_.q_len);
    const int64_t rows = Rows(problem_.q_len);
    float* const kept =
        saved.empty() ? w.lse : reinterpret_cast<float*>(saved.data());
    size_t at = LseBytes();
    for (int64_t n = 0; n < Count(); ++n) {
      const size_t own = Bytes64(parts_[n]->Memory(exec.slots()).saved);
      const View part = n == 0 ? out.out : Like(out.out, w.out);
      Done(parts_[n]->Forward(in, {part, kept + n * rows},
                              saved.empty() ? Bytes() : saved.subspan(at, own),
                              scratch.subspan(w.used), exec));
      at += own;
      Merge(n, w, kept + n * rows, part, out.out, exec);
    }
    if (out.lse != nullptr) std::copy_n(w.whole, rows, out.lse);
  }

  // With the whole's out, and dout times the part's share of each row, the
  // gradients of a part are its share of the whole's: its weights P come out as
  // P share, and D = out.dout likewise.
  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    Arena arena(scratch);
    const Back w(arena, *this);
    const int64_t rows = Rows(p.q_len);
    const auto* const kept = reinterpret_cast<const float*>(up.saved.data());
    for (int64_t row = 0; row < rows; ++row) {
      w.whole[row] = kNothing;
      for (int64_t n = 0; n < Count(); ++n)
        w.whole[row] = LogAdd(w.whole[row], kept[n * rows + row]);
    }
    const View dout =
        Contiguous<void>(w.dout, p.dtype, p.batch, p.q_heads, p.q_len, p.v_dim);
    const View dbias =
        Contiguous<void>(w.dbias, DType::kF32, 1, p.q_heads, 1, grad.dbias.dim);
    size_t at = LseBytes();
    for (int64_t n = 0; n < Count(); ++n) {
      Mix(up.dout, dout, exec, [&](int64_t row) {
        return std::pair(ShareOf(kept[n * rows + row], w.whole[row]), 0.0f);
      });
      Gradients own = grad;
      if (n > 0) {
        own.dq = Like(grad.dq, w.dq);
        own.dk = Like(grad.dk, w.dk);
        own.dv = Like(grad.dv, w.dv);
        if (grad.dbias.data != nullptr) own.dbias = dbias;
      }
      const size_t size = Bytes64(parts_[n]->Memory(exec.slots()).saved);
      Done(parts_[n]->Backward(in, {up.out, up.saved.subspan(at, size), dout},
                               own, scratch.subspan(w.used), exec));
      at += size;
      if (n == 0) continue;
      AddTo(grad.dq, own.dq, exec);
      AddTo(grad.dk, own.dk, exec);
      AddTo(grad.dv, own.dv, exec);
      if (grad.dbias.data != nullptr) AddTo(grad.dbias, dbias, exec);
    }
  }

  void DoReset(Bytes state) const override {
    size_t at = 0;
    for (const auto& part : parts_) {
      const size_t own = Bytes64(part->Memory(1).state);
      Done(part->Reset(state.subspan(at, own)));
      at += own;
    }
  }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state,
                  Bytes scratch, Exec& exec) const override {
    Arena arena(scratch);
    const Work w(arena, *this, problem_.q_len);
    size_t at = 0;
    for (int64_t n = 0; n < Count(); ++n) {
      const size_t own = Bytes64(parts_[n]->Memory(1).state);
      const View part = n == 0 ? out.out : Like(out.out, w.out);
      // All hold the same tokens: what the first takes, the others do.
      const Status status =
          parts_[n]->Extend(fresh, {part, w.lse}, state.subspan(at, own),
                            scratch.subspan(w.used), exec);
      if (!status.ok()) return status;
      at += own;
      Merge(n, w, w.lse, part, out.out, exec);
    }
    if (out.lse != nullptr) std::copy_n(w.whole, Rows(out.out.len), out.lse);
    return {};
  }

  std::vector<std::unique_ptr<Plan>> parts_;
};

}  // namespace

Result<std::unique_ptr<Plan>> MakeClippedPlan(const Variant& variant,
                                              const Problem& problem) {
  const Position& rerope = *FindIn(problem.positions, "rerope");
  const int64_t w = rerope.knobs.Int("window");
  Problem part = problem;
  std::erase_if(part.positions, [](const Position& position) {
    return FindPosition(position.name)->kind != PositionKind::kBias;
  });
  std::vector<std::unique_ptr<Plan>> parts;
  const auto add = [&](int64_t least, int64_t most, auto turned) -> Status {
    Problem p = part;
    p.least_distance = std::max(p.least_distance, least);
    p.most_distance = std::min(p.most_distance, most);
    Result<std::unique_ptr<Plan>> plan = variant.plan(p);
    if (!plan.ok()) return plan.status();
    parts.push_back(turned(p, std::move(*plan)));
    return {};
  };
  const auto fixed = [&](int64_t at) {
    return [&rerope, at](const Problem& p, std::unique_ptr<Plan> plan) {
      return MakeTurnedPlan(p, Turning::Fixed(rerope, p.qk_dim, at),
                            std::move(plan));
    };
  };
  Status status = add(1 - w, w - 1, [&](Problem p, std::unique_ptr<Plan> plan) {
    Position rope{"rope", {}};
    rope.knobs.Set("base", rerope.knobs.Number("base"));
    rope.knobs.Set("factor", 1);
    rope.knobs.SetText("scaling", "none");
    p.positions.push_back(rope);
    return MakeTurnedPlan(p, Turning(p), std::move(plan));
  });
  if (status.ok()) status = add(w, kNoDistance, fixed(w));
  if (status.ok() && problem.mask == Mask::kNone)
    status = add(-kNoDistance, -w, fixed(-w));
  if (!status.ok()) return status;
  return std::unique_ptr<Plan>(
      std::make_unique<ClippedPlan>(problem, std::move(parts)));
}

}  // namespace saccade
