#include "bench/kernels/passes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "bench/workload.h"
#include "engine/chunk.h"
#include "engine/pattern.h"
#include "engine/scan.h"

namespace saccade::bench::kernels {
namespace {

constexpr uint64_t kSeed = 1;
constexpr float kDecay = 0.99f;

Problem ProblemOf(const Kernel& kernel, int64_t width, bool decode) {
  return {.q_heads = kernel.kv_heads * kernel.form.group,
          .kv_heads = kernel.kv_heads,
          .q_len = decode ? 1 : kernel.len,
          .kv_len = kernel.len,
          .qk_dim = width,
          .v_dim = width,
          .dtype = kernel.dtype,
          .mask = kernel.form.mask,
          .window = kernel.form.window,
          .scale = 1 / std::sqrt(static_cast<float>(width))};
}

TileSpec SpecOf(const Problem& problem, const Form& form) {
  TileSpec spec = MakeTileSpec(problem);
  if (form.gau) {
    spec.normaliser = Normaliser::kReluSquared;
    spec.divisor = static_cast<double>(problem.kv_len);
    spec.gated = true;
  }
  return spec;
}

// A pass of the scan engine, made ready.
struct ScanPass {
  ScanPass(const Kernel& kernel, int64_t width)
      : problem(ProblemOf(kernel, width, false)), spec(MakeScanSpec(problem)) {
    if (kernel.form.decay) {
      spec.decay.assign(static_cast<size_t>(spec.kv_heads), kDecay);
    } else {
      spec.feature = FeatureMap::kEluPlusOne;
      spec.read_out = ReadOut::kNormalised;
      spec.epsilon = 1e-6f;
    }
    cost = ScanCost(problem, spec);
    call.q = Tensor(spec.q_heads, width);
    call.k = Tensor(spec.kv_heads, width);
    call.v = Tensor(spec.kv_heads, width);
    call.out = Tensor(spec.q_heads, width);
  }
  View Tensor(int64_t heads, int64_t width) {
    return memory.Tensor(spec.dtype, heads, problem.kv_len, width);
  }

  Problem problem;
  ScanSpec spec;
  Cost cost;
  Memory memory;
  ScanCall call;
};

// A pass of the chunk engine, made ready.
struct ChunkPass {
  ChunkPass(const Kernel& kernel, int64_t width)
      : problem(ProblemOf(kernel, width, false)), spec(MakeChunkSpec(problem)) {
    spec.decay = kernel.form.factors;
    if (spec.decay != ChunkDecay::kNone) spec.decay_input = 0;
    spec.unit = kernel.form.delta;
    if (kernel.form.delta) spec.beta_input = 1;
    cost = ChunkCost(problem, spec);
    call.q = Tensor(spec.q_heads, width);
    call.k = Tensor(spec.kv_heads, width);
    call.v = Tensor(spec.kv_heads, width);
    call.out = Tensor(spec.q_heads, width);
    // Factors e^x of x = -|normal number| / 8.
    if (spec.decay != ChunkDecay::kNone)
      call.decay = Tensor(spec.kv_heads, FactorWidth(),
                          [](float x) { return -std::abs(x) / 8; });
    if (IsDelta())
      call.beta = Tensor(spec.kv_heads, 1, [](float x) { return x / 8; });
  }
  View Tensor(int64_t heads, int64_t width,
              const std::function<float(float)>& map = nullptr) {
    const View x = memory.Tensor(spec.dtype, heads, problem.kv_len, width);
    if (x.data == nullptr || map == nullptr) return x;
    float* const at = static_cast<float*>(x.data);
    std::transform(at, at + heads * problem.kv_len * width, at, map);
    return x;
  }
  bool IsDelta() const { return spec.beta_input >= 0; }
  int64_t FactorWidth() const {
    return spec.decay == ChunkDecay::kVector ? spec.qk_dim : 1;
  }

  Problem problem;
  ChunkSpec spec;
  Cost cost;
  Memory memory;
  ChunkCall call;
};

float* TakeFloats(Memory& memory, int64_t n) {
  return reinterpret_cast<float*>(
      memory.Take(static_cast<size_t>(n) * sizeof(float)).data());
}

}  // namespace

View Memory::Tensor(DType dtype, int64_t heads, int64_t len, int64_t dim) {
  const Bytes bytes =
      Take(static_cast<size_t>(heads * len * dim * SizeOf(dtype)));
  const View view = Contiguous<void>(bytes.data(), dtype, 1, heads, len, dim);
  if (bytes.data() != nullptr) FillNormal(view, kSeed, ++tensors_);
  return view;
}

Bytes Memory::Take(size_t bytes) {
  Result<MemoryBlock> block = MemoryBlock::Make(bytes, Pages::kHuge);
  if (!block.ok()) {
    status_ = block.status();
    return {};
  }
  block->Touch();
  blocks_.push_back(std::move(*block));
  return blocks_.back().bytes();
}

TilePass::TilePass(const Kernel& kernel, int64_t width, bool decode)
    : problem(ProblemOf(kernel, width, decode)),
      spec(SpecOf(problem, kernel.form)),
      cost(TileCost(problem, spec)) {
  const auto tensor = [&](int64_t heads, int64_t len) {
    return memory.Tensor(spec.dtype, heads, len, width);
  };
  call.q = tensor(spec.q_heads, problem.q_len);
  call.k = tensor(spec.kv_heads, problem.kv_len);
  call.v = tensor(spec.kv_heads, problem.kv_len);
  call.out = tensor(spec.q_heads, problem.q_len);
  if (spec.gated) call.gate = tensor(spec.q_heads, problem.q_len);
  call.q_position = QueryOffset(problem);
  call.kv_end = problem.kv_len;
}

Result<Work> TileForwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<TilePass>(kernel, width, false);
  const Bytes scratch =
      pass->memory.Take(TileForwardScratch(pass->spec, kernel.len, 1));
  if (!pass->memory.status().ok()) return pass->memory.status();
  return Work{Unit::kFlops, pass->cost.forward_flops, [pass, scratch] {
                TileForward(pass->spec, pass->call, scratch, Serial());
              }};
}

