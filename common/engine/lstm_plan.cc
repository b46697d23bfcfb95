#include "engine/lstm_plan.h"

#include <algorithm>
#include <string>
#include <utility>

#include "arena.h"
#include "content_free.h"
#include "engine/extend.h"
#include "engine/lstm.h"
#include "engine/pattern.h"
#include "rows.h"
#include "simd/target.h"

namespace saccade {
namespace {

using lstm::ConstRows;
using lstm::kGates;
using lstm::Rows;

constexpr int64_t kTasks = 4;    // that there are at least, if there can be
constexpr int64_t kTokens = 64;  // whose products with states are summed first

// What precedes the states in the caller's memory.
struct Header {
  uint64_t mark;
  int64_t tokens;
};
static_assert(sizeof(Header) <= kAlign);

// A pass's inputs, [gate], and learned numbers.
template <class View>
using Gates = std::array<View, kGates>;

struct Call {
  Gates<ConstView> x;
  View out;
  const float* learned;  // of head 0
  int64_t learned_stride;
  int64_t offset;  // of the first row of out among the tokens
  int64_t tokens;  // rows of x
};

// Sequences first .. first + rows - 1 of a head.
struct Group {
  int64_t head, first, rows;
};

template <class T>
class LstmPlan final : public Plan {
 public:
  LstmPlan(const Problem& p, std::vector<float> start)
      : Plan(p),
        start_(std::move(start)),
        width_(p.v_dim),
        padded_(lstm::Padded(p.v_dim)),
        numbers_(lstm::Numbers(p.v_dim)),
        rows_(
            std::clamp<int64_t>(p.batch * p.q_heads / kTasks, 1,
                                std::clamp<int64_t>(p.batch, 1, lstm::kRows))),
        groups_((p.batch + rows_ - 1) / rows_),
        seen_(std::clamp<int64_t>(QueryOffset(p) + p.q_len, 0, p.kv_len)) {}

 private:
  std::string DoDescribe() const override {
    return "LSTM, " + std::to_string(rows_) +
           (rows_ == 1 ? " sequence" : " sequences") +
           " of a head together, token after token";
  }

  int64_t Sequences() const { return problem_.batch * problem_.q_heads; }

  // Of tokens of sequences [B, H]: what Back needs of each.
  struct Saved {
    Saved(Arena& a, const LstmPlan& plan)
        : gates(a.Take<float>(plan.Tokens() * kGates * plan.padded_)),
          c(a.Take<float>(plan.Tokens() * plan.padded_)),
          h(a.Take<float>(plan.Tokens() * plan.padded_)) {}
    float *gates, *c, *h;
  };
  int64_t Tokens() const { return Sequences() * seen_; }

  struct ForwardSlot {
    ForwardSlot(Arena& a, const LstmPlan& plan)
        : gates(a.Take<float>(plan.rows_ * kGates * plan.padded_)),
          c(a.Take<float>(plan.rows_ * plan.padded_)),
          h(a.Take<float>(plan.rows_ * plan.padded_)),
          other(a.Take<float>(plan.rows_ * plan.padded_)) {}
    float *gates, *c, *h, *other;
  };
  struct BackwardSlot {
    BackwardSlot(Arena& a, const LstmPlan& plan)
        : dh(a.Take<float>(plan.rows_ * plan.padded_)),
          dc(a.Take<float>(plan.rows_ * plan.padded_)),
          zero(a.Take<float>(plan.padded_)),
          sum(a.Take<float>(plan.width_ * plan.padded_)),
          bias(a.Take<double>(plan.width_)) {}
    float *dh, *dc, *zero, *sum;
    double* bias;
  };
  template <class Slot>
  size_t SlotBytes() const {
    Arena a;
    Slot(a, *this);
    return a.used();
  }
  template <class Slot>
  Slot SlotOf(Bytes slots, int slot) const {
    const size_t each = SlotBytes<Slot>();
    Arena own(slots.subspan(static_cast<size_t>(slot) * each, each));
    return Slot(own, *this);
  }

  float* TakePacked(Arena& a) const {
    return a.Take<float>(problem_.q_heads * lstm::PackedFloats(width_));
  }
  // Transposes packed, [head]; gradients by pre-activations, as Saved::gates.
  struct Shared {
    Shared(Arena& a, const LstmPlan& plan)
        : packed(a.Take<float>(plan.problem_.q_heads *
                               lstm::PackedBackFloats(plan.width_))),
          dz(a.Take<float>(plan.Tokens() * kGates * plan.padded_)) {}
    float *packed, *dz;
  };

