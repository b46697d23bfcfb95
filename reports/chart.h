// What a figure draws, for templates/figure.js.
#ifndef SACCADE_REPORTS_CHART_H_
#define SACCADE_REPORTS_CHART_H_

#include <string>
#include <vector>

#include "reports/model.h"
#include "reports/page.h"

namespace saccade::reports {

/// How an axis shows its numbers; numbers.js knows the same names.
enum class Scale : uint8_t {
  kLength,    // tokens, logarithmic, marked where there are points
  kMultiple,  // of the training length, likewise
  kTime,      // nanoseconds, logarithmic
  kBytes,     // logarithmic
  kShare,     // 0 .. 1
  kBits,      // bits a byte
  kNats,      // nats a token
  kSize,      // of no unit, logarithmic
  kRatio,     // logarithmic, marked at 1
};

struct Axis {
  std::string title;
  Scale scale;
};

struct Point {
  double x, y;
  double low = kNaN, high = kNaN;
  /// Where lengths are not on the axis: tokens, for the filter and on hovering.
  int64_t length = 0;
  bool faded = false;  // another is better in every respect
};

/// In place of a colour: that of axes, for what is no variant.
inline constexpr int kNoColour = -1;

struct Series {
  std::string name;   // in the legend; series of one name switch together
  std::string layer;  // a second switch: plain, window; may be empty
  std::string note;   // beside the name in the legend
  int colour = 0, shape = 0;
  int style = 0;          // of the line: 0 whole, others dashed
  std::string pass = {};  // for the filter
  bool bare = false;      // a line without marks, also among points: no data
  std::vector<Point> points;
};

/// A dashed line at a value.
struct Guide {
  bool vertical = false;
  double at = 0;
  std::string text;
};

struct Chart {
  Axis x, y;
  bool lines = true;
  bool longest = false;  // of each series show the longest length only
  std::vector<Series> series = {};
  std::vector<Guide> guides = {};
};

/// A picture of a matrix: rows downwards, columns to the right.
struct Map {
  std::string name, note;
  int64_t size = 0;    // rows, and columns
  std::string levels;  // [size, size]; see `picture` in record/schema.h
};

/// What a figure of pictures draws. Maps whose levels are not as many as their
/// size asks for are left out.
Json ToJson(const std::vector<Map>& maps);

/// Series without points are left out, and so are numbers that are not known
/// or that a logarithmic axis cannot show.
Json ToJson(const Chart& chart);

/// An empty series that looks like its entry does everywhere.
Series SeriesOf(const Entry& entry);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_CHART_H_
