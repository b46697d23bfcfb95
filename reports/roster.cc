#include "reports/roster.h"

#include <algorithm>
#include <tuple>

#include "reports/order.h"
#include "reports/text.h"

namespace saccade::reports {

using record::Record;

std::string Get(const Record& record, std::string_view field) {
  return Clean(record.Text(field));
}

std::string PeerName(const Record& record) {
  const std::string version = Get(record, "version");
  return Get(record, "peer") + (version.empty() ? "" : " " + version);
}

void Roster::Take(const Record& record) {
  if (record.kind() == "peer") {
    AddPeer(record);
  } else if (record.kind() == "variant") {
    Describe(record);
  } else if (record.kind() != "claim" && record.Has("variant")) {
    Add(Get(record, "variant"), false);
  }
}

std::vector<Entry> Roster::Finish() {
  for (Entry& entry : entries_) Inherit(entry);
  SortBy(entries_, [](const Entry& entry) {
    return std::tuple(entry.peer, entry.order, entry.peer ? entry.spec : "");
  });
  Dress();
  return std::move(entries_);
}

Entry& Roster::Add(const std::string& spec, bool peer) {
  const auto [place, fresh] =
      places_.try_emplace({spec, peer}, entries_.size());
  if (!fresh) return entries_[place->second];
  Entry entry;
  entry.spec = spec;
  entry.name = peer ? spec : BaseName(spec);
  entry.peer = peer;
  entry.order = record::kMaxCount;
  return entries_.emplace_back(std::move(entry));
}

// Of what ran, the record's remark tells.
void Roster::AddPeer(const Record& record) {
  Entry& entry = Add(PeerName(record), true);
  entry.name = Get(record, "peer");
  if (record.ok() && entry.title.empty())
    entry.title = Clean(record.Text("reason"), 400);
}

void Roster::Describe(const Record& record) {
  Entry& entry = Add(Get(record, "variant"), false);
  entry.title = Get(record, "title");
  entry.source = Get(record, "source");
  entry.family = Get(record, "family");
  entry.order = record.Count("order");
  entry.baseline = record.Flag("baseline");
}

// A spec that no record describes is told by its name's description.
void Roster::Inherit(Entry& entry) const {
  if (entry.peer || !entry.title.empty()) return;
  for (const Entry& other : entries_) {
    if (other.peer || other.title.empty() || other.name != entry.name) continue;
    entry.title = other.title;
    entry.source = other.source;
    entry.family = other.family;
    entry.order = other.order;
    return;
  }
}

void Roster::Dress() {
  std::vector<std::string> names, families;
  const auto place = [](std::vector<std::string>& list,
                        const std::string& item) {
    const auto it = std::find(list.begin(), list.end(), item);
    if (it != list.end()) return static_cast<int>(it - list.begin());
    list.push_back(item);
    return static_cast<int>(list.size()) - 1;
  };
  for (Entry& entry : entries_) {
    const std::string kind = entry.peer ? "peer " : "variant ";
    entry.colour = place(names, kind + entry.name);
    entry.shape = place(families, kind + entry.family);
  }
}

}  // namespace saccade::reports