  Footprint DoMemory(int slots) const override {
    const auto n = static_cast<size_t>(slots);
    Arena packed, shared, saved, state;
    TakePacked(packed);
    Shared(shared, *this);
    Saved(saved, *this);
    state.Take<float>(2 * Sequences() * padded_);
    Footprint f;
    f.forward_scratch = packed.used() + n * SlotBytes<ForwardSlot>();
    f.backward_scratch = shared.used() + n * SlotBytes<BackwardSlot>();
    f.extend_scratch = f.forward_scratch;
    f.saved = saved.used();
    f.state = kAlign + state.used();
    return f;
  }

  Call CallOf(const Inputs& in, const View& out) const {
    const bool given = in.bias.data != nullptr;
    return {.x = {in.extra[0], in.extra[1], in.v, in.extra[2]},
            .out = out,
            .learned = given ? in.bias.Row<float>(0, 0, 0) : start_.data(),
            .learned_stride = given ? in.bias.head_stride : numbers_,
            .offset = QueryOffset(problem_),
            .tokens = seen_};
  }

  Group GroupOf(int64_t task) const {
    const int64_t first = task % groups_ * rows_;
    return {task / groups_, first, std::min(rows_, problem_.batch - first)};
  }

  void Load(const ConstView& x, int64_t b, int64_t h, int64_t t,
            float* to) const {
    const T* const row = x.Row<T>(b, h, t);
    for (int64_t n = 0; n < width_; ++n) to[n] = Get(row[n]);
    std::fill(to + width_, to + padded_, 0.0f);
  }
  void Store(const float* from, const View& x, int64_t b, int64_t h,
             int64_t t) const {
    T* const row = x.Row<T>(b, h, t);
    for (int64_t n = 0; n < width_; ++n) Put(from[n], row + n);
  }

  // Rows of out that show the state behind a token: one; behind the last, all
  // that follow.
  Interval RowsOf(const Call& c, int64_t token, int64_t tokens) const {
    const int64_t row = token - c.offset;
    return Interval{row, token + 1 == tokens ? c.out.len : row + 1}.Cut(
        {0, c.out.len});
  }

  // Where rows of each sequence of a group begin in memory [B, H][token][...].
  template <class F>
  lstm::BasicRows<F> RowsAt(F* memory, const Group& g, int64_t token,
                            int64_t width) const {
    const int64_t heads = problem_.q_heads;
    return {memory + ((g.first * heads + g.head) * seen_ + token) * width,
            heads * seen_ * width};
  }

  // Sequences of a group from the state in s.c and s.h, which follows.
  void RunGroup(const Call& c, const Group& g, const lstm::Matrix& m,
                const Saved* keep, const ForwardSlot& s) const {
    Rows gates{s.gates, kGates * padded_}, cell{s.c, padded_};
    Rows before{s.h, padded_}, h{s.other, padded_};
    for (int64_t t = 0; t < c.tokens; ++t) {
      Rows last = cell;
      if (keep != nullptr) {
        gates = RowsAt(keep->gates, g, t, kGates * padded_);
        cell = RowsAt(keep->c, g, t, padded_);
        h = RowsAt(keep->h, g, t, padded_);
      }
      for (int64_t r = 0; r < g.rows; ++r)
        for (int64_t n = 0; n < kGates; ++n)
          Load(c.x[n], g.first + r, g.head, t, gates[r] + n * padded_);
      lstm::Step(m, g.rows, gates, {last.at, last.stride}, cell,
                 {before.at, before.stride}, h);
      const Interval rows = RowsOf(c, t, c.tokens);
      for (int64_t r = 0; r < g.rows; ++r)
        for (int64_t row = rows.begin; row < rows.end; ++row)
          Store(h[r], c.out, g.first + r, g.head, row);
      if (keep != nullptr)
        before = h;
      else
        std::swap(before, h);
    }
    if (keep == nullptr && before.at != s.h)
      std::copy_n(before.at, g.rows * padded_, s.h);
  }

  // Rows that see no token.
  void ClearBlind(const Call& c, Exec& exec) const {
    const int64_t blind = c.tokens == 0
                              ? c.out.len
                              : std::clamp<int64_t>(-c.offset, 0, c.out.len);
    if (blind == 0) return;
    View rows = c.out;
    rows.len = blind;
    ZeroRows(rows, exec);
  }

