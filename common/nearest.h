// The names nearest to a mistyped one.
#ifndef SACCADE_COMMON_NEAREST_H_
#define SACCADE_COMMON_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace saccade {

/// How many insertions, deletions and replacements turn a into b.
int EditDistance(std::string_view a, std::string_view b);

/// ", did you mean a or b?" with up to two of the names that lie nearest to
/// `name`, or "" when none is near.
std::string DidYouMean(std::string_view name,
                       const std::vector<std::string_view>& names);

}  // namespace saccade

#endif  // SACCADE_COMMON_NEAREST_H_
