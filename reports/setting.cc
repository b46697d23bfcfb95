// What cells of a setting have in common.
#include <fmt/format.h>

#include "reports/model.h"
#include "reports/repeat.h"
#include "reports/roster.h"

namespace saccade::reports {
namespace {

using record::Record;

std::string ShapeOf(const Record& record) {
  if (!record.Has("q_heads") || !record.Has("qk_dim")) return "";
  std::string shape = fmt::format("{} heads of {}", record.Count("q_heads"),
                                  record.Count("qk_dim"));
  if (record.Count("kv_heads") != record.Count("q_heads")) {
    shape += fmt::format(", {} of keys", record.Count("kv_heads"));
  }
  if (record.Count("v_dim") != record.Count("qk_dim")) {
    shape += fmt::format(", values of {}", record.Count("v_dim"));
  }
  return shape;
}

// "2 threads"; empty when the record does not say.
std::string CountOf(const Record& record, std::string_view field,
                    std::string_view one, std::string_view many) {
  if (!record.Has(field)) return "";
  const int64_t count = record.Count(field);
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

}  // namespace

Setting SettingOf(const Record& record) {
  Setting setting;
  const auto add = [&](const char* field, const std::string& value) {
    if (!value.empty()) setting.facets.push_back({field, value});
  };
  add("mask", Get(record, "mask"));
  add("dtype", Get(record, "dtype"));
  // The record's own words stand for shapes only.
  add("shape",
      record.Has("setting") ? Get(record, "setting") : ShapeOf(record));
  if (record.Count("batch") != 1) {
    add("batch", CountOf(record, "batch", "sequence", "sequences"));
  }
  add("threads", CountOf(record, "threads", "thread", "threads"));
  add("target", Get(record, "target"));
  if (Get(record, "cache") == "cold") add("cache", "cold caches");
  for (const Facet& facet : setting.facets) {
    setting.name += (setting.name.empty() ? "" : ", ") + facet.value;
  }
  if (setting.name.empty()) setting.name = "one setting";
  setting.threads = record.Count("threads");
  setting.flags = CellFlags(record);
  return setting;
}

}  // namespace saccade::reports
