#include "bench/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "bench/statistics.h"
#include "reports/text.h"

namespace saccade::bench {
namespace {

// Rates at which work is priced. They only weigh operations against bytes: what
// a thread reaches is learned, as a share of this.
constexpr double kFlopsPerSecond = 1e11, kBytesPerSecond = 1e10;

constexpr int kFeatures = 4;
using Features = std::array<double, kFeatures>;

// How fast a measured shape loses its say with its distance, in octaves of
// length, width, heads and threads.
constexpr Features kDistance = {1, 2, 0.5, 1};
constexpr double kNear = 0.25;

// Pulls slopes to zero where few shapes tell them; 0.02 to 0.5 gave the same
// picks on two machines' runs of 199 and 518 cells, times with 3 % of error at
// the median for forward and backward passes.
constexpr double kRidge = 0.05;

// Beyond the shapes measured, a rate strays no further than this (log).
constexpr double kBeyond = 0.2;

constexpr double kClose = 0.03;

double Price(const TimedPass& p) {
  return p.flops / kFlopsPerSecond + p.bytes / kBytesPerSecond;
}

Features FeaturesOf(const TimedPass& p) {
  const auto octaves = [](double x) { return std::log2(std::max(x, 1.0)); };
  return {octaves(p.length), octaves(p.width), octaves(p.heads),
          octaves(p.threads)};
}

// The normal equations of a weighted regression: rate = x[0] + slopes * (f -
// wanted's).
using Row = std::array<double, kFeatures + 2>;  // coefficients, right-hand side
using System = std::array<Row, kFeatures + 1>;

// Solves for the first unknown. The ridge keeps the matrix positive definite,
// so no pivoting is needed.
double FirstUnknown(System s) {
  for (int k = kFeatures; k > 0; --k) {
    for (int i = 0; i < k; ++i) {
      const double f = s[i][k] / s[k][k];
      for (int j = 0; j <= k; ++j) s[i][j] -= f * s[k][j];
      s[i].back() -= f * s[k].back();
    }
  }
  return s[0].back() / s[0][0];
}

struct Timed {
  Features at;
  double rate;  // log of the price that a thread gets through in a second
};

// The rate at `wanted`.
double Regress(const std::vector<Timed>& timed, const Features& wanted) {
  System s = {};
  double sum = 0, low = timed.front().rate, high = low;
  for (const Timed& t : timed) {
    Row x = {1};
    double distance = kNear;
    for (int i = 0; i < kFeatures; ++i) {
      x[i + 1] = t.at[i] - wanted[i];
      distance += kDistance[i] * x[i + 1] * x[i + 1];
    }
    x.back() = t.rate;
    const double weight = 1 / (distance * distance);
    sum += weight;
    for (int i = 0; i <= kFeatures; ++i)
      for (int j = 0; j < kFeatures + 2; ++j) s[i][j] += weight * x[i] * x[j];
    low = std::min(low, t.rate);
    high = std::max(high, t.rate);
  }
  for (int i = 1; i <= kFeatures; ++i) s[i][i] += kRidge * sum;
  return std::clamp(FirstUnknown(s), low - kBeyond, high + kBeyond);
}

}  // namespace

std::optional<TimedPass> TimedOf(const record::Record& r) {
  if (r.kind() != "speed" || !r.ok() || r.Text("cache") == "cold") return {};
  TimedPass p;
  p.spec = r.Text("variant");
  p.name = reports::BaseName(p.spec);
  p.pass = r.Text("pass");
  p.dtype = r.Text("dtype");
  p.length = r.Number("kv_len");
  p.width = r.Number("qk_dim");
  p.heads = r.Number("q_heads") * r.Number("batch");
  p.threads = r.Number("threads");
  p.flops = r.Number("flops");
  p.bytes = r.Number("bytes");
  p.seconds = r.Number("median_ns") * 1e-9;
  p.shape =
      fmt::format("{} {} {} {} {} {} {}", p.pass, p.dtype, r.Text("mask"),
                  p.length, r.Count("batch"), p.threads, r.Text("setting"));
  // What an older or another program left out cannot be learned from.
  for (const double x :
       {p.length, p.width, p.heads, p.threads, p.seconds, Price(p)})
    if (!(x > 0)) return {};
  return p;
}

TimedPass Wanted(const PlannedCell& c) {
  TimedPass p;
  p.spec = c.cell.spec;
  p.name = reports::BaseName(p.spec);
  p.pass = NameOf(c.cell.pass);
  p.dtype = NameOf(c.cell.dtype);
  p.length = static_cast<double>(c.cell.length);
  p.width = static_cast<double>(c.problem.qk_dim);
  p.heads = static_cast<double>(c.problem.q_heads * c.problem.batch);
  p.threads = c.cell.threads;
  p.flops = c.flops();
  p.bytes = c.bytes();
  return p;
}

bool TimePredictor::Knows(const TimedPass& wanted) const {
  return std::any_of(passes_.begin(), passes_.end(), [&](const TimedPass& p) {
    return p.spec == wanted.spec && p.pass == wanted.pass &&
           p.dtype == wanted.dtype;
  });
}

std::optional<double> TimePredictor::Seconds(const TimedPass& wanted,
                                             std::string_view without) const {
  std::vector<Timed> timed;
  const TimedPass* lightest = nullptr;
  for (const TimedPass& p : passes_)
    if (p.name == wanted.name && p.pass == wanted.pass &&
        p.dtype == wanted.dtype && (without.empty() || p.shape != without)) {
      if (lightest == nullptr || Price(p) < Price(*lightest)) lightest = &p;
      timed.push_back(
          {FeaturesOf(p), std::log(Price(p) / (p.seconds * p.threads))});
    }
  if (timed.empty()) return {};
  const double rate = std::exp(Regress(timed, FeaturesOf(wanted)));
  const double seconds = Price(wanted) / (rate * wanted.threads);
  // What a pass costs before it has done anything is in the lightest's time.
  return Price(wanted) < Price(*lightest) ? std::max(seconds, lightest->seconds)
                                          : seconds;
}

HeldOut TimePredictor::LeaveOneOut(std::string_view pass,
                                   std::string_view dtype,
                                   const std::set<std::string>& names) const {
  // By shape and spec: of a cell that was measured twice the last counts.
  std::map<std::string, std::map<std::string, const TimedPass*>> shapes;
  for (const TimedPass& p : passes_)
    if (p.pass == pass && p.dtype == dtype && names.contains(p.name))
      shapes[p.shape][p.spec] = &p;
  HeldOut held;
  std::vector<double> errors;
  std::set<std::string> seen;
  for (const auto& [shape, passes] : shapes) {
    double best = INFINITY, least = INFINITY, picked = 0;
    int known = 0;
    for (const auto& [spec, p] : passes) {
      const std::optional<double> foretold = Seconds(*p, shape);
      if (!foretold) continue;
      ++known;
      seen.insert(p->name);
      errors.push_back(std::abs(*foretold / p->seconds - 1));
      best = std::min(best, p->seconds);
      if (*foretold < least) least = *foretold, picked = p->seconds;
    }
    if (known < 2) continue;
    ++held.shapes;
    held.close += picked <= (1 + kClose) * best;
    held.worst = std::max(held.worst, picked / best - 1);
  }
  held.variants = static_cast<int>(seen.size());
  if (!errors.empty()) held.median = Median(errors);
  return held;
}

}  // namespace saccade::bench
