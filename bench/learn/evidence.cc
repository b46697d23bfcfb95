#include "bench/learn/evidence.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "bench/learn/jobs.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

using nlohmann::json;
using reports::BySeed;
using reports::Estimate;

bool Matches(const json& record, const json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    if (!record.contains(key) || record[key] != value) return false;
  }
  // Claims are about models of the same parameters and steps.
  if (record.contains("match") && record["match"] == kByFlops) return false;
  // Parts of what another record says of the whole.
  if (record.contains("metric")) return false;
  if (record.contains("bucket") && !wanted.contains("bucket")) return false;
  return !record.contains("status") || record["status"] == "ok";
}

double NumberOr(const json& record, const char* field, double otherwise) {
  const auto found = record.find(field);
  if (found == record.end() || !found->is_number()) return otherwise;
  return found->get<double>();
}

json ProbeAt(const std::string& spec, std::string_view probe, int64_t len) {
  return {{"kind", "probe"},
          {"variant", spec},
          {"probe", probe},
          {"switch", "plain"},
          {"eval_len", len}};
}

std::string Half(const Estimate& e, int digits) {
  if (!e.bounded()) return "";
  return fmt::format(" ± {:.{}f}", (e.high - e.low) / 2, digits);
}

}  // namespace

const std::vector<std::string>& Evidence::Role(const std::string& role) const {
  static const std::vector<std::string> none;
  const auto found = options_.roles.find(role);
  return found == options_.roles.end() ? none : found->second;
}

BySeed Evidence::Find(const json& wanted, const char* field) const {
  BySeed found;
  // Intervals are of what a record is about in the first place.
  const bool own = field == std::string_view("bits_per_byte") ||
                   field == std::string_view("accuracy");
  for (const json& r : records_) {
    if (!Matches(r, wanted)) continue;
    const double value = NumberOr(r, field, reports::kNaN);
    if (std::isnan(value)) continue;
    const auto seed = static_cast<int64_t>(NumberOr(r, "seed", 0));
    found[seed] = {value,
                   own ? NumberOr(r, "low", reports::kNaN) : reports::kNaN,
                   own ? NumberOr(r, "high", reports::kNaN) : reports::kNaN, 1};
  }
  return found;
}

BySeed Evidence::Bits(const std::string& spec, std::string_view protocol,
                      std::string_view change, int64_t multiple) const {
  return Find({{"kind", "extrapolation"},
               {"variant", spec},
               {"protocol", protocol},
               {"switch", change},
               {"eval_len", multiple * options_.train_len}},
              "bits_per_byte");
}

BySeed Evidence::Accuracy(const std::string& spec, std::string_view probe,
                          int64_t len, int64_t bucket) const {
  json wanted = ProbeAt(spec, probe, len);
  if (bucket >= 0) wanted["bucket"] = bucket;
  return Find(wanted, "accuracy");
}

BySeed Evidence::Allowed(const std::string& spec, std::string_view probe,
                         int64_t len) const {
  return Find(ProbeAt(spec, probe, len), "predicted_high");
}

std::vector<int64_t> Evidence::Buckets(std::string_view probe,
                                       int64_t len) const {
  std::set<int64_t> buckets;
  for (const json& r : records_) {
    const double bucket = NumberOr(r, "bucket", -1);
    if (bucket >= 0 && r.value("kind", "") == "probe" &&
        r.value("probe", "") == probe &&
        NumberOr(r, "eval_len", -1) == static_cast<double>(len)) {
      buckets.insert(static_cast<int64_t>(bucket));
    }
  }
  return {buckets.begin(), buckets.end()};
}

BySeed Evidence::Lens(const std::string& spec, std::string_view lens,
                      std::string_view subject) const {
  const json wanted = {{"kind", "lens"}, {"lens", lens}, {"subject", subject}};
  std::map<std::string, BySeed> by_spec;
  for (const json& r : records_) {
    const double value = NumberOr(r, "value", reports::kNaN);
    if (!Matches(r, wanted) || std::isnan(value)) continue;
    by_spec[r.value("variant", "")]
           [static_cast<int64_t>(NumberOr(r, "seed", 0))] = {value};
  }
  if (const auto own = by_spec.find(spec); own != by_spec.end())
    return own->second;
  // Weights of given scores are those of the variant, wherever its positions
  // enter; the first by name, in whatever order they were looked at.
  if (subject == "inputs")
    for (const auto& [other, found] : by_spec)
      if (reports::BaseName(other) == reports::BaseName(spec)) return found;
  return {};
}

BySeed Evidence::Anchor(std::string_view anchor) const {
  return Find({{"kind", "anchor"}, {"anchor", anchor}}, "bits_per_byte");
}

std::vector<std::vector<double>> Evidence::Curves(const std::string& spec,
                                                  std::string_view task) const {
  const json wanted = {{"kind", "train"}, {"variant", spec}, {"task", task}};
  std::vector<std::vector<double>> curves;
  for (const json& r : records_) {
    if (!Matches(r, wanted) || !r.contains("loss")) continue;
    std::vector<double>& curve = curves.emplace_back();
    for (const json& x : r["loss"]) {
      if (x.is_number()) curve.push_back(x.get<double>());
    }
  }
  return curves;
}

Estimate Change(const BySeed& a, const BySeed& b) {
  if (a.empty() || b.empty()) return {};
  return reports::DifferencesFrom(a, {&b}).front().bits;
}

Estimate MeanOf(const BySeed& seeds) {
  std::vector<Estimate> readings;
  for (const auto& [seed, reading] : seeds) readings.push_back(reading);
  return reports::MeanOverSeeds(readings);
}

std::string Show(const Estimate& e, int digits) {
  return fmt::format("{:.{}f}", e.value, digits) + Half(e, digits);
}

std::string ShowSigned(const Estimate& e, int digits) {
  return fmt::format("{:+.{}f}", e.value, digits) + Half(e, digits);
}

void Finding::Say(bool agrees, const std::string& sentence) {
  agrees_ = agrees_ && agrees;
  judged_ = true;
  Remark(sentence);
}

void Finding::Remark(const std::string& sentence) {
  text_ += text_.empty() ? sentence : "; " + sentence;
}

json Finding::Record(int number, std::string_view claim,
                     std::string_view expected) const {
  return {
      {"kind", "claim"},
      {"status", "ok"},
      {"number", number},
      {"claim", claim},
      {"expected", expected},
      {"measured",
       text_.empty() ? "not run: no record of this run bears on it" : text_},
      {"verdict", !judged_  ? "not run"
                  : agrees_ ? "pass"
                            : "fail"}};
}

}  // namespace saccade::bench
