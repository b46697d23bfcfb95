// The checks before every pass. Past them a kernel cannot fail.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "arena.h"
#include "position.h"
#include "saccade/variant.h"
#include "simd/target.h"

namespace saccade {
namespace {

struct Shape {
  int64_t batch, heads, len, dim;
};

std::string Text(const Shape& s) {
  return "[" + std::to_string(s.batch) + ", " + std::to_string(s.heads) + ", " +
         std::to_string(s.len) + ", " + std::to_string(s.dim) + "]";
}

template <class V>
Status CheckView(std::string_view tensor, const V& view, const Shape& want,
                 DType dtype, bool gradient = false) {
  const auto name = [&] { return (gradient ? "d" : "") + std::string(tensor); };
  const Shape got{view.batch, view.heads, view.len, view.dim};
  if (got.batch != want.batch || got.heads != want.heads ||
      got.len != want.len || got.dim != want.dim)
    return Invalid(name() + " has shape " + Text(got) + ", the plan wants " +
                   Text(want));
  if (view.dtype != dtype)
    return Invalid(name() + " is " + NameOf(view.dtype) + ", the plan wants " +
                   NameOf(dtype));
  if (view.elements() > 0) {
    if (view.data == nullptr) return Invalid(name() + " is null");
    if (reinterpret_cast<uintptr_t>(view.data) % SizeOf(dtype) != 0)
      return Invalid(name() + " is not aligned to its elements' size");
  }
  return {};
}

template <class B>
Status CheckBytes(const char* name, const B& bytes, size_t need) {
  if (bytes.size() < need)
    return Invalid(std::string(name) + " has " + std::to_string(bytes.size()) +
                   " bytes, " + std::to_string(need) + " are needed");
  if (need > 0 && reinterpret_cast<uintptr_t>(bytes.data()) % kAlign != 0)
    return Invalid(std::string(name) + " is not aligned to 64 bytes");
  return {};
}

Status CheckMask(const Problem& p, const MaskView& mask) {
  if (p.attn_mask == AttnMask::kNone)
    return mask.data == nullptr
               ? Status()
               : Invalid("attn_mask is given, the plan was made without");
  const Shape got{mask.batch, mask.heads, mask.q_len, mask.kv_len};
  const Shape want{p.batch, p.q_heads, p.q_len, p.kv_len};
  const auto fits = [](int64_t n, int64_t all) { return n == all || n == 1; };
  if (!fits(got.batch, want.batch) || !fits(got.heads, want.heads) ||
      !fits(got.len, want.len) || !fits(got.dim, want.dim))
    return Invalid("attn_mask has shape " + Text(got) + ", the plan wants " +
                   Text(want) + " or 1 in place of any");
  if ((mask.element == MaskElement::kBool) !=
          (p.attn_mask == AttnMask::kBoolean) ||
      (mask.element == MaskElement::kBF16 && p.dtype != DType::kBF16))
    return Invalid(std::string("attn_mask has other elements than the ") +
                   NameOf(p.attn_mask) + " ones that the plan was made for");
  if (got.batch * got.heads * got.len * got.dim == 0) return {};
  if (mask.data == nullptr) return Invalid("attn_mask is null");
  if (reinterpret_cast<uintptr_t>(mask.data) % SizeOf(mask.element) != 0)
    return Invalid("attn_mask is not aligned to its elements' size");
  return {};
}

Shape BiasShape(const Problem& p, const Variant* variant) {
  return {1, p.q_heads, 1,
          variant ? LearnedParameters(*variant, p) : BiasParameters(p)};
}

// Learned parameters, or slopes of ALiBi.
Status CheckBias(const Problem& p, const Variant* variant,
                 const ConstView& bias) {
  if (bias.data == nullptr) return {};
  Shape shape = BiasShape(p, variant);
  if (FindIn(p.positions, "alibi")) {
    shape.dim = 1;
    if (bias.batch == p.batch) shape.batch = p.batch;
  }
  return CheckView("bias", bias, shape, DType::kF32);
}

// Starts of sequences, which ascend from 0 to `all`, none longer than `most`.
Status CheckStarts(const char* name, std::span<const int32_t> starts,
                   int64_t all, int64_t most) {
  if (starts.empty() || starts.front() != 0 || starts.back() != all)
    return Invalid(std::string(name) +
                   " must go from 0 to the rows there are, " +
                   std::to_string(all));
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const int64_t n = int64_t{starts[s + 1]} - starts[s];
    if (n < 0 || n > most)
      return Invalid(std::string(name) + ": sequence " + std::to_string(s) +
                     " has " + std::to_string(n) +
                     " rows, the plan was made for 0 to " +
                     std::to_string(most));
  }
  return {};
}

Status CheckPages(const Problem& p, const Sequences& s, int64_t rows) {
  const size_t n = s.kv_lens.size();
  if (n + 1 != s.q_starts.size())
    return Invalid("kv_lens holds " + std::to_string(n) +
                   " sequences, q_starts " +
                   std::to_string(s.q_starts.size() - 1));
  constexpr int64_t kMostRows = int64_t{1} << 30;
  if (s.page < 1 || s.page > kMostRows)
    return Invalid("a page has " + std::to_string(s.page) +
                   " rows, must have 1 to 2^30");
  if (n > 0 && s.pages.size() % n != 0)
    return Invalid("pages holds " + std::to_string(s.pages.size()) +
                   " numbers, not as many for each of " + std::to_string(n) +
                   " sequences");
  const int64_t width = n == 0 ? 0 : static_cast<int64_t>(s.pages.size() / n);
  for (size_t at = 0; at < n; ++at) {
    const int64_t len = s.kv_lens[at];
    const std::string name = "sequence " + std::to_string(at);
    if (len < 0 || len > p.kv_len || len > width * s.page)
      return Invalid(name + " has " + std::to_string(len) +
                     " keys, the plan was made for " +
                     std::to_string(p.kv_len) + " and its pages hold " +
                     std::to_string(width * s.page));
    for (int64_t i = 0; i * s.page < len; ++i) {
      const int64_t page =
          s.pages[at * static_cast<size_t>(width) + static_cast<size_t>(i)];
      if (page < 0 || page >= rows / s.page)
        return Invalid(name + " has page " + std::to_string(page) + ", of " +
                       std::to_string(rows / s.page));
    }
  }
  return {};
}

Status CheckSequences(const Problem& p, const Inputs& in, const Sequences& s) {
  if (Status status = CheckStarts("q_starts", s.q_starts, in.q.len, p.q_len);
      !status.ok())
    return status;
  if (static_cast<int64_t>(s.q_starts.size()) - 1 > p.batch)
    return Invalid("there are " + std::to_string(s.q_starts.size() - 1) +
                   " sequences, the plan was made for " +
                   std::to_string(p.batch));
  if (s.kv_starts.empty()) return CheckPages(p, s, in.k.len);
  if (s.kv_starts.size() != s.q_starts.size())
    return Invalid("kv_starts and q_starts are not of as many sequences");
  return CheckStarts("kv_starts", s.kv_starts, in.k.len, p.kv_len);
}

#define SACCADE_RETURN_IF_ERROR(expression) \
  if (Status status_ = (expression); !status_.ok()) return status_

// q, k, v and extras of q_len queries and kv_len keys.
Status CheckTensors(const Problem& p, const Variant* variant, const Inputs& in,
                    int64_t batch, int64_t q_len, int64_t kv_len) {
  const Shape q{batch, p.q_heads, q_len, p.qk_dim};
  const Shape k{batch, p.kv_heads, kv_len, p.qk_dim};
  const Shape v{batch, p.kv_heads, kv_len, p.v_dim};
  SACCADE_RETURN_IF_ERROR(CheckView("q", in.q, q, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView("k", in.k, k, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView("v", in.v, v, p.dtype));
  for (size_t n = 0; variant && n < variant->inputs.size(); ++n) {
    const ExtraInput& extra = variant->inputs[n];
    Shape shape = extra.per_query ? q : v;
    shape.dim = WidthOf(extra, p.qk_dim, p.v_dim);
    SACCADE_RETURN_IF_ERROR(CheckView(extra.name, in.extra[n], shape, p.dtype));
  }
  return {};
}

// All inputs of a pass of that many queries and keys.
Status CheckInputs(const Problem& p, const Variant* variant, const Inputs& in,
                   int64_t q_len, int64_t kv_len) {
  SACCADE_RETURN_IF_ERROR(CheckTensors(p, variant, in, p.batch, q_len, kv_len));
  SACCADE_RETURN_IF_ERROR(CheckBias(p, variant, in.bias));
  return CheckMask(p, in.attn_mask);
}

// Whether passes are to say what they run: what SACCADE_VERBOSE says.
bool Verbose() {
  static const bool verbose = [] {
    const char* const wish = std::getenv("SACCADE_VERBOSE");
    return wish != nullptr && std::strcmp(wish, "dispatch") == 0;
  }();
  return verbose;
}

void Say(const char* pass, const Plan& plan, const Variant* variant,
         const Inputs& in, const Exec& exec) {
  const Problem& p = plan.problem();
  const std::string name(variant ? variant->name : "a plan");
  std::fprintf(
      stderr, "saccade: %s %s q%s k%s v%lld %s %s | %s | %s | %d slot%s\n",
      name.c_str(), pass,
      Text({in.q.batch, in.q.heads, in.q.len, in.q.dim}).c_str(),
      Text({in.k.batch, in.k.heads, in.k.len, in.k.dim}).c_str(),
      static_cast<long long>(in.v.dim), NameOf(p.dtype), NameOf(p.mask),
      plan.Describe().c_str(), std::string(ChosenTarget()).c_str(),
      exec.slots(), exec.slots() == 1 ? "" : "s");
}

}  // namespace

Plan::Plan(Problem problem) : problem_(std::move(problem)) {}
Plan::~Plan() = default;
std::string Plan::DoDescribe() const { return "its own kernel"; }

Status Plan::Forward(const Inputs& in, const Outputs& out, Bytes saved,
                     Bytes scratch, Exec& exec) const {
  const Problem& p = problem_;
  SACCADE_RETURN_IF_ERROR(CheckInputs(p, variant_, in, p.q_len, p.kv_len));
  SACCADE_RETURN_IF_ERROR(CheckView(
      "out", out.out, {p.batch, p.q_heads, p.q_len, p.v_dim}, p.dtype));
  if (out.lse && variant_ && !variant_->traits.lse)
    return Unsupported(std::string(variant_->name) +
                       " has no log-sum-exp to write");
  const Footprint need = Memory(exec.slots());
  if (!saved.empty())
    SACCADE_RETURN_IF_ERROR(CheckBytes("saved", saved, need.saved));
  SACCADE_RETURN_IF_ERROR(CheckBytes("scratch", scratch, need.forward_scratch));
  if (Verbose()) Say("forward", *this, variant_, in, exec);
  DoForward(in, out, saved, scratch, exec);
  return {};
}

Status Plan::ForwardSequences(const Inputs& in, const Outputs& out,
                              const Sequences& sequences, Bytes scratch,
                              Exec& exec) const {
  if (problem_.attn_mask != AttnMask::kNone)
    return Unsupported(
        "sequences of different lengths take no attn_mask: their lengths leave "
        "padding out; for other masks call Forward, a sequence at a time");
  const Problem& p = problem_;
  SACCADE_RETURN_IF_ERROR(CheckTensors(p, variant_, in, 1, in.q.len, in.k.len));
  SACCADE_RETURN_IF_ERROR(CheckBias(p, variant_, in.bias));
  SACCADE_RETURN_IF_ERROR(
      CheckView("out", out.out, {1, p.q_heads, in.q.len, p.v_dim}, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckSequences(p, in, sequences));
  if (out.lse && variant_ && !variant_->traits.lse)
    return Unsupported(std::string(variant_->name) +
                       " has no log-sum-exp to write");
  SACCADE_RETURN_IF_ERROR(
      CheckBytes("scratch", scratch, Memory(exec.slots()).sequences_scratch));
  if (Verbose()) Say("sequences", *this, variant_, in, exec);
  return DoForwardSequences(in, out, sequences, scratch, exec);
}

Status Plan::Backward(const Inputs& in, const Upstream& up,
                      const Gradients& grad, Bytes scratch, Exec& exec) const {
  const Problem& p = problem_;
  if (variant_ && !variant_->traits.backward)
    return Unsupported(std::string(variant_->name) + " has no backward pass");
  SACCADE_RETURN_IF_ERROR(CheckInputs(p, variant_, in, p.q_len, p.kv_len));
  const Shape out{p.batch, p.q_heads, p.q_len, p.v_dim};
  SACCADE_RETURN_IF_ERROR(CheckView("out", up.out, out, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView("dout", up.dout, out, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView(
      "dq", grad.dq, {p.batch, p.q_heads, p.q_len, p.qk_dim}, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView(
      "dk", grad.dk, {p.batch, p.kv_heads, p.kv_len, p.qk_dim}, p.dtype));
  SACCADE_RETURN_IF_ERROR(CheckView(
      "dv", grad.dv, {p.batch, p.kv_heads, p.kv_len, p.v_dim}, p.dtype));
  for (size_t n = 0; variant_ && n < variant_->inputs.size(); ++n) {
    const ConstView& x = in.extra[n];
    SACCADE_RETURN_IF_ERROR(CheckView(variant_->inputs[n].name, grad.dextra[n],
                                      {x.batch, x.heads, x.len, x.dim}, p.dtype,
                                      true));
  }
  if (grad.dbias.data != nullptr)
    SACCADE_RETURN_IF_ERROR(CheckView(
        "bias", grad.dbias, BiasShape(p, variant_), DType::kF32, true));
  const Footprint need = Memory(exec.slots());
  SACCADE_RETURN_IF_ERROR(CheckBytes("saved", up.saved, need.saved));
  SACCADE_RETURN_IF_ERROR(
      CheckBytes("scratch", scratch, need.backward_scratch));
  if (Verbose()) Say("backward", *this, variant_, in, exec);
  DoBackward(in, up, grad, scratch, exec);
  return {};
}

Status Plan::CheckExtends() const {
  if (variant_ && !variant_->traits.extend)
    return Unsupported(std::string(variant_->name) + " cannot be extended");
  if (problem_.mask == Mask::kNone)
    return Unsupported("only causal problems can be extended");
  if (problem_.attn_mask != AttnMask::kNone)
    return Unsupported(
        "problems with an attn_mask cannot be extended, as a state keeps no "
        "masks: call Forward with the keys so far, or, where the mask only "
        "hides padding, ForwardSequences with each sequence's length");
  return {};
}

Status Plan::Reset(Bytes state) const {
  SACCADE_RETURN_IF_ERROR(CheckExtends());
  SACCADE_RETURN_IF_ERROR(CheckBytes("state", state, Memory(1).state));
  DoReset(state);
  return {};
}

Status Plan::Extend(const Inputs& fresh, const Outputs& out, Bytes state,
                    Bytes scratch, Exec& exec) const {
  const Problem& p = problem_;
  SACCADE_RETURN_IF_ERROR(CheckExtends());
  const int64_t n = fresh.q.len;
  if (n > p.q_len)
    return Invalid("Extend by " + std::to_string(n) +
                   " tokens, the plan was made for at most " +
                   std::to_string(p.q_len));
  SACCADE_RETURN_IF_ERROR(CheckInputs(p, variant_, fresh, n, n));
  SACCADE_RETURN_IF_ERROR(
      CheckView("out", out.out, {p.batch, p.q_heads, n, p.v_dim}, p.dtype));
  if (out.lse && variant_ && !variant_->traits.lse)
    return Unsupported(std::string(variant_->name) +
                       " has no log-sum-exp to write");
  const Footprint need = Memory(exec.slots());
  SACCADE_RETURN_IF_ERROR(CheckBytes("state", state, need.state));
  SACCADE_RETURN_IF_ERROR(CheckBytes("scratch", scratch, need.extend_scratch));
  if (Verbose()) Say("extend", *this, variant_, fresh, exec);
  return DoExtend(fresh, out, state, scratch, exec);
}

void Plan::DoBackward(const Inputs&, const Upstream&, const Gradients&, Bytes,
                      Exec&) const {}
Status Plan::DoForwardSequences(const Inputs&, const Outputs&, const Sequences&,
                                Bytes, Exec&) const {
  return Unsupported(
      "this variant with these positions runs sequences of one length only");
}
void Plan::DoReset(Bytes) const {}
Status Plan::DoExtend(const Inputs&, const Outputs&, Bytes, Bytes,
                      Exec&) const {
  return Unsupported("this variant cannot be extended");
}

}  // namespace saccade
