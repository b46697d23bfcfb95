// Commands that measure again what a figure shows.
#ifndef SACCADE_REPORTS_REPEAT_H_
#define SACCADE_REPORTS_REPEAT_H_

#include <set>
#include <string>
#include <vector>

#include "reports/model.h"

namespace saccade::reports {

/// What tells a cell's setting on the command line: "--dtype f32 -t 2". From
/// the command that the record gives for itself, else from its fields.
std::string CellFlags(const record::Record& record);

/// What a figure shows of a setting's cells, as a command, or as several where
/// runs were pooled that were made in different ways. `measure` is speed
/// or memory; peers that were timed are timed again.
std::string RepeatCells(const Model& model, const Setting& setting,
                        const std::string& measure,
                        const std::vector<std::string>& passes,
                        const std::set<int>& entries,
                        const std::set<int64_t>& lengths);

/// What was learned or looked at, as a command: what the run's own says of the
/// models and the text, with these options and their values in place of what it
/// measured besides.
std::string RepeatTraining(const Model& model,
                           const std::vector<std::string>& options,
                           const std::set<int>& entries);

/// One argument as a shell takes it.
std::string Quote(const std::string& argument);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_REPEAT_H_
