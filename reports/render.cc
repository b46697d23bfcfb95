#include "reports/render.h"

#include <fmt/format.h>

#include <kainjow/mustache.hpp>

#include "reports/assets.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using kainjow::mustache::data;
using kainjow::mustache::mustache;

// Points have as many shapes, and lines as many colours, as report.js knows.
constexpr int kColours = 7;

std::string Text(const Asset& asset) { return std::string(asset.text); }

// A hash as a Content-Security-Policy spells it.
std::string PolicyHash(const Asset& asset) {
  constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto nibble = [&](size_t i) -> unsigned {
    if (i >= asset.sha256.size()) return 0;
    const char c = asset.sha256[i];
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  std::string base64;
  // Three digits of 4 bits make two of 6; 64 digits leave one over.
  for (size_t i = 0; i < asset.sha256.size(); i += 3) {
    const unsigned bits = nibble(i) << 8 | nibble(i + 1) << 4 | nibble(i + 2);
    base64 += kAlphabet[bits >> 6];
    base64 += kAlphabet[bits & 63];
  }
  base64.back() = '=';
  return "'sha256-" + base64 + "'";
}

// A value that sections test and variables show; false when empty, so that a
// template does not find a namesake further out.
data Shown(const std::string& text) {
  return text.empty() ? data(false) : data(text);
}

data CellData(const Cell& cell, bool number, bool first) {
  data out;
  out.set("text", cell.text);
  out.set("small", Shown(cell.small));
  out.set("first", first);
  out.set("bold", cell.look == "best" || cell.look == "fail");
  std::string look = cell.look;
  if (number) look += look.empty() ? "n" : " n";
  out.set("look", Shown(look));
  out.set("mark", cell.colour >= 0);
  out.set("colour", fmt::format("{}", cell.colour % kColours));
  return out;
}

data TableData(const Table& table) {
  data out;
  out.set("caption", table.caption);
  out.set("note", Shown(table.note));
  data columns(data::type::list), rows(data::type::list);
  data legend(data::type::list);
  for (const Column& column : table.columns) {
    data head;
    head.set("text", column.text);
    head.set("number", column.number);
    columns.push_back(head);
    if (column.how.empty()) continue;
    head.set("how", column.how);
    legend.push_back(head);
  }
  for (const std::vector<Cell>& row : table.rows) {
    data cells(data::type::list);
    for (size_t i = 0; i < row.size(); ++i) {
      const bool number = i < table.columns.size() && table.columns[i].number;
      cells.push_back(CellData(row[i], number, i == 0));
    }
    rows.push_back(data("cells", cells));
  }
  out.set("columns", columns);
  out.set("has_legend", !legend.is_empty_list());
  out.set("legend", legend);
  out.set("rows", rows);
  return out;
}

data FigureData(const Figure& figure) {
  data out;
  out.set("id", figure.id);
  out.set("title", figure.title);
  out.set("caption", figure.caption);
  out.set("chart", EscapeScript(figure.chart.dump(
                       -1, ' ', true, Json::error_handler_t::replace)));
  out.set("table", TableData(figure.table));
  return out;
}

template <class List, class Make>
data ListData(const List& list, const Make& make) {
  data out(data::type::list);
  for (const auto& item : list) out.push_back(make(item));
  return out;
}

data SectionData(const Section& section, bool html) {
  data out;
  out.set("id", section.id);
  out.set("title", section.title);
  out.set("lead", Shown(section.lead));
  out.set("summary", ListData(section.summary, TableData));
  out.set("has_figures", !section.figures.empty());
  out.set("figures", ListData(section.figures, FigureData));
  out.set("has_folded", html && !section.folded.empty());
  out.set("folded", ListData(section.folded, FigureData));
  std::vector<Table> tables;
  // Markdown has its tables behind the figures.
  if (!html) tables = section.summary;
  for (const Table& table : section.tables) {
    if (html || !table.html_only) tables.push_back(table);
  }
  const data listed = ListData(tables, [](const Table& table) {
    data item;
    item.set("table", TableData(table));
    item.set("is_folded", table.html_only);
    return item;
  });
  out.set("tables", listed);
  return out;
}

data PageData(const Page& page, bool html) {
  data out;
  out.set("title", page.title);
  out.set("subtitle", page.subtitle);
  out.set("banners", ListData(page.banners, [](const Banner& banner) {
            data item;
            item.set("title", banner.title);
            item.set("text", Shown(banner.text));
            return item;
          }));
  out.set("findings", ListData(page.findings, [](const std::string& finding) {
            return data("finding", finding);
          }));
  out.set("has_findings", !page.findings.empty());
  out.set("has_verdict", !page.verdict.rows.empty());
  out.set("verdict", TableData(page.verdict));
  out.set("pictures", ListData(page.pictures, FigureData));
  out.set("sections", ListData(page.sections, [&](const Section& section) {
            return SectionData(section, html);
          }));
  out.set("commands", ListData(page.commands, [](const std::string& command) {
            return data("command", command);
          }));
  return out;
}

Result<std::string> Render(const Asset& asset, const data& page,
                           std::string (*escape)(const std::string&)) {
  mustache form(Text(asset));
  if (escape != nullptr) form.set_custom_escape(escape);
  std::string text;
  if (form.is_valid()) text = form.render(page);
  if (!form.is_valid()) {
    return Invalid("a template is malformed: " + form.error_message());
  }
  return text;
}

}  // namespace

Result<std::string> RenderHtml(const Page& page) {
  data out = PageData(page, true);
  out.set("policy",
          fmt::format("default-src 'none'; script-src {} {}; style-src {}; "
                      "img-src data:; base-uri 'none'; form-action 'none'",
                      PolicyHash(kChartLibrary), PolicyHash(kScript),
                      PolicyHash(kStyle)));
  out.set("style", Text(kStyle));
  out.set("script", Text(kScript));
  out.set("library", Text(kChartLibrary));
  out.set(
      "table_template",
      data(kainjow::mustache::partial([] { return Text(kTableTemplate); })));
  out.set(
      "figure_template",
      data(kainjow::mustache::partial([] { return Text(kFigureTemplate); })));
  return Render(kPageTemplate, out, nullptr);
}

Result<std::string> RenderMarkdown(const Page& page) {
  return Render(kMarkdownTemplate, PageData(page, false), EscapeMarkdown);
}

}  // namespace saccade::reports
