// Effective rank of a head's matrix of weights: (sum of singular values)^2 over
// the sum of their squares. Under a causal mask plain rank is always full.
#include <algorithm>
#include <cmath>

#include "bench/learn/matrix.h"
#include "bench/lenses/lens.h"

// LAPACK, which OpenBLAS brings along without a header for C.
extern "C" void dgesdd_(const char* job, const int* m, const int* n, double* a,
                        const int* lda, double* s, double* u, const int* ldu,
                        double* vt, const int* ldvt, double* work,
                        const int* lwork, int* iwork, int* info,
                        size_t job_len);

namespace saccade::bench::lenses {
namespace {

constexpr int64_t kRows = 128;

// Singular values of a [n, n]. Empty when they could not be found.
std::vector<double> SingularValues(std::vector<double> a, int n) {
  std::vector<double> values(n);
  std::vector<int> integers(8 * n);
  double best = 0, none = 0;
  int info = 0;
  const int one = 1, ask = -1;
  dgesdd_("N", &n, &n, a.data(), &n, values.data(), &none, &one, &none, &one,
          &best, &ask, integers.data(), &info, 1);
  const int size = static_cast<int>(best);
  std::vector<double> work(std::max(size, 1));
  dgesdd_("N", &n, &n, a.data(), &n, values.data(), &none, &one, &none, &one,
          work.data(), &size, integers.data(), &info, 1);
  if (info != 0) values.clear();
  return values;
}

Result<std::vector<Reading>> Look(const Subject& s, Exec&) {
  UseOneBlasThread();
  const Weights& w = *s.weights;
  const int64_t n = std::min(w.len, kRows);
  double sum = 0, count = 0;
  std::vector<double> a(n * n);
  for (int64_t b = 0; b < w.batch; ++b) {
    for (int64_t h = 0; h < w.heads; ++h) {
      for (int64_t i = 0; i < n; ++i) {
        std::copy_n(w.Row(b, h, i).data(), n, &a[i * n]);
      }
      double nuclear = 0, squares = 0;
      for (const double x : SingularValues(a, static_cast<int>(n))) {
        nuclear += x;
        squares += x * x;
      }
      if (!(squares > 0)) continue;
      sum += nuclear * nuclear / squares;
      ++count;
    }
  }
  std::vector<Reading> readings;
  if (count > 0) readings.push_back({"effective rank", sum / count});
  return readings;
}

}  // namespace

const Lens& rank() {
  static const Lens lens = {
      .name = "rank",
      .source = "to singular values what n_eff is to weights",
      .sees = Sees::kWeights,
      .quantities = {{"effective rank",
                      "squared nuclear over squared Frobenius norm of a head's "
                      "first 128 rows and columns, mean over heads",
                      "128 for the identity, 1 for one and the same row"}},
      .look = Look};
  return lens;
}

}  // namespace saccade::bench::lenses
