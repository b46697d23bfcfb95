// The backward pass of one block of keys, whatever the arithmetic: who sees
// what, in what order. Products and legend: tile_backward-inl.h.
#if defined(SACCADE_COMMON_ENGINE_TILE_BACKWARD_RUN_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef SACCADE_COMMON_ENGINE_TILE_BACKWARD_RUN_INL_H_
#undef SACCADE_COMMON_ENGINE_TILE_BACKWARD_RUN_INL_H_
#else
#define SACCADE_COMMON_ENGINE_TILE_BACKWARD_RUN_INL_H_
#endif

#include <hwy/highway.h>

#include "engine/tile_backward-inl.h"
#include "engine/tile_mask-inl.h"
#include "simd/bf16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace saccade::backward {
namespace HWY_NAMESPACE {
namespace {

// Rows of a view of either type, `step` apart.
struct AnyRows {
  AnyRows(const ConstView& view, int64_t b, int64_t head, int64_t row,
          int64_t step)
      : f32(view.dtype == DType::kF32),
        data(f32 ? static_cast<const void*>(view.Row<float>(b, head, row))
                 : view.Row<BF16>(b, head, row)),
        stride(view.row_stride * step) {}
  bool f32;
  const void* data;
  int64_t stride;
};

// Which strips of rows hold a NaN or an infinity: those times 0 are not 0.
template <class T>
uint32_t NotFinite(Rows<const T> rows, int n, int64_t dim) {
  uint32_t strips = 0;
  const V zero = hn::Zero(d);
  for (int strip = 0; strip < n; strip += kStrip) {
    V sum = zero, sum2 = zero;
    float rest = 0;
    for (int r = strip; r < std::min(n, strip + kStrip); ++r) {
      const T* row = rows[r];
      int64_t c = 0;
      for (; c + 2 * kLanes <= dim; c += 2 * kLanes) {
        sum = hn::MulAdd(simd::LoadAs(d, row + c), zero, sum);
        sum2 = hn::MulAdd(simd::LoadAs(d, row + c + kLanes), zero, sum2);
      }
      const hn::CappedTag<float, 1> d1;
      for (; c < dim; ++c) rest += hn::GetLane(simd::LoadAs(d1, row + c)) * 0;
    }
    const bool finite =
        hn::AllTrue(d, hn::Eq(hn::Add(sum, sum2), zero)) && rest == 0;
    strips |= uint32_t{!finite} << strip / kStrip;
  }
  return strips;
}

// Calls part(kVectors constant, first key, first row, end row) for all cells of
// `masks`: pieces of keys of one panel, by runs of strips that agree.
template <class F>
HWY_INLINE void ForCells(const Cells::Masks& masks, const Block& b, F part) {
  constexpr int kVectorsInStrip = kStrip / kLanes;
  constexpr int kStripsInPanel = kPanel / kStrip;
  for (int panel = 0; panel * kPanel < b.n_keys; ++panel) {
    const auto in_panel = [&](int s) {
      return masks[s] >> panel * kStripsInPanel & ((1u << kStripsInPanel) - 1);
    };
    for (int s = 0; s * kStrip < b.n_queries;) {
      int end = s + 1;
      while (end < kStrips && in_panel(end) == in_panel(s)) ++end;
      ForRuns(in_panel(s), [&](int from, int to) {
        ForVectors((to - from) * kVectorsInStrip, [&](auto vectors, int v) {
          part(vectors, panel * kPanel + from * kStrip + v * kLanes, s * kStrip,
               std::min(end * kStrip, b.n_queries));
        });
      });
      s = end;
    }
  }
}

template <class Kind, Bias kBias, class A>
void AllScores(const BlockOf<A>& b, const Cells& cells) {
  ForCells(cells.scores, b, [&](auto vectors, int key, int begin, int end) {
    Scores<A, Kind, kBias, vectors()>(b, key, begin, end);
  });
}

template <class A>
void AllScoreGradients(const BlockOf<A>& b, const Cells& cells,
                       const float* factor) {
  ForCells(cells.scores, b, [&](auto vectors, int key, int begin, int end) {
    ScoreGradients<A, vectors()>(b, factor, key, begin, end);
  });
  for (int s = 0; s * kStrip < b.n_queries; ++s)
    ForRuns(cells.part[s], [&](int from, int to) {
      const int end = std::min((s + 1) * kStrip, b.n_queries);
      for (int g = from; g < to; ++g)
        ClearUnseen(cells, s * kStrip, g * kStrip, end, b.p, b.ds);
    });
}

// Adds a block of scores times n_rows rows, given in steps, to the rows of
// `to`, for all cells of `masks`. kRow, kStep: how steps of scores lie along
// the rows of `to`, and of `steps`.
template <class A, ptrdiff_t kRow, ptrdiff_t kStep>
void AddProducts(const float* scores, const Cells::Masks& masks,
                 Rows<const float> steps, int n_rows, Rows<float> to, int n_to,
                 int dim, Fetches& fetches) {
  ForVectors((dim + kLanes - 1) / kLanes, [&](auto vectors, int v) {
    const int first = v * kLanes;
    const int columns = std::min<int>(dim - first, vectors() * kLanes);
    for (int s = 0; s * kStrip < n_to;) {
      int end = s + 1;
      while (end < kStrips && masks[end] == masks[s]) ++end;
      const int row = s * kStrip;
      ForRuns(masks[s], [&](int from, int until) {
        constexpr int kSteps = kStrip / A::kTogether;  // of a strip
        const int k = from * kSteps;
        const int n = std::min(until * kSteps, StepsOf<A>(n_rows)) - k;
        AddProduct<A, vectors(), kRow, kStep>(
            scores + row * kRow + k * kStep, {steps[k], steps.stride}, n,
            {to[row], to.stride}, std::min(end * kStrip, n_to) - row, first,
            columns, fetches);
      });
      s = end;
    }
  });
}

// Calls pair(query, key) for what is visible in the cells that need care.
template <class F>
void ForCareful(const Block& b, const Cells& cells, F pair) {
  for (int s = 0; s * kStrip < b.n_queries; ++s)
    ForRuns(cells.careful[s], [&](int from, int to) {
      const int last = std::min(to * kStrip, b.n_keys);
      for (int j = from * kStrip; j < last; ++j)
        for (int i = std::max(s * kStrip, cells.low[j]);
             i < std::min((s + 1) * kStrip, cells.high[j]); ++i)
          if (!cells.hides || Visible(b.p[i * kScoreRow + j])) pair(i, j);
    });
}

template <class A>
void AddKeyGradients(const BlockOf<A>& b, const Cells& cells) {
  AddProducts<A, 1, kScoreRow>(b.p_steps, cells.keys, b.dout_steps, b.n_queries,
                               b.dv, b.n_keys, b.v_dim, *b.fetches);
  AddProducts<A, 1, kScoreRow>(b.ds_steps, cells.keys, b.q_steps, b.n_queries,
                               b.dk, b.n_keys, b.qk_dim, *b.fetches);
  if (!cells.any_careful) return;
  ForCareful(b, cells, [&](int i, int j) {
    AddScaled(A::Rounded(b.p[i * kScoreRow + j]), b.dout[i], b.v_dim, b.dv[j]);
    AddScaled(A::Rounded(b.ds[i * kScoreRow + j]), b.q[i], b.qk_dim, b.dk[j]);
  });
}

template <class A>
void AddQueryGradients(const BlockOf<A>& b, const Cells& cells) {
  AddProducts<A, A::kDSRow, 1>(b.ds_rows, cells.queries, b.k_steps, b.n_keys,
                               b.dq, b.n_queries, b.qk_dim, *b.fetches);
  if (!cells.any_careful) return;
  ForCareful(b, cells, [&](int i, int j) {
    AddScaled(A::Rounded(b.ds[i * kScoreRow + j]), b.k[j], b.qk_dim, b.dq[i]);
  });
}

HWY_INLINE void AddBiasGradients(const Block& b, const Cells& cells) {
  for (int s = 0; s * kStrip < b.n_queries; ++s)
    ForRuns(cells.scores[s], [&](int from, int to) {
      const int last = std::min(to * kStrip, b.n_keys);
      const int end = std::min((s + 1) * kStrip, b.n_queries);
      for (int key = from * kStrip; key < last; key += kLanes)
        AddByDistance(b, s * kStrip, end, key, last - key);
    });
}

// The five products; `turn` is taken before the last.
template <class A>
void AddBlock(const Pass& pass, const BlockOf<A>& b, const Cells& cells,
              int64_t place, Turn& turn) {
  const bool alibi = b.slope != 0, capped = b.softcap > 0;
  if (capped || b.masked) {
    AllScores<Softmax, Bias::kAny>(b, cells);
  } else if (!pass.softmax()) {
    alibi ? AllScores<ReluSquared, Bias::kSlope>(b, cells)
          : AllScores<ReluSquared, Bias::kNone>(b, cells);
  } else if (b.bias != nullptr) {
    AllScores<Softmax, Bias::kTable>(b, cells);
  } else {
    alibi ? AllScores<Softmax, Bias::kSlope>(b, cells)
          : AllScores<Softmax, Bias::kNone>(b, cells);
  }
  AllScoreGradients(b, cells, pass.softmax() && !capped ? b.p : b.ds);
  if (b.dbias != nullptr) AddBiasGradients(b, cells);
  A::Round(b, cells);
  AddKeyGradients(b, cells);
  turn.Await(place);
  AddQueryGradients(b, cells);
  turn.Leave(place);
}

// One query head against one block of keys.
template <class A>
class HeadTask {
 public:
  HeadTask(const Pass& pass, const Job& job, int64_t h, SlotScratch& scratch,
           Turn& turn, const BlockOf<A>& keys, uint32_t odd_keys)
      : pass_(pass),
        job_(job),
        h_(h),
        head_(pass.QueryHead(job.pair, h)),
        batch_(pass.Batch(job.pair)),
        scratch_(scratch),
        turn_(turn),
        block_(keys),
        odd_keys_(odd_keys) {
    const TileSpec& spec = *pass.spec;
    block_.softcap = spec.softcap * simd::kLog2E;
    block_.masked = spec.masked;
    block_.slope = 0;
    if (!spec.slopes.empty())
      block_.slope = pass.call->forward.Slope(spec, batch_, head_) *
                     static_cast<float>(job.part->step) *
                     (pass.softmax() ? simd::kLog2E : 1.0f);
    const BiasTable* const table = pass.call->forward.bias;
    if (table == nullptr) return;
    block_.bias = table->Zero(job.nth, head_);
    if (job.dbias != nullptr) {
      const Distances at = table->ranges().Of(job.nth);
      std::fill_n(scratch.dbias, at.count, 0.0f);
      block_.dbias = scratch.dbias - at.first / at.step;
    }
  }

