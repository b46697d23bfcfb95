#include "bench/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "activation.h"
#include "bench/clock.h"
#include "bench/named.h"
#include "bench/peer.h"

namespace saccade::bench {
namespace {

constexpr int64_t kPrefillChunk = 256;  // tokens

// Normal numbers in a table whose length shares no factor with any width, so
// that rows differ; filling from it costs no more than copying.
constexpr int64_t kTable = 65537;
constexpr int64_t kShift = 7919;  // in the table, from tensor to tensor

std::vector<float> NormalTable(uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> table(kTable);
  for (float& x : table) x = normal(rng);
  return table;
}

uint16_t Bf16Bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void FillWith(const View& view, const std::vector<float>& table, int64_t start,
              Activation activation) {
  int64_t at = start % kTable;
  for (int64_t i = 0; i < view.elements(); ++i) {
    float x = table[at];
    at = at + 1 < kTable ? at + 1 : 0;
    x = static_cast<float>(Activate(activation, x));
    if (view.dtype == DType::kF32) {
      static_cast<float*>(view.data)[i] = x;
    } else {
      static_cast<BF16*>(view.data)[i].bits = Bf16Bits(x);
    }
  }
}

bool AllFinite(const View& view) {
  for (int64_t i = 0; i < view.elements(); ++i) {
    const bool finite =
        view.dtype == DType::kF32
            ? std::isfinite(static_cast<const float*>(view.data)[i])
            : (static_cast<const BF16*>(view.data)[i].bits & 0x7F80) != 0x7F80;
    if (!finite) return false;
  }
  return true;
}

// Rows begin .. end - 1 of every head.
template <class Void>
BasicView<Void> Slice(const BasicView<Void>& view, int64_t begin, int64_t end) {
  BasicView<Void> rows = view;
  if (view.data)
    rows.data =
        const_cast<std::byte*>(static_cast<const std::byte*>(view.data)) +
        begin * view.row_stride * SizeOf(view.dtype);
  rows.len = end - begin;
  return rows;
}

Problem ProblemOf(const Variant& variant, const Spec& spec,
                  const CellSpec& cell) {
  const Shape& s = cell.shape;
  const Layer& layer = variant.layer;
  Problem p;
  p.batch = s.batch;
  p.q_heads = layer.heads > 0 ? layer.heads : s.heads;
  p.kv_heads = s.kv_heads > 0 ? std::min(s.kv_heads, p.q_heads) : p.q_heads;
  p.q_len = p.kv_len = cell.length;
  p.qk_dim = s.dim;
  const double width = static_cast<double>(s.heads * s.dim);
  p.v_dim = std::llround(width * layer.value_expansion /
                         static_cast<double>(p.q_heads));
  p.dtype = cell.dtype;
  p.mask = s.mask;
  p.knobs = spec.knobs;
  p.positions = spec.positions;
  return p;
}

int64_t Elements(const Problem& p, int64_t heads, int64_t len, int64_t dim) {
  return p.batch * heads * len * dim;
}

// Elements of q, k, v and extras (`inputs`) and of out (`outputs`).
struct Sizes {
  int64_t inputs = 0, outputs = 0;
};
Sizes SizesOf(const Variant& variant, const Problem& p) {
  Sizes s;
  s.inputs = Elements(p, p.q_heads, p.q_len, p.qk_dim) +
             Elements(p, p.kv_heads, p.kv_len, p.qk_dim + p.v_dim);
  for (const ExtraInput& x : variant.inputs)
    s.inputs += Elements(p, x.per_query ? p.q_heads : p.kv_heads,
                         x.per_query ? p.q_len : p.kv_len,
                         WidthOf(x, p.qk_dim, p.v_dim));
  s.outputs = Elements(p, p.q_heads, p.q_len, p.v_dim);
  return s;
}

}  // namespace

Result<Pass> ParsePass(std::string_view name) {
  return FindByName("pass", kPasses, name);
}

std::string_view NameOf(Cache cache) {
  return cache == Cache::kCold ? "cold" : "warm";
}

double PlannedCell::flops() const {
  switch (cell.pass) {
    case Pass::kForward:
      return cost.forward_flops;
    case Pass::kBackward:
      return cost.backward_flops;
    case Pass::kDecode:
      return cost.decode_flops;
  }
  return 0;
}

double PlannedCell::bytes() const {
  if (cell.pass == Pass::kForward) return cost.forward_bytes;
  if (cell.pass == Pass::kDecode) return cost.decode_bytes;
  // Inputs, out and dout are read, gradients of all inputs written.
  const Sizes s = SizesOf(*variant, problem);
  return static_cast<double>((2 * s.inputs + 2 * s.outputs) *
                             SizeOf(problem.dtype));
}

size_t PlannedCell::TensorBytes() const {
  Problem p = peer ? problem : plan->problem();
  if (!peer && cell.pass == Pass::kDecode) p.q_len = p.kv_len = chunk;
  const Sizes s = SizesOf(*variant, p);
  const int64_t times = cell.pass == Pass::kBackward ? 2 : 1;
  return static_cast<size_t>(times * (s.inputs + s.outputs) * SizeOf(p.dtype));
}

Needs PlannedCell::needs() const {
  switch (cell.pass) {
    case Pass::kForward:
      return {memory.forward_scratch, 0, 0};
    case Pass::kBackward:
      return {std::max(memory.forward_scratch, memory.backward_scratch),
              memory.saved, 0};
    case Pass::kDecode:
      return {memory.extend_scratch, 0, memory.state};
  }
  return {};
}

size_t PlannedCell::TotalBytes() const {
  if (peer) {
    // Its tensors here, and perhaps as often again in its own layout.
    const double scores = static_cast<double>(problem.batch * problem.q_heads) *
                          static_cast<double>(problem.q_len * problem.kv_len);
    return 3 * TensorBytes() +
           static_cast<size_t>(peer->ScoreBytes(cell.pass) * scores);
  }
  const Needs n = needs();
  return TensorBytes() + n.scratch + n.saved + 2 * n.state;
}

Result<PlannedCell> PlanCell(const CellSpec& cell) {
  const Result<Spec> spec = ParseSpec(cell.spec);
  if (!spec.ok()) return spec.status();
  PlannedCell planned;
  planned.cell = cell;
  planned.computes = cell.spec;
  planned.variant = spec->variant;
  const Traits& traits = spec->variant->traits;
  if (cell.pass == Pass::kBackward && !traits.backward)
    return Unsupported("it has no backward pass");
  if (cell.pass == Pass::kDecode && !traits.extend)
    return Unsupported("it does not decode");
  if (cell.pass == Pass::kDecode && cell.shape.mask == Mask::kNone)
    return Unsupported("decoding is causal");
  Problem problem = ProblemOf(*spec->variant, *spec, cell);
  Problem planning = problem;
  if (cell.pass == Pass::kDecode) {
    problem.q_len = 1;
    // Room to go on for a while before the state must be copied back.
    planned.capacity = cell.length + std::max<int64_t>(16, cell.length / 32);
    planned.chunk = std::min(kPrefillChunk, planned.capacity);
    planning.q_len = planned.chunk;
    planning.kv_len = planned.capacity;
  }
  const Result<Problem> resolved = Resolve(*spec->variant, problem);
  if (!resolved.ok()) return resolved.status();
  planned.problem = *resolved;
  planned.cost = spec->variant->cost(*resolved);
  Result<std::unique_ptr<Plan>> plan = MakePlan(*spec->variant, planning);
  if (!plan.ok()) return plan.status();
  planned.plan = std::move(*plan);
  planned.memory = planned.plan->Memory(cell.threads);
  return planned;
}

Result<std::unique_ptr<Workload>> Workload::Make(const PlannedCell* planned,
                                                 Pages pages, uint64_t seed) {
  std::unique_ptr<Workload> w(new Workload(*planned));
  w->pages_ = pages;
  const Status status = w->MakeTensors(seed);
  if (!status.ok()) return status;
  return w;
}

Result<Workload::Tensor> Workload::Make(int64_t heads, int64_t len,
                                        int64_t dim) const {
  const Problem& p = planned_.problem;
  Result<MemoryBlock> memory = MemoryBlock::Make(
      static_cast<size_t>(Elements(p, heads, len, dim) * SizeOf(p.dtype)),
      pages_);
  if (!memory.ok()) return memory.status();
  Tensor tensor;
  tensor.memory = std::move(*memory);
  tensor.view = Contiguous<void>(tensor.memory.bytes().data(), p.dtype, p.batch,
                                 heads, len, dim);
  tensor.memory.Touch();
  return tensor;
}

Status Workload::MakeTensors(uint64_t seed) {
  const Problem& p = planned_.problem;
  const bool decode = planned_.cell.pass == Pass::kDecode;
  const bool backward = planned_.cell.pass == Pass::kBackward;
  const int64_t q_len = decode ? planned_.chunk : p.q_len;
  const int64_t kv_len = decode ? planned_.chunk : p.kv_len;
  const std::vector<float> table = NormalTable(seed);
  int64_t start = 0;
  Status status;
  const auto make = [&](Tensor* tensor, int64_t heads, int64_t len, int64_t dim,
                        Activation activation) {
    if (!status.ok()) return;
    Result<Tensor> made = Make(heads, len, dim);
    if (!made.ok()) {
      status = made.status();
      return;
    }
    *tensor = std::move(*made);
    FillWith(tensor->view, table, start += kShift, activation);
  };
  make(&q_, p.q_heads, q_len, p.qk_dim, Activation::kNone);
  make(&k_, p.kv_heads, kv_len, p.qk_dim, Activation::kNone);
  make(&v_, p.kv_heads, kv_len, p.v_dim, Activation::kNone);
  make(&out_, p.q_heads, q_len, p.v_dim, Activation::kNone);
  const auto& inputs = planned_.variant->inputs;
  extras_.resize(inputs.size());
  dextras_.resize(backward ? inputs.size() : 0);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ExtraInput& x = inputs[i];
    const int64_t heads = x.per_query ? p.q_heads : p.kv_heads;
    const int64_t len = x.per_query ? q_len : kv_len;
    const int64_t dim = WidthOf(x, p.qk_dim, p.v_dim);
    make(&extras_[i], heads, len, dim, x.activation);
    if (backward) make(&dextras_[i], heads, len, dim, Activation::kNone);
  }
  if (backward) {
    make(&dout_, p.q_heads, q_len, p.v_dim, Activation::kNone);
    make(&dq_, p.q_heads, q_len, p.qk_dim, Activation::kNone);
    make(&dk_, p.kv_heads, kv_len, p.qk_dim, Activation::kNone);
    make(&dv_, p.kv_heads, kv_len, p.v_dim, Activation::kNone);
  }
  return status;
}

