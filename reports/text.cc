#include "reports/text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace saccade::reports {
namespace {

constexpr char kUnknown[] = "–";

// Three significant digits of a number from 1 on, which is below 1000 unless
// its unit is the last.
std::string ThreeDigits(double number) {
  if (number >= 1e6) return fmt::format("{:.2e}", number);
  const int digits = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", number, digits);
}

std::string Scaled(double number, double step,
                   const std::array<std::string_view, 5>& units) {
  size_t unit = 0;
  while (unit + 1 < units.size() && number >= 0.9995 * step) {
    number /= step;
    ++unit;
  }
  return fmt::format("{} {}", ThreeDigits(number), units[unit]);
}

}  // namespace

std::string FormatTime(double ns) {
  if (!std::isfinite(ns)) return kUnknown;
  if (ns < 999.5) return fmt::format("{:.0f} ns", ns);
  return Scaled(ns / 1e3, 1e3, {"µs", "ms", "s", "ks", "Ms"});
}

std::string FormatBytes(double bytes) {
  if (!std::isfinite(bytes)) return kUnknown;
  if (bytes < 1023.5) return fmt::format("{:.0f} B", bytes);
  return Scaled(bytes / 1024, 1024, {"KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string FormatLength(int64_t tokens) {
  constexpr int64_t kMillion = int64_t{1} << 20;
  if (tokens >= kMillion && tokens % kMillion == 0) {
    return fmt::format("{}M", tokens / kMillion);
  }
  if (tokens >= 1024 && tokens % 1024 == 0) {
    return fmt::format("{}k", tokens / 1024);
  }
  return fmt::format("{}", tokens);
}

std::string FormatShare(double share) {
  if (!std::isfinite(share)) return kUnknown;
  const double percent = 100 * share;
  if (percent >= 1e6) return fmt::format("{:.2e} %", percent);
  return fmt::format("{:.{}f} %", percent, percent < 9.95 ? 1 : 0);
}

std::string FormatRatio(double ratio) {
  if (!std::isfinite(ratio)) return kUnknown;
  if (ratio >= 1e6) return fmt::format("{:.2e}×", ratio);
  const int digits = ratio < 9.95 ? (ratio < 0.995 ? 2 : 1) : 0;
  return fmt::format("{:.{}f}×", ratio, digits);
}

std::string FormatNumber(double number) {
  if (!std::isfinite(number)) return kUnknown;
  const double size = std::abs(number);
  if (size != 0 && (size < 1e-3 || size >= 1e6)) {
    return fmt::format("{:.2e}", number);
  }
  if (size >= 1000) return fmt::format("{:.0f}", number);
  if (size < 1) return fmt::format("{:.3f}", number);
  return fmt::format("{}{}", number < 0 ? "-" : "", ThreeDigits(size));
}

std::string FormatFixed(double number, int digits) {
  if (!std::isfinite(number)) return kUnknown;
  if (std::abs(number) >= 1e9) return fmt::format("{:.2e}", number);
  std::string text = fmt::format("{:.{}f}", number, digits);
  if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') {
    text.erase(0, 1);  // no minus before nothing
  }
  return text;
}

namespace {

// The character at the start of a text and its bytes; U+FFFD for what is not
// UTF-8.
struct Character {
  uint32_t code = 0xfffd;
  size_t size = 1;
};

Character Decode(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return {};
  uint32_t code = first & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  return {code, size};
}

// Characters that change how others are shown: a name must not rearrange a
// report or speak to a terminal.
bool Harmful(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
         (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

}  // namespace

std::string Clean(std::string_view text, size_t limit) {
  std::string clean;
  while (!text.empty()) {
    if (clean.size() >= limit) return clean + "…";
    const Character c = Decode(text);
    if (c.code == '\n' || c.code == '\t') {
      clean += ' ';
    } else if (Harmful(c.code) || c.code == 0xfffd) {
      clean += "\xef\xbf\xbd";
    } else {
      clean += text.substr(0, c.size);
    }
    text.remove_prefix(c.size);
  }
  return clean;
}

std::string EscapeMarkdown(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '@':  // would notify people where the report is pasted
        escaped += "&#64;";
        break;
      case '|':
      case '\\':
      case '`':
      case '*':
      case '_':
      case '[':
      case ']':
      case '~':
      case '#':
        escaped += '\\';
        escaped += c;
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string EscapeScript(const std::string& json) {
  std::string escaped;
  for (const char c : json) {
    // None of these occurs in JSON outside of strings.
    if (c == '<' || c == '>' || c == '&') {
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string BaseName(std::string_view spec) {
  return std::string(spec.substr(0, spec.find_first_of(":+")));
}

size_t Width(std::string_view text) {
  size_t width = 0;
  for (const char c : text) width += (c & 0xc0) != 0x80;
  return width;
}

}  // namespace saccade::reports
