// What several seeds say together: the same for claims and for reports.
#ifndef SACCADE_COMMON_RECORD_STATISTICS_H_
#define SACCADE_COMMON_RECORD_STATISTICS_H_

#include <span>
#include <vector>

namespace saccade::record {

/// P(|T| > |t|) of Student's t with that many degrees of freedom (> 0).
double StudentTail(double t, double freedom);

/// The t that |T| stays below with probability `coverage`, in (0, 1).
double StudentQuantile(double coverage, double freedom);

/// The mean of independent samples, one a seed, or one difference a seed where
/// two models were trained with the same seeds.
struct MeanTest {
  double mean = 0;
  double low = 0, high = 0;  // Student's 95 % interval
  double p = 1;              // two-sided, of a true mean of zero
  int count = 0;
};

/// Of one sample low, high and p are NaN; of none all are.
MeanTest TestMean(std::span<const double> samples);

/// P values of several tests made at once, adjusted in the order given: the
/// chance to reject any true hypothesis by p < .05 is .05 at most (Holm 1979).
/// NaN stays NaN and does not count.
std::vector<double> Holm(std::span<const double> p);

/// The same by Benjamini & Hochberg (1995): of the hypotheses rejected by p <
/// .05 at most .05 are true on average, and where all are true the chance of
/// any is .05 at most. Finds more than Holm's where many are false.
std::vector<double> BenjaminiHochberg(std::span<const double> p);

}  // namespace saccade::record

#endif  // SACCADE_COMMON_RECORD_STATISTICS_H_
