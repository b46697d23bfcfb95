#include "bench/apply.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>

#include "bench/choices.h"
#include "bench/lenses/weights.h"
#include "bench/machine.h"
#include "bench/memory_block.h"
#include "nearest.h"
#include "saccade/attention.h"
#include "simd/bf16.h"

namespace saccade::bench {
namespace {

// A shape of two to four sizes, as [B, H, T, D].
using Shape4 = std::array<int64_t, 4>;

Shape4 Whole(const NpyArray& array) {
  Shape4 shape = {1, 1, 1, 1};
  std::copy_backward(array.shape.begin(), array.shape.end(), shape.end());
  return shape;
}

// Without the leading sizes that arrays of this rank do not have.
std::vector<int64_t> Cut(const Shape4& shape, size_t rank) {
  return {shape.end() - static_cast<int64_t>(rank), shape.end()};
}

int64_t ElementsOf(const Shape4& s) { return s[0] * s[1] * s[2] * s[3]; }

std::string Shown(const NamedArray& a) {
  return fmt::format("{} has shape {}", a.file, TupleOf(a.array.shape));
}

Status Misfit(const NamedArray& a, const NamedArray& b, std::string_view want) {
  return Invalid(fmt::format("{}, {}: {}", Shown(a), Shown(b), want));
}

Status CheckRank(const NamedArray& a, const NamedArray& q) {
  const size_t rank = a.array.shape.size();
  if (a.array.type == NpyType::kBool)
    return Invalid(fmt::format("{}: booleans are for masks", a.file));
  if (rank < 2 || rank > 4)
    return Invalid(
        fmt::format("{}: arrays are [tokens, width], [heads, tokens, width] or "
                    "[batch, heads, tokens, width]",
                    Shown(a)));
  if (rank != q.array.shape.size())
    return Misfit(q, a, "all must have as many dimensions");
  return {};
}

// What Resolve would say too, but of problems, not of files.
Status CheckShapes(const ApplyRequest& r) {
  for (const NamedArray* a : {&r.q, &r.k, &r.v})
    if (Status s = CheckRank(*a, r.q); !s.ok()) return s;
  const Shape4 q = Whole(r.q.array), k = Whole(r.k.array), v = Whole(r.v.array);
  if (q[0] != k[0]) return Misfit(r.q, r.k, "the batch must be the same");
  if (k[1] == 0 || q[1] % k[1] != 0)
    return Misfit(r.q, r.k, "q's heads must be a multiple of k's");
  if (q[3] != k[3]) return Misfit(r.q, r.k, "the width must be the same");
  if (k[0] != v[0]) return Misfit(r.k, r.v, "the batch must be the same");
  if (k[1] != v[1]) return Misfit(r.k, r.v, "the heads must be the same");
  if (k[2] != v[2]) return Misfit(r.k, r.v, "the tokens must be the same");
  return {};
}

// An array whose shape follows from the others.
Status CheckOne(const NamedArray& a, const ApplyRequest& r,
                const Shape4& want) {
  const std::vector<int64_t> cut = Cut(want, r.q.array.shape.size());
  if (a.array.type == NpyType::kBool)
    return Invalid(fmt::format("{}: booleans are for masks", a.file));
  if (a.array.shape == cut) return {};
  return Invalid(fmt::format("{}; with q of {} and v of {} it must be {}",
                             Shown(a), TupleOf(r.q.array.shape),
                             TupleOf(r.v.array.shape), TupleOf(cut)));
}

Shape4 ShapeFor(const ExtraInput& extra, const Problem& p) {
  return {p.batch, extra.per_query ? p.q_heads : p.kv_heads,
          extra.per_query ? p.q_len : p.kv_len,
          WidthOf(extra, p.qk_dim, p.v_dim)};
}

Status CheckMask(const ApplyRequest& r, const Problem& p) {
  if (!r.attn_mask) return {};
  const size_t rank = r.attn_mask->array.shape.size();
  const Shape4 want = {p.batch, p.q_heads, p.q_len, p.kv_len};
  bool fits = rank >= 2 && rank <= want.size();
  if (fits) {
    const Shape4 got = Whole(r.attn_mask->array);
    for (size_t n = 0; n < want.size(); ++n)
      fits &= got[n] == 1 || got[n] == want[n];
  }
  if (fits) return {};
  return Invalid(
      fmt::format("{}; with q of {} and k of {} it must be {}, or 1 "
                  "in place of any, or without the first ones",
                  Shown(*r.attn_mask), TupleOf(r.q.array.shape),
                  TupleOf(r.k.array.shape), TupleOf(want)));
}

Status CheckInputs(const ApplyRequest& r, const Variant& variant,
                   const Problem& p) {
  const std::vector<std::string_view> names = NamesIn(variant.inputs);
  for (const ExtraInput& extra : variant.inputs) {
    const auto given = r.inputs.find(std::string(extra.name));
    if (given == r.inputs.end())
      return Invalid(fmt::format("{} wants an input '{}' ({}): --input {}=FILE",
                                 variant.name, extra.name, extra.doc,
                                 extra.name));
    if (Status s = CheckOne(given->second, r, ShapeFor(extra, p)); !s.ok())
      return s;
  }
  for (const auto& [name, array] : r.inputs)
    if (std::find(names.begin(), names.end(), name) == names.end())
      return Invalid(fmt::format("{} has no input '{}'{}", variant.name, name,
                                 DidYouMean(name, names)));
  if (Status s = CheckMask(r, p); !s.ok() || !r.dout) return s;
  return CheckOne(*r.dout, r, {p.batch, p.q_heads, p.q_len, p.v_dim});
}

// The values of a tensor, in memory as a plan wants it.
class Stored {
 public:
  Stored() = default;
  Stored(const Shape4& shape, DType dtype) : shape_(shape), dtype_(dtype) {
    const auto elements = static_cast<size_t>(ElementsOf(shape));
    dtype == DType::kF32 ? floats_.resize(elements) : halves_.resize(elements);
  }
  // Leaves nothing of the array's values.
  Stored(NpyArray& array, DType dtype) : shape_(Whole(array)), dtype_(dtype) {
    floats_ = std::move(array.values);
    if (dtype == DType::kF32) return;
    halves_.resize(floats_.size());
    std::transform(floats_.begin(), floats_.end(), halves_.begin(), ToBF16);
    floats_ = {};
  }

