// The C face: opaque plans, status codes, the last error's text. Nothing throws
// across it.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <type_traits>

#include "saccade/c.h"
#include "saccade/exec.h"
#include "saccade/plugin.h"
#include "saccade/variant.h"
#include "saccade/version.h"

struct saccade_plan {
  std::unique_ptr<saccade::Plan> plan;
};
struct saccade_exec {
  std::unique_ptr<saccade::Exec> exec;
};

namespace saccade {
namespace {

static_assert(static_cast<int>(Code::kIo) == SACCADE_IO);
static_assert(static_cast<int>(DType::kBF16) == SACCADE_BF16);
static_assert(static_cast<int>(Mask::kCausalTopLeft) ==
              SACCADE_MASK_CAUSAL_TOP_LEFT);
static_assert(static_cast<int>(AttnMask::kAdditive) ==
              SACCADE_ATTN_MASK_ADDITIVE);
static_assert(static_cast<int>(MaskElement::kBF16) == SACCADE_ELEMENT_BF16);
static_assert(std::size(saccade_inputs{}.extra) == kMaxExtras);

std::string& LastError() {
  thread_local std::string text;
  return text;
}

saccade_status Report(const Status& status) {
  if (!status.ok()) LastError() = status.message();
  return static_cast<saccade_status>(status.code());
}

// Runs what may allocate; a lack of memory is a status like any other.
template <class F>
saccade_status Guarded(F&& work) {
#if defined(__cpp_exceptions)
  try {
    return Report(work());
  } catch (const std::bad_alloc&) {
    LastError().assign("out of memory");
    return SACCADE_EXHAUSTED;
  } catch (const std::exception& e) {
    LastError().assign(e.what());
    return SACCADE_INVALID;
  }
#else
  return Report(work());
#endif
}

// Copies what the caller knows of a structure; what it does not know is zero.
// What it knows beyond us must be zero: it asks for something newer.
template <class T>
Status Read(const char* name, const T* from, T* to) {
  if (from == nullptr) return Invalid(std::string(name) + " is null");
  const size_t size = from->struct_size;
  if (size < sizeof(size_t) || size > 16 * sizeof(T))
    return Invalid(std::string(name) + ": struct_size is " +
                   std::to_string(size) + ", not its size");
  *to = T{};
  std::memcpy(to, from, std::min(size, sizeof(T)));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof(T); i < size; ++i)
    if (bytes[i] != 0)
      return Unsupported(std::string(name) +
                         " asks for what this version does not know");
  return {};
}

#define SACCADE_RETURN_IF_ERROR(expression) \
  if (Status status_ = (expression); !status_.ok()) return status_

Status ToDType(const char* name, saccade_dtype dtype, DType* to) {
  if (dtype != SACCADE_F32 && dtype != SACCADE_BF16)
    return Invalid(std::string(name) + ": there is no dtype " +
                   std::to_string(dtype));
  *to = static_cast<DType>(dtype);
  return {};
}

Status ToProblem(const saccade_problem* from, Problem* to) {
  saccade_problem p;
  SACCADE_RETURN_IF_ERROR(Read("problem", from, &p));
  if (p.mask < SACCADE_MASK_NONE || p.mask > SACCADE_MASK_CAUSAL_TOP_LEFT)
    return Invalid("problem: there is no mask " + std::to_string(p.mask));
  if (p.attn_mask < SACCADE_ATTN_MASK_NONE ||
      p.attn_mask > SACCADE_ATTN_MASK_ADDITIVE)
    return Invalid("problem: there is no attn_mask " +
                   std::to_string(p.attn_mask));
  *to = {.batch = p.batch,
         .q_heads = p.q_heads,
         .kv_heads = p.kv_heads,
         .q_len = p.q_len,
         .kv_len = p.kv_len,
         .qk_dim = p.qk_dim,
         .v_dim = p.v_dim,
         .mask = static_cast<Mask>(p.mask),
         .window = p.window,
         .scale = p.scale,
         .softcap = p.softcap,
         .attn_mask = static_cast<AttnMask>(p.attn_mask)};
  return ToDType("problem", p.dtype, &to->dtype);
}

template <class View>
Status ToView(const char* name, const saccade_tensor& t, View* view) {
  *view = {t.data, DType::kF32,    t.batch,       t.heads,     t.len,
           t.dim,  t.batch_stride, t.head_stride, t.row_stride};
  return ToDType(name, t.dtype, &view->dtype);
}

Status ToMask(const saccade_mask_view& m, MaskView* to) {
  if (m.element < SACCADE_ELEMENT_BOOL || m.element > SACCADE_ELEMENT_BF16)
    return Invalid("attn_mask: there is no element " +
                   std::to_string(m.element));
  *to = {m.data,         static_cast<MaskElement>(m.element),
         m.batch,        m.heads,
         m.q_len,        m.kv_len,
         m.batch_stride, m.head_stride,
         m.row_stride,   m.key_stride};
  return {};
}

Status ToInputs(const saccade_inputs* from, Inputs* to) {
  saccade_inputs in;
  SACCADE_RETURN_IF_ERROR(Read("in", from, &in));
  SACCADE_RETURN_IF_ERROR(ToView("q", in.q, &to->q));
  SACCADE_RETURN_IF_ERROR(ToView("k", in.k, &to->k));
  SACCADE_RETURN_IF_ERROR(ToView("v", in.v, &to->v));
  for (int n = 0; n < kMaxExtras; ++n)
    SACCADE_RETURN_IF_ERROR(ToView("extra", in.extra[n], &to->extra[n]));
  SACCADE_RETURN_IF_ERROR(ToView("bias", in.bias, &to->bias));
  return ToMask(in.attn_mask, &to->attn_mask);
}

Status ToOutputs(const saccade_outputs* from, Outputs* to) {
  saccade_outputs out;
  SACCADE_RETURN_IF_ERROR(Read("out", from, &out));
  to->lse = out.lse;
  return ToView("out", out.out, &to->out);
}

Status ToGradients(const saccade_gradients* from, Gradients* to) {
  saccade_gradients grad;
  SACCADE_RETURN_IF_ERROR(Read("grad", from, &grad));
  SACCADE_RETURN_IF_ERROR(ToView("dq", grad.dq, &to->dq));
  SACCADE_RETURN_IF_ERROR(ToView("dk", grad.dk, &to->dk));
  SACCADE_RETURN_IF_ERROR(ToView("dv", grad.dv, &to->dv));
  for (int n = 0; n < kMaxExtras; ++n)
    SACCADE_RETURN_IF_ERROR(ToView("dextra", grad.dextra[n], &to->dextra[n]));
  return ToView("dbias", grad.dbias, &to->dbias);
}

// Of lists that are not null only as many numbers as `count` says are read.
Status ToSequences(const saccade_sequences* from, Sequences* to) {
  constexpr int64_t kMost = int64_t{1} << 31;
  saccade_sequences s;
  SACCADE_RETURN_IF_ERROR(Read("sequences", from, &s));
  if (s.count < 0 || s.count > kMost || s.pages_each < 0 ||
      s.pages_each > kMost)
    return Invalid("sequences: there are " + std::to_string(s.count) + " of " +
                   std::to_string(s.pages_each) + " pages");
  const auto list = [](const int32_t* data, int64_t n) {
    return std::span(data, data == nullptr ? 0 : static_cast<size_t>(n));
  };
  *to = {.q_starts = list(s.q_starts, s.count + 1),
         .kv_starts = list(s.kv_starts, s.count + 1),
         .kv_lens = list(s.kv_lens, s.count),
         .pages = list(s.pages, s.count * s.pages_each),
         .page = s.page};
  return {};
}

Status CheckPlan(const saccade_plan* plan) {
  return plan == nullptr ? Invalid("plan is null") : Status();
}

Bytes ToBytes(saccade_bytes b) {
  return {static_cast<std::byte*>(b.data), b.data ? b.size : 0};
}

Exec& ToExec(saccade_exec* exec) { return exec ? *exec->exec : Serial(); }

// The caller's own loop.
class CustomExec final : public Exec {
 public:
  CustomExec(int slots, saccade_loop run, void* user)
      : slots_(slots), run_(run), user_(user) {}
  int slots() const override { return slots_; }
  void For(int64_t tasks, LoopBody body) override {
    if (tasks <= 0) return;
    run_(
        user_, tasks,
        [](void* context, int64_t task, int32_t slot) {
          (*static_cast<LoopBody*>(context))(task, slot);
        },
        &body);
  }

