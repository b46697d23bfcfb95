// Plans whose queries, keys, or both are learned: rows of numbers, one for each
// position, that no token has a say in.
#ifndef SACCADE_COMMON_LEARNED_ROWS_H_
#define SACCADE_COMMON_LEARNED_ROWS_H_

#include <cstdint>
#include <memory>

#include "engine/tile.h"

namespace saccade {

/// Learned numbers of a head are rows [length][width] of keys, then such rows
/// of queries, where these are learned.
struct LearnedRows {
  bool queries = false;  // beside keys
  /// Scores are the sum of what q and k say, scaled, and of what learned keys
  /// say of learned queries or, where these are not learned, of the first extra
  /// input, rows of queries of that width.
  bool content = false;
  int64_t width = 0;   // as q's where queries are not learned
  int64_t length = 0;  // positions that there are rows for
  int64_t Numbers() const { return (queries ? 2 : 1) * length * width; }
};

/// What a head's numbers are before training: of a normal distribution, of that
/// deviation, another for each head.
void DrawRows(const LearnedRows &rows, int64_t head, double deviation,
              float *to);

/// The description of softmax(q_i.k_j) with such rows, without a scale, which
/// the plan sees to.
TileSpec LearnedRowsSpec(const Problem &problem, const LearnedRows &rows);

/// A plan of it, f32 only: Inputs::bias holds the numbers. What is learned is
/// not read of the inputs. kUnsupported: there are not rows for all positions.
Result<std::unique_ptr<Plan>> MakeLearnedRowsPlan(const Problem &problem,
                                                  const LearnedRows &rows,
                                                  TileSpec spec,
                                                  double deviation);

/// The problem with such rows, for oracles: kv_heads is q_heads.
struct RowsOracle {
  RowsOracle(const Problem &problem, const LearnedRows &rows,
             const OracleInputs &in, double deviation);
  Problem problem;
  std::vector<double> q, k;
  OracleInputs inputs;
};

}  // namespace saccade

#endif  // SACCADE_COMMON_LEARNED_ROWS_H_
