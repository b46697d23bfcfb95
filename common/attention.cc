#include "saccade/attention.h"

namespace saccade {
namespace {

// Grows a buffer to at least `size` bytes.
Bytes Grown(Buffer& buffer, size_t size) {
  if (buffer.bytes().size() < size) buffer = Buffer(size);
  return buffer.bytes();
}

}  // namespace

Attention::Attention(std::unique_ptr<Plan> plan, std::unique_ptr<Exec> exec)
    : plan_(std::move(plan)),
      owned_(std::move(exec)),
      exec_(owned_ ? owned_.get() : &Serial()) {}

Result<Attention> Attention::Make(std::string_view spec, const Problem& problem,
                                  int threads) {
  Result<std::unique_ptr<Plan>> plan = MakePlan(spec, problem);
  if (!plan.ok()) return plan.status();
  return Attention(std::move(*plan),
                   threads == 1 ? nullptr : MakeTbbExec(threads));
}

Status Attention::Forward(const Inputs& in, const Outputs& out, bool keep) {
  const Footprint need = plan_->Memory(exec_->slots());
  const Status status =
      plan_->Forward(in, out, keep ? Grown(saved_, need.saved) : Bytes(),
                     Grown(scratch_, need.forward_scratch), *exec_);
  if (keep) kept_ = status.ok();
  return status;
}

Status Attention::ForwardSequences(const Inputs& in, const Outputs& out,
                                   const Sequences& sequences) {
  const Footprint need = plan_->Memory(exec_->slots());
  return plan_->ForwardSequences(
      in, out, sequences, Grown(scratch_, need.sequences_scratch), *exec_);
}

Status Attention::Backward(const Inputs& in, const ConstView& out,
                           const ConstView& dout, const Gradients& grad) {
  if (!kept_) return Invalid("Backward needs a Forward that kept");
  const Footprint need = plan_->Memory(exec_->slots());
  return plan_->Backward(in, {out, saved_.bytes(), dout}, grad,
                         Grown(scratch_, need.backward_scratch), *exec_);
}

Status Attention::Reset() {
  const Status status =
      plan_->Reset(Grown(state_, plan_->Memory(exec_->slots()).state));
  started_ = status.ok();
  return status;
}

Status Attention::Extend(const Inputs& fresh, const Outputs& out) {
  if (!started_)
    if (Status status = Reset(); !status.ok()) return status;
  const Footprint need = plan_->Memory(exec_->slots());
  return plan_->Extend(fresh, out, state_.bytes(),
                       Grown(scratch_, need.extend_scratch), *exec_);
}

}  // namespace saccade
