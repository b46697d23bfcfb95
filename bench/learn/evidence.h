// A run's records, asked for figures; and what is said of them.
#ifndef SACCADE_BENCH_LEARN_EVIDENCE_H_
#define SACCADE_BENCH_LEARN_EVIDENCE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/extrapolation.h"
#include "reports/stats.h"

namespace saccade::bench {

/// Figures of a run by seed; none where no record says anything.
class Evidence {
 public:
  Evidence(const LearnOptions& options, std::span<const nlohmann::json> records)
      : options_(options), records_(records) {}

  const LearnOptions& options() const { return options_; }

  /// The specs that claims on `role` are about.
  const std::vector<std::string>& Role(const std::string& role) const;

  /// Bits a byte at a multiple of the training length.
  reports::BySeed Bits(const std::string& spec, std::string_view protocol,
                       std::string_view change, int64_t multiple) const;

  /// Of a probe's symbols at one length; of one of its buckets, unless
  /// negative.
  reports::BySeed Accuracy(const std::string& spec, std::string_view probe,
                           int64_t len, int64_t bucket = -1) const;
  /// The share of them that theory allows at most.
  reports::BySeed Allowed(const std::string& spec, std::string_view probe,
                          int64_t len) const;
  /// The buckets of a probe that were read at that length, rising.
  std::vector<int64_t> Buckets(std::string_view probe, int64_t len) const;

  /// What a lens read of a subject ("inputs", "fresh", "trained"). Attention by
  /// itself is known by its name: knobs and positions are a model's affair.
  reports::BySeed Lens(const std::string& spec, std::string_view lens,
                       std::string_view subject) const;

  reports::BySeed Anchor(std::string_view anchor) const;

  /// The loss curves of a task, one a seed.
  std::vector<std::vector<double>> Curves(const std::string& spec,
                                          std::string_view task) const;

 private:
  reports::BySeed Find(const nlohmann::json& wanted, const char* field) const;

  const LearnOptions& options_;
  std::span<const nlohmann::json> records_;
};

/// b - a, paired by seed.
reports::Estimate Change(const reports::BySeed& a, const reports::BySeed& b);

/// The mean over seeds.
reports::Estimate MeanOf(const reports::BySeed& seeds);

/// "2.512 ± 0.008": half the 95 % interval, where there is one.
std::string Show(const reports::Estimate& estimate, int digits = 3);
/// Likewise with a sign.
std::string ShowSigned(const reports::Estimate& estimate, int digits = 3);

/// What was found: sentences, and whether all of them agree with the claim.
class Finding {
 public:
  void Say(bool agrees, const std::string& sentence);
  /// What bears on the claim but does not decide it.
  void Remark(const std::string& sentence);
  bool judged() const { return judged_; }

  /// A `claim` record: pass, fail, or not run where nothing was judged.
  nlohmann::json Record(int number, std::string_view claim,
                        std::string_view expected) const;

 private:
  bool agrees_ = true, judged_ = false;
  std::string text_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LEARN_EVIDENCE_H_