  void Run() {
    job_.part->ForQueries(job_.keys, job_.queries, [&](Interval run) {
      for (int64_t j = job_.keys.begin; j < job_.keys.end; ++j)
        scratch_.seen[j - job_.keys.begin] = job_.part->Queries(j, run);
      for (int64_t i = run.begin; i < run.end; i += kQueries) {
        const Interval next{i + kQueries, i + 2 * kQueries};
        RunBlock(Interval{i, i + kQueries}.Cut(run), next.Cut(run));
        begun_ = true;
      }
    });
    if (block_.dbias != nullptr) SumBiasGradients();
  }

 private:
  void RunBlock(Interval queries, Interval next) {
    const Seen seen = job_.part->See(queries, job_.keys);
    if (seen == Seen::kNone) return;
    SetQueries(queries);
    Fetches fetches;
    block_.fetches = &fetches;
    Fetch(next, fetches);
    Cells& cells = *scratch_.cells;
    if (seen == Seen::kAll && !block_.masked) {
      cells.SetAll(block_.n_queries, block_.n_keys);
    } else {
      cells.SetPart(scratch_.seen, queries.begin, block_.n_queries,
                    block_.n_keys);
      if (block_.masked) SetMask(queries, cells);
      const uint32_t odd =
          NotFinite(block_.q, block_.n_queries, block_.qk_dim) |
          NotFinite(block_.dout, block_.n_queries, block_.v_dim);
      if ((odd | odd_keys_) != 0 || cells.hides)
        cells.SetCareful(odd, odd_keys_);
    }
    const int64_t place =
        h_ * (job_.queries.size() + 1) + queries.end - job_.queries.begin;
    AddBlock(pass_, block_, cells, place, turn_);
  }

