// What needs no statistics of time: bytes, readings of models, checks.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "reports/diff_parts.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

using record::Json;
using record::Record;
using record::Run;

// By the plan, exact; growth is what a process was seen to grow by, which
// other processes and the allocator's rounding move.
constexpr const char* kBytes[] = {"scratch_bytes", "saved_bytes", "state_bytes",
                                  "rss_growth_bytes"};
constexpr double kGrowthSlack = 1 << 20;  // bytes

// The least of the runs: what disturbs growth only adds.
double LeastOf(const OfRuns& records, const char* field) {
  double least = kNaN;
  for (const Record* record : records) {
    const double bytes = record->Number(field);
    if (!(bytes >= least)) least = bytes;
  }
  return least;
}

// What is read of a model, whichever seed trained it.
Json ReadingOf(const Record& record) {
  constexpr const char* kFields[] = {
      "kind",      "variant",  "match",  "protocol",  "probe", "switch",
      "train_len", "eval_len", "bucket", "bucket_is", "metric"};
  Json cell = Json::object();
  for (const char* field : kFields)
    if (record.Has(field)) cell[field] = record.fields().at(field);
  return cell;
}

// A reading of both sides.
struct Reading {
  Json cell;
  std::string field;
  BySeed a, b;
};

std::vector<Reading> ReadingsOf(const Runs& a, const Runs& b) {
  std::vector<Reading> readings;
  std::map<std::string, size_t> places;
  const auto take = [&](const Runs& runs, BySeed Reading::*side) {
    for (const Run& run : runs) {
      for (const Record& record : run.records) {
        const bool probe = record.kind() == "probe";
        if ((!probe && record.kind() != "extrapolation") || !record.ok())
          continue;
        const char* field = probe ? "accuracy" : "bits_per_byte";
        Json cell = ReadingOf(record);
        const auto [place, fresh] =
            places.try_emplace(cell.dump(), readings.size());
        if (fresh) readings.push_back({std::move(cell), field, {}, {}});
        (readings[place->second].*side)[record.Count("seed")] = {
            record.Number(field), record.Number("low"), record.Number("high"),
            1};
      }
    }
  };
  take(a, &Reading::a);
  take(b, &Reading::b);
  return readings;
}

// Leaves the seeds that both have.
void KeepShared(Reading* reading) {
  std::erase_if(reading->a, [&](const auto& seed) {
    return !reading->b.contains(seed.first);
  });
  std::erase_if(reading->b, [&](const auto& seed) {
    return !reading->a.contains(seed.first);
  });
}

double MeanOf(const BySeed& seeds) {
  double sum = 0;
  for (const auto& [seed, reading] : seeds) sum += reading.value;
  return sum / static_cast<double>(seeds.size());
}

bool Identical(const Reading& reading) {
  return std::all_of(reading.a.begin(), reading.a.end(), [&](const auto& seed) {
    return seed.second.value == reading.b.at(seed.first).value;
  });
}

// Fewer bits are better, and more right answers.
Change ChangeOf(const Reading& reading, const Difference& d) {
  if (Identical(reading) ||
      (d.bits.low >= -kTieBits && d.bits.high <= kTieBits))
    return Change::kSame;
  if (d.tie) return Change::kUnclear;
  const bool more = d.bits.value > 0;
  return more == (reading.field == "accuracy") ? Change::kBetter
                                               : Change::kWorse;
}

// Of a check: whether its variant agreed with its oracle.
bool Passed(const Record& record) {
  return record.ok() && record.Count("failures") == 0;
}

}  // namespace

void CompareBytes(const Runs& a, const Runs& b, Diff* diff) {
  for (const Both& both : Pair(a, b, {"memory"}, CellOf)) {
    const OfRuns in_a = Good(both.a), in_b = Good(both.b);
    if (in_a.empty() || in_b.empty()) {
      TakeGap(both, diff);
      continue;
    }
    for (const char* field : kBytes) {
      DiffRow row{both.cell, field, LeastOf(in_a, field), LeastOf(in_b, field)};
      if (std::isnan(row.a) || std::isnan(row.b)) continue;
      if (row.a > 0) row.by = Rounded(Estimate{row.b / row.a});
      const bool measured = field == std::string_view("rss_growth_bytes");
      const double slack =
          measured ? std::max(kGrowthSlack, diff->same_within * row.a) : 0;
      row.change = row.b > row.a + slack   ? Change::kBigger
                   : row.b < row.a - slack ? Change::kSmaller
                                           : Change::kSame;
      diff->bytes.push_back(std::move(row));
    }
  }
}

void CompareReadings(const Runs& a, const Runs& b, Diff* diff) {
  std::vector<Reading> readings;
  std::vector<std::pair<const BySeed*, const BySeed*>> pairs;
  for (Reading& reading : ReadingsOf(a, b)) {
    if (reading.a.empty() || reading.b.empty()) {
      diff->gaps.push_back(
          {reading.cell, reading.a.empty() ? 'A' : 'B', "not measured"});
      continue;
    }
    KeepShared(&reading);
    if (reading.a.empty()) {
      diff->gaps.push_back({reading.cell, 'B', "trained by other seeds"});
      continue;
    }
    readings.push_back(std::move(reading));
  }
  for (const Reading& reading : readings)
    pairs.emplace_back(&reading.a, &reading.b);
  const std::vector<Difference> differences = Differences(pairs);
  for (size_t i = 0; i < readings.size(); ++i) {
    const Reading& reading = readings[i];
    DiffRow row{reading.cell, reading.field, MeanOf(reading.a),
                MeanOf(reading.b)};
    row.by =
        Identical(reading) ? Estimate{0, 0, 0} : Rounded(differences[i].bits);
    row.p = differences[i].p;
    row.change = ChangeOf(reading, differences[i]);
    diff->readings.push_back(std::move(row));
  }
}

void CompareChecks(const Runs& a, const Runs& b, Diff* diff) {
  const auto cell_of = [](const Record& record) {
    return Json::parse(record::IdentityOf(record.fields()));
  };
  const auto failed = [](const OfRuns& records) -> const Record* {
    for (const Record* record : records)
      if (record != nullptr && !Passed(*record) &&
          record->status() != "unsupported")
        return record;
    return nullptr;
  };
  const auto passed = [](const OfRuns& records) {
    return std::any_of(records.begin(), records.end(), [](const Record* r) {
      return r != nullptr && Passed(*r);
    });
  };
  for (const Both& both : Pair(a, b, {"verify"}, cell_of)) {
    const Record *bad_a = failed(both.a), *bad_b = failed(both.b);
    // What only one side checked, or could, tells nothing.
    if (!(bad_a || passed(both.a)) || !(bad_b || passed(both.b))) continue;
    DiffRow row{both.cell, "check"};
    row.change = bad_b && !bad_a   ? Change::kBroken
                 : bad_a && !bad_b ? Change::kMended
                                   : Change::kSame;
    const Record* bad = bad_b ? bad_b : bad_a;
    if (bad)
      row.reason = fmt::format("{}{} of {} cases fail",
                               bad_a && bad_b ? "in both, " : "",
                               bad->Count("failures"), bad->Count("cases"));
    diff->checks.push_back(std::move(row));
  }
}

}  // namespace saccade::reports