void FillNormal(const View& view, uint64_t seed, int number) {
  FillWith(view, NormalTable(seed), kShift * number, Activation::kNone);
}

Status Workload::Allocate() {
  const Needs n = planned_.needs();
  for (const auto& [block, bytes] : {std::pair{&scratch_, n.scratch},
                                     {&saved_, n.saved},
                                     {&state_, n.state}}) {
    Result<MemoryBlock> made = MemoryBlock::Make(bytes, pages_);
    if (!made.ok()) return made.status();
    *block = std::move(*made);
  }
  return {};
}

Inputs Workload::Rows(int64_t begin, int64_t end) const {
  Inputs in{Slice<const void>(q_.view, begin, end),
            Slice<const void>(k_.view, begin, end),
            Slice<const void>(v_.view, begin, end)};
  for (size_t i = 0; i < extras_.size(); ++i)
    in.extra[i] = Slice<const void>(extras_[i].view, begin, end);
  return in;
}

Status Workload::ExtendBy(int64_t tokens, Exec& exec) {
  // The fresh rows go round the chunk that was filled.
  const int64_t at = held_ % (planned_.chunk - tokens + 1);
  const Status status = planned_.plan->Extend(
      Rows(at, at + tokens), {Slice<void>(out_.view, at, at + tokens)},
      state_.bytes(), scratch_.bytes(), exec);
  if (status.ok()) held_ += tokens;
  return status;
}

