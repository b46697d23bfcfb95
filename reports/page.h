// A report before it is HTML or Markdown: sections of figures and tables.
#ifndef SACCADE_REPORTS_PAGE_H_
#define SACCADE_REPORTS_PAGE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace saccade::reports {

using Json = nlohmann::ordered_json;

/// Whose numbers something shows, for the filters; what is not set is not told
/// apart there.
struct Place {
  int setting = -1;  // in Model::settings
  std::string pass = {};
  int64_t length = 0;  // tokens
};

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
  int64_t length = 0;    // tokens, where its cells are of one length
};

struct Table {
  std::string caption;    // what it shows
  std::string note = {};  // how it was made
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  bool html_only = false;  // too long for pasting
  bool cards = false;      // on a narrow screen each row is one
  Place place = {};
  std::vector<Place> places = {};  // of rows: as many, or none
};

struct Figure {
  std::string id, title;
  std::string caption;  // how it was made
  Json chart;           // see chart.h
  Table table;          // the same numbers
  Place place = {};
  std::string repeat = {};  // the command that measures them again
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

/// Which variant, and at what cost: for one pass at one length in one setting.
struct Answer {
  std::string title;
  Place place;
  Table choice;                  // the best by each measure
  Table verdict;                 // all
  std::vector<Figure> pictures;  // below the verdict
};

/// Something to filter by, and the values that it takes in this run.
struct Filter {
  struct Value {
    std::string value, text;
  };
  std::string name, label;
  std::vector<Value> values;
};

struct Page {
  std::string title, subtitle;
  std::vector<Banner> banners;
  std::vector<std::string> findings;
  Answer answer;
  std::vector<Answer> others;  // at other lengths, of other passes
  std::vector<Filter> filters;
  Json settings;  // what each setting is, by the filters' names
  std::vector<Section> sections;
  std::vector<std::string> commands;  // that repeat the run
};

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_PAGE_H_
