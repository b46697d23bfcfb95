#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/peaks.cc"
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"

// Before all that has kernels.
#include "simd/bf16_target-inl.h"

#ifndef SACCADE_BENCH_PEAKS_ONCE
#define SACCADE_BENCH_PEAKS_ONCE

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

#include "bench/peaks.h"
#include "simd/target.h"

namespace saccade::bench {

constexpr int kFmaTurns = 400'000;  // about 2 ms at two a cycle
constexpr int kStreams = 8;

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_PEAKS_ONCE

HWY_BEFORE_NAMESPACE();
namespace saccade::bench {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// A step of chains of f32 multiply-and-adds, and FLOPs a lane.
struct Fma {
  static constexpr double kFlops = 2;
  static HWY_INLINE V Step(V a, V half) { return hn::MulAdd(a, half, half); }
};

#if HWY_TARGET == HWY_AVX3
// Of dot products of bf16.
struct Dot {
  static constexpr double kFlops = 4;
  static HWY_INLINE V Step(V a, V half) {
    const auto pairs = reinterpret_cast<__m512bh>(half.raw);
    return V{_mm512_dpbf16_ps(a.raw, pairs, pairs)};
  }
};
#endif

// Fourteen chains: a latency of 4 and two a cycle need 8, and of 16 registers
// one holds the factor. Returns the FLOPs done; `sink` keeps them from being
// optimised away.
template <class Product>
double Turns(float half, float* sink) {
  constexpr int kChains = 14;
  const D d;
  V a[kChains];
  for (int i = 0; i < kChains; ++i)
    a[i] = hn::Set(d, half * static_cast<float>(i + 1));
  const V h = hn::Set(d, half);
  for (int turn = 0; turn < kFmaTurns; ++turn) {
    HWY_UNROLL(14)
    for (int i = 0; i < kChains; ++i) a[i] = Product::Step(a[i], h);
  }
  V sum = a[0];
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, a[i]);
  *sink = hn::GetLane(hn::SumOfLanes(d, sum));
  return Product::kFlops * kChains * static_cast<double>(hn::Lanes(d)) *
         kFmaTurns;
}

double FmaTurns(float half, bool bf16, float* sink) {
#if HWY_TARGET == HWY_AVX3
  if (bf16) return Turns<Dot>(half, sink);
#endif
  static_cast<void>(bf16);
  return Turns<Fma>(half, sink);
}

void ReadStreams(const float* from, int64_t n, float* sink) {
  const D d;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stream = n / kStreams / step * step;
  V sum[kStreams];
  for (int s = 0; s < kStreams; ++s) sum[s] = hn::Zero(d);
  for (int64_t i = 0; i < stream; i += step) {
    HWY_UNROLL(8)
    for (int s = 0; s < kStreams; ++s)
      sum[s] = hn::Add(sum[s], hn::LoadU(d, from + s * stream + i));
  }
  for (int s = 1; s < kStreams; ++s) sum[0] = hn::Add(sum[0], sum[s]);
  *sink = hn::GetLane(hn::SumOfLanes(d, sum[0]));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace saccade::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace saccade::bench {
namespace {

HWY_EXPORT(FmaTurns);
HWY_EXPORT(ReadStreams);

using Clock = std::chrono::steady_clock;

// FLOPs done.
double RunFmaTurns(DType dtype) {
  volatile float value = 0.5f;  // what the compiler must not know
  float sink = 0;
  const bool bf16 = dtype == DType::kBF16 && MultipliesBF16();
  const double flops = HWY_DYNAMIC_DISPATCH(FmaTurns)(value, bf16, &sink);
  value = sink;
  return flops;
}

// Reads n floats.
void RunReadStreams(const float* from, int64_t n) {
  float sink = 0;
  HWY_DYNAMIC_DISPATCH(ReadStreams)(from, n, &sink);
  volatile float kept = sink;
  static_cast<void>(kept);
}

// Seconds from when the first of `threads` threads starts body(thread) to when
// the last ends, all having waited for each other.
template <class F>
double TimeTogether(int threads, F body) {
  struct Span {
    Clock::time_point begin, end;
  };
  std::vector<Span> spans(threads);
  std::barrier start(threads);
  const auto run = [&](int t) {
    start.arrive_and_wait();
    spans[t].begin = Clock::now();
    body(t);
    spans[t].end = Clock::now();
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& t : others) t.join();
  Span all = spans[0];
  for (const Span& s : spans) {
    all.begin = std::min(all.begin, s.begin);
    all.end = std::max(all.end, s.end);
  }
  return std::chrono::duration<double>(all.end - all.begin).count();
}

}  // namespace

double OwnSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double SampleFmaPeak(int threads, DType dtype) {
  struct alignas(64) Sum {
    double flops = 0;
  };
  std::vector<Sum> sums(threads);
  const double seconds =
      TimeTogether(threads, [&](int t) { sums[t].flops = RunFmaTurns(dtype); });
  double flops = 0;
  for (const Sum& s : sums) flops += s.flops;
  return flops / seconds;
}

double SampleOwnFmaPeak(DType dtype) {
  const double start = OwnSeconds();
  const double flops = RunFmaTurns(dtype);
  return flops / (OwnSeconds() - start);
}

Result<StreamPeak> StreamPeak::Make(size_t bytes) {
  Result<MemoryBlock> block = MemoryBlock::Make(bytes, Pages::kHuge);
  if (!block.ok()) return block.status();
  block->Touch();
  StreamPeak peak;
  peak.block_ = std::move(*block);
  return peak;
}

double StreamPeak::Sample(int threads) const {
  const Bytes all = block_.bytes();
  const auto* const floats = reinterpret_cast<const float*>(all.data());
  const int64_t each = static_cast<int64_t>(all.size() / 4) / threads;
  const double seconds = TimeTogether(
      threads, [&](int t) { RunReadStreams(floats + t * each, each); });
  return 4.0 * static_cast<double>(each * threads) / seconds;
}

double StreamPeak::SampleOwn() const {
  const Bytes all = block_.bytes();
  const double start = OwnSeconds();
  RunReadStreams(reinterpret_cast<const float*>(all.data()),
                 static_cast<int64_t>(all.size() / 4));
  return static_cast<double>(all.size()) / (OwnSeconds() - start);
}

}  // namespace saccade::bench
#endif  // HWY_ONCE