  // From sums by distance, which hold the scale as dS does, to parameters.
  void SumBiasGradients() {
    const TileBackwardCall& call = *pass_.call;
    const Distances at = call.forward.bias->ranges().Of(job_.nth);
    for (int64_t n = 0; n < at.count; ++n)
      scratch_.dbias[n] /= pass_.spec->scale;
    const DistanceBias& bias = *pass_.spec->bias;
    bias.AddGradient(call.bias_parameters.Row<float>(0, head_, 0), at,
                     scratch_.dbias, job_.dbias + h_ * bias.parameters());
  }

  // The caller's mask to where weights are to go, and what it hides.
  void SetMask(Interval queries, Cells& cells) const {
    const MaskView& mask = pass_.call->forward.attn_mask;
    const int64_t step = job_.part->step;
    const int64_t key = job_.offset + step * job_.keys.begin;
    for (int r = 0; r < block_.n_queries; ++r) {
      bool any = false;
      simd::LoadMaskRow(
          mask, MaskAt(mask, batch_, head_, RowOf(queries.begin + r), key),
          step, block_.n_keys, block_.p + r * kScoreRow, &any);
    }
    for (int s = 0; s * kStrip < block_.n_queries; ++s)
      ForRuns(cells.scores[s], [&](int from, int to) {
        for (int g = from; g < to; ++g) HideCell(s, g, cells);
      });
  }

