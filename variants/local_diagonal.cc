// local.diagonal: all weight on one key, at a fixed offset from the query.
//
//   o_i = v_(i + offset), or 0 where that key is not visible
//
// What aligned sequences before attention searched for anything: the identity,
// or a shift. No content, nothing to learn, and a bound below which no other
// variant's time can be.
//
// Knob: offset, in tokens: -1, the default, is the token before.
//
// Source: the monotonic alignment that Bahdanau et al. 2014, arXiv:1409.0473,
// section 5.2.1, find in their figure 3 and improve on; the "hard-coded" heads
// of You et al. 2020, arXiv:2005.00742, section 3, at variance 0.
//
// Ours differs in nothing. q and k are not read; their gradients are 0.
//
// Shapes: v [B, Hkv, Tk, e]. Time Tq e a head; decoding holds |offset| values.
#include <algorithm>
#include <cstring>
#include <string>

#include "content_free.h"
#include "engine/kv_cache.h"
#include "engine/pattern.h"
#include "oracle.h"
#include "rows.h"
#include "saccade/variant.h"
#include "simd/bf16.h"

namespace saccade::variants {
namespace {

class DiagonalPlan final : public Plan {
 public:
  explicit DiagonalPlan(const Problem& p)
      : Plan(p),
        offset_(p.knobs.Int("offset")),
        cache_({.batch = p.batch,
                .heads = p.kv_heads,
                .qk_dim = 1,
                .v_dim = p.v_dim,
                .dtype = p.dtype,
                .capacity = p.kv_len,
                .append = p.q_len,
                .reach = std::max<int64_t>(-offset_, 0)}) {
    const Part mask = MaskPart(p);
    visible_ = -offset_ >= mask.low && -offset_ <= mask.high;
  }

 private:
  std::string DoDescribe() const override { return "a copy of rows"; }

  Footprint DoMemory(int) const override {
    Footprint f;
    if (problem_.mask != Mask::kNone) f.state = cache_.bytes();
    return f;
  }

  // Rows of `out` whose queries begin at `position`; row_of(key) is a key's row
  // in v. Keys 0 .. kv_end - 1 exist.
  template <class RowOf>
  void Copy(const ConstView& v, const View& out, int64_t position,
            int64_t kv_end, RowOf row_of, Exec& exec) const {
    const int64_t group = problem_.q_heads / problem_.kv_heads;
    const auto bytes = static_cast<size_t>(out.dim * SizeOf(out.dtype));
    ForRowRuns(
        out, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
          for (int64_t t = first; t < end; ++t) {
            const int64_t key = position + t + offset_;
            void* const to = RowAt(out, b, h, t);
            if (visible_ && key >= 0 && key < kv_end)
              std::memcpy(to, RowAt(v, b, h / group, row_of(key)), bytes);
            else
              std::memset(to, 0, bytes);
          }
        });
  }

  void DoForward(const Inputs& in, const Outputs& out, Bytes, Bytes,
                 Exec& exec) const override {
    Copy(
        in.v, out.out, QueryOffset(problem_), problem_.kv_len,
        [](int64_t key) { return key; }, exec);
  }

  // A key's gradient is that of the one query that sees it, in every head of
  // its group.
  template <class T>
  void Gather(const ConstView& dout, const View& dv, Exec& exec) const {
    const auto get = [](T x) {
      if constexpr (std::is_same_v<T, float>)
        return x;
      else
        return ToFloat(x);
    };
    const int64_t group = problem_.q_heads / problem_.kv_heads;
    const int64_t first_query = QueryOffset(problem_);
    ForRowRuns(dv, exec, [&](int64_t b, int64_t h, int64_t first, int64_t end) {
      for (int64_t j = first; j < end; ++j) {
        T* const to = dv.Row<T>(b, h, j);
        const int64_t row = j - offset_ - first_query;
        if (!visible_ || row < 0 || row >= dout.len) {
          std::memset(to, 0, static_cast<size_t>(dv.dim) * sizeof(T));
          continue;
        }
        for (int64_t c = 0; c < dv.dim; ++c) {
          float sum = 0;
          for (int64_t g = 0; g < group; ++g)
            sum += get(dout.Row<T>(b, h * group + g, row)[c]);
          if constexpr (std::is_same_v<T, float>)
            to[c] = sum;
          else
            to[c] = ToBF16(sum);
        }
      }
    });
  }

