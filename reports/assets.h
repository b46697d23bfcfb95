// Files that are part of the program: templates, style, scripts. Made by
// embed.cmake when the program is built.
#ifndef SACCADE_REPORTS_ASSETS_H_
#define SACCADE_REPORTS_ASSETS_H_

#include <string_view>

namespace saccade::reports {

struct Asset {
  std::string_view text;
  std::string_view sha256;  // hexadecimal
};

extern const Asset kPageTemplate;      // templates/report.html.mustache
extern const Asset kTableTemplate;     // templates/table.html.mustache
extern const Asset kFigureTemplate;    // templates/figure.html.mustache
extern const Asset kPlaceTemplate;     // templates/place.html.mustache
extern const Asset kAnswerTemplate;    // templates/answer.html.mustache
extern const Asset kMarkdownTemplate;  // templates/report.md.mustache
extern const Asset kStyle;             // templates/report.css
extern const Asset kScript;            // templates/*.js, in order
extern const Asset kChartLibrary;      // Chart.js

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_ASSETS_H_
