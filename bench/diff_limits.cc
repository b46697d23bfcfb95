#include "bench/diff_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bench/cli_parse.h"
#include "nearest.h"

namespace saccade::bench {
namespace {

using reports::Change;
using reports::DiffLimit;
using reports::NameOf;

constexpr double kMost = 1e6;

// What may be limited, and how a limit of it is written.
constexpr struct {
  Change change;
  const char* example;
  bool amount, percent;
} kLimited[] = {{Change::kSlower, "slower>3%", true, true},
                {Change::kBigger, "bigger>1%", true, true},
                {Change::kWorse, "worse>0.02", true, false},
                {Change::kBroken, "broken", false, false}};

std::string_view Trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

// A number from 0 that is all of the text.
Result<double> ParseAmount(std::string_view text) {
  double amount = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, amount);
  if (error != std::errc() || end != last || !(amount >= 0 && amount < kMost))
    return Invalid(fmt::format("'{}' is no number of this kind", text));
  return amount;
}

Result<DiffLimit> ParseLimit(std::string_view text) {
  const size_t more = text.find('>');
  const std::string_view name = Trimmed(text.substr(0, more));
  const auto* known =
      std::find_if(std::begin(kLimited), std::end(kLimited),
                   [&](const auto& k) { return NameOf(k.change) == name; });
  if (known == std::end(kLimited)) {
    std::vector<std::string_view> names;
    for (const auto& k : kLimited) names.push_back(NameOf(k.change));
    return Invalid(
        fmt::format("'{}' is none of slower, bigger, worse, broken{}", name,
                    DidYouMean(name, names)));
  }
  if (more == std::string_view::npos) return DiffLimit{known->change};
  const std::string_view size = Trimmed(text.substr(more + 1));
  const Result<double> beyond =
      known->percent ? ParsePercent(size) : ParseAmount(size);
  if (!known->amount || !beyond.ok())
    return Invalid(fmt::format("'{}' is no limit; write {}", Trimmed(text),
                               known->example));
  return DiffLimit{known->change, *beyond};
}

}  // namespace

Result<double> ParsePercent(std::string_view text) {
  if (!text.ends_with('%'))
    return Invalid(fmt::format("'{}' is no share; write 3%", text));
  const Result<double> percent =
      ParseAmount(Trimmed(text.substr(0, text.size() - 1)));
  if (!percent.ok()) return percent;
  return *percent / 100;
}

Result<std::vector<DiffLimit>> ParseLimits(std::string_view text) {
  std::vector<DiffLimit> limits;
  for (const std::string& part : Split(text, ',')) {
    const Result<DiffLimit> limit = ParseLimit(part);
    if (!limit.ok()) return limit.status();
    limits.push_back(*limit);
  }
  if (limits.empty()) return Invalid("an empty list");
  return limits;
}

}  // namespace saccade::bench
