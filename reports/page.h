// A report before it is HTML or Markdown: sections of figures and tables.
#ifndef SACCADE_REPORTS_PAGE_H_
#define SACCADE_REPORTS_PAGE_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace saccade::reports {

using Json = nlohmann::ordered_json;

struct Cell {
  std::string text;
  std::string small = {};  // a second line, quieter
  /// How it looks: "", best, fail, good, quiet, prose, code.
  std::string look = {};
  int colour = -1;  // of the entry's mark in figures; -1: none
  int shape = 0;
};

struct Column {
  std::string text;
  bool number = true;
  std::string how = {};  // how its figures were made
};

struct Table {
  std::string caption;    // what it shows
  std::string note = {};  // how it was made
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  bool html_only = false;  // too long for pasting
};

struct Figure {
  std::string id, title;
  std::string caption;  // how it was made
  Json chart;           // see chart.h
  Table table;          // the same numbers
};

struct Section {
  std::string id, title, lead;
  std::vector<Table> summary;  // before the figures, where a page can
  std::vector<Figure> figures;
  std::vector<Figure> folded;  // more of the same kind
  std::vector<Table> tables;
};

/// A remark above everything else: noise, an unfinished run.
struct Banner {
  std::string title, text;
};

struct Page {
  std::string title, subtitle;
  std::vector<Banner> banners;
  std::vector<std::string> findings;
  Table verdict;
  std::vector<Figure> pictures;  // below the verdict; at most one
  std::vector<Section> sections;
  std::vector<std::string> commands;  // that repeat the run
};

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_PAGE_H_
