// The check: any variant against its float64 oracle, from its entry alone.
//
// A CheckCase is one problem, one pass and one filling of the inputs. It runs
// in buffers of exactly the planned size, poisoned and guarded on both sides,
// and every element of the result must satisfy
//
//   |got - want| <= kappa u size
//
// with u = 2^-24, want and size from the oracle, and kappa the variant's own.
// bf16 storage adds one rounding of the result, 2^-8 |want|, for its arithmetic
// is f32 too; where the CPU multiplies bf16 and a variant makes use of it, one
// of each weight and of each gradient of a score as well, 2^-8 size. Gradients
// are compared with central differences of the oracle.
#ifndef SACCADE_BENCH_VERIFY_H_
#define SACCADE_BENCH_VERIFY_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "saccade/variant.h"

namespace saccade::bench {

/// kDecode feeds a sequence through Extend, split at random, and compares it
/// with the oracle of the whole.
enum class Pass : uint8_t { kForward, kBackward, kDecode };
inline constexpr Pass kPasses[] = {Pass::kForward, Pass::kBackward,
                                   Pass::kDecode};
/// "forward", "backward", "decode".
const char* NameOf(Pass pass);

/// What the inputs hold.
enum class Fill : uint8_t {
  kNormal,   // standard normal
  kZero,     // queries are zero
  kHuge,     // scores near +90 and -90
  kTied,     // all scores of a query are equal
  kRising,   // the running maximum rises with every key
  kOutlier,  // one key far larger than the others, one value as well
  kHidden,   // NaN in keys and values, which must reach those who see them only
};

/// How the tensors of a case lie in memory.
enum class Layout : uint8_t {
  kPacked,      // [B, H, T, D]
  kTokenMajor,  // [B, T, H, D]
  kGaps,        // unused elements between rows, heads and sequences; rows
                // aligned to their elements only
};

/// One thing to check. `problem` is unresolved; for kDecode its kv_len is the
/// length of the sequence and its q_len the longest piece.
struct CheckCase {
  const Variant* variant = nullptr;
  Problem problem;
  Pass pass = Pass::kForward;
  Fill fill = Fill::kNormal;
  Layout layout = Layout::kPacked;
  int slots = 1;      // of the Exec
  uint64_t seed = 1;  // of the data
};

/// The case as one line that ParseCase reads again.
std::string ToString(const CheckCase& c);

/// "softmax.window:size=3+rope pass=forward dtype=f32 mask=causal batch=1
/// heads=6/2 len=17/63 dim=33/8 fill=huge layout=gaps slots=3 seed=7"; all but
/// the spec may be left out. kInvalid or kNotFound.
Result<CheckCase> ParseCase(std::string_view text);

struct CheckResult {
  enum class Kind : uint8_t { kOk, kFail, kRefused };
  Kind kind = Kind::kOk;
  double ratio = 0;  // the worst |got - want| in units of the budget at kappa 1
  std::string what;  // why it failed or was refused, one line
};

/// Runs a case on the SIMD target now chosen.
CheckResult RunCase(const CheckCase& c);

/// kQuick: about a second for a variant, a pass and a dtype; the gate before
/// timing. kFull: what `saccade verify` and the tests run.
enum class Effort : uint8_t { kQuick, kFull };

/// The cases of a variant that follow from its traits, knobs and inputs. The
/// same for every call.
std::vector<CheckCase> CasesFor(const Variant& variant, Pass pass, DType dtype,
                                Effort effort);

/// Whether a variant offers a pass in that storage at all.
bool Offers(const Variant& variant, Pass pass, DType dtype);

/// What all cases of a variant in one pass, storage and target came to.
struct VerifySummary {
  std::string variant;
  Pass pass = Pass::kForward;
  DType dtype = DType::kF32;
  std::string target;
  int cases = 0;    // that ran
  int refused = 0;  // that the variant does not support
  int failed = 0;
  double worst_ratio = 0;  // in units of the budget at kappa 1
  double kappa = 0;
  std::string worst;    // the case of worst_ratio, for --case
  std::string failure;  // the first failure, one line; empty when ok
  std::string repeat;   // its case, for --case
  std::string refusal;  // the first refusal, one line

  /// At least one case ran, and none failed.
  bool ok() const { return failed == 0 && cases > 0; }
};

/// Checks on the targets named (empty: the one now chosen), cases in parallel
/// on `exec`, and calls done, if any, after each summary. One summary a target.
/// Restores the chosen target. Not to be called by two threads at once, for the
/// chosen target is the process's.
std::vector<VerifySummary> Verify(const Variant& variant, Pass pass,
                                  DType dtype, Effort effort,
                                  std::span<const std::string> targets,
                                  Exec& exec);

/// Every pass and dtype a variant offers.
std::vector<VerifySummary> VerifyAll(
    const Variant& variant, Effort effort, std::span<const std::string> targets,
    Exec& exec, const std::function<void(const VerifySummary&)>& done = {});

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_VERIFY_H_