Status Workload::Prepare(Exec& exec) {
  const PlannedCell& p = planned_;
  if (p.cell.pass == Pass::kBackward) {
    return p.plan->Forward(Rows(0, p.problem.q_len), {out_.view},
                           saved_.bytes(), scratch_.bytes(), exec);
  }
  if (p.cell.pass != Pass::kDecode) return {};
  const Status reset = p.plan->Reset(state_.bytes());
  if (!reset.ok()) return reset;
  held_ = 0;
  while (held_ < p.cell.length - 1) {
    const Status status =
        ExtendBy(std::min(p.chunk, p.cell.length - 1 - held_), exec);
    if (!status.ok()) return status;
  }
  return {};
}

Status Workload::Rewind(int64_t runs) {
  if (planned_.cell.pass != Pass::kDecode) return {};
  if (held_ + runs <= planned_.capacity) {
    if (snapshot_held_ || held_ + 2 * runs <= planned_.capacity) return {};
    // The next call will need it.
    Result<MemoryBlock> made = MemoryBlock::Make(state_.bytes().size(), pages_);
    if (!made.ok()) return made.status();
    snapshot_ = std::move(*made);
    if (const Bytes from = state_.bytes(); !from.empty())
      std::memcpy(snapshot_.bytes().data(), from.data(), from.size());
    snapshot_held_ = held_;
    return {};
  }
  if (!snapshot_held_)
    return Exhausted("a decoding sample is longer than the state's slack");
  if (const Bytes to = state_.bytes(); !to.empty())
    std::memcpy(to.data(), snapshot_.bytes().data(), to.size());
  held_ = snapshot_held_;
  return {};
}

