#include "reports/render.h"

#include <fmt/format.h>

#include <kainjow/mustache.hpp>

#include "reports/assets.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using kainjow::mustache::data;
using kainjow::mustache::mustache;

// Points have as many shapes, and lines as many colours, as figure.js knows.
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

void SetPlace(const Place& place, data* out) {
  const auto number = [](int64_t n, int64_t none) {
    return n == none ? data(false) : data(fmt::format("{}", n));
  };
  out->set("at_setting", number(place.setting, -1));
  out->set("at_pass", Shown(place.pass));
  out->set("at_length", number(place.length, 0));
}

data CellData(const Cell& cell, bool number, bool first) {
  data out;
  out.set("label", false);
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
    SetPlace({-1, "", column.length}, &head);
    columns.push_back(head);
    if (column.how.empty()) continue;
    head.set("how", column.how);
    legend.push_back(head);
  }
  for (size_t r = 0; r < table.rows.size(); ++r) {
    const std::vector<Cell>& row = table.rows[r];
    data cells(data::type::list);
    for (size_t i = 0; i < row.size(); ++i) {
      const bool number = i < table.columns.size() && table.columns[i].number;
      data cell = CellData(row[i], number, i == 0);
      if (table.cards) cell.set("label", Shown(table.columns[i].text));
      cells.push_back(cell);
    }
    data item("cells", cells);
    SetPlace(r < table.places.size() ? table.places[r] : Place(), &item);
    rows.push_back(item);
  }
  SetPlace(table.place, &out);
  out.set("columns", columns);
  out.set("has_legend", !legend.is_empty_list());
  out.set("legend", legend);
  out.set("cards", table.cards);
  out.set("has_rows", !table.rows.empty());
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
  out.set("repeat", Shown(figure.repeat));
  SetPlace(figure.place, &out);
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
  std::vector<Figure> figures;
  for (const Figure& figure : section.figures) {
    if (html || !figure.table.html_only) figures.push_back(figure);
  }
  out.set("has_figures", !figures.empty());
  out.set("figures", ListData(figures, FigureData));
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

data AnswerData(const Answer& answer) {
  data out;
  out.set("title", Shown(answer.title));
  out.set("choice", TableData(answer.choice));
  out.set("has_pictures", !answer.pictures.empty());
  out.set("verdict", TableData(answer.verdict));
  out.set("pictures", ListData(answer.pictures, FigureData));
  SetPlace(answer.place, &out);
  return out;
}

data FilterData(const Filter& filter) {
  data out;
  out.set("name", filter.name);
  out.set("label", filter.label);
  out.set("values", ListData(filter.values, [](const Filter::Value& value) {
            data item;
            item.set("value", value.value);
            item.set("text", value.text);
            return item;
          }));
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
  out.set("has_verdict", !page.answer.verdict.rows.empty());
  out.set("answer", AnswerData(page.answer));
  out.set("has_others", html && !page.others.empty());
  if (html) out.set("others", ListData(page.others, AnswerData));
  out.set("has_filters", html && !page.filters.empty());
  out.set("filters", ListData(page.filters, FilterData));
  out.set("settings", EscapeScript(page.settings.dump(
                          -1, ' ', true, Json::error_handler_t::replace)));
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
  out.set(
      "place_template",
      data(kainjow::mustache::partial([] { return Text(kPlaceTemplate); })));
  out.set(
      "answer_template",
      data(kainjow::mustache::partial([] { return Text(kAnswerTemplate); })));
  return Render(kPageTemplate, out, nullptr);
}

Result<std::string> RenderMarkdown(const Page& page) {
  return Render(kMarkdownTemplate, PageData(page, false), EscapeMarkdown);
}

}  // namespace saccade::reports
