#include "reports/show.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "record/json.h"
#include "reports/page.h"
#include "reports/plain.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

constexpr std::string_view kRunColumn = "run";

// Texts that tell people what other columns tell programs.
constexpr std::string_view kLongTexts[] = {"repeat", "setting", "title",
                                           "source", "picture"};

// The kinds, those that are asked for most first; those of a list share a
// table.
std::vector<std::vector<std::string>> Tables() {
  std::vector<std::vector<std::string>> tables = {
      {"speed", "peer"}, {"memory"}, {"extrapolation"}, {"probe"}, {"lens"}};
  for (const record::Kind& kind : record::Kinds()) {
    const std::string name(kind.name);
    if (std::none_of(tables.begin(), tables.end(), [&](const auto& table) {
          return std::find(table.begin(), table.end(), name) != table.end();
        }))
      tables.push_back({name});
  }
  return tables;
}

record::Json ValueOf(const ShownRecord& shown, const std::string& column) {
  if (column == kRunColumn) return shown.run;
  if (column == "status") return shown.record->status();
  const auto it = shown.record->fields().find(column);
  return it == shown.record->fields().end() ? record::Json() : *it;
}

// A value for a cell; empty when there is none.
std::string Written(const record::Json& value, int digits) {
  if (value.is_null()) return {};
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return FormatDigits(value.get<double>(), digits);
  if (!value.is_array()) return value.dump();
  std::string items;
  for (const record::Json& item : value) {
    items += items.empty() ? "" : ", ";
    items += item.is_number() ? Written(item, digits) : record::Dump(item);
  }
  return "[" + items + "]";
}

bool LongByNature(const record::Field& field) {
  return field.type == record::Type::kNumbers ||
         field.type == record::Type::kTexts ||
         std::find(std::begin(kLongTexts), std::end(kLongTexts), field.name) !=
             std::end(kLongTexts);
}

// The columns of some records, in the schema's order; what became of a
// measurement, and why, comes last.
std::vector<std::string> ColumnsOf(const std::vector<ShownRecord>& records,
                                   const ShowOptions& options) {
  const bool all = options.columns == std::vector<std::string>{"all"};
  if (!options.columns.empty() && !all) return options.columns;
  std::set<std::string> runs, present;
  for (const ShownRecord& shown : records) {
    runs.insert(shown.run);
    for (const auto& [name, value] : shown.record->fields().items())
      if (!value.is_null()) present.insert(name);
  }
  std::vector<std::string> columns;
  if (runs.size() > 1) columns.emplace_back(kRunColumn);
  for (const record::Field& field : record::Fields()) {
    const std::string name(field.name);
    if (name == "status" || name == "reason" || !present.contains(name))
      continue;
    if (all || !LongByNature(field)) columns.push_back(name);
  }
  columns.emplace_back("status");
  if (present.contains("reason")) columns.emplace_back("reason");
  return columns;
}

bool IsOneOf(std::string_view names, std::string_view name) {
  return (" " + std::string(names) + " ").find(" " + std::string(name) + " ") !=
         std::string::npos;
}

// Whether the column is what records of these kinds are about: then it is shown
// even where it is the same in all.
bool IsResult(const std::vector<ShownRecord>& records,
              const std::string& column) {
  const record::Kind* const kind =
      record::FindKind(records.front().record->kind());
  return kind && IsOneOf(kind->result, column);
}

struct Sheet {
  std::string common;  // "dtype f32, batch 1"
  Table table;
};

// The column that has the same in every row, or null.
const std::string* TwinOf(
    const std::vector<std::string>& cells,
    const std::map<std::string, std::vector<std::string>>& columns) {
  for (const auto& [name, others] : columns)
    if (others == cells) return &name;
  return nullptr;
}

Sheet SheetOf(const std::vector<ShownRecord>& records,
              const ShowOptions& options) {
  const bool chosen = !options.columns.empty() &&
                      options.columns != std::vector<std::string>{"all"};
  Sheet sheet;
  sheet.table.rows.resize(records.size());
  std::map<std::string, std::vector<std::string>> shown_cells;
  for (const std::string& column : ColumnsOf(records, options)) {
    std::vector<std::string> cells;
    bool numbers = true;
    for (const ShownRecord& shown : records) {
      const record::Json value = ValueOf(shown, column);
      numbers &= value.is_number() || value.is_null();
      cells.push_back(Clean(Written(value, options.digits)));
    }
    const bool same = std::all_of(cells.begin(), cells.end(),
                                  [&](const auto& c) { return c == cells[0]; });
    const std::string* const twin =
        chosen || !numbers ? nullptr : TwinOf(cells, shown_cells);
    if ((same || twin) && !chosen && !IsResult(records, column)) {
      sheet.common += fmt::format("{}{} {}", sheet.common.empty() ? "" : ", ",
                                  column, same ? cells[0] : "as " + *twin);
      continue;
    }
    if (numbers) shown_cells.emplace(column, cells);
    sheet.table.columns.push_back({column, numbers});
    for (size_t i = 0; i < cells.size(); ++i)
      sheet.table.rows[i].push_back({cells[i].empty() ? "–" : cells[i]});
  }
  return sheet;
}