  View view() {
    return Contiguous<void>(dtype_ == DType::kF32
                                ? static_cast<void*>(floats_.data())
                                : halves_.data(),
                            dtype_, shape_[0], shape_[1], shape_[2], shape_[3]);
  }
  NpyArray Taken(NpyType type, size_t rank) {
    if (dtype_ != DType::kF32) {
      floats_.resize(halves_.size());
      std::transform(halves_.begin(), halves_.end(), floats_.begin(), ToFloat);
    }
    return {type, Cut(shape_, rank), std::move(floats_)};
  }

 private:
  Shape4 shape_ = {};
  DType dtype_ = DType::kF32;
  std::vector<float> floats_;
  std::vector<BF16> halves_;
};

// A mask as passes take it: added numbers stay f32 whatever tensors are.
class StoredMask {
 public:
  explicit StoredMask(NpyArray& array) : shape_(Whole(array)) {
    if (array.type == NpyType::kBool) {
      sees_.assign(array.values.begin(), array.values.end());
    } else {
      added_ = std::move(array.values);
    }
    element_ =
        array.type == NpyType::kBool ? MaskElement::kBool : MaskElement::kF32;
  }
  MaskView view() const {
    return ContiguousMask(element_ == MaskElement::kBool
                              ? static_cast<const void*>(sees_.data())
                              : added_.data(),
                          element_, shape_[0], shape_[1], shape_[2], shape_[3]);
  }

 private:
  Shape4 shape_;
  MaskElement element_;
  std::vector<uint8_t> sees_;
  std::vector<float> added_;
};

class Application {
 public:
  explicit Application(ApplyRequest& r)
      : r_(r), rank_(r.q.array.shape.size()) {}

  Result<Applied> Run();

