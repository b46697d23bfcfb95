// Colours of the report, read from its style sheet: text that can be read, and
// variants that can be told apart by eyes that see two kinds of colour only.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "report_fixture.h"

namespace saccade::reports {
namespace {

using Colour = std::array<double, 3>;  // red, green, blue, linear in light
using Palette = std::map<std::string, Colour>;

Colour Linear(const std::string& hex) {
  Colour colour;
  for (size_t i = 0; i < 3; ++i) {
    const double c = std::stoi(hex.substr(2 * i, 2), nullptr, 16) / 255.0;
    colour[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  return colour;
}

// The custom properties of one :root of the style sheet.
Palette Read(const std::string& css) {
  static const std::regex property("--([a-z0-9-]+): #([0-9a-f]{6});");
  Palette palette;
  for (std::sregex_iterator it(css.begin(), css.end(), property), end;
       it != end; ++it) {
    palette[(*it)[1]] = Linear((*it)[2]);
  }
  return palette;
}

// By the medium: light, dark and print.
std::map<std::string, Palette> Palettes() {
  const std::string css = Load(std::filesystem::path(SACCADE_SOURCE_DIR) /
                               "reports/templates/report.css");
  const size_t dark = css.find("@media (prefers-color-scheme: dark)");
  const size_t print = css.find("@media print");
  const size_t end = css.find("\n}\n", print);
  REQUIRE(dark < print);
  REQUIRE(end != std::string::npos);
  return {{"light", Read(css.substr(0, dark))},
          {"dark", Read(css.substr(dark, print - dark))},
          {"print", Read(css.substr(print, end - print))}};
}

double Luminance(const Colour& c) {
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}

// WCAG 2.1, contrast ratio.
double Contrast(const Colour& a, const Colour& b) {
  const double x = Luminance(a), y = Luminance(b);
  return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

using Matrix = std::array<Colour, 3>;

Colour Times(const Matrix& m, const Colour& c) {
  Colour out;
  for (size_t i = 0; i < 3; ++i) {
    out[i] = m[i][0] * c[0] + m[i][1] * c[1] + m[i][2] * c[2];
  }
  return out;
}

// Machado, Oliveira and Fernandes 2009, table 1, severity 1.0.
const std::map<std::string, Matrix> kEyes = {
    {"all colours", {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}},
    {"protanopia",
     {{{0.152286, 1.052583, -0.204868},
       {0.114503, 0.786281, 0.099216},
       {-0.003882, -0.048116, 1.051998}}}},
    {"deuteranopia",
     {{{0.367322, 0.860646, -0.227968},
       {0.280085, 0.672501, 0.047413},
       {-0.011820, 0.042940, 0.968881}}}},
    {"tritanopia",
     {{{1.255528, -0.076749, -0.178779},
       {-0.078411, 0.930809, 0.147602},
       {0.004733, 0.691367, 0.303900}}}}};

// CIE 1976 L*a*b* under D65.
Colour Lab(const Colour& linear) {
  constexpr Matrix kXyz = {{{0.4124564, 0.3575761, 0.1804375},
                            {0.2126729, 0.7151522, 0.0721750},
                            {0.0193339, 0.1191920, 0.9503041}}};
  Colour clipped = linear;
  for (double& c : clipped) c = std::clamp(c, 0.0, 1.0);
  const Colour xyz = Times(kXyz, clipped), white = Times(kXyz, {1, 1, 1});
  Colour f;
  for (size_t i = 0; i < 3; ++i) {
    const double t = xyz[i] / white[i];
    f[i] = t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116;
  }
  return {116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])};
}

double Distance(const Colour& a, const Colour& b) {
  return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

TEST_CASE("Text of the report has a contrast of 4.5 in light, dark and print") {
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"ink", "paper"},       {"ink", "panel"},     {"quiet", "paper"},
      {"quiet", "panel"},     {"link", "paper"},    {"good", "paper"},
      {"good", "panel"},      {"bad", "paper"},     {"bad", "bad-panel"},
      {"quiet", "bad-panel"}, {"ink", "note-panel"}};
  for (const auto& [medium, palette] : Palettes()) {
    for (const auto& [text, ground] : texts) {
      const double contrast = Contrast(palette.at(text), palette.at(ground));
      CHECK_MESSAGE(contrast >= 4.5, medium, ": ", text, " on ", ground,
                    " has ", contrast);
    }
  }
}

TEST_CASE("Marks, lines and edges of controls have a contrast of 3") {
  for (const auto& [medium, palette] : Palettes()) {
    for (const std::string name :
         {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "edge"}) {
      const double contrast = Contrast(palette.at(name), palette.at("paper"));
      CHECK_MESSAGE(contrast >= 3, medium, ": ", name, " has ", contrast);
    }
  }
}

// A difference of 2.3 is just noticeable side by side; thin lines apart from
// each other need ten times that.
TEST_CASE("Colours of variants differ to eyes that lack one kind of cone") {
  constexpr double kApart = 23;
  for (const auto& [medium, palette] : Palettes()) {
    for (const auto& [eye, matrix] : kEyes) {
      for (int i = 0; i < 7; ++i) {
        for (int j = 0; j < i; ++j) {
          const auto seen = [&, &eyes = matrix](int k) {
            return Lab(Times(eyes, palette.at(fmt::format("c{}", k))));
          };
          const double apart = Distance(seen(i), seen(j));
          CHECK_MESSAGE(apart >= kApart, medium, ", ", eye, ": c", j, " and c",
                        i, " are ", apart, " apart");
        }
      }
    }
  }
}

}  // namespace
}  // namespace saccade::reports
