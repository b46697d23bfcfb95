// Plans with memory of the caller's, on the caller's threads, without
// exceptions and run-time types.
#include <saccade/attention.h>

#include <cstdio>
#include <thread>
#include <vector>

int main() {
  using saccade::Contiguous;
  constexpr int kThreads = 3;
  constexpr int64_t kHeads = 4, kTokens = 100, kWidth = 24;
  const saccade::Problem problem{.q_heads = kHeads,
                                 .kv_heads = kHeads,
                                 .q_len = kTokens,
                                 .kv_len = kTokens,
                                 .qk_dim = kWidth,
                                 .v_dim = kWidth,
                                 .mask = saccade::Mask::kCausal};
  for (const saccade::Explanation& e : saccade::Explain(problem))
    std::printf("%-16s %s\n", std::string(e.variant->name).c_str(),
                e.status.ok() ? "yes" : e.status.message().c_str());

  const auto plan = saccade::MakePlan("softmax.alibi", problem);
  if (!plan.ok()) return 1;
  std::vector<float> x(kHeads * kTokens * kWidth, 0.25f), out(x.size());
  const auto in = Contiguous<const void>(x.data(), saccade::DType::kF32, 1,
                                         kHeads, kTokens, kWidth);
  const auto to = Contiguous<void>(out.data(), saccade::DType::kF32, 1, kHeads,
                                   kTokens, kWidth);
  const saccade::Buffer scratch((*plan)->Memory(kThreads).forward_scratch);

  saccade::Team team(kThreads);
  saccade::Status status;
  const auto slice = [&](int i) {
    team.Join(i, [&](saccade::Exec& exec) {
      status = (*plan)->Forward({in, in, in}, {to}, {}, scratch.bytes(), exec);
    });
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < kThreads; ++i) threads.emplace_back(slice, i);
  slice(0);
  for (std::thread& t : threads) t.join();
  std::printf("forward on the caller's threads: %s, out[0] = %g\n",
              status.ok() ? "ok" : status.message().c_str(), out[0]);
  return status.ok() && out[0] == 0.25f ? 0 : 1;
}