Result<Work> TileBackwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<TilePass>(kernel, width, false);
  const TileSpec& spec = pass->spec;
  Memory& memory = pass->memory;
  pass->call.lse = TakeFloats(memory, spec.q_heads * kernel.len);
  const Bytes before = memory.Take(TileForwardScratch(spec, kernel.len, 1));
  const Bytes scratch =
      memory.Take(TileBackwardScratch(spec, kernel.len, kernel.len, 1));
  const auto tensor = [&](int64_t heads) {
    return memory.Tensor(spec.dtype, heads, kernel.len, width);
  };
  const TileBackwardCall call{.forward = pass->call,
                              .out = pass->call.out,
                              .dout = tensor(spec.q_heads),
                              .dq = tensor(spec.q_heads),
                              .dk = tensor(spec.kv_heads),
                              .dv = tensor(spec.kv_heads)};
  if (!memory.status().ok()) return memory.status();
  TileForward(spec, pass->call, before, Serial());
  return Work{Unit::kFlops, pass->cost.backward_flops, [pass, call, scratch] {
                TileBackward(pass->spec, call, scratch, Serial());
              }};
}

Result<Work> TileDecodeWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<TilePass>(kernel, width, true);
  const Bytes scratch =
      pass->memory.Take(TileDecodeScratch(pass->spec, kernel.len, 1));
  if (!pass->memory.status().ok()) return pass->memory.status();
  return Work{Unit::kStreamBytes, pass->cost.decode_bytes, [pass, scratch] {
                TileDecode(pass->spec, pass->call, scratch, Serial());
              }};
}

Result<Work> ScanForwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<ScanPass>(kernel, width);
  const Bytes scratch = pass->memory.Take(ScanForwardScratch(pass->spec, 1));
  if (!pass->memory.status().ok()) return pass->memory.status();
  return Work{Unit::kFlops, pass->cost.forward_flops, [pass, scratch] {
                ScanForward(pass->spec, pass->call, scratch, Serial());
              }};
}

Result<Work> ScanBackwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<ScanPass>(kernel, width);
  const ScanSpec& spec = pass->spec;
  Memory& memory = pass->memory;
  if (spec.read_out == ReadOut::kNormalised)
    pass->call.factor = TakeFloats(memory, spec.q_heads * kernel.len);
  const Bytes before = memory.Take(ScanForwardScratch(spec, 1));
  const Bytes scratch = memory.Take(ScanBackwardScratch(spec, 1));
  const ScanBackwardCall call{.forward = pass->call,
                              .out = pass->call.out,
                              .dout = pass->Tensor(spec.q_heads, width),
                              .dq = pass->Tensor(spec.q_heads, width),
                              .dk = pass->Tensor(spec.kv_heads, width),
                              .dv = pass->Tensor(spec.kv_heads, width)};
  if (!memory.status().ok()) return memory.status();
  ScanForward(spec, pass->call, before, Serial());
  return Work{Unit::kFlops, pass->cost.backward_flops, [pass, call, scratch] {
                ScanBackward(pass->spec, call, scratch, Serial());
              }};
}

Result<Work> ChunkForwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<ChunkPass>(kernel, width);
  const Bytes scratch = pass->memory.Take(ChunkForwardScratch(pass->spec, 1));
  if (!pass->memory.status().ok()) return pass->memory.status();
  return Work{Unit::kFlops, pass->cost.forward_flops, [pass, scratch] {
                ChunkForward(pass->spec, pass->call, nullptr, scratch,
                             Serial());
              }};
}

Result<Work> ChunkBackwardWork(const Kernel& kernel, int64_t width) {
  const auto pass = std::make_shared<ChunkPass>(kernel, width);
  const ChunkSpec& spec = pass->spec;
  Memory& memory = pass->memory;
  pass->call.states = TakeFloats(memory, ChunkSavedFloats(spec, kernel.len));
  const Bytes before = memory.Take(ChunkForwardScratch(spec, 1));
  const Bytes scratch =
      memory.Take(ChunkBackwardScratch(spec, kernel.len, kernel.len, 1));
  const ChunkBackwardCall call{
      .forward = pass->call,
      .dout = pass->Tensor(spec.q_heads, width),
      .dq = pass->Tensor(spec.q_heads, width),
      .dk = pass->Tensor(spec.kv_heads, width),
      .dv = pass->Tensor(spec.kv_heads, width),
      .ddecay = pass->Tensor(spec.kv_heads, pass->FactorWidth()),
      .dbeta = pass->Tensor(spec.kv_heads, 1)};
  if (!memory.status().ok()) return memory.status();
  ChunkForward(spec, pass->call, nullptr, before, Serial());
  return Work{Unit::kFlops, pass->cost.backward_flops, [pass, call, scratch] {
                ChunkBackward(pass->spec, call, scratch, Serial());
              }};
}

}  // namespace saccade::bench::kernels
