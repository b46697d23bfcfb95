// sparse.block: softmax over the blocks of keys that each block of queries
// lists.
//
//   o_i = sum_j softmax_j(s_ij) v_j over j whose block is listed for i's
//
// The lists come from the problem (Problem::blocks), or from knobs: `pattern`
// bigbird is a band, first and last blocks global, and random blocks;
// longformer is a band and first blocks global; file reads `file`, one line of
// ascending key blocks a query block, # for comments. Under a causal mask
// j <= i as well, and what depends on the final length is left out (the last
// global block, random blocks to come), so that a prefix of the sequence gives
// the prefix of the result.
//
// Source: Zaheer et al. 2020, arXiv:2007.14062, section 2 and appendix D (block
// 64, band of 3, 3 random, 2 global); Beltagy et al. 2020, arXiv:2004.05150,
// section 3.1.
//
// Ours differs in the random blocks, which are drawn by a hash of seed and row.
//
// Shapes: q [B, Hq, Tq, d], k [B, Hkv, Tk, d], v [B, Hkv, Tk, e]. Time
// Tq x (listed keys) x (d + e) a head.
#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "engine/tile.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

// SplitMix64's finaliser: Steele et al. 2014, "Fast splittable generators".
uint64_t Hash(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The blocks that row r of `rows` lists.
std::set<int64_t> ListedBlocks(const Problem& p, int64_t r, int64_t rows) {
  const bool causal = p.mask != Mask::kNone;
  const bool bigbird = p.knobs.Text("pattern") == "bigbird";
  const int64_t band = p.knobs.Int("band"), globals = p.knobs.Int("globals");
  const int64_t end = causal ? r + 1 : rows;  // columns that may be listed
  const bool last = bigbird && !causal;
  std::set<int64_t> listed;
  if (r < globals || (last && r == rows - 1)) {
    for (int64_t c = 0; c < end; ++c) listed.insert(c);
    return listed;
  }
  for (int64_t c = 0; c < std::min(globals, end); ++c) listed.insert(c);
  if (last) listed.insert(rows - 1);
  for (int64_t c = std::max<int64_t>(0, r - band);
       c < std::min(end, r + band + 1); ++c)
    listed.insert(c);
  const uint64_t seed = Hash(static_cast<uint64_t>(p.knobs.Int("seed")));
  for (int64_t n = 0; bigbird && n < p.knobs.Int("random"); ++n)
    listed.insert(static_cast<int64_t>(
        Hash(seed ^ Hash(static_cast<uint64_t>(r * 1024 + n))) %
        static_cast<uint64_t>(end)));
  return listed;
}

Result<BlockMask> ReadBlocks(const Problem& p) {
  const std::string& path = p.knobs.Text("file");
  if (path.empty())
    return Invalid("sparse.block: pattern=file needs file=PATH");
  std::ifstream file(path);
  if (!file) return NotFound("sparse.block: cannot read " + path);
  BlockMask mask{p.knobs.Int("block"), {0}, {}};
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line[0] == '#') continue;
    std::istringstream words(line);
    int64_t before = -1;
    for (int64_t column; words >> column; before = column) {
      if (column <= before)
        return IoError(path + ":" + std::to_string(number) +
                       ": blocks must be ascending and not negative");
      mask.columns.push_back(column);
    }
    if (!words.eof())
      return IoError(path + ":" + std::to_string(number) +
                     ": not a list of block numbers");
    mask.offsets.push_back(static_cast<int64_t>(mask.columns.size()));
  }
  return mask;
}

Status CheckBlocks(const BlockMask& mask) {
  const auto bad = [](const char* what) {
    return Invalid(std::string("the block mask ") + what);
  };
  const int64_t count = static_cast<int64_t>(mask.columns.size());
  if (mask.block < 1) return bad("has blocks of no tokens");
  if (mask.offsets.empty() || mask.offsets.front() != 0 ||
      mask.offsets.back() != count)
    return bad("has offsets that do not span its columns");
  for (size_t r = 0; r + 1 < mask.offsets.size(); ++r) {
    const int64_t begin = mask.offsets[r], end = mask.offsets[r + 1];
    if (begin > end || end > count) return bad("has offsets that descend");
    for (int64_t n = begin; n < end; ++n)
      if (mask.columns[n] < 0 ||
          (n > begin && mask.columns[n] <= mask.columns[n - 1]))
        return bad("has columns that are negative or do not ascend");
  }
  return {};
}

