// What trained models say about a variant: evidence for a recommendation.
#ifndef SACCADE_BENCH_QUALITY_H_
#define SACCADE_BENCH_QUALITY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "record/record.h"

namespace saccade::bench {

/// How well a model reads text, or recalls, at some multiple of its training
/// length: the mean over seeds.
struct Reading {
  std::string spec;    // as it was trained; may differ from what was asked
  std::string change;  // at test time: "plain", or what reads best
  double value = 0;    // bits a byte; or the share recalled
  int seeds = 0;
  int64_t train_len = 0, eval_len = 0;  // tokens
};

/// Readings of the models of a run. Those of several are not to be mixed: what
/// was trained alike is compared.
class Quality {
 public:
  explicit Quality(const record::Run& run);

  /// Bits a byte at the least multiple of the training length that was read and
  /// is not below `times`, else at the greatest; under the change at test time
  /// that reads best there. Of a model of this very spec, else of one of the
  /// same variant with other knobs or positions; nothing where there is none.
  std::optional<Reading> Language(std::string_view spec, double times) const;

  /// Likewise the share recalled: of right answers, over the recall probes that
  /// all models asked for recall were given.
  std::optional<Reading> Recall(std::string_view spec, double times) const;

  /// The best of all models at that multiple.
  std::optional<double> BestLanguage(double times) const;
  std::optional<double> BestRecall(double times) const;

  /// In words: which protocol or probes, which models, which run; empty where
  /// there is no evidence.
  std::string LanguageSource() const;
  std::string RecallSource() const;

  /// All specs of which there is evidence.
  std::vector<std::string> Specs() const;

 private:
  // By change, multiple of the training length, task (a protocol or a probe)
  // and seed.
  struct Readings {
    std::map<std::string,
             std::map<double, std::map<std::string, std::map<int64_t, double>>>>
        values;
    int64_t train_len = 0;
  };
  using BySpec = std::map<std::string, Readings>;

  static void Take(const record::Record& record, const std::string& task,
                   const char* value, BySpec* to);
  static std::set<std::string> TasksOf(const Readings& readings);
  static std::string Trained(const BySpec& all);
  static const BySpec::value_type* Find(const BySpec& all,
                                        std::string_view spec);
  static std::optional<Reading> Read(const BySpec& all,
                                     const std::set<std::string>& tasks,
                                     std::string_view spec, double times,
                                     bool greatest);
  static std::optional<double> Best(const BySpec& all,
                                    const std::set<std::string>& tasks,
                                    double times, bool greatest);

  BySpec language_, recall_;
  std::set<std::string> protocols_, probes_;  // that readings are taken of
  std::set<std::string> models_;  // of text: "d128 N2 h8, 427 thousand ..."
  std::string source_;
};

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_QUALITY_H_
