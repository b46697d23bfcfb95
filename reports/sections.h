// The sections of a report, each made from the model; empty (no figures and no
// tables) where nothing was measured.
#ifndef SACCADE_REPORTS_SECTIONS_H_
#define SACCADE_REPORTS_SECTIONS_H_

#include <vector>

#include "reports/contest.h"
#include "reports/model.h"
#include "reports/page.h"
#include "reports/verdict.h"

namespace saccade::reports {

// answers.cc
/// The verdict on the first screen, and those at other lengths, of other
/// passes and in other settings.
void AddAnswers(const Model& model, const Verdict& verdict, Page* page);
/// Filters that have more than one value in this run.
void AddFilters(const Model& model, Page* page);

// pareto.cc
/// Quality against time and against memory; without a picture where fewer than
/// two variants have both.
std::vector<Figure> QualityAgainstCost(const Model& model,
                                       const Verdict& verdict);

// roofline.cc
/// Of the i-th setting; without rows when no cell tells its work and bytes.
Figure RooflineFigure(const Model& model, size_t i);

// speed_sections.cc
Section TimeSection(const Model& model);
Section DecodeSection(const Model& model);
Section PeakSection(const Model& model);

// peer_section.cc
bool HasPeers(const Model& model);
/// A row each peer, a column each pass.
Table MeanRatioTable(const Model& model, const std::vector<Contest>& contests);
Section PeerSection(const Model& model);

// memory_section.cc
Section MemorySection(const Model& model);

// probe_tables.cc
/// Accuracy of every probe at the training length and at the longest, beside
/// what theory foretold; no rows where no probe was read.
Table ProbeMatrix(const Model& model);
/// Accuracy at the longest length by what the probe tells its answers apart.
std::vector<Table> ProbePartTables(const Model& model);

// quality_sections.cc
Section TextSection(const Model& model, const Verdict& verdict);
Section ProbeSection(const Model& model);
Section TrainingSection(const Model& model);

// text_tables.cc
/// Bits a byte at 1, 4, 16 and 32 times the training length, by protocol.
Table ProtocolTable(const Model& model);
/// Bits a byte at the longest length by change at test time; no rows where
/// there are no others than a window.
Table SwitchTable(const Model& model, const Verdict& verdict);
/// How far each is behind the best at the longest length, and who ties.
Table DifferenceTable(const Model& model, const Verdict& verdict);

// cost_table.cc
/// Parameters, FLOPs and steps of every model of text beside its bits a byte;
/// below it, where there is one, the same model matched by FLOPs.
Table CostTable(const Model& model, const Verdict& verdict);

// lens_section.cc
Section LensSection(const Model& model);

// fact_sections.cc
Section ClaimSection(const Model& model);
Section CheckSection(const Model& model);
Section GapSection(const Model& model);
Section MachineSection(const Model& model);

/// The first cell of an entry's row.
Cell EntryCell(const Entry& entry);

/// The cell that stands where a figure is missing.
Cell GapCell(const Outcome& outcome);

/// Where the figures of the i-th setting go: those of many settings are folded
/// but for the first's.
std::vector<Figure>& FiguresFor(const Model& model, size_t i, Section* section);

/// A name fit for an HTML id.
std::string IdOf(const std::string& prefix, size_t number);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_SECTIONS_H_