  // states: [B, H][c, h][padded], or null for sequences that begin.
  void Run(const Call& c, const Saved* keep, float* states, Bytes scratch,
           Exec& exec) const {
    const int64_t heads = problem_.q_heads;
    ClearBlind(c, exec);
    if (c.tokens == 0) return;
    Arena arena(scratch);
    float* const packed = TakePacked(arena);
    const bool in_place =
        states != nullptr && c.tokens * rows_ < 16 && width_ == padded_;
    const auto matrix = [&](int64_t h) {
      const float* const learned = c.learned + h * c.learned_stride;
      return in_place ? lstm::InPlace(learned, width_)
                      : lstm::Packed(packed + h * lstm::PackedFloats(width_),
                                     width_);
    };
    if (!in_place)
      exec.For(heads, [&](int64_t h, int) {
        lstm::Pack(c.learned + h * c.learned_stride, width_,
                   packed + h * lstm::PackedFloats(width_));
      });
    const Bytes slots = scratch.subspan(arena.used());
    exec.For(heads * groups_, [&](int64_t task, int slot) {
      const Group g = GroupOf(task);
      const auto s = SlotOf<ForwardSlot>(slots, slot);
      const auto state = [&](int64_t r) {
        return states + ((g.first + r) * heads + g.head) * 2 * padded_;
      };
      for (int64_t r = 0; r < g.rows; ++r)
        for (float* const to : {s.c + r * padded_, s.h + r * padded_})
          if (states == nullptr)
            std::fill_n(to, padded_, 0.0f);
          else
            std::copy_n(state(r) + (to == s.c + r * padded_ ? 0 : padded_),
                        padded_, to);
      RunGroup(c, g, matrix(g.head), keep, s);
      for (int64_t r = 0; r < g.rows && states != nullptr; ++r) {
        std::copy_n(s.c + r * padded_, padded_, state(r));
        std::copy_n(s.h + r * padded_, padded_, state(r) + padded_);
      }
    });
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes saved,
                 Bytes scratch, Exec& exec) const override {
    const Call call = CallOf(in, out.out);
    if (saved.empty()) return Run(call, nullptr, nullptr, scratch, exec);
    Arena arena(saved);
    const Saved keep(arena, *this);
    Run(call, &keep, nullptr, scratch, exec);
  }

  // Through time: dz of every token, and the gradients of inputs.
  void BackGroup(const Call& c, const ConstView& dout, const Group& g,
                 const Saved& kept, const Shared& shared, const Gates<View>& dx,
                 const BackwardSlot& s) const {
    const float* const packed =
        shared.packed + g.head * lstm::PackedBackFloats(width_);
    const Rows dh{s.dh, padded_}, dc{s.dc, padded_};
    std::fill_n(s.dh, g.rows * padded_, 0.0f);
    std::fill_n(s.dc, g.rows * padded_, 0.0f);
    std::fill_n(s.zero, padded_, 0.0f);
    for (int64_t t = c.tokens - 1; t >= 0; --t) {
      const Interval rows = RowsOf(c, t, c.tokens);
      for (int64_t r = 0; r < g.rows; ++r)
        for (int64_t row = rows.begin; row < rows.end; ++row) {
          const T* const from = dout.Row<T>(g.first + r, g.head, row);
          for (int64_t n = 0; n < width_; ++n) dh[r][n] += Get(from[n]);
        }
      const Rows dz = RowsAt(shared.dz, g, t, kGates * padded_);
      const float* const cells = kept.c;
      lstm::StepBack(
          packed, width_, g.rows,
          RowsAt<const float>(kept.gates, g, t, kGates * padded_),
          t > 0 ? RowsAt(cells, g, t - 1, padded_) : ConstRows{s.zero, 0},
          RowsAt(cells, g, t, padded_), dh, dc, dz);
      for (int64_t r = 0; r < g.rows; ++r)
        for (int64_t n = 0; n < kGates; ++n)
          Store(dz[r] + n * padded_, dx[n], g.first + r, g.head, t);
    }
  }

  // Of one gate of a head: sums over all tokens of all sequences, in order.
  void AddLearned(const Saved& kept, const Shared& shared, int64_t head,
                  int64_t gate, float* to, const BackwardSlot& s) const {
    std::fill_n(s.sum, width_ * padded_, 0.0f);
    std::fill_n(s.bias, width_, 0.0);
    for (int64_t b = 0; b < problem_.batch; ++b) {
      const int64_t first = (b * problem_.q_heads + head) * seen_;
      const float* const h = kept.h + first * padded_;
      const float* const dz = shared.dz + (first * kGates + gate) * padded_;
      const int64_t stride = kGates * padded_;
      for (int64_t t = 1; t < seen_; t += kTokens)
        lstm::AddOuter(h + (t - 1) * padded_, dz + t * stride,
                       std::min(kTokens, seen_ - t), width_, stride, padded_,
                       s.sum);
      for (int64_t t = 0; t < seen_; ++t)
        for (int64_t n = 0; n < width_; ++n)
          s.bias[n] += double{dz[t * stride + n]};
    }
    for (int64_t k = 0; k < width_; ++k)
      std::copy_n(s.sum + k * padded_, width_,
                  to + (k * kGates + gate) * width_);
    for (int64_t n = 0; n < width_; ++n)
      to[(width_ * kGates + gate) * width_ + n] = static_cast<float>(s.bias[n]);
  }