Status Workload::Run(Exec& exec) {
  const PlannedCell& p = planned_;
  switch (p.cell.pass) {
    case Pass::kForward:
      return p.plan->Forward(Rows(0, p.problem.q_len), {out_.view}, {},
                             scratch_.bytes(), exec);
    case Pass::kBackward: {
      Gradients grad{dq_.view, dk_.view, dv_.view};
      for (size_t i = 0; i < dextras_.size(); ++i)
        grad.dextra[i] = dextras_[i].view;
      return p.plan->Backward(Rows(0, p.problem.q_len),
                              {out_.view, saved_.bytes(), dout_.view}, grad,
                              scratch_.bytes(), exec);
    }
    case Pass::kDecode:
      return ExtendBy(1, exec);
  }
  return {};
}

bool Workload::Finite() const {
  if (planned_.cell.pass != Pass::kBackward) return AllFinite(out_.view);
  bool finite =
      AllFinite(dq_.view) && AllFinite(dk_.view) && AllFinite(dv_.view);
  for (const Tensor& t : dextras_) finite = finite && AllFinite(t.view);
  return finite;
}

Result<WarmWorkload> MakeWarm(const PlannedCell* planned, uint64_t seed,
                              Exec& exec, const StopFlag* stop) {
  constexpr double kTellsEnough = 0.02;  // seconds
  Result<std::unique_ptr<Workload>> made =
      Workload::Make(planned, Pages::kHuge, seed);
  if (!made.ok()) return made.status();
  WarmWorkload warm;
  warm.workload = std::move(*made);
  Status status = warm.workload->Allocate();
  const double begin = SteadySeconds();
  if (status.ok()) status = warm.workload->Prepare(exec);
  warm.before = SteadySeconds() - begin;
  for (int i = 0; i < 2 && status.ok() && warm.seconds < kTellsEnough &&
                  !(stop && stop->load());
       ++i) {
    status = warm.workload->Rewind(1);
    if (!status.ok()) break;
    const Result<double> seconds = TimeRuns(warm.workload.get(), 1, 0, exec);
    if (seconds.ok()) warm.seconds = *seconds;
    status = seconds.status();
  }
  if (!status.ok()) return status;
  return warm;
}

int64_t RunsOfSample(const PlannedCell& planned, double seconds,
                     double sample_seconds) {
  double runs = std::ceil(sample_seconds / seconds);
  if (planned.cell.pass == Pass::kDecode && !planned.peer) {
    const auto room =
        static_cast<double>(planned.capacity - planned.cell.length);
    runs = std::min(runs, std::max(1.0, room / 2));
  }
  return static_cast<int64_t>(std::max(runs, 1.0));
}

Result<double> TimeRuns(Workload* work, int64_t runs, double handicap,
                        Exec& exec) {
  const double start = SteadySeconds();
  for (int64_t i = 0; i < runs; ++i) {
    const Status status = work->Run(exec);
    if (!status.ok()) return status;
  }
  if (handicap > 0) {
    const double until = start + (1 + handicap) * (SteadySeconds() - start);
    while (SteadySeconds() < until) {
    }
  }
  return (SteadySeconds() - start) / static_cast<double>(runs);
}

}  // namespace saccade::bench
