// saccade_kernels: each kernel's share of peak, on every SIMD target and width,
// and what it spends its time on.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "bench/kernels/measure.h"
#include "bench/kernels/overhead.h"
#include "bench/kernels/table.h"
#include "simd/target.h"

namespace saccade::bench::kernels {
namespace {

constexpr int64_t kWidths[] = {64, 128};

constexpr Form kFull{.name = "full", .mask = Mask::kNone};
constexpr Form kCausal{.name = "causal"};
constexpr Form kWindow{.name = "window256", .window = 256};
constexpr Form kGau{.name = "gau", .gau = true};
constexpr Form kHeads{.name = "heads"};
constexpr Form kGroups{.name = "groups4", .group = 4};
constexpr Form kElu{.name = "elu"};
constexpr Form kDecayed{.name = "decay", .decay = true};

constexpr Form kDelta{.name = "delta", .delta = true};
constexpr Form kGatedDelta{
    .name = "gated_delta", .factors = ChunkDecay::kNumber, .delta = true};
constexpr Form kVectors{.name = "vectors", .factors = ChunkDecay::kVector};

constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16;

// All that is measured, on every target and width. What is decoded from is
// larger than caches are.
constexpr Kernel kKernels[] = {
    {"tile_forward", kFull, 4, 1024, kF32, TileForwardWork, true},
    {"tile_forward", kCausal, 4, 1024, kF32, TileForwardWork, true},
    {"tile_forward", kWindow, 4, 1024, kF32, TileForwardWork, true},
    {"tile_forward", kGau, 4, 1024, kF32, TileForwardWork, true},
    {"tile_forward", kFull, 4, 1024, kBF16, TileForwardWork, true},
    {"tile_forward", kCausal, 4, 1024, kBF16, TileForwardWork, true},
    {"tile_forward", kFull, 1, 4096, kF32, TileForwardWork},
    {"tile_forward", kCausal, 1, 4096, kF32, TileForwardWork},
    {"tile_forward", kWindow, 1, 4096, kF32, TileForwardWork},
    {"tile_forward", kGau, 1, 4096, kF32, TileForwardWork},
    {"tile_forward", kFull, 1, 4096, kBF16, TileForwardWork},
    {"tile_forward", kCausal, 1, 4096, kBF16, TileForwardWork},
    {"tile_backward", kFull, 4, 1024, kF32, TileBackwardWork},
    {"tile_backward", kCausal, 4, 1024, kF32, TileBackwardWork},
    {"tile_backward", kFull, 4, 1024, kBF16, TileBackwardWork},
    {"tile_backward", kCausal, 4, 1024, kBF16, TileBackwardWork},
    {"tile_backward", kCausal, 1, 4096, kF32, TileBackwardWork},
    {"tile_backward", kCausal, 1, 4096, kBF16, TileBackwardWork},
    {"tile_decode", kHeads, 8, 32768, kF32, TileDecodeWork},
    {"tile_decode", kGroups, 8, 32768, kF32, TileDecodeWork},
    {"tile_decode", kHeads, 16, 32768, kBF16, TileDecodeWork},
    {"scan_forward", kElu, 4, 4096, kF32, ScanForwardWork},
    {"scan_forward", kDecayed, 4, 4096, kF32, ScanForwardWork},
    {"scan_backward", kElu, 4, 4096, kF32, ScanBackwardWork},
    {"scan_backward", kDecayed, 4, 4096, kF32, ScanBackwardWork},
    {"chunk_forward", kDelta, 4, 4096, kF32, ChunkForwardWork},
    {"chunk_forward", kGatedDelta, 4, 4096, kF32, ChunkForwardWork},
    {"chunk_forward", kVectors, 4, 4096, kF32, ChunkForwardWork},
    {"chunk_backward", kDelta, 4, 4096, kF32, ChunkBackwardWork},
    {"chunk_backward", kGatedDelta, 4, 4096, kF32, ChunkBackwardWork},
    {"chunk_backward", kVectors, 4, 4096, kF32, ChunkBackwardWork},
};

// A pass and its parts stand together, so that they are measured together. In
// f32 a target that multiplies bf16 is the one after it.
std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const Kernel& kernel : kKernels)
    for (const std::string_view target : TargetNames()) {
      const ScopedTarget scope(target);
      if (kernel.dtype == kF32 && MultipliesBF16()) continue;
      for (const int64_t width : kWidths) {
        cases.push_back({&kernel, nullptr, target, width});
        if (!kernel.parts) continue;
        for (const PartEntry& part : kParts)
          if (HasPart(kernel, part.part))
            cases.push_back({&kernel, &part, target, width});
      }
    }
  return cases;
}

// Google Benchmark's own help comes after.
void PrintHelp() {
  std::puts(
      R"(saccade_kernels: each kernel's share of peak, on every SIMD target.

  saccade_kernels                                          everything
  saccade_kernels --benchmark_filter=/causal/AVX3/d64/     one target and width
  saccade_kernels --benchmark_filter='tile_forward[./].*f32'  and its cost split
  saccade_kernels --benchmark_filter='^tile_forward/'      no parts
  saccade_kernels --benchmark_format=json                  for programs
  saccade_kernels --overhead        what a call costs beyond its arithmetic, by
                                    face; of Python: bench/overhead.py

Seconds a benchmark: --benchmark_min_time (0.1 here). All other options are
Google Benchmark's:
)");
  benchmark::PrintDefaultHelp();
}

bool Begins(const char* argument, std::string_view with) {
  return std::string_view(argument).starts_with(with);
}

int Main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--overhead")
    return PrintOverheads() ? 0 : 1;
  // First, so that what the user says counts.
  static char min_time[] = "--benchmark_min_time=0.1";
  std::vector<char*> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + std::min(argc, 1), min_time);
  const bool own_table = std::none_of(argv, argv + argc, [](const char* a) {
    return Begins(a, "--benchmark_format");
  });
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data(), PrintHelp);
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  const std::vector<Case> cases = AllCases();
  Meter meter;
  for (const Case& c : cases)
    benchmark::RegisterBenchmark(
        c.Name().c_str(),
        [&meter, &c](benchmark::State& state) { meter.Run(c, state); })
        ->UseManualTime();
  TableReporter table(cases);
  const size_t run =
      benchmark::RunSpecifiedBenchmarks(own_table ? &table : nullptr);
  benchmark::Shutdown();
  return run > 0 ? 0 : 1;
}

}  // namespace
}  // namespace saccade::bench::kernels

int main(int argc, char** argv) {
  return saccade::bench::kernels::Main(argc, argv);
}
