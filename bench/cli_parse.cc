#include "bench/cli_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <set>
#include <utility>

#include "reports/text.h"

namespace saccade::bench {
namespace {

constexpr int64_t kLargest = int64_t{1} << 40;
constexpr size_t kMostNumbers = 1000;

// As Split; the parts are of `text` itself.
std::vector<std::string_view> Parts(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t at = text.find(separator);
    std::string_view part = text.substr(0, at);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    if (!part.empty()) parts.push_back(part);
    if (at == std::string_view::npos) break;
    text.remove_prefix(at + 1);
  }
  return parts;
}

// What is wrong with a part of `text`, and where that part begins.
Status Wrong(std::string_view text, std::string_view part,
             std::string_view what) {
  if (part.size() == text.size()) return Invalid(std::string(what));
  return Invalid(fmt::format("{}, at character {} of '{}'", what,
                             part.data() - text.data() + 1, text));
}

Status AddSweep(std::string_view text, std::string_view item,
                std::set<int64_t>* numbers) {
  const std::vector<std::string_view> parts = Parts(item, ':');
  if (parts.size() != 3 || parts[2].size() < 2)
    return Wrong(
        text, item,
        fmt::format("'{}' is no sweep: write first:last:x2 or first:last:+256",
                    item));
  const char kind = parts[2][0];
  if (kind != 'x' && kind != '+')
    return Wrong(text, parts[2],
                 fmt::format("'{}' is no step: write x2 (times two) or +256 "
                             "(plus)",
                             parts[2]));
  int64_t bounds[3];  // first, last, step
  for (int i = 0; i < 3; ++i) {
    const std::string_view part = i == 2 ? parts[2].substr(1) : parts[i];
    const Result<int64_t> n = ParseCount(part);
    if (!n.ok()) return Wrong(text, part, n.status().message());
    bounds[i] = *n;
  }
  const auto [first, last, step] = bounds;
  if (kind == 'x' && step < 2)
    return Wrong(text, parts[2],
                 fmt::format("'{}' is no step: x2 is the least", parts[2]));
  if (first > last)
    return Wrong(text, item,
                 fmt::format("'{}' is empty: {} is more than {}", item,
                             parts[0], parts[1]));
  for (int64_t n = first; n <= last; n = kind == 'x' ? n * step : n + step) {
    numbers->insert(n);
    if (numbers->size() > kMostNumbers)
      return Wrong(
          text, item,
          fmt::format("'{}' is more than {} numbers", item, kMostNumbers));
    if (n > kLargest / step) break;  // the next one is past any `last`
  }
  return {};
}

// A positive number with one of some units; `what` says what is no such thing.
Result<double> ParseWithUnit(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, double>> units,
    const char* what) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view rest(end, text.data() + text.size() - end);
  if (error == std::errc() && value > 0 && std::isfinite(value))
    for (const auto& [unit, factor] : units)
      if (rest == unit) return value * factor;
  return Invalid(fmt::format("'{}' is no {}", text, what));
}

}  // namespace

Result<int64_t> ParseCount(std::string_view text) {
  const Status bad = Invalid(
      fmt::format("'{}' is no count: write a whole number from 1, such as 512 "
                  "or 16k",
                  text));
  int64_t n = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n < 1 || n > kLargest) return bad;
  const std::string_view unit(end, text.data() + text.size() - end);
  int64_t factor = 1;
  if (unit == "k" || unit == "K") {
    factor = 1024;
  } else if (unit == "m" || unit == "M") {
    factor = 1024 * 1024;
  } else if (!unit.empty()) {
    return bad;
  }
  if (n > kLargest / factor) return bad;
  return n * factor;
}

Result<std::vector<int64_t>> ParseSweep(std::string_view text) {
  std::set<int64_t> numbers;
  for (const std::string_view item : Parts(text, ',')) {
    if (item.find(':') != std::string_view::npos) {
      const Status status = AddSweep(text, item, &numbers);
      if (!status.ok()) return status;
    } else {
      const Result<int64_t> n = ParseCount(item);
      if (!n.ok()) return Wrong(text, item, n.status().message());
      numbers.insert(*n);
    }
  }
  if (numbers.empty()) return Invalid("an empty list of numbers");
  if (numbers.size() > kMostNumbers)
    return Invalid(
        fmt::format("'{}' is more than {} numbers", text, kMostNumbers));
  return std::vector<int64_t>(numbers.begin(), numbers.end());
}

Result<double> ParseDuration(std::string_view text) {
  return ParseWithUnit(text, {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}},
                       "duration: write seconds, or 90s, 5m, 1.5h");
}

Result<double> ParseBytes(std::string_view text) {
  return ParseWithUnit(text,
                       {{"", 1},
                        {"B", 1},
                        {"KiB", 0x1p10},
                        {"MiB", 0x1p20},
                        {"GiB", 0x1p30},
                        {"TiB", 0x1p40},
                        {"kB", 1e3},
                        {"MB", 1e6},
                        {"GB", 1e9},
                        {"TB", 1e12}},
                       "number of bytes: write 512MiB, 2GiB or 8GB");
}

std::string FormatDuration(double seconds) {
  const auto s = static_cast<int64_t>(std::ceil(std::max(seconds, 0.0)));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02} h", s / 3600, s / 60 % 60, s % 60);
}

std::vector<std::string> Split(std::string_view text, char separator) {
  const std::vector<std::string_view> parts = Parts(text, separator);
  return {parts.begin(), parts.end()};
}

std::vector<std::string> SplitSpecs(std::string_view text) {
  std::vector<std::string> specs;
  for (const std::string& part : Split(text, ',')) {
    const size_t equals = part.find('=');
    const bool knob =
        equals != std::string::npos && part.find_first_of(":.+") > equals;
    if (knob && !specs.empty()) {
      specs.back() += "," + part;
    } else {
      specs.push_back(part);
    }
  }
  return specs;
}

bool GlobMatches(std::string_view pattern, std::string_view name) {
  // The last * may always be retried one character on; earlier ones need not.
  size_t p = 0, n = 0, star = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (p < pattern.size() &&
               (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool AnyMatches(const std::vector<std::string>& patterns,
                std::string_view spec) {
  const std::string name = reports::BaseName(spec);
  return !spec.empty() &&
         std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) {
           return GlobMatches(p, spec) || GlobMatches(p, name);
         });
}

}  // namespace saccade::bench
