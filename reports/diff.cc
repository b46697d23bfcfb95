#include "reports/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "nearest.h"
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

// What may be limited, and whether in shares.
constexpr struct {
  Change change;
  bool share;
  bool amount;
} kLimited[] = {{Change::kSlower, true, true},
                {Change::kBigger, true, true},
                {Change::kWorse, false, true},
                {Change::kBroken, false, false}};

std::string_view Trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(' '), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

Result<DiffLimit> ParseLimit(std::string_view text) {
  const size_t more = text.find('>');
  const std::string_view name = Trimmed(text.substr(0, more));
  const auto* known =
      std::find_if(std::begin(kLimited), std::end(kLimited),
                   [&](const auto& k) { return NameOf(k.change) == name; });
  if (known == std::end(kLimited)) {
    std::vector<std::string_view> names;
    for (const auto& k : kLimited) names.push_back(NameOf(k.change));
    return Invalid(
        fmt::format("'{}' is none of slower, bigger, worse, broken{}", name,
                    DidYouMean(name, names)));
  }
  DiffLimit limit = {known->change};
  if (more == std::string_view::npos) return limit;
  std::string_view number = Trimmed(text.substr(more + 1));
  const bool percent = number.ends_with('%');
  if (percent) number = Trimmed(number.substr(0, number.size() - 1));
  const auto [end, error] = std::from_chars(
      number.data(), number.data() + number.size(), limit.beyond);
  const bool whole =
      error == std::errc() && end == number.data() + number.size();
  if (!known->amount || !whole || percent != known->share ||
      !(limit.beyond >= 0 && limit.beyond < 1e6))
    return Invalid(fmt::format("'{}' is no limit; write {}", Trimmed(text),
                               !known->amount ? std::string(name)
                               : known->share ? fmt::format("{}>3%", name)
                                              : fmt::format("{}>0.02", name)));
  if (percent) limit.beyond /= 100;
  return limit;
}

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

Result<std::vector<DiffLimit>> ParseLimits(std::string_view text) {
  std::vector<DiffLimit> limits;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const Result<DiffLimit> limit = ParseLimit(text.substr(0, comma));
    if (!limit.ok()) return limit.status();
    limits.push_back(*limit);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (limits.empty()) return Invalid("an empty list");
  return limits;
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
