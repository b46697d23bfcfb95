// Sorting that keeps the order of equals.
#ifndef SACCADE_REPORTS_ORDER_H_
#define SACCADE_REPORTS_ORDER_H_

#include <algorithm>
#include <utility>
#include <vector>

namespace saccade::reports {

/// As std::stable_sort, by a key. That of g++ 12's library uses a buffer whose
/// function newer compilers warn of.
template <class T, class Key>
void SortBy(std::vector<T>& items, const Key& key) {
  using Ranked = std::pair<decltype(key(items[0])), size_t>;
  std::vector<Ranked> ranks;
  for (size_t i = 0; i < items.size(); ++i) ranks.push_back({key(items[i]), i});
  std::sort(ranks.begin(), ranks.end());
  std::vector<T> sorted;
  sorted.reserve(items.size());
  for (const Ranked& rank : ranks)
    sorted.push_back(std::move(items[rank.second]));
  items = std::move(sorted);
}

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_ORDER_H_