 private:
  int slots_;
  saccade_loop run_;
  void* user_;
};

template <class Make>
saccade_status NewExec(saccade_exec** exec, Make&& make) {
  return Guarded([&]() -> Status {
    if (exec == nullptr) return Invalid("exec is null");
    *exec = new saccade_exec{make()};
    return {};
  });
}

const Variant* VariantAt(int64_t n) {
  const auto all = Variants();
  return n >= 0 && n < std::ssize(all) ? all[static_cast<size_t>(n)] : nullptr;
}

}  // namespace
}  // namespace saccade

using saccade::Status;

saccade_tensor saccade_contiguous(void* data, saccade_dtype dtype,
                                  int64_t batch, int64_t heads, int64_t len,
                                  int64_t dim) {
  return {data,      dtype, batch, heads, len, dim, heads * len * dim,
          len * dim, dim};
}

const char* saccade_version(void) { return SACCADE_VERSION_TEXT; }
const char* saccade_last_error(void) { return saccade::LastError().c_str(); }

int64_t saccade_variant_count(void) { return std::ssize(saccade::Variants()); }

// Names are literals: what follows them is a zero.
const char* saccade_variant_name(int64_t variant) {
  const saccade::Variant* const v = saccade::VariantAt(variant);
  return v ? v->name.data() : nullptr;
}

