// Records as tables: for people, for pasting, for spreadsheets, for programs.
#ifndef SACCADE_REPORTS_SHOW_H_
#define SACCADE_REPORTS_SHOW_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "record/record.h"

namespace saccade::reports {

enum class ShowFormat : uint8_t { kText, kMarkdown, kCsv, kJsonl };

/// A record to be shown, and the run it is of.
struct ShownRecord {
  const record::Record* record;
  std::string run;
};

struct ShowOptions {
  ShowFormat format = ShowFormat::kText;
  /// Fields of the schema, and "run"; empty: all but arrays and long texts;
  /// "all": these too.
  std::vector<std::string> columns = {};
  /// Fields, the first counts most; "-FIELD": the greatest first. Records
  /// without it come last, equals in the order given.
  std::vector<std::string> sort = {};
  /// Significant digits of what is no whole number, in every format alike; 0:
  /// as many as it takes to read the same number back.
  int digits = 6;
};

/// The kinds worth a table when none is asked for: times if there are any,
/// else memory, else what was learned, and so on.
std::vector<std::string> KindsToShow(const std::vector<record::Run>& runs);

/// The records as one text that ends with a newline.
///
/// Text and Markdown have a table a kind (times of peers stand among ours), of
/// what varies within it and what was measured; what is common stands once
/// above it. CSV (RFC 4180, with a line of heads) and JSON lines have every
/// column, so that they can be joined.
/// A number has the same digits in all formats. A field that no record has is a
/// column of nothing.
std::string ShowRecords(std::vector<ShownRecord> records,
                        const ShowOptions& options);

/// A number as ShowRecords writes it: "0.798375", "22412346" (no digit before
/// the point is ever rounded away), "1e-05".
std::string FormatDigits(double number, int digits);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_SHOW_H_
