// Tables for a terminal, and for pasting.
#ifndef SACCADE_REPORTS_PLAIN_H_
#define SACCADE_REPORTS_PLAIN_H_

#include <cstddef>
#include <string>

#include "reports/page.h"

namespace saccade::reports {

/// The first `columns` columns aligned by spaces, a rule below their heads;
/// ends with a newline. A row has a cell for each of them.
std::string AlignTable(const Table& table, size_t columns);
std::string AlignTable(const Table& table);

/// A table of Markdown; nothing in it is markup but the table itself.
std::string MarkdownTable(const Table& table);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_PLAIN_H_