  void DoBackward(const Inputs&, const Upstream& up, const Gradients& grad,
                  Bytes, Exec& exec) const override {
    ZeroRows(grad.dq, exec);
    ZeroRows(grad.dk, exec);
    if (problem_.dtype == DType::kF32)
      Gather<float>(up.dout, grad.dv, exec);
    else
      Gather<BF16>(up.dout, grad.dv, exec);
  }

  void DoReset(Bytes state) const override { cache_.Reset(state); }

  Status DoExtend(const Inputs& fresh, const Outputs& out, Bytes state, Bytes,
                  Exec& exec) const override {
    const int64_t n = fresh.q.len;
    Result<KvCache::Held> held = cache_.Open(state);
    if (!held.ok()) return held.status();
    if (n > problem_.kv_len - held->tokens)
      return Exhausted("Extend: " + std::to_string(held->tokens) + " + " +
                       std::to_string(n) + " tokens are more than the " +
                       std::to_string(problem_.kv_len) +
                       " that state can hold");
    // The cache wants keys: a column of the values stands for them.
    ConstView column = fresh.v;
    column.dim = 1;
    for (int64_t first = 0; first < n; first += cache_.step()) {
      const int64_t rows = std::min(cache_.step(), n - first);
      const int64_t position = held->tokens;
      cache_.Append(state, *held, column, fresh.v, first, rows, exec);
      View piece = out.out;
      piece.len = rows;
      piece.data = RowAt(out.out, 0, 0, first);
      Copy(
          held->v, piece, position, held->tokens,
          [&](int64_t key) {
            return key < held->split ? key : key - held->shift;
          },
          exec);
    }
    return {};
  }

  int64_t offset_;
  bool visible_;
  KvCache cache_;
};

Result<std::unique_ptr<Plan>> MakeDiagonal(const Problem& p) {
  return std::unique_ptr<Plan>(std::make_unique<DiagonalPlan>(p));
}

// Nothing is multiplied; bytes are those of v and out.
Cost DiagonalCost(const Problem& p) {
  const double row = static_cast<double>(p.batch * p.v_dim * SizeOf(p.dtype));
  const auto queries = static_cast<double>(p.q_heads * p.q_len);
  const auto keys = static_cast<double>(p.kv_heads * p.kv_len);
  Cost cost;
  cost.backward_flops = static_cast<double>(p.batch * p.v_dim) * queries;
  cost.forward_bytes = row * (queries + keys);
  if (p.mask != Mask::kNone)
    cost.decode_bytes = row * static_cast<double>(p.q_heads + p.kv_heads);
  return cost;
}

void DiagonalOracle(const Problem& p, const OracleInputs& in,
                    const OracleOutputs& out) {
  const int64_t offset = p.knobs.Int("offset");
  oracle::ForRows(p, in, out, [&](const oracle::Row& x) {
    const int64_t j = x.i + offset;
    if (j < 0 || j >= p.kv_len || !oracle::MaskSees(p, x.i, j)) return;
    for (int64_t c = 0; c < p.v_dim; ++c) {
      x.out[c] = x.v[j * p.v_dim + c];
      x.size[c] = std::abs(x.out[c]);
    }
  });
}

}  // namespace

const Variant& local_diagonal() {
  static const Variant variant = {
      .name = "local.diagonal",
      .title = "all weight on the key at a fixed offset: no content",
      .source =
          "the alignment before Bahdanau et al. 2014, arXiv:1409.0473; You et "
          "al. 2020, arXiv:2005.00742, section 3",
      .traits = {.window = true, .rotary = false, .scores = false},
      .knobs = {{"offset", "tokens from query to key, -1: the token before", -1,
                 -99999, 99999}},
      .layer = {.reads_q = false, .reads_k = false},
      .cost = DiagonalCost,
      .plan = MakeDiagonal,
      .oracle = DiagonalOracle,
  };
  return variant;
}

}  // namespace saccade::variants
