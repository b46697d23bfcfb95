// From records of runs to reports: one HTML page, its Markdown twin, and a
// verdict for the terminal.
#ifndef SACCADE_REPORTS_REPORT_H_
#define SACCADE_REPORTS_REPORT_H_

#include <string>
#include <vector>

#include "record/record.h"
#include "saccade/status.h"

namespace saccade::reports {

/// Reads the runs, whose records are pooled in the order given, and writes
/// report.html (one file, no network) and report.md into out_dir, which is made
/// if missing. The same records give the same bytes. The status of a run that
/// cannot be read, kInvalid when there is none, kExhausted or kIo when writing
/// fails; files of an earlier report then stay as they were. A note is shown
/// above everything else, beside those of the runs.
Status WriteReport(const std::vector<std::string>& run_files,
                   const std::string& out_dir, const std::string& note = {});

/// The verdict of a run as plain text: its table, the findings, how ours
/// stands to peers, and what was not measured for which reasons; ends with a
/// newline.
std::string VerdictTable(const record::Run& run);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_REPORT_H_
