#include "bench/verify_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "bench/verify_judge.h"
#include "position.h"
#include "simd/target.h"

namespace saccade::bench {

Operands::Operands(const Variant& variant, const Problem& p, const Data& data,
                   Layout layout) {
  const int tensors = kFirstExtra + static_cast<int>(variant.inputs.size());
  for (int n = 0; n < tensors; ++n) {
    const ExtraShape s = TensorShape(variant, p, n);
    tensors_.emplace_back(p.batch, s.heads, s.len, s.dim, p.dtype, layout);
    tensors_.back().Set(TensorOf(const_cast<Data&>(data), n));  // reads it
    before_.push_back(tensors_.back().Snapshot());
  }
  if (!data.bias.empty()) {
    const ExtraShape s = TensorShape(variant, p, kBias);
    bias_.emplace_back(1, s.heads, s.len, s.dim, DType::kF32, layout);
    bias_.back().Set(data.bias);
    before_.push_back(bias_.back().Snapshot());
  }
  if (p.attn_mask != AttnMask::kNone)
    mask_.emplace_back(data.mask_shape, p, data.attn_mask, layout);
}

Inputs Operands::inputs() const {
  Inputs in{.q = tensors_[kQuery].view(),
            .k = tensors_[kKey].view(),
            .v = tensors_[kValue].view()};
  for (size_t n = kFirstExtra; n < tensors_.size(); ++n)
    in.extra[n - kFirstExtra] = tensors_[n].view();
  if (!bias_.empty()) in.bias = bias_.front().view();
  if (!mask_.empty()) in.attn_mask = mask_.front().view();
  return in;
}

bool Operands::Unchanged() const {
  for (size_t n = 0; n < tensors_.size(); ++n)
    if (!tensors_[n].Intact() || tensors_[n].Snapshot() != before_[n])
      return false;
  if (!mask_.empty() && !mask_.front().Intact()) return false;
  return bias_.empty() ||
         (bias_.front().Intact() && bias_.front().Snapshot() == before_.back());
}

namespace {

// Log-sum-exps [B, Hq, rows], or nothing.
class LseBuffer {
 public:
  LseBuffer(const Variant& variant, const Problem& p, int64_t rows)
      : wanted_(variant.traits.lse),
        count_(p.batch * p.q_heads * rows),
        memory_(wanted_ ? static_cast<size_t>(count_) * sizeof(float) : 0) {}

  float* data() {
    return wanted_ ? reinterpret_cast<float*>(memory_.bytes().data()) : nullptr;
  }
  std::vector<double> Get() {
    if (!wanted_) return {};
    return {data(), data() + count_};
  }
  bool Intact() const { return memory_.Intact(); }

