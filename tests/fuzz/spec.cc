// Spec strings, and what a problem makes of them.
#include "bench/cli_parse.h"
#include "bench/compare.h"
#include "saccade/variant.h"
#include "tests/fuzz/input.h"

namespace saccade {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::TextOf(data, size);
  const Result<Spec> spec = ParseSpec(text);
  fuzz::RequireClear(spec.status());
  fuzz::RequireClear(bench::ExpandSpecs(text).status());
  fuzz::RequireClear(bench::ParseSweep(text).status());
  fuzz::RequireClear(bench::ParseDuration(text).status());
  if (!spec.ok()) return 0;
  Problem problem;
  problem.q_len = problem.kv_len = 8;
  problem.qk_dim = problem.v_dim = 16;
  problem.mask = spec->variant->traits.causal ? Mask::kCausal : Mask::kNone;
  // What is planned has finite sizes and allocates nothing large.
  const Result<std::unique_ptr<Plan>> plan = MakePlan(text, problem);
  fuzz::RequireClear(plan.status());
  return 0;
}

}  // namespace saccade
