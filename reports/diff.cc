#include "reports/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "reports/diff_parts.h"
#include "reports/text.h"

namespace saccade::reports {

using record::Json;
using record::Record;
using record::Run;

namespace {

double Rounded(double value) { return std::round(value * 1000) / 1000; }

constexpr std::array<std::string_view, 10> kNames = {
    "same",   "unclear", "faster", "slower", "smaller",
    "bigger", "better",  "worse",  "mended", "broken"};

// By how much a row changed, in the unit of a limit; without a number, more
// than any.
double SizeOf(const DiffRow& row) {
  if (!row.by.known()) return INFINITY;
  const bool ratio =
      row.measure == "median_ns" || row.measure.ends_with("bytes");
  return ratio ? row.by.value - 1 : std::abs(row.by.value);
}

}  // namespace

std::string_view NameOf(Change change) {
  return kNames[static_cast<size_t>(change)];
}

bool Diff::Has(DiffRemark::Kind kind) const {
  return std::any_of(remarks.begin(), remarks.end(),
                     [&](const DiffRemark& r) { return r.kind == kind; });
}

Estimate Rounded(const Estimate& e) {
  return {Rounded(e.value), Rounded(e.low), Rounded(e.high), e.count};
}

Json CellOf(const Record& record) {
  Json cell = Json::parse(record::IdentityOf(record.fields()));
  cell.erase("target");
  return cell;
}

std::vector<Both> Pair(const Runs& a, const Runs& b,
                       std::initializer_list<std::string_view> kinds,
                       const std::function<Json(const Record&)>& cell_of) {
  std::vector<Both> pairs;
  std::map<std::string, size_t> places;
  const auto take = [&](const Runs& runs, OfRuns Both::*side) {
    for (size_t r = 0; r < runs.size(); ++r) {
      for (const Record& record : runs[r].records) {
        if (std::find(kinds.begin(), kinds.end(), record.kind()) == kinds.end())
          continue;
        Json cell = cell_of(record);
        const auto [place, fresh] =
            places.try_emplace(cell.dump(), pairs.size());
        if (fresh)
          pairs.push_back(
              {std::move(cell), OfRuns(a.size()), OfRuns(b.size())});
        (pairs[place->second].*side)[r] = &record;
      }
    }
  };
  take(a, &Both::a);
  take(b, &Both::b);
  return pairs;
}

OfRuns Good(const OfRuns& records) {
  OfRuns good;
  for (const Record* record : records)
    if (record != nullptr && record->ok()) good.push_back(record);
  return good;
}

std::string WhyNot(const OfRuns& records) {
  for (const Record* record : records)
    if (record != nullptr)
      return fmt::format("{}: {}", record->status(),
                         Clean(record->Text("reason"), 400));
  return "not measured";
}

void TakeGap(const Both& both, Diff* diff) {
  const bool in_a = !Good(both.a).empty(), in_b = !Good(both.b).empty();
  if (in_a == in_b) return;
  const OfRuns& lacking = in_a ? both.b : both.a;
  const bool fails = std::any_of(
      lacking.begin(), lacking.end(),
      [](const Record* r) { return r != nullptr && r->status() == "fail"; });
  if (!fails) {
    diff->gaps.push_back({both.cell, in_a ? 'B' : 'A', WhyNot(lacking)});
    return;
  }
  DiffRow row{both.cell, "check"};
  row.change = in_a ? Change::kBroken : Change::kMended;
  row.reason = WhyNot(lacking);
  diff->checks.push_back(std::move(row));
}

Diff MakeDiff(const std::vector<Run>& a, const std::vector<Run>& b,
              double same_within) {
  Diff diff;
  diff.same_within = same_within;
  AddRemarks(a, b, &diff);
  CompareChecks(a, b, &diff);
  CompareTimes(a, b, &diff);
  CompareBytes(a, b, &diff);
  CompareReadings(a, b, &diff);
  return diff;
}

std::vector<const DiffRow*> Beyond(const Diff& diff,
                                   const std::vector<DiffLimit>& limits) {
  std::vector<const DiffRow*> beyond;
  for (const auto* rows :
       {&diff.checks, &diff.means, &diff.times, &diff.bytes, &diff.readings}) {
    for (const DiffRow& row : *rows) {
      const bool too_much =
          row.change == Change::kBroken ||
          std::any_of(limits.begin(), limits.end(), [&](const DiffLimit& l) {
            return l.change == row.change && SizeOf(row) > l.beyond;
          });
      if (too_much) beyond.push_back(&row);
    }
  }
  return beyond;
}

}  // namespace saccade::reports
