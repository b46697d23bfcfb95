// Changes at test time: reading a model as it was not trained.
#ifndef SACCADE_BENCH_LEARN_SWITCHES_H_
#define SACCADE_BENCH_LEARN_SWITCHES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/learn/model.h"
#include "saccade/status.h"
#include "saccade/variant.h"

namespace saccade::bench {

/// What a switch changes; see PassOptions.
struct Changes {
  int64_t window = 0;
  std::optional<std::vector<Position>> positions = {};
};

struct Switch {
  std::string_view name;
  std::string_view does;  // in a sentence
  /// For reading r L tokens with a model trained at L. kUnsupported or as
  /// ParsePositions where the model has nothing to change.
  Result<Changes> (*at)(const Model& model, int64_t multiple);
};

/// All of them:
///   plain    as trained;
///   window   the mask cut to L keys (Su 2023, "super-strong baseline");
///   logn     queries scaled by ln n / ln L beyond L (Su 2021);
///   pi       RoPE's positions divided by r (Chen 2023, arXiv:2306.15595);
///   ntk      RoPE's base raised for r (bloc97 2023);
///   yarn     RoPE's slow angles divided by r (Peng 2023, arXiv:2309.00071);
///   rerope   RoPE's distances held from L/2 on (Su 2023).
/// The last four are for models trained with RoPE; its other settings stay.
std::span<const Switch> Switches();

/// By names, each once. kNotFound with the nearest names; kInvalid for none.
Result<std::vector<const Switch*>> FindSwitches(
    const std::vector<std::string>& names);

/// Those of `switches` under which the model can be read at L.
std::vector<const Switch*> Allowed(const Model& model,
                                   std::span<const Switch* const> switches);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_SWITCHES_H_
