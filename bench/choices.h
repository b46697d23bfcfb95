// What an option takes, said once: --help shows it, the shells complete it.
#ifndef SACCADE_BENCH_CHOICES_H_
#define SACCADE_BENCH_CHOICES_H_

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace CLI {
class Option;
}

namespace saccade::bench {

/// Types that --help shows in place of TEXT and that shells know how to
/// complete; any other type is not completed.
inline constexpr char kFile[] = "FILE";
inline constexpr char kFolder[] = "FOLDER";
inline constexpr char kVariants[] = "VARIANTS";

/// One of these names; another is refused with the nearest. --help shows
/// "quick|full".
CLI::Option* TakesOneOf(CLI::Option* option,
                        const std::vector<std::string_view>& names);

/// A list of these names, shown as "forward,backward,decode". Who reads the
/// option checks them.
CLI::Option* TakesListOf(CLI::Option* option,
                         const std::vector<std::string_view>& names);

/// What NameOf calls each of a range.
template <class Range>
std::vector<std::string_view> NamesOfAll(const Range& range) {
  std::vector<std::string_view> names;
  for (const auto& one : range) names.emplace_back(NameOf(one));
  return names;
}

/// The name of each of a range of what has one, or of pointers to that.
template <class Range>
std::vector<std::string_view> NamesIn(const Range& range) {
  std::vector<std::string_view> names;
  for (const auto& one : range) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(one)>>) {
      names.emplace_back(one->name);
    } else {
      names.emplace_back(one.name);
    }
  }
  return names;
}

/// What an option may be completed with.
struct Completion {
  enum class Kind { kNothing, kFile, kFolder, kNames } kind = Kind::kNothing;
  std::vector<std::string> names;
  bool list = false;  // several, with commas between
};
Completion CompletionOf(const CLI::Option& option);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CHOICES_H_