Result<std::shared_ptr<const BlockMask>> Blocks(const Problem& p) {
  if (p.blocks) {
    if (Status s = CheckBlocks(*p.blocks); !s.ok()) return s;
    return p.blocks;
  }
  if (p.knobs.Text("pattern") == "file") {
    Result<BlockMask> mask = ReadBlocks(p);
    if (!mask.ok()) return mask.status();
    return std::shared_ptr<const BlockMask>(
        std::make_shared<BlockMask>(std::move(*mask)));
  }
  auto mask = std::make_shared<BlockMask>();
  mask->block = p.knobs.Int("block");
  mask->offsets = {0};
  const int64_t tokens = std::max(p.kv_len, QueryOffset(p) + p.q_len);
  const int64_t rows = (tokens + mask->block - 1) / mask->block;
  for (int64_t r = 0; r < rows; ++r) {
    const std::set<int64_t> listed = ListedBlocks(p, r, rows);
    mask->columns.insert(mask->columns.end(), listed.begin(), listed.end());
    mask->offsets.push_back(static_cast<int64_t>(mask->columns.size()));
  }
  return std::shared_ptr<const BlockMask>(mask);
}

Result<TileSpec> BlockSpec(const Problem& p) {
  Result<std::shared_ptr<const BlockMask>> blocks = Blocks(p);
  if (!blocks.ok()) return blocks.status();
  TileSpec spec = MakeTileSpec(p);
  Part& part = spec.pattern[0];
  part.kind = Part::Kind::kBlocks;
  part.block = (*blocks)->block;
  part.blocks = *blocks;
  return spec;
}

Result<std::unique_ptr<Plan>> MakeBlock(const Problem& p) {
  Result<TileSpec> spec = BlockSpec(p);
  if (!spec.ok()) return spec.status();
  return MakeTilePlan(p, *spec);
}

Cost BlockCost(const Problem& p) {
  const Result<TileSpec> spec = BlockSpec(p);
  return spec.ok() ? TileCost(p, *spec) : Cost{};
}

void BlockOracle(const Problem& p, const OracleInputs& in,
                 const OracleOutputs& out) {
  const auto blocks = Blocks(p);
  if (!blocks.ok()) return;
  const BlockMask& mask = **blocks;
  const auto sees = [&](int64_t i, int64_t j) {
    const int64_t row = i / mask.block;
    if (i < 0 || row + 1 >= static_cast<int64_t>(mask.offsets.size()))
      return false;
    for (int64_t n = mask.offsets[row]; n < mask.offsets[row + 1]; ++n)
      if (mask.columns[n] == j / mask.block) return true;
    return false;
  };
  oracle::DotSoftmax(p, in, out, sees, oracle::Bias(p, in));
}

}  // namespace

const Variant& sparse_block() {
  static const Variant variant = {
      .name = "sparse.block",
      .title = "softmax over listed blocks of keys: BigBird, Longformer, own",
      .source =
          "Zaheer et al. 2020, arXiv:2007.14062, section 2; Beltagy et "
          "al. 2020, arXiv:2004.05150, section 3.1",
      .traits = {.window = true,
                 .bias = true,
                 .attn_mask = true,
                 .softcap = true,
                 .lse = true,
                 .rounds_weights = true},
      .knobs = {{"block", "tokens of a block", 64, 1, 1e6},
                {"pattern", "where the lists come from", 0, 0, 0, false,
                 "bigbird|longformer|file"},
                {"band", "blocks seen on either side of the own", 1, 0, 1e6},
                {"globals", "first blocks that see all and all see", 1, 0, 1e6},
                {"random", "random blocks a row (bigbird)", 3, 0, 1000},
                {"seed", "of the random blocks", 1, 0, 1e9},
                {"file", "path of the lists (pattern=file)", 0, 0, 0, false,
                 "*"}},
      .cost = BlockCost,
      .plan = MakeBlock,
      .oracle = BlockOracle,
  };
  return variant;
}

}  // namespace saccade::variants
