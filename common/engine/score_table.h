// Attention whose scores are a learned table, which no token has a say in.
#ifndef SACCADE_COMMON_ENGINE_SCORE_TABLE_H_
#define SACCADE_COMMON_ENGINE_SCORE_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/pattern.h"
#include "engine/tile.h"
#include "saccade/variant.h"

namespace saccade {

/// Row of the table that query row 0 reads: its position, or 0 where there are
/// more queries than keys.
int64_t TableRow(const Problem &problem);

/// Softmax over visible keys of table[row][key], f32 only: Inputs::bias holds a
/// table [length][length] for each head, at first numbers of deviation 1 (see
/// DrawEven). With `content` scaled products of q and k are added to it,
/// otherwise these are not read. kUnsupported: a position of the problem is
/// `length` or more, or the tables hold more than 2^30 numbers.
Result<std::unique_ptr<Plan>> MakeScoreTablePlan(const Problem &problem,
                                                 int64_t length, bool content);

/// The cost of a problem, and of reading a table's visible numbers.
Cost WithScoreTable(const Problem &problem, const TileSpec &spec, Cost cost);

/// What head h's table is before training.
void DrawScoreTable(int64_t head, int64_t length, float *to);
/// Those of all heads of a problem.
std::vector<float> ScoreTables(const Problem &problem, int64_t length);

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

/// Rows of q and k, `dim` wide.
struct Content {
  const float *q, *k;  // of a block's first row and key
  int64_t q_stride, k_stride, dim;
  float scale;
};
/// to [rows][kBlock] = table + scale q.k; kt [dim][kBlock] is scratch.
void AddProducts(const Block &block, const Content &content, float *kt,
                 float *to);

/// dtable (+)= weights (dout.v - delta), `values` wide, rows dtable_stride
/// apart. vt [values][kBlock], p and dp [kBlock][kBlock] are scratch.
void AddToTable(const Block &block, const float *v, int64_t v_stride,
                int64_t values, bool add, float *vt, float *p, float *dp,
                float *dtable, int64_t dtable_stride);

/// dv [kBlock][width] += weights^T dout.
void AddToValues(const Block &block, float *p, float *dv);

}  // namespace score_table
}  // namespace saccade

#endif  // SACCADE_COMMON_ENGINE_SCORE_TABLE_H_
