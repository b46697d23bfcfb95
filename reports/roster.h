// Who was compared: numbers the variants and peers that records speak of.
#ifndef SACCADE_REPORTS_ROSTER_H_
#define SACCADE_REPORTS_ROSTER_H_

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "record/record.h"
#include "reports/model.h"

namespace saccade::reports {

/// A text field of a record, Clean.
std::string Get(const record::Record& record, std::string_view field);

/// A peer's name with its version, as reports show it: two versions are two.
std::string PeerName(const record::Record& record);

class Roster {
 public:
  void Take(const record::Record& record);

  /// All entries in the order of reports: by the order that `variant` records
  /// give, then by appearance, peers last and by name. A name keeps its colour
  /// in all figures, a family its shape.
  std::vector<Entry> Finish();

 private:
  Entry& Add(const std::string& spec, bool peer);
  void AddPeer(const record::Record& record);
  void Describe(const record::Record& record);
  void Inherit(Entry& entry) const;
  void Dress();

  std::vector<Entry> entries_;
  std::map<std::pair<std::string, bool>, size_t> places_;
};

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_ROSTER_H_
