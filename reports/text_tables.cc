// Bits a byte in numbers: by protocol and length, and who differs from whom.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "reports/sections.h"
#include "reports/text.h"

namespace saccade::reports {
namespace {

constexpr char kNone[] = "–";

// The multiples of the training length that a table has room for.
constexpr std::array<int64_t, 4> kShown = {1, 4, 16, 32};

std::string WithHalf(const Estimate& e) {
  std::string text = FormatFixed(e.value, 3);
  if (e.bounded()) {
    text += fmt::format(" ±{}", FormatFixed((e.high - e.low) / 2, 3));
  }
  return text;
}

std::string Signed(const Estimate& e) {
  return (e.value < 0 ? "" : "+") + WithHalf(e);
}

const BySeed* SeedsAt(const Curve& curve, int64_t multiple) {
  const auto seeds = curve.seeds.find(multiple * curve.train_len);
  return seeds == curve.seeds.end() ? nullptr : &seeds->second;
}

// Of text read at multiples of the training length, not by position.
bool ReadByLength(const CurveKey& key, const Curve& curve) {
  return key.what != "position" && curve.outcome.ok() && curve.train_len > 0;
}

// The shown multiples that anything was read at.
std::set<int64_t> Multiples(const Model& model) {
  std::set<int64_t> multiples;
  for (const auto& [key, curve] : model.texts) {
    if (!ReadByLength(key, curve)) continue;
    for (const int64_t r : kShown) {
      if (SeedsAt(curve, r) != nullptr) multiples.insert(r);
    }
  }
  return multiples;
}

}  // namespace

Table ProtocolTable(const Model& model) {
  Table table;
  const std::set<int64_t> multiples = Multiples(model);
  if (multiples.empty()) return table;
  const int64_t near = *multiples.begin(), far = *multiples.rbegin();
  table.caption = "Bits a byte by protocol";
  table.note = fmt::format(
      "± half a 95 % interval: Student's over seeds, or within the run "
      "(bootstrap over segments) where there is one seed. The last column is "
      "{}× minus {}×, paired by seed.",
      far, near);
  table.html_only = true;
  table.columns = {
      {"variant", false}, {"at test time", false}, {"protocol", false}};
  for (const int64_t r : multiples) {
    table.columns.push_back({fmt::format("{}×", r)});
  }
  table.columns.push_back({"change"});
  for (const std::string& protocol : model.protocols) {
    for (const auto& [key, curve] : model.texts) {
      if (key.what != protocol || !ReadByLength(key, curve)) continue;
      std::vector<Cell> row = {
          EntryCell(model.at(key.entry)), {key.change}, {protocol}};
      for (const int64_t r : multiples) {
        const auto point = curve.points.find(r * curve.train_len);
        row.push_back(
            {point == curve.points.end() ? kNone : WithHalf(point->second)});
      }
      const BySeed *a = SeedsAt(curve, near), *b = SeedsAt(curve, far);
      const bool both = a != nullptr && b != nullptr && near != far;
      row.push_back(
          {both ? Signed(DifferencesFrom(*a, {b}).front().bits) : kNone});
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

Table SwitchTable(const Model& model, const Verdict& verdict) {
  Table table;
  std::map<int, std::vector<const CurveKey*>> rows;  // by entry
  std::vector<std::string> changes;
  for (const auto& [key, curve] : model.texts) {
    if (key.what != verdict.protocol || !ReadByLength(key, curve)) continue;
    rows[key.entry].push_back(&key);
    if (std::find(changes.begin(), changes.end(), key.change) ==
        changes.end()) {
      changes.push_back(key.change);
    }
  }
  if (changes.size() < 3) return table;
  table.caption = fmt::format(
      "Changes at test time, bits a byte at {}× the training length",
      verdict.far_multiple);
  table.note = fmt::format(
      "Protocol {}. Each model is read as it was trained (plain) and with each "
      "change that it allows; none of them trains anything. Marked: the best "
      "of a row.",
      verdict.protocol);
  table.columns = {{"variant", false},
                   {fmt::format("plain at {}×", verdict.near_multiple)}};
  for (const std::string& change : changes) table.columns.push_back({change});
  for (const auto& [entry, keys] : rows) {
    std::map<std::string, Estimate> far;
    Estimate near, best;
    for (const CurveKey* key : keys) {
      const Curve& curve = model.texts.at(*key);
      const auto at = [&](int64_t multiple) {
        const auto point = curve.points.find(multiple * curve.train_len);
        return point == curve.points.end() ? Estimate() : point->second;
      };
      if (key->change == kPlain) near = at(verdict.near_multiple);
      const Estimate e = at(verdict.far_multiple);
      if (!e.known()) continue;
      far[key->change] = e;
      if (!best.known() || e.value < best.value) best = e;
    }
    std::vector<Cell> cells = {EntryCell(model.at(entry)),
                               {near.known() ? WithHalf(near) : kNone}};
    for (const std::string& change : changes) {
      const auto e = far.find(change);
      if (e == far.end()) {
        cells.push_back({kNone, "", "quiet"});
        continue;
      }
      cells.push_back({WithHalf(e->second), "",
                       e->second.value == best.value ? "best" : ""});
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Table DifferenceTable(const Model& model, const Verdict& verdict) {
  Table table;
  if (verdict.best_text < 0) return table;
  const VerdictRow& best = verdict.rows[static_cast<size_t>(verdict.best_text)];
  table.caption =
      fmt::format("Who differs from the best at {}×", verdict.far_multiple);
  table.note = fmt::format(
      "Protocol {}; of readings as trained and under a test window the better. "
      "Differences are paired by seed, with Student's 95 % interval; p is "
      "Holm's, for all comparisons of this table together. A tie: p is not "
      "below .05, or the difference is {} bit at most. With one seed the "
      "interval is of the run and p unknown.",
      verdict.protocol, kTieBits);
  table.columns = {{"variant", false}, {"at test time", false},
                   {"bits/byte"},      {"difference"},
                   {"seeds"},          {"p"},
                   {"verdict", false}};
  for (const VerdictRow& row : verdict.rows) {
    if (row.best_far == nullptr) continue;
    const Estimate far = BestFar(row);
    const bool window = row.far_window.value == far.value;
    std::vector<Cell> cells = {EntryCell(model.at(row.trained)),
                               {window ? kWindow : kPlain},
                               {WithHalf(far)}};
    if (&row == &best) {
      for (const char* text : {kNone, kNone, kNone}) cells.push_back({text});
      cells.push_back({"the best", "", "best"});
    } else {
      const Difference& d = row.behind;
      cells.push_back({Signed(d.bits)});
      cells.push_back({fmt::format("{}", std::max(d.bits.count, 1))});
      cells.push_back({std::isnan(d.p) ? kNone : FormatFixed(d.p, 4)});
      cells.push_back({d.tie ? "a tie" : "worse", "", d.tie ? "best" : ""});
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace saccade::reports