const char* saccade_variant_title(int64_t variant) {
  const saccade::Variant* const v = saccade::VariantAt(variant);
  return v ? v->title.data() : nullptr;
}

const char* saccade_variant_input(int64_t variant, int64_t n) {
  const saccade::Variant* const v = saccade::VariantAt(variant);
  return v && n >= 0 && n < std::ssize(v->inputs)
             ? v->inputs[static_cast<size_t>(n)].name.data()
             : nullptr;
}

saccade_status saccade_variant_takes(int64_t variant,
                                     const saccade_problem* problem) {
  return saccade::Guarded([&]() -> Status {
    const saccade::Variant* const v = saccade::VariantAt(variant);
    if (v == nullptr)
      return saccade::NotFound("there is no variant " +
                               std::to_string(variant));
    saccade::Problem p;
    SACCADE_RETURN_IF_ERROR(saccade::ToProblem(problem, &p));
    return saccade::MakePlan(*v, p).status();
  });
}

saccade_status saccade_plugin_load(const char* path) {
  return saccade::Guarded([&]() -> Status {
    if (path == nullptr) return saccade::Invalid("path is null");
    return saccade::LoadPlugin(path);
  });
}

saccade_status saccade_exec_tbb(int32_t threads, saccade_exec** exec) {
  return saccade::NewExec(exec, [&] { return saccade::MakeTbbExec(threads); });
}

saccade_status saccade_exec_threads(int32_t threads, saccade_exec** exec) {
  return saccade::NewExec(exec,
                          [&] { return saccade::MakeThreadExec(threads); });
}

saccade_status saccade_exec_custom(int32_t slots, saccade_loop run, void* user,
                                   saccade_exec** exec) {
  if (slots < 1 || run == nullptr)
    return saccade::Report(
        saccade::Invalid("a loop needs a function and at least one slot"));
  return saccade::NewExec(exec, [&] {
    return std::make_unique<saccade::CustomExec>(slots, run, user);
  });
}

int32_t saccade_exec_slots(const saccade_exec* exec) {
  return exec ? exec->exec->slots() : 1;
}

void saccade_exec_free(saccade_exec* exec) { delete exec; }

saccade_status saccade_plan_create(const char* spec,
                                   const saccade_problem* problem,
                                   saccade_plan** plan) {
  return saccade::Guarded([&]() -> Status {
    if (spec == nullptr || plan == nullptr)
      return saccade::Invalid("spec or plan is null");
    *plan = nullptr;
    saccade::Problem p;
    SACCADE_RETURN_IF_ERROR(saccade::ToProblem(problem, &p));
    auto made = saccade::MakePlan(std::string_view(spec), p);
    if (!made.ok()) return made.status();
    *plan = new saccade_plan{std::move(*made)};
    return {};
  });
}

