#include "reports/chart.h"

#include <cmath>

namespace saccade::reports {
namespace {

const char* NameOf(Scale scale) {
  switch (scale) {
    case Scale::kLength:
      return "length";
    case Scale::kMultiple:
      return "multiple";
    case Scale::kTime:
      return "time";
    case Scale::kBytes:
      return "bytes";
    case Scale::kShare:
      return "share";
    case Scale::kBits:
      return "bits";
    case Scale::kNats:
      return "nats";
    case Scale::kSize:
      return "size";
    case Scale::kRatio:
      return "ratio";
  }
  return "";
}

bool Logarithmic(Scale scale) {
  return scale == Scale::kLength || scale == Scale::kMultiple ||
         scale == Scale::kTime || scale == Scale::kBytes ||
         scale == Scale::kSize || scale == Scale::kRatio;
}

bool Shows(const Axis& axis, double number) {
  return std::isfinite(number) && (number > 0 || !Logarithmic(axis.scale));
}

Json ToJson(const Axis& axis) {
  return {{"title", axis.title},
          {"scale", NameOf(axis.scale)},
          {"log", Logarithmic(axis.scale)}};
}

// [x, y], [x, y, low, high], and then the length and whether it is faded, where
// there is anything to say of these.
Json ToJson(const Chart& chart, const Point& point) {
  Json numbers = {point.x, point.y};
  const bool bounded = Shows(chart.y, point.low) && Shows(chart.y, point.high);
  const bool more = point.length > 0 || point.faded;
  if (bounded) {
    numbers.push_back(point.low);
    numbers.push_back(point.high);
  } else if (more) {
    numbers.push_back(nullptr);
    numbers.push_back(nullptr);
  }
  if (more) {
    numbers.push_back(point.length);
    numbers.push_back(point.faded);
  }
  return numbers;
}

}  // namespace

Json ToJson(const Chart& chart) {
  Json json = {{"x", ToJson(chart.x)},    {"y", ToJson(chart.y)},
               {"lines", chart.lines},    {"longest", chart.longest},
               {"series", Json::array()}, {"guides", Json::array()}};
  for (const Series& series : chart.series) {
    Json points = Json::array();
    for (const Point& point : series.points) {
      if (!Shows(chart.x, point.x) || !Shows(chart.y, point.y)) continue;
      points.push_back(ToJson(chart, point));
    }
    if (points.empty()) continue;
    json["series"].push_back({{"name", series.name},
                              {"layer", series.layer},
                              {"note", series.note},
                              {"colour", series.colour},
                              {"shape", series.shape},
                              {"style", series.style},
                              {"pass", series.pass},
                              {"bare", series.bare},
                              {"points", std::move(points)}});
  }
  for (const Guide& guide : chart.guides) {
    const Axis& axis = guide.vertical ? chart.x : chart.y;
    if (!Shows(axis, guide.at)) continue;
    json["guides"].push_back(
        {{"vertical", guide.vertical}, {"at", guide.at}, {"text", guide.text}});
  }
  return json;
}

Json ToJson(const std::vector<Map>& maps) {
  Json json = {{"series", Json::array()}, {"maps", Json::array()}};
  for (const Map& map : maps) {
    const auto size = static_cast<size_t>(map.size);
    if (size == 0 || map.levels.size() != size * size) continue;
    json["maps"].push_back({{"name", map.name},
                            {"note", map.note},
                            {"size", map.size},
                            {"levels", map.levels}});
  }
  return json;
}

Series SeriesOf(const Entry& entry) {
  Series series;
  series.name = entry.spec;
  series.colour = entry.colour;
  series.shape = entry.shape;
  series.style = entry.peer ? 1 : 0;
  return series;
}

}  // namespace saccade::reports