 private:
  bool wanted_;
  int64_t count_;
  GuardedBytes memory_;
};

// Rows first .. first + n - 1 of every head of x [B, heads, len, dim].
std::vector<double> Slice(const std::vector<double>& x, const Problem& p,
                          int64_t heads, int64_t dim, int64_t first,
                          int64_t n) {
  std::vector<double> part;
  for (int64_t h = 0; h < p.batch * heads; ++h) {
    const auto from = x.begin() + (h * p.kv_len + first) * dim;
    part.insert(part.end(), from, from + n * dim);
  }
  return part;
}

// The reverse: puts them there.
void Paste(const std::vector<double>& part, const Problem& p, int64_t heads,
           int64_t dim, int64_t first, int64_t n, std::vector<double>& x) {
  for (int64_t h = 0; h < p.batch * heads; ++h)
    std::copy_n(part.begin() + h * n * dim, n * dim,
                x.begin() + (h * p.kv_len + first) * dim);
}

Written RunWhole(const CheckCase& c, const Plan& plan, const Problem& p,
                 const Data& data, Exec& exec) {
  Written w;
  const Variant& variant = *c.variant;
  const Operands operands(variant, p, data, c.layout);
  const Footprint need = plan.Memory(exec.slots());
  Tensor out(p.batch, p.q_heads, p.q_len, p.v_dim, p.dtype, c.layout);
  LseBuffer lse(variant, p, p.q_len);
  GuardedBytes scratch(need.forward_scratch), saved(need.saved);
  // Inference and training forwards are both checked.
  const bool keep = c.pass == Pass::kBackward || c.seed % 2 == 0;
  const Status status =
      plan.Forward(operands.inputs(), {out.view(), lse.data()},
                   keep ? saved.bytes() : Bytes(), scratch.bytes(), exec);
  if (!status.ok()) {
    w.trouble = "Forward refused: " + status.message();
    return w;
  }
  if (!out.Intact() || !lse.Intact() || !scratch.Intact() || !saved.Intact())
    w.trouble = "Forward wrote outside of its memory";
  w.out = out.Get();
  w.lse = lse.Get();
  if (c.pass == Pass::kBackward && w.trouble.empty()) {
    Tensor dout(p.batch, p.q_heads, p.q_len, p.v_dim, p.dtype, c.layout);
    dout.Set(data.dout);
    std::deque<Tensor> grads;
    const int tensors = kFirstExtra + static_cast<int>(variant.inputs.size());
    for (int n = 0; n < tensors; ++n) {
      const ExtraShape s = TensorShape(variant, p, n);
      grads.emplace_back(p.batch, s.heads, s.len, s.dim, p.dtype, c.layout);
    }
    Gradients to{
        grads[kQuery].view(), grads[kKey].view(), grads[kValue].view(), {}};
    for (int n = kFirstExtra; n < tensors; ++n)
      to.dextra[n - kFirstExtra] = grads[n].view();
    const ExtraShape s = TensorShape(variant, p, kBias);
    Tensor dbias(1, s.heads, s.len, s.dim, DType::kF32, c.layout);
    if (s.dim > 0) to.dbias = dbias.view();
    GuardedBytes work(need.backward_scratch);
    const Status back = plan.Backward(operands.inputs(),
                                      {out.view(), saved.bytes(), dout.view()},
                                      to, work.bytes(), exec);
    if (!back.ok()) w.trouble = "Backward refused: " + back.message();
    bool intact = work.Intact() && saved.Intact() && out.Intact();
    for (int n = 0; n < tensors; ++n) {
      intact = intact && grads[n].Intact();
      w.gradients[n] = grads[n].Get();
    }
    intact = intact && dbias.Intact();
    w.gradients[kBias] = dbias.Get();
    if (!intact) w.trouble = "Backward wrote outside of its memory";
  }
  if (!operands.Unchanged()) w.trouble = "the pass changed its inputs";
  return w;
}

// Appends tokens first .. first + n - 1.
std::string ExtendOnce(const CheckCase& c, const Plan& plan, const Problem& p,
                       Data& data, const ConstView& bias, int64_t first,
                       int64_t n, Bytes state, Exec& exec, Written* w) {
  const Variant& variant = *c.variant;
  Problem piece = p;
  piece.q_len = piece.kv_len = n;
  Data part;
  const int tensors = kFirstExtra + static_cast<int>(variant.inputs.size());
  for (int t = 0; t < tensors; ++t) {
    const ExtraShape s = TensorShape(variant, p, t);
    TensorOf(part, t) = Slice(TensorOf(data, t), p, s.heads, s.dim, first, n);
  }
  const Operands operands(variant, piece, part, c.layout);
  Inputs in = operands.inputs();
  in.bias = bias;
  Tensor out(p.batch, p.q_heads, n, p.v_dim, p.dtype, c.layout);
  LseBuffer lse(variant, p, n);
  GuardedBytes scratch(plan.Memory(exec.slots()).extend_scratch);
  const Status status =
      plan.Extend(in, {out.view(), lse.data()}, state, scratch.bytes(), exec);
  if (!status.ok())
    return fmt::format("Extend by {} tokens after {} refused: {}", n, first,
                       status.message());
  if (!out.Intact() || !lse.Intact() || !scratch.Intact())
    return "Extend wrote outside of its memory";
  if (!operands.Unchanged()) return "Extend changed its inputs";
  Paste(out.Get(), p, p.q_heads, p.v_dim, first, n, w->out);
  if (variant.traits.lse) Paste(lse.Get(), p, p.q_heads, 1, first, n, w->lse);
  return {};
}

Written RunDecode(const CheckCase& c, const Plan& plan, const Problem& p,
                  const Data& data, Exec& exec) {
  Written w;
  const int64_t rows = p.batch * p.q_heads * p.q_len;
  w.out.resize(rows * p.v_dim);
  if (c.variant->traits.lse) w.lse.resize(rows);
  GuardedBytes state(plan.Memory(exec.slots()).state);
  if (const Status s = plan.Reset(state.bytes()); !s.ok()) {
    w.trouble = "Reset refused: " + s.message();
    return w;
  }
  // What is learned may be much, and is the same for every piece.
  Problem none = p;
  none.q_len = none.kv_len = 0;
  Data learned;
  learned.bias = data.bias;
  const Operands bias(*c.variant, none, learned, c.layout);
  Data tokens = data;
  tokens.bias.clear();
  // Any split: pieces of 0 .. q_len tokens, single ones as often as not.
  Rng rng(c.seed + 3);
  const int64_t most = c.problem.q_len;
  for (int64_t at = 0; at < p.kv_len && w.trouble.empty();) {
    const int64_t want = rng.Below(2) ? 1 : rng.Below(most + 1);
    const int64_t n = std::min({want, most, p.kv_len - at});
    w.trouble = ExtendOnce(c, plan, p, tokens, bias.inputs().bias, at, n,
                           state.bytes(), exec, &w);
    at += n;
  }
  if (w.trouble.empty() && !bias.Unchanged())
    w.trouble = "Extend changed what is learned";
  if (w.trouble.empty() && !state.Intact())
    w.trouble = "Extend wrote outside of its state";
  return w;
}

// "dq[0, 2, 17, 5]" of an index in [B, heads, len, dim] order.
std::string Place(std::string_view name, const ExtraShape& s, int64_t index) {
  return fmt::format(
      "{}[{}, {}, {}, {}]", name, index / s.dim / s.len / s.heads,
      index / s.dim / s.len % s.heads, index / s.dim % s.len, index % s.dim);
}

std::string GradientName(const Variant& v, int number) {
  constexpr const char* kNames[] = {"dq", "dk", "dv"};
  if (number < kFirstExtra) return kNames[number];
  if (number == kBias) return "dbias";
  return "d" + std::string(v.inputs[number - kFirstExtra].name);
}

// Whatever turns or scales q and k keeps these copies in the storage type: one
// more rounding of each.
bool TurnsCopies(const Variant& variant, const Problem& p) {
  return variant.traits.rounds_copies ||
         PositionOf(p.positions, PositionKind::kRotary) != nullptr ||
         PositionOf(p.positions, PositionKind::kScale) != nullptr;
}

// The CPU's product of bf16 wants weights, and their gradients, in that type,
// too: one rounding of each.
bool RoundsWeights(const Variant& variant, const Problem& p) {
  return p.dtype == DType::kBF16 && variant.traits.rounds_weights &&
         MultipliesBF16();
}

void CompareOutputs(const CheckCase& c, const Reference& ref, const Written& w,
                    Judge& judge) {
  const Problem& p = ref.problem;
  const double unit = p.dtype == DType::kBF16 ? 0x1p-8 : 0;
  const double copies = TurnsCopies(*c.variant, p) ? 2 * unit : 0;
  const double weights = RoundsWeights(*c.variant, p) ? unit : 0;
  const ExtraShape shape{p.q_heads, p.q_len, p.v_dim};
  for (size_t n = 0; n < ref.out.size(); ++n)
    judge.Check([&] { return Place("out", shape, static_cast<int64_t>(n)); },
                w.out[n], ref.out[n], ref.size[n],
                unit * std::abs(ref.out[n]) + (copies + weights) * ref.size[n]);
  const ExtraShape rows{p.q_heads, p.q_len, 1};
  for (size_t n = 0; n < ref.lse.size(); ++n)
    judge.Check([&] { return Place("lse", rows, static_cast<int64_t>(n)); },
                w.lse[n], ref.lse[n], ref.lse_size[n],
                copies * ref.lse_size[n]);
}

// dout, out and the gradient are all stored: bf16 rounds out before it is read
// and the gradient after it is made.
void CompareGradients(const CheckCase& c, const Reference& ref,
                      const Written& w, Judge& judge) {
  const Problem& p = ref.problem;
  const double unit = p.dtype == DType::kBF16 ? 0x1p-8 : 0;
  const double copies = TurnsCopies(*c.variant, p) ? 4 * unit : unit;
  const double weights = RoundsWeights(*c.variant, p) ? unit : 0;
  for (const Reference::Derivative& d : ref.derivatives)
    judge.Check(
        [&] {
          return Place(GradientName(*c.variant, d.tensor),
                       TensorShape(*c.variant, p, d.tensor), d.index);
        },
        w.gradients[d.tensor][d.index], d.want, d.size,
        unit * std::abs(d.want) + (copies + weights) * d.size + d.noise);
}

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

// NaN in hidden keys reaches exactly those who see them.
void CompareHidden(const CheckCase& c, const Reference& ref,
                   const Written& clean, const Written& spoilt, Judge& judge) {
  if (!spoilt.trouble.empty()) return judge.Fail(spoilt.trouble);
  const Problem& p = ref.problem;
  const ExtraShape shape{p.q_heads, p.q_len, p.v_dim};
  const auto row = [&](std::string_view name, const std::vector<double>& a,
                       const std::vector<double>& b, int64_t width) {
    for (size_t n = 0; n < a.size(); ++n) {
      const bool reached = ref.reached[n / width];
      if (reached ? std::isnan(b[n]) : SameBits(a[n], b[n])) continue;
      ExtraShape s = shape;
      s.dim = width;
      judge.Fail(
          fmt::format("{}: {} when hidden keys hold NaN, {} when they do not{}",
                      Place(name, s, static_cast<int64_t>(n)), b[n], a[n],
                      reached ? ", though its query sees one" : ""));
      return;
    }
  };
  if (c.pass != Pass::kBackward) {
    row("out", clean.out, spoilt.out, p.v_dim);
    row("lse", clean.lse, spoilt.lse, 1);
    return;
  }
  // Kernels may take another way around NaN, to the same result but for f32's
  // rounding, after which bf16 may round to its neighbour.
  const double unit = p.dtype == DType::kBF16 ? 0x1p-7 : 0;
  const int tensors = kFirstExtra + static_cast<int>(c.variant->inputs.size());
  for (int t = 0; t < tensors; ++t) {
    const auto& a = clean.gradients[t];
    const auto& b = spoilt.gradients[t];
    double most = 0;
    for (const double x : a) most = std::max(most, std::abs(x));
    for (size_t n = 0; n < a.size(); ++n)
      if (!(std::abs(a[n] - b[n]) <= 1e-5 * most + unit * std::abs(a[n])))
        return judge.Fail(fmt::format(
            "{}: {} when keys that nobody sees hold NaN, {} when they do not",
            Place(GradientName(*c.variant, t), TensorShape(*c.variant, p, t),
                  static_cast<int64_t>(n)),
            b[n], a[n]));
  }
  CompareGradients(c, ref, spoilt, judge);
}

}  // namespace

Written RunPass(const CheckCase& c, const Plan& plan, const Problem& problem,
                const Data& data, Exec& exec) {
  return c.pass == Pass::kDecode ? RunDecode(c, plan, problem, data, exec)
                                 : RunWhole(c, plan, problem, data, exec);
}

CheckResult RunCase(const CheckCase& c, const Reference& ref) {
  // Here and not with the reference: memory may depend on the SIMD target.
  auto plan = MakePlan(*c.variant, c.problem);
  if (!plan.ok())
    return {CheckResult::Kind::kRefused, 0, plan.status().message()};
  Judge judge(c.variant->kappa);
  SlotExec exec(c.slots);
  const Written w = RunPass(c, **plan, ref.problem, ref.data, exec);
  if (!w.trouble.empty()) {
    judge.Fail(w.trouble);
    return judge.result();
  }
  CompareOutputs(c, ref, w, judge);
  if (c.pass == Pass::kBackward) CompareGradients(c, ref, w, judge);
  if (c.fill == Fill::kHidden)
    CompareHidden(
        c, ref, w,
        RunPass(c, **plan, ref.problem, Poisoned(*c.variant, ref), exec),
        judge);
  return judge.result();
}

CheckResult RunCase(const CheckCase& c) {
  Result<Reference> ref = MakeReference(c);
  if (!ref.ok())
    return {CheckResult::Kind::kRefused, 0, ref.status().message()};
  return RunCase(c, *ref);
}

}  // namespace saccade::bench
