// Things found in a list by their names.
#ifndef SACCADE_BENCH_NAMED_H_
#define SACCADE_BENCH_NAMED_H_

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nearest.h"
#include "saccade/status.h"

namespace saccade::bench {

/// Those of `all` (pointers to what has a `name`) that are named, in the order
/// of `names`, each once; "all" names every one. `what` is one of them in a
/// message. kNotFound with the nearest names; kInvalid for no names.
template <class T>
Result<std::vector<const T*>> FindNamed(std::string_view what,
                                        const std::vector<const T*>& all,
                                        const std::vector<std::string>& names) {
  if (names.empty()) return Invalid(fmt::format("an empty list of {}s", what));
  std::vector<const T*> found;
  const auto add = [&found](const T* one) {
    if (std::find(found.begin(), found.end(), one) == found.end())
      found.push_back(one);
  };
  std::vector<std::string_view> known;
  for (const T* one : all) known.push_back(one->name);
  for (const std::string& name : names) {
    if (name == "all") {
      for (const T* one : all) add(one);
      continue;
    }
    const auto at = std::find(known.begin(), known.end(), name);
    if (at == known.end())
      return NotFound(fmt::format("there is no {} '{}'{}", what, name,
                                  DidYouMean(name, known)));
    add(all[static_cast<size_t>(at - known.begin())]);
  }
  return found;
}

/// The one of `all` that NameOf calls `name`. kNotFound with the nearest names
/// and all of them; `what` is one of them in a message.
template <class Range, class T = std::ranges::range_value_t<Range>>
Result<T> FindByName(std::string_view what, const Range& all,
                     std::string_view name) {
  std::vector<std::string_view> known;
  for (const T one : all) {
    known.emplace_back(NameOf(one));
    if (known.back() == name) return one;
  }
  return NotFound(fmt::format("there is no {} '{}'{}; there are {}", what, name,
                              DidYouMean(name, known), fmt::join(known, ", ")));
}

/// Pointers to each of a list.
template <class T>
std::vector<const T*> PointersTo(std::span<const T> list) {
  std::vector<const T*> pointers;
  for (const T& one : list) pointers.push_back(&one);
  return pointers;
}

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_NAMED_H_