void saccade_plan_free(saccade_plan* plan) { delete plan; }

saccade_status saccade_plan_memory(const saccade_plan* plan, int32_t slots,
                                   saccade_footprint* bytes) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    if (slots < 1) return saccade::Invalid("slots must be 1 or more");
    saccade_footprint known;
    SACCADE_RETURN_IF_ERROR(saccade::Read("bytes", bytes, &known));
    const saccade::Footprint f = plan->plan->Memory(slots);
    known = {bytes->struct_size, f.forward_scratch, f.backward_scratch,
             f.extend_scratch,   f.saved,           f.state,
             f.sequences_scratch};
    std::memcpy(bytes, &known, std::min(known.struct_size, sizeof(known)));
    return {};
  });
}

saccade_status saccade_forward(const saccade_plan* plan,
                               const saccade_inputs* in,
                               const saccade_outputs* out, saccade_bytes saved,
                               saccade_bytes scratch, saccade_exec* exec) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    saccade::Inputs inputs;
    saccade::Outputs outputs;
    SACCADE_RETURN_IF_ERROR(saccade::ToInputs(in, &inputs));
    SACCADE_RETURN_IF_ERROR(saccade::ToOutputs(out, &outputs));
    return plan->plan->Forward(inputs, outputs, saccade::ToBytes(saved),
                               saccade::ToBytes(scratch),
                               saccade::ToExec(exec));
  });
}

saccade_status saccade_forward_sequences(const saccade_plan* plan,
                                         const saccade_inputs* in,
                                         const saccade_outputs* out,
                                         const saccade_sequences* sequences,
                                         saccade_bytes scratch,
                                         saccade_exec* exec) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    saccade::Inputs inputs;
    saccade::Outputs outputs;
    saccade::Sequences lengths;
    SACCADE_RETURN_IF_ERROR(saccade::ToInputs(in, &inputs));
    SACCADE_RETURN_IF_ERROR(saccade::ToOutputs(out, &outputs));
    SACCADE_RETURN_IF_ERROR(saccade::ToSequences(sequences, &lengths));
    return plan->plan->ForwardSequences(inputs, outputs, lengths,
                                        saccade::ToBytes(scratch),
                                        saccade::ToExec(exec));
  });
}

saccade_status saccade_backward(const saccade_plan* plan,
                                const saccade_inputs* in,
                                const saccade_tensor* out, saccade_bytes saved,
                                const saccade_tensor* dout,
                                const saccade_gradients* grad,
                                saccade_bytes scratch, saccade_exec* exec) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    if (out == nullptr || dout == nullptr)
      return saccade::Invalid("out or dout is null");
    saccade::Inputs inputs;
    saccade::Gradients gradients;
    saccade::Upstream up;
    SACCADE_RETURN_IF_ERROR(saccade::ToInputs(in, &inputs));
    SACCADE_RETURN_IF_ERROR(saccade::ToGradients(grad, &gradients));
    SACCADE_RETURN_IF_ERROR(saccade::ToView("out", *out, &up.out));
    SACCADE_RETURN_IF_ERROR(saccade::ToView("dout", *dout, &up.dout));
    up.saved = saccade::ToBytes(saved);
    return plan->plan->Backward(inputs, up, gradients,
                                saccade::ToBytes(scratch),
                                saccade::ToExec(exec));
  });
}

saccade_status saccade_reset(const saccade_plan* plan, saccade_bytes state) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    return plan->plan->Reset(saccade::ToBytes(state));
  });
}

saccade_status saccade_extend(const saccade_plan* plan,
                              const saccade_inputs* in,
                              const saccade_outputs* out, saccade_bytes state,
                              saccade_bytes scratch, saccade_exec* exec) {
  return saccade::Guarded([&]() -> Status {
    SACCADE_RETURN_IF_ERROR(saccade::CheckPlan(plan));
    saccade::Inputs inputs;
    saccade::Outputs outputs;
    SACCADE_RETURN_IF_ERROR(saccade::ToInputs(in, &inputs));
    SACCADE_RETURN_IF_ERROR(saccade::ToOutputs(out, &outputs));
    return plan->plan->Extend(inputs, outputs, saccade::ToBytes(state),
                              saccade::ToBytes(scratch), saccade::ToExec(exec));
  });
}