// One table for people, under what its records have in common.
std::string ShowSheet(const std::vector<ShownRecord>& records,
                      const ShowOptions& options) {
  const Sheet sheet = SheetOf(records, options);
  const std::string head = fmt::format(
      "{} record{}{}{}", records.size(), records.size() == 1 ? "" : "s",
      sheet.common.empty() ? "" : ": ", sheet.common);
  if (options.format == ShowFormat::kText)
    return head + "\n\n" + AlignTable(sheet.table);
  return EscapeMarkdown(head) + "\n\n" + MarkdownTable(sheet.table);
}

std::string ShowSheets(const std::vector<ShownRecord>& records,
                       const ShowOptions& options) {
  std::string out;
  for (const std::vector<std::string>& kinds : Tables()) {
    std::vector<ShownRecord> members;
    for (const ShownRecord& shown : records)
      if (std::find(kinds.begin(), kinds.end(), shown.record->kind()) !=
          kinds.end())
        members.push_back(shown);
    if (members.empty()) continue;
    out += out.empty() ? "" : "\n";
    out += ShowSheet(members, options);
  }
  return out;
}

// As RFC 4180 has it: lines end with CR LF, quotes within quotes are doubled.
std::string CsvCell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos &&
      !text.starts_with(' ') && !text.ends_with(' '))
    return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

std::string ShowCsv(const std::vector<ShownRecord>& records,
                    const ShowOptions& options) {
  const std::vector<std::string> columns = ColumnsOf(records, options);
  std::string out;
  const auto line = [&](const auto& text_of) {
    for (size_t i = 0; i < columns.size(); ++i)
      out += (i > 0 ? "," : "") + CsvCell(text_of(columns[i]));
    out += "\r\n";
  };
  line([](const std::string& column) { return column; });
  for (const ShownRecord& shown : records)
    line([&](const std::string& column) {
      return Written(ValueOf(shown, column), options.digits);
    });
  return out;
}

std::string ShowJsonl(const std::vector<ShownRecord>& records,
                      const ShowOptions& options) {
  const std::vector<std::string> columns = ColumnsOf(records, options);
  std::string out;
  for (const ShownRecord& shown : records) {
    std::string members;
    for (const std::string& column : columns) {
      const record::Json value = ValueOf(shown, column);
      if (value.is_null()) continue;
      members +=
          fmt::format("{}\"{}\": {}", members.empty() ? "" : ", ", column,
                      value.is_string() ? record::Dump(value)
                                        : Written(value, options.digits));
    }
    out += "{" + members + "}\n";
  }
  return out;
}

// Less than 0, 0 or more than 0, as `a` comes before `b`.
int Compare(const record::Json& a, const record::Json& b, bool descending) {
  if (a.is_null() || b.is_null()) return a.is_null() - b.is_null();
  const int order = a < b ? -1 : b < a ? 1 : 0;
  return descending ? -order : order;
}

std::vector<ShownRecord> Sorted(std::vector<ShownRecord> records,
                                const std::vector<std::string>& sort) {
  std::vector<size_t> order(records.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    for (const std::string& key : sort) {
      const bool descending = key.starts_with('-');
      const std::string field = key.substr(descending);
      const int c = Compare(ValueOf(records[a], field),
                            ValueOf(records[b], field), descending);
      if (c != 0) return c < 0;
    }
    return a < b;
  });
  std::vector<ShownRecord> sorted;
  for (const size_t i : order) sorted.push_back(records[i]);
  return sorted;
}

}  // namespace

std::string FormatDigits(double number, int digits) {
  constexpr int kMostWhole = 15;  // digits, that doubles keep
  if (digits <= 0) return fmt::format("{}", number);
  if (number == 0) return "0";
  const int whole = static_cast<int>(std::floor(std::log10(std::abs(number))));
  if (whole >= kMostWhole || whole < -4)
    return fmt::format("{:.{}g}", number, digits);
  std::string text =
      fmt::format("{:.{}f}", number, std::max(digits - 1 - whole, 0));
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

std::vector<std::string> KindsToShow(const std::vector<record::Run>& runs) {
  std::set<std::string> present;
  for (const record::Run& run : runs)
    for (const record::Record& r : run.records) present.insert(r.kind());
  for (const std::vector<std::string>& kinds : Tables())
    if (std::any_of(kinds.begin(), kinds.end(),
                    [&](const auto& k) { return present.contains(k); }))
      return kinds;
  return {};
}

std::string ShowRecords(std::vector<ShownRecord> records,
                        const ShowOptions& options) {
  records = Sorted(std::move(records), options.sort);
  switch (options.format) {
    case ShowFormat::kText:
    case ShowFormat::kMarkdown:
      return ShowSheets(records, options);
    case ShowFormat::kCsv:
      return ShowCsv(records, options);
    case ShowFormat::kJsonl:
      return ShowJsonl(records, options);
  }
  return {};
}

}  // namespace saccade::reports
