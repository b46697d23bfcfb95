// Numbers as people read them, and texts from outside made harmless.
#ifndef SACCADE_REPORTS_TEXT_H_
#define SACCADE_REPORTS_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace saccade::reports {

// All formats give "–" for what is not finite.

/// Three significant digits with a unit: "1.23 ms".
std::string FormatTime(double ns);
/// Binary units: "0 B", "512 B", "1.5 KiB".
std::string FormatBytes(double bytes);
/// A length in tokens: "256", "16k" (1024s, when exact).
std::string FormatLength(int64_t tokens);
/// "62 %", "0.4 %".
std::string FormatShare(double share);
/// "8.1×", "0.52×".
std::string FormatRatio(double ratio);
/// Three significant digits, no exponent between 1e-3 and 1e6.
std::string FormatNumber(double number);
std::string FormatFixed(double number, int digits);

/// Text from outside: control and direction characters become "�", and what
/// is longer than `limit` bytes is cut with "…" between characters.
std::string Clean(std::string_view text, size_t limit = 200);

/// For Markdown outside of code: nothing in the text is markup any more.
std::string EscapeMarkdown(const std::string& text);

/// JSON text for use inside a script element: nothing ends the element.
std::string EscapeScript(const std::string& json);

/// The name in a spec string: what stands before ':' or '+'.
std::string BaseName(std::string_view spec);

/// Characters on a terminal, taking each code point for one.
size_t Width(std::string_view text);

/// "a", "a and b", "a, b and c".
template <class List>
std::string JoinNames(const List& names) {
  std::string joined;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) joined += i + 1 == names.size() ? " and " : ", ";
    joined += names[i];
  }
  return joined;
}

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_TEXT_H_
