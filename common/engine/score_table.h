// Attention whose scores are a learned table, which no token has a say in.
#ifndef SACCADE_COMMON_ENGINE_SCORE_TABLE_H_
#define SACCADE_COMMON_ENGINE_SCORE_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/pattern.h"
#include "saccade/variant.h"

namespace saccade {

/// Row of the table that query row 0 reads: its position, or 0 where there are
/// more queries than keys.
int64_t TableRow(const Problem &problem);

/// Softmax over visible keys of table[row][key], f32 only: Inputs::bias holds a
/// table [length][length] for each head, at first `start`. q and k are not
/// read. Every position of the problem must be below `length`.
std::unique_ptr<Plan> MakeScoreTablePlan(const Problem &problem, int64_t length,
                                         std::vector<float> start);

namespace score_table {

constexpr int64_t kBlock = 64;  // rows or keys

/// A block of rows and keys of a head: row r sees the block's keys
/// seen_first + r .. seen_end + r - 1, of 0 .. keys - 1.
struct Block {
  const float *table;  // of its first row and key
  int64_t stride;
  const float *lse, *delta;  // of its rows; delta: out.dout
  int64_t rows, keys;
  int64_t seen_first, seen_end;
  const float *dout;  // [rows][width], of a padded width
  int64_t width;
};

/// Lanes that widths are padded to.
int64_t Lanes();

/// dtable (+)= weights (dout.v - delta), `values` wide. vt [values][kBlock],
/// p and dp [kBlock][kBlock] are scratch.
void AddToTable(const Block &block, const float *v, int64_t v_stride,
                int64_t values, bool add, float *vt, float *p, float *dp,
                float *dtable);

/// dv [kBlock][width] += weights^T dout.
void AddToValues(const Block &block, float *p, float *dv);

}  // namespace score_table
}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCORE_TABLE_H_