 private:
  Status Prepare();
  Status CheckMemory() const;
  Inputs inputs();
  Status Forward(Applied* applied);
  Status Backward(Applied* applied);
  Status FindWeights(Applied* applied);
  // Of what has no input's type.
  NpyType exact() const {
    return r_.q.array.type == NpyType::kF64 ? NpyType::kF64 : NpyType::kF32;
  }

  ApplyRequest& r_;
  const size_t rank_;
  Spec spec_;
  Problem problem_;
  std::optional<Attention> attention_;
  Stored q_, k_, v_, out_;
  std::array<Stored, kMaxExtras> extras_;
  std::optional<StoredMask> mask_;
};

Status Application::Prepare() {
  Result<Spec> spec = ParseSpec(r_.spec);
  if (!spec.ok()) return spec.status();
  spec_ = std::move(*spec);
  if (Status s = CheckShapes(r_); !s.ok()) return s;
  const Shape4 q = Whole(r_.q.array), v = Whole(r_.v.array);
  const bool halves = r_.q.array.type == NpyType::kBF16 &&
                      r_.k.array.type == NpyType::kBF16 &&
                      r_.v.array.type == NpyType::kBF16;
  Problem& p = problem_;
  p.batch = q[0];
  p.q_heads = q[1];
  p.kv_heads = v[1];
  p.q_len = q[2];
  p.kv_len = v[2];
  p.qk_dim = q[3];
  p.v_dim = v[3];
  p.dtype = r_.dtype.value_or(halves ? DType::kBF16 : DType::kF32);
  p.mask = r_.mask;
  p.scale = r_.scale;
  p.softcap = r_.softcap;
  if (r_.attn_mask)
    p.attn_mask = r_.attn_mask->array.type == NpyType::kBool
                      ? AttnMask::kBoolean
                      : AttnMask::kAdditive;
  p.knobs = spec_.knobs;
  p.positions = spec_.positions;
  if (Status s = CheckInputs(r_, *spec_.variant, p); !s.ok()) return s;
  Result<Attention> attention =
      Attention::Make(r_.spec, p, r_.threads > 0 ? r_.threads : UsableCores());
  if (!attention.ok()) return attention.status();
  attention_ = std::move(*attention);
  return CheckMemory();
}

Status Application::CheckMemory() const {
  const Problem& p = problem_;
  const Footprint f = attention_->plan().Memory(attention_->exec().slots());
  const auto rows = static_cast<double>(p.batch * p.q_heads * p.q_len);
  double bytes = static_cast<double>(f.forward_scratch) +
                 sizeof(float) * rows * static_cast<double>(p.v_dim);
  if (r_.dout)
    bytes += static_cast<double>(f.saved + f.backward_scratch) +
             static_cast<double>(SizeOf(p.dtype)) *
                 static_cast<double>(ElementsOf(Whole(r_.q.array)) +
                                     ElementsOf(Whole(r_.k.array)) +
                                     ElementsOf(Whole(r_.v.array)));
  if (r_.weights) bytes += sizeof(float) * rows * static_cast<double>(p.kv_len);
  const auto available = static_cast<double>(AvailableMemory());
  if (available == 0 || bytes <= available) return {};
  return Exhausted(
      fmt::format("this wants {:.3g} GiB of memory, and {:.3g} are "
                  "free",
                  bytes * 0x1p-30, available * 0x1p-30));
}

Inputs Application::inputs() {
  Inputs in = {q_.view(), k_.view(), v_.view()};
  for (size_t e = 0; e < spec_.variant->inputs.size(); ++e)
    in.extra[e] = extras_[e].view();
  if (mask_) in.attn_mask = mask_->view();
  return in;
}

Status Application::Forward(Applied* applied) {
  const Problem& p = problem_;
  q_ = Stored(r_.q.array, p.dtype);
  k_ = Stored(r_.k.array, p.dtype);
  v_ = Stored(r_.v.array, p.dtype);
  for (size_t e = 0; e < spec_.variant->inputs.size(); ++e) {
    const std::string name(spec_.variant->inputs[e].name);
    extras_[e] = Stored(r_.inputs.at(name).array, p.dtype);
  }
  if (r_.attn_mask) mask_.emplace(r_.attn_mask->array);
  out_ = Stored({p.batch, p.q_heads, p.q_len, p.v_dim}, p.dtype);
  Shape4 rows = {p.batch, p.q_heads, p.q_len, 1};
  std::vector<float> lse(r_.lse ? ElementsOf(rows) : 0);
  const Status status = attention_->Forward(
      inputs(), {out_.view(), r_.lse ? lse.data() : nullptr},
      r_.dout.has_value());
  if (!status.ok()) return status;
  if (r_.lse) {
    std::vector<int64_t> shape = Cut(rows, rank_);
    shape.pop_back();
    applied->lse = NpyArray{exact(), std::move(shape), std::move(lse)};
  }
  return {};
}

Status Application::Backward(Applied* applied) {
  const Problem& p = problem_;
  const std::vector<ExtraInput>& extras = spec_.variant->inputs;
  Stored dout(r_.dout->array, p.dtype);
  Stored dq(Whole(r_.q.array), p.dtype), dk(Whole(r_.k.array), p.dtype),
      dv(Whole(r_.v.array), p.dtype);
  std::array<Stored, kMaxExtras> dextras;
  Gradients grad = {dq.view(), dk.view(), dv.view()};
  for (size_t e = 0; e < extras.size(); ++e) {
    dextras[e] = Stored(ShapeFor(extras[e], p), p.dtype);
    grad.dextra[e] = dextras[e].view();
  }
  const Status status =
      attention_->Backward(inputs(), out_.view(), dout.view(), grad);
  if (!status.ok()) return status;
  const auto take = [&](std::string_view name, Stored& from,
                        const NamedArray& of) {
    applied->gradients.emplace_back(fmt::format("d{}", name),
                                    from.Taken(of.array.type, rank_));
  };
  take("q", dq, r_.q);
  take("k", dk, r_.k);
  take("v", dv, r_.v);
  for (size_t e = 0; e < extras.size(); ++e)
    take(extras[e].name, dextras[e], r_.inputs.at(std::string(extras[e].name)));
  return {};
}

// In f32, of inputs as they were stored.
Status Application::FindWeights(Applied* applied) {
  Problem p = problem_;
  p.dtype = DType::kF32;
  NpyArray q = q_.Taken(NpyType::kF32, 4), k = k_.Taken(NpyType::kF32, 4);
  Stored q32(q, p.dtype), k32(k, p.dtype);
  Inputs in;
  in.q = q32.view();
  in.k = k32.view();
  if (mask_) in.attn_mask = mask_->view();
  std::array<Stored, kMaxExtras> extras;
  for (size_t e = 0; e < spec_.variant->inputs.size(); ++e) {
    if (spec_.variant->inputs[e].value_width) continue;
    NpyArray extra = extras_[e].Taken(NpyType::kF32, 4);
    extras[e] = Stored(extra, p.dtype);
    in.extra[e] = extras[e].view();
  }
  Result<Weights> w = WeightsOf(*spec_.variant, p, in, attention_->exec());
  if (!w.ok()) return w.status();
  applied->weights =
      NpyArray{exact(), Cut({w->batch, w->heads, w->len, w->keys}, rank_),
               std::move(w->a)};
  return {};
}

Result<Applied> Application::Run() {
  if (Status s = Prepare(); !s.ok()) return s;
  Applied applied;
  applied.ran = attention_->plan().Describe();
  Status status = Forward(&applied);
  if (status.ok() && r_.dout) status = Backward(&applied);
  if (status.ok() && r_.weights) status = FindWeights(&applied);
  if (!status.ok()) return status;
  applied.out = out_.Taken(r_.q.array.type, rank_);
  return applied;
}

}  // namespace

Result<Applied> Apply(ApplyRequest request) {
  try {
    return Application(request).Run();
  } catch (const std::bad_alloc&) {
    return Exhausted("no memory for these arrays");
  }
}

}  // namespace saccade::bench