  // By whichever pairs of a cell of the block the mask hides.
  void HideCell(int s, int g, Cells& cells) const {
    const int rows = std::min((s + 1) * kStrip, block_.n_queries);
    const int keys = std::min((g + 1) * kStrip, block_.n_keys) - g * kStrip;
    int hidden = 0;
    for (int r = s * kStrip; r < rows; ++r)
      for (int j = 0; j < keys; ++j)
        hidden += block_.p[r * kScoreRow + g * kStrip + j] == -HUGE_VALF;
    if (hidden > 0) cells.Hide(s, g, hidden == keys * (rows - s * kStrip));
  }

  int64_t RowOf(int64_t query) const {
    return job_.offset + job_.part->step * query -
           pass_.call->forward.q_position;
  }

  // Gradients of the blocks at hand, which come last, and the next queries.
  void Fetch(Interval next, Fetches& fetches) const {
    const TileBackwardCall& call = *pass_.call;
    const auto add = [&](const Rows<float>& rows, int n, int64_t dim) {
      constexpr auto kSize = static_cast<int64_t>(sizeof(float));
      fetches.Add(rows.data, rows.stride * kSize, n, dim * kSize);
    };
    if (!begun_) {
      add(block_.dv, block_.n_keys, block_.v_dim);
      add(block_.dk, block_.n_keys, block_.qk_dim);
    }
    add(block_.dq, block_.n_queries, block_.qk_dim);
    if (next.empty()) return;
    const auto ask = [&](const ConstView& view) {
      fetches.AddRows(view, batch_, head_, RowOf(next.begin), job_.part->step,
                      next.size());
    };
    ask(call.forward.q);
    ask(call.dout);
  }

