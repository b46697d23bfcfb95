#include "nearest.h"

#include <algorithm>
#include <numeric>

namespace saccade {

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const int replace = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string DidYouMean(std::string_view name,
                       const std::vector<std::string_view>& names) {
  if (name.size() > 64) return "";
  std::vector<std::pair<int, std::string_view>> near;
  for (const std::string_view candidate : names) {
    int distance = EditDistance(name, candidate);
    // "flash" for "softmax.flash": what was typed stands in the name.
    if (name.size() >= 3 && candidate.find(name) != std::string_view::npos)
      distance = std::min(distance, 1);
    if (distance <= 1 + static_cast<int>(name.size()) / 3)
      near.emplace_back(distance, candidate);
  }
  std::stable_sort(near.begin(), near.end(),
                   [](auto& a, auto& b) { return a.first < b.first; });
  if (near.empty()) return "";
  std::string text = ", did you mean " + std::string(near[0].second);
  if (near.size() > 1 && near[1].first <= near[0].first + 1)
    text += " or " + std::string(near[1].second);
  return text + "?";
}

}  // namespace saccade
