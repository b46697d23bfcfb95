#include "bench/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/cli_parse.h"

namespace saccade::bench {

std::string Shard::Name() const { return fmt::format("{}/{}", index, of); }

Result<Shard> ParseShard(std::string_view text) {
  constexpr int64_t kMost = 1000;
  const size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    const Result<int64_t> index = ParseCount(text.substr(0, slash));
    const Result<int64_t> of = ParseCount(text.substr(slash + 1));
    if (index.ok() && of.ok() && *index <= *of && *of <= kMost)
      return Shard{static_cast<int>(*index), static_cast<int>(*of)};
  }
  return Invalid(fmt::format(
      "'{}' is no shard: write which of how many, 1/2 or 2/2", text));
}

std::vector<bool> Deal(std::span<const double> weights, const Shard& shard) {
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  });
  std::vector<double> held(static_cast<size_t>(shard.of));
  std::vector<bool> mine(weights.size());
  for (const size_t i : order) {
    const auto least = std::min_element(held.begin(), held.end());
    *least += weights[i];
    mine[i] = least - held.begin() == shard.index - 1;
  }
  return mine;
}

}  // namespace saccade::bench
