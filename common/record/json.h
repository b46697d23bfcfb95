// JSON that nobody vouches for.
#ifndef SACCADE_COMMON_RECORD_JSON_H_
#define SACCADE_COMMON_RECORD_JSON_H_

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/status.h"

namespace saccade::record {

/// How many brackets of a JSON text are open at once; those in strings do not
/// count.
int JsonDepth(std::string_view text);

/// A tree of nlohmann's (`Tree` is its json or ordered_json) from a text that
/// opens at most `most` brackets at once: the parser keeps no limit, and what
/// walks its trees recurses. A key that stands twice in an object is an error:
/// of two settings one would be lost. kInvalid with the place or the key.
template <class Tree>
Result<Tree> ParseJson(std::string_view text, int most) {
  if (JsonDepth(text) > most)
    return Invalid(fmt::format("nested deeper than {} levels", most));
  std::vector<std::set<std::string>> open;  // keys of the objects not closed
  std::string twice;
  const auto watch = [&](int, typename Tree::parse_event_t event,
                         Tree& parsed) {
    using Event = typename Tree::parse_event_t;
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key &&
        !open.back().insert(parsed.template get<std::string>()).second)
      // Escaped, so that a message can quote it.
      twice = parsed.dump(-1, ' ', true, Tree::error_handler_t::replace);
    return true;
  };
  try {
    Tree tree = Tree::parse(text.begin(), text.end(), watch);
    if (!twice.empty())
      return Invalid(fmt::format("the key {:.60} stands twice", twice));
    return tree;
  } catch (const typename Tree::parse_error& e) {
    return Invalid(fmt::format("no valid JSON at byte {}", e.byte));
  } catch (const typename Tree::exception&) {
    return Invalid("no valid JSON: a number is out of range");
  }
}

/// A tree as text; bytes that are not UTF-8 are replaced, where the library
/// would throw.
template <class Tree>
std::string Dump(const Tree& tree) {
  return tree.dump(-1, ' ', false, Tree::error_handler_t::replace);
}

}  // namespace saccade::record

#endif  // SACCADE_COMMON_RECORD_JSON_H_