  void SetQueries(Interval queries) {
    const TileBackwardCall& call = *pass_.call;
    const int64_t step = job_.part->step;
    const int64_t row = RowOf(queries.begin);
    const int n = static_cast<int>(queries.size());
    block_.n_queries = n;
    block_.q = A::Read({call.forward.q, batch_, head_, row, step}, n,
                       block_.qk_dim, scratch_.q);
    block_.q_steps = A::Steps(block_.q, n, block_.qk_dim, scratch_.q);
    block_.dout = A::Read({call.dout, batch_, head_, row, step}, n,
                          block_.v_dim, scratch_.dout);
    block_.dout_steps = A::Steps(block_.dout, n, block_.v_dim, scratch_.dout);
    const Rows<float> dq = pass_.Dq(job_.pair, h_);
    block_.dq = {dq[row], dq.stride * step};
    block_.apart = queries.begin - job_.keys.begin;
    block_.distance = static_cast<float>(block_.apart);
    if (pass_.softmax())
      SetSoftmax(row, n);
    else
      for (int i = 0; i < n; ++i)
        scratch_.inverse[i] = pass_.inverse[row + i * step];
  }

  void SetSoftmax(int64_t row, int n) {
    const int64_t step = job_.part->step;
    const float* lse = pass_.call->forward.Lse(*pass_.spec, batch_, head_);
    const float* inner = pass_.Inner(job_.pair, h_);
    for (int i = 0; i < n; ++i) {
      const float at = lse[row + i * step];
      // A row whose weights have no sum has none.
      scratch_.start[i] = at == -HUGE_VALF ? at : -simd::kLog2E * at;
      scratch_.start_dp[i] = -pass_.spec->scale * inner[row + i * step];
    }
  }

  const Pass& pass_;
  const Job& job_;
  int64_t h_, head_, batch_;
  SlotScratch& scratch_;
  Turn& turn_;
  BlockOf<A> block_;
  uint32_t odd_keys_;
  bool begun_ = false;
};

template <class A>
void AddKeysOf(const Pass& pass, const Job& job, SlotScratch& s, Turn& turn) {
  const TileSpec& spec = *pass.spec;
  const TileCall& call = pass.call->forward;
  const int64_t step = job.part->step;
  const int64_t row = job.offset + step * job.keys.begin;
  const int64_t b = pass.Batch(job.pair), head = pass.KeyHead(job.pair);
  const Rows<float> dk = pass.Dk(job.pair), dv = pass.Dv(job.pair);

  BlockOf<A> keys{};
  keys.n_keys = static_cast<int>(job.keys.size());
  keys.qk_dim = static_cast<int>(spec.qk_dim);
  keys.v_dim = static_cast<int>(spec.v_dim);
  keys.k = A::Read({call.k, b, head, row, step}, keys.n_keys, spec.qk_dim, s.k);
  keys.k_steps = A::Steps(keys.k, keys.n_keys, spec.qk_dim, s.k);
  // The block of V is needed once, before any dO: they share their space.
  const auto v =
      A::Read({call.v, b, head, row, step}, keys.n_keys, spec.v_dim, s.dout);
  keys.factor = pass.softmax() ? spec.scale * simd::kLog2E : spec.scale;
  keys.factor_dp = pass.softmax() ? spec.scale : 2 * spec.scale;
  A::Transpose(keys.k, keys.n_keys, spec.qk_dim, keys.factor, s.kt);
  A::Transpose(v, keys.n_keys, spec.v_dim, keys.factor_dp, s.vt);
  keys.kt = s.kt;
  keys.vt = s.vt;
  keys.p = s.p;
  keys.ds = s.ds;
  A::SetScores(s, keys);
  keys.start = s.start;
  keys.start_dp = s.start_dp;
  keys.inverse = s.inverse;
  keys.dk = {dk[row], dk.stride * step};
  keys.dv = {dv[row], dv.stride * step};
  std::fill_n(s.start, kQueries, 0.0f);
  std::fill_n(s.start_dp, kQueries, 0.0f);
  std::fill_n(s.inverse, kQueries, 0.0f);

  const uint32_t odd = NotFinite(keys.k, keys.n_keys, spec.qk_dim);
  for (int64_t h = 0; h < pass.group; ++h)
    HeadTask<A>(pass, job, h, s, turn, keys, odd).Run();
}

}  // namespace
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace saccade::backward
HWY_AFTER_NAMESPACE();

#endif  // SACCADE_COMMON_ENGINE_TILE_BACKWARD_RUN_INL_H_