  // Tokens that no query sees.
  void ClearUnseen(View x, Exec& exec) const {
    x.data = x.elements() == 0 ? x.data : RowAt(x, 0, 0, seen_);
    x.len -= seen_;
    ZeroRows(x, exec);
  }

  void DoBackward(const Inputs& in, const Upstream& up, const Gradients& grad,
                  Bytes scratch, Exec& exec) const override {
    const Problem& p = problem_;
    Call call = CallOf(in, {});
    call.out.len = p.q_len;
    ZeroRows(grad.dq, exec);
    ZeroRows(grad.dk, exec);
    const Gates<View> dx = {grad.dextra[0], grad.dextra[1], grad.dv,
                            grad.dextra[2]};
    if (seen_ < p.kv_len)
      for (const View& x : dx) ClearUnseen(x, exec);
    // Backward only reads what was saved.
    Arena kept({const_cast<std::byte*>(up.saved.data()), up.saved.size()});
    const Saved keep(kept, *this);
    Arena arena(scratch);
    const Shared shared(arena, *this);
    const Bytes slots = scratch.subspan(arena.used());
    exec.For(p.q_heads, [&](int64_t h, int) {
      lstm::PackBack(call.learned + h * call.learned_stride, width_,
                     shared.packed + h * lstm::PackedBackFloats(width_));
    });
    exec.For(p.q_heads * groups_, [&](int64_t task, int slot) {
      BackGroup(call, up.dout, GroupOf(task), keep, shared, dx,
                SlotOf<BackwardSlot>(slots, slot));
    });
    if (grad.dbias.data == nullptr) return;
    exec.For(p.q_heads * kGates, [&](int64_t task, int slot) {
      const int64_t head = task / kGates;
      AddLearned(keep, shared, head, task % kGates,
                 grad.dbias.Row<float>(0, head, 0),
                 SlotOf<BackwardSlot>(slots, slot));
    });
  }

  // Tells the states of different plans apart, and both from garbage.
  uint64_t Mark() const {
    uint64_t mark = 0x5361636353636104;
    for (const int64_t x :
         {problem_.batch, problem_.q_heads, width_, problem_.kv_len})
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
    Call call = CallOf(fresh, out.out);
    call.offset = 0;
    call.tokens = n;
    Run(call, nullptr, reinterpret_cast<float*>(state.data() + kAlign), scratch,
        exec);
    header.tokens += n;
    return {};
  }

  std::vector<float> start_;
  int64_t width_, padded_, numbers_;
  int64_t rows_, groups_;  // sequences that go together; such groups
  int64_t seen_;           // tokens that some query sees
};

}  // namespace

std::unique_ptr<Plan> MakeLstmPlan(const Problem& problem,
                                   std::vector<float> start) {
  ChooseTarget();
  if (problem.dtype == DType::kF32)
    return std::make_unique<LstmPlan<float>>(problem, std::move(start));
  return std::make_unique<LstmPlan<BF16>>(problem, std::move(start));
}

// A token: the product with the state before; biases, five functions (counted
// as one operation each), a product and a sum into c, and h. Backward two
// products of that size, and of a unit's six gradients about thirty operations.
Cost LstmCost(const Problem& p) {
  const auto e = static_cast<double>(p.v_dim);
  const double sequences =
      static_cast<double>(p.batch) * static_cast<double>(p.q_heads);
  const auto element = static_cast<double>(SizeOf(p.dtype));
  const auto tokens = static_cast<double>(
      std::clamp<int64_t>(QueryOffset(p) + p.q_len, 0, p.kv_len));
  const double learned = sizeof(float) * static_cast<double>(p.q_heads) *
                         static_cast<double>(lstm::Numbers(p.v_dim));
  Cost cost;
  cost.decode_flops = sequences * (8 * e * e + 13 * e);
  cost.forward_flops = tokens * cost.decode_flops;
  cost.backward_flops = tokens * sequences * (16 * e * e + 30 * e);
  cost.forward_bytes =
      learned + element * sequences * e *
                    (kGates * tokens + static_cast<double>(p.q_len));
  // The state is read and written.
  cost.decode_bytes = learned + element * sequences * e * (kGates + 1) +
                      sequences * 4 * sizeof(float) * e;
  return cost;
}

}  // namespace saccade
