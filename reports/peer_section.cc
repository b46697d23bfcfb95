// Outside implementations: how they ran, and how ours stands to them.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

// The fastest variant that does the same visible work at that length: another
// amount of it is another function.
const Timing* Rival(const Model& model, const ByEntry<Timing>& cells,
                    const Timing& peer, int64_t length) {
  const Timing* best = nullptr;
  for (const auto& [entry, lengths] : cells) {
    if (model.at(entry).peer) continue;
    const auto it = lengths.find(length);
    if (it == lengths.end() || !it->second.outcome.ok()) continue;
    const Timing& timing = it->second;
    if (!(std::abs(timing.flops - peer.flops) <= 1e-6 * peer.flops)) continue;
    if (best == nullptr || timing.ns.value < best->ns.value) best = &timing;
  }
  return best;
}

// The name alone: here all are outside implementations.
Cell NameCell(const Entry& entry) {
  Cell cell = EntryCell(entry);
  cell.small.clear();
  return cell;
}

Cell RatioCell(const Model& model, const ByEntry<Timing>& cells,
               const ByLength<Timing>& peer, int64_t length) {
  const auto it = peer.find(length);
  if (it == peer.end()) return {"–", "", "quiet"};
  if (!it->second.outcome.ok()) return GapCell(it->second.outcome);
  const Timing* const rival = Rival(model, cells, it->second, length);
  if (rival == nullptr) return {"–", "", "quiet"};
  const bool tie = Overlap(rival->ns, it->second.ns);
  return {FormatRatio(it->second.ns.value / rival->ns.value),
          tie ? "a tie" : ""};
}

Table RatioTable(const Model& model, const Setting& setting) {
  Table table;
  table.caption = "Time of outside implementations over ours, " + setting.name;
  table.note =
      "Ours is the fastest variant that does the same visible work in the same "
      "rounds; above 1 it is ahead.";
  table.columns = {{"outside implementation", false}, {"pass", false}};
  std::set<int64_t> all;
  for (const auto& [pass, cells] : setting.times) {
    for (const auto& [entry, lengths] : cells) {
      if (!model.at(entry).peer) continue;
      for (const auto& [length, timing] : lengths) all.insert(length);
    }
  }
  for (const int64_t length : all) {
    table.columns.push_back({FormatLength(length)});
  }
  for (const auto& [pass, cells] : setting.times) {
    for (const auto& [entry, lengths] : cells) {
      if (!model.at(entry).peer) continue;
      std::vector<Cell> row = {NameCell(model.at(entry)), {pass}};
      for (const int64_t length : all) {
        row.push_back(RatioCell(model, cells, lengths, length));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

}  // namespace

bool HasPeers(const Model& model) {
  return std::any_of(model.entries.begin(), model.entries.end(),
                     [](const Entry& entry) { return entry.peer; });
}

Section PeerSection(const Model& model) {
  if (!HasPeers(model)) return {};
  Section section;
  section.id = "peers";
  section.title = "Outside implementations";
  section.lead =
      "What others offer for the same function, on the same inputs, with as "
      "many threads, in rounds interleaved with ours. Those with a process of "
      "their own tell their own time, by a monotonic clock around as many runs "
      "as a sample of ours would have; no thread is pinned, theirs or ours. "
      "Each is held against the float64 oracle before it is timed.";
  for (const Setting& setting : model.settings) {
    Table table = RatioTable(model, setting);
    if (!table.rows.empty()) section.tables.push_back(std::move(table));
  }
  Table how;
  how.caption = "What ran";
  how.columns = {{"outside implementation", false}, {"how", false}};
  for (const Entry& entry : model.entries) {
    if (!entry.peer) continue;
    how.rows.push_back(
        {NameCell(entry),
         {entry.title.empty() ? "it did not run" : entry.title, "", "prose"}});
  }
  section.tables.push_back(std::move(how));
  return section;
}

}  // namespace saccade::reports
