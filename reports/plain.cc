#include "reports/plain.h"

#include <algorithm>
#include <vector>

#include "reports/text.h"

namespace saccade::reports {

std::string AlignTable(const Table& table, size_t columns) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns; ++c) {
    size_t width = Width(table.columns[c].text);
    for (const auto& row : table.rows) {
      width = std::max(width, Width(row[c].text));
    }
    widths.push_back(width);
  }
  const auto line = [&](const auto& text_of) {
    std::string out;
    for (size_t c = 0; c < columns; ++c) {
      const std::string text = text_of(c);
      const std::string pad(widths[c] - std::min(widths[c], Width(text)), ' ');
      out += c > 0 ? "  " : "";
      out += table.columns[c].number ? pad + text : text + pad;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  };
  std::string out = line([&](size_t c) { return table.columns[c].text; });
  // Texts at the end of lines may be long: the rule ends with their head.
  const Column* const last =
      columns > 0 ? &table.columns[columns - 1] : nullptr;
  if (last && !last->number) widths.back() = Width(last->text);
  size_t total = columns > 0 ? 2 * (columns - 1) : 0;
  for (const size_t width : widths) total += width;
  out += std::string(total, '-') + "\n";
  for (const auto& row : table.rows) {
    out += line([&](size_t c) { return row[c].text; });
  }
  return out;
}

std::string AlignTable(const Table& table) {
  return AlignTable(table, table.columns.size());
}

std::string MarkdownTable(const Table& table) {
  std::string heads = "|", rule = "|", rows;
  for (const Column& column : table.columns) {
    heads += " " + EscapeMarkdown(column.text) + " |";
    rule += column.number ? " ---: |" : " --- |";
  }
  for (const auto& row : table.rows) {
    rows += "|";
    for (const Cell& cell : row) rows += " " + EscapeMarkdown(cell.text) + " |";
    rows += "\n";
  }
  return heads + "\n" + rule + "\n" + rows;
}

}  // namespace saccade::reports
