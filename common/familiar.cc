#include "saccade/familiar.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "registry.h"
#include "rows.h"

namespace saccade {
namespace {

// A Problem of the shapes of q [B, Hq, Tq, d], k [B, H, Tk, d] and v.
Result<Problem> ProblemOf(const ConstView& q, const ConstView& k,
                          const ConstView& v) {
  if (q.heads < 1 || k.heads < 1 || q.heads % k.heads != 0)
    return Invalid("q has " + std::to_string(q.heads) + " heads, k " +
                   std::to_string(k.heads) +
                   ": the former must be a multiple of the latter");
  if (k.batch != q.batch || k.dim != q.dim || v.batch != k.batch ||
      v.heads != k.heads || v.len != k.len)
    return Invalid("q, k and v do not belong together by their shapes");
  return Problem{.batch = q.batch,
                 .q_heads = q.heads,
                 .kv_heads = k.heads,
                 .q_len = q.len,
                 .kv_len = k.len,
                 .qk_dim = q.dim,
                 .v_dim = v.dim,
                 .dtype = q.dtype};
}

AttnMask KindOf(const MaskView& mask) {
  if (mask.data == nullptr) return AttnMask::kNone;
  return mask.element == MaskElement::kBool ? AttnMask::kBoolean
                                            : AttnMask::kAdditive;
}

// A tensor of those sizes, in memory that can be read or written. Its copies
// are made before any plan sees it.
template <class View>
Status CheckTensor(const char* name, const View& x, int64_t batch,
                   int64_t heads, int64_t len, int64_t dim, DType dtype) {
  if (x.batch != batch || x.heads != heads || x.len != len || x.dim != dim ||
      x.dtype != dtype)
    return Invalid(std::string(name) + " must be " + NameOf(dtype) + " [" +
                   std::to_string(batch) + ", " + std::to_string(heads) + ", " +
                   std::to_string(len) + ", " + std::to_string(dim) + "]");
  if (x.elements() > 0 && x.data == nullptr)
    return Invalid(std::string(name) + " is null");
  return {};
}

Status NoDropout(double p) {
  if (p == 0) return {};
  return Unsupported("dropout_p is " + std::to_string(p) +
                     ": there is no dropout, pass 0");
}

Status RunOnce(const Result<Problem>& problem, const Inputs& in,
               const Outputs& out, int threads) {
  if (!problem.ok()) return problem.status();
  Result<Attention> attention =
      Attention::Make(FamiliarSpec(*problem), *problem, threads);
  if (!attention.ok()) return attention.status();
  return attention->Forward(in, out);
}

}  // namespace

std::string FamiliarSpec(const Problem& problem) {
  std::string spec(Exact().name);
  for (const Position& position : problem.positions)
    spec += "+" + position.name;
  return spec;
}

namespace torch {

Result<Problem> SdpaProblem(const ConstView& q, const ConstView& k,
                            const ConstView& v, const MaskView& mask,
                            const SdpaOptions& options) {
  if (Status s = NoDropout(options.dropout_p); !s.ok()) return s;
  if (options.is_causal && mask.data != nullptr)
    return Invalid("is_causal and a mask do not go together: hide in the mask");
  if (q.heads != k.heads && !options.enable_gqa)
    return Invalid("q has " + std::to_string(q.heads) + " heads, k " +
                   std::to_string(k.heads) + ": that needs enable_gqa");
  Result<Problem> problem = ProblemOf(q, k, v);
  if (!problem.ok()) return problem;
  if (options.is_causal) problem->mask = Mask::kCausalTopLeft;
  problem->scale = options.scale;
  problem->attn_mask = KindOf(mask);
  return problem;
}

Status ScaledDotProductAttention(const ConstView& q, const ConstView& k,
                                 const ConstView& v, const MaskView& mask,
                                 const SdpaOptions& options, const View& out,
                                 int threads) {
  return RunOnce(SdpaProblem(q, k, v, mask, options),
                 {.q = q, .k = k, .v = v, .attn_mask = mask}, {out}, threads);
}

}  // namespace torch

namespace flash {
namespace {

Status Set(const Options& options, Problem* problem) {
  if (Status s = NoDropout(options.dropout_p); !s.ok()) return s;
  problem->scale = options.softmax_scale;
  problem->softcap = options.softcap;
  if (options.causal) problem->mask = Mask::kCausal;
  if (options.window_left >= 0) problem->most_distance = options.window_left;
  if (options.window_right >= 0 && !options.causal)
    problem->least_distance = -options.window_right;
  if (options.alibi_slopes.data != nullptr)
    problem->positions = {{"alibi", {}}};
  return {};
}

Status RunSequences(const Result<Problem>& problem, const Inputs& in,
                    const Outputs& out, const Sequences& sequences,
                    int threads) {
  if (!problem.ok()) return problem.status();
  Result<Attention> attention =
      Attention::Make(FamiliarSpec(*problem), *problem, threads);
  if (!attention.ok()) return attention.status();
  return attention->ForwardSequences(in, out, sequences);
}

int64_t Longest(std::span<const int32_t> starts) {
  int64_t most = 0;
  for (size_t s = 0; s + 1 < starts.size(); ++s)
    most = std::max(most, int64_t{starts[s + 1]} - starts[s]);
  return most;
}

Status CheckCache(const KvCacheView& cache, const ConstView& k,
                  const ConstView& v, std::span<const int32_t> lens) {
  const auto n = static_cast<int64_t>(lens.size());
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (cache.page < 1 || cache.page > kMost)
    return Invalid("a page of the cache has " + std::to_string(cache.page) +
                   " rows, must have 1 to 2^31 - 1");
  const View &to_k = cache.k, &to_v = cache.v;
  for (const Status& s :
       {CheckTensor("cache.k", to_k, 1, to_k.heads, to_k.len, to_k.dim,
                    to_k.dtype),
        CheckTensor("cache.v", to_v, 1, to_k.heads, to_k.len, to_v.dim,
                    to_k.dtype),
        CheckTensor("k", k, n, to_k.heads, k.len, to_k.dim, to_k.dtype),
        CheckTensor("v", v, n, to_k.heads, k.len, to_v.dim, to_k.dtype)})
    if (!s.ok()) return s;
  const int64_t width =
      n == 0 ? 0 : static_cast<int64_t>(cache.block_table.size()) / n;
  if (n > 0 && cache.block_table.size() % lens.size() != 0)
    return Invalid("block_table holds " +
                   std::to_string(cache.block_table.size()) +
                   " pages, not as many for each of " + std::to_string(n) +
                   " sequences");
  const int64_t pages = to_k.len / cache.page;
  for (int64_t s = 0; s < n; ++s) {
    const int64_t len = lens[static_cast<size_t>(s)] + k.len;
    if (lens[static_cast<size_t>(s)] < 0)
      return Invalid("cache_seqlens[" + std::to_string(s) + "] is " +
                     std::to_string(len - k.len));
    if (len > std::min(width * cache.page, kMost))
      return Exhausted("sequence " + std::to_string(s) + " would have " +
                       std::to_string(len) + " keys, its pages hold " +
                       std::to_string(width * cache.page));
    for (int64_t i = 0; i * cache.page < len; ++i) {
      const int64_t at = cache.block_table[static_cast<size_t>(s * width + i)];
      if (at < 0 || at >= pages)
        return Invalid("sequence " + std::to_string(s) + " has page " +
                       std::to_string(at) + ", of " + std::to_string(pages));
    }
  }
  return {};
}

}  // namespace

Result<Problem> FlashProblem(const ConstView& q, const ConstView& k,
                             const ConstView& v, const Options& options) {
  Result<Problem> problem = ProblemOf(q, k, v);
  if (!problem.ok()) return problem;
  if (Status s = Set(options, &*problem); !s.ok()) return s;
  return problem;
}

Status FlashAttention(const ConstView& q, const ConstView& k,
                      const ConstView& v, const Options& options,
                      const Outputs& out, int threads) {
  return RunOnce(FlashProblem(q, k, v, options),
                 {.q = q, .k = k, .v = v, .bias = options.alibi_slopes}, out,
                 threads);
}

Result<Problem> VarlenProblem(const ConstView& q, const ConstView& k,
                              const ConstView& v, int64_t sequences,
                              int64_t max_seqlen_q, int64_t max_seqlen_k,
                              const Options& options) {
  Result<Problem> problem = FlashProblem(q, k, v, options);
  if (!problem.ok()) return problem;
  problem->batch = sequences;
  problem->q_len = max_seqlen_q;
  problem->kv_len = max_seqlen_k;
  return problem;
}

Status FlashAttentionVarlen(const ConstView& q, const ConstView& k,
                            const ConstView& v,
                            std::span<const int32_t> cu_seqlens_q,
                            std::span<const int32_t> cu_seqlens_k,
                            const Options& options, const Outputs& out,
                            int threads) {
  if (cu_seqlens_q.empty() || cu_seqlens_k.empty())
    return Invalid("cu_seqlens hold at least a 0");
  const auto n = static_cast<int64_t>(cu_seqlens_q.size()) - 1;
  return RunSequences(
      VarlenProblem(q, k, v, n, Longest(cu_seqlens_q), Longest(cu_seqlens_k),
                    options),
      {.q = q, .k = k, .v = v, .bias = options.alibi_slopes}, out,
      {.q_starts = cu_seqlens_q, .kv_starts = cu_seqlens_k}, threads);
}

Status FlashAttentionWithKvCache(const ConstView& q, const KvCacheView& cache,
                                 const ConstView& k, const ConstView& v,
                                 std::span<const int32_t> cache_seqlens,
                                 const Options& options, const Outputs& out,
                                 int threads) {
  const auto n = static_cast<int64_t>(cache_seqlens.size());
  if (q.batch != n || out.out.batch != n)
    return Invalid("q, out and cache_seqlens are not of as many sequences");
  if (n > 1 && (q.batch_stride != q.len * q.row_stride ||
                out.out.batch_stride != out.out.len * out.out.row_stride))
    return Invalid(
        "the queries of a sequence must follow those of the one before");
  if (n * q.len > std::numeric_limits<int32_t>::max())
    return Invalid("there are more than 2^31 - 1 queries");
  if (Status s = CheckCache(cache, k, v, cache_seqlens); !s.ok()) return s;

  // All queries as one sequence of views.
  ConstView queries = q;
  queries.batch = 1;
  queries.len = n * q.len;
  Outputs to = out;
  to.out.batch = 1;
  to.out.len = n * out.out.len;
  std::vector<int32_t> starts, lens;
  int32_t most = 0;
  for (int64_t s = 0; s <= n; ++s)
    starts.push_back(static_cast<int32_t>(s * q.len));
  for (const int32_t len : cache_seqlens) {
    lens.push_back(len + static_cast<int32_t>(k.len));
    most = std::max(most, lens.back());
  }
  Result<Problem> problem =
      VarlenProblem(queries, cache.k, cache.v, n, q.len, most, options);
  if (!problem.ok()) return problem.status();
  Result<Attention> attention =
      Attention::Make(FamiliarSpec(*problem), *problem, threads);
  if (!attention.ok()) return attention.status();
  const auto width =
      cache.block_table.size() / std::max<size_t>(lens.size(), 1);
  for (int64_t s = 0; s < n; ++s) {
    const auto at = static_cast<size_t>(s);
    const int32_t* const pages = cache.block_table.data() + at * width;
    const auto row = [&](int64_t t) {
      const int64_t p = cache_seqlens[at] + t;
      return pages[p / cache.page] * cache.page + p % cache.page;
    };
    CopyRows(k, s, 0, k.len, cache.k, 0, row);
    CopyRows(v, s, 0, v.len, cache.v, 0, row);
  }
  return attention->ForwardSequences(
      {.q = queries, .k = cache.k, .v = cache.v, .bias = options.alibi_slopes},
      to,
      {.q_starts = starts,
       .kv_lens = lens,
       .pages = cache.block_table,
       .page = cache.page});
}

}  // namespace flash

namespace onnx {
namespace {

// Names of a tensor as it comes in, of the past, and as it goes out.
struct Names {
  const char *fresh, *past, *present;
};

// Past and new rows together, where `present` is given.
Status Join(const Names& names, const ConstView& past, const ConstView& fresh,
            const View& present) {
  if (past.data == nullptr && present.data == nullptr) return {};
  const auto check = [&](const char* name, const auto& x, int64_t len) {
    return CheckTensor(name, x, fresh.batch, fresh.heads, len, fresh.dim,
                       fresh.dtype);
  };
  for (const Status& s :
       {check(names.fresh, fresh, fresh.len),
        past.data ? check(names.past, past, past.len) : Status(),
        check(names.present, present, past.len + fresh.len)})
    if (!s.ok()) return s;
  for (int64_t b = 0; b < fresh.batch; ++b) {
    CopyRows(past, b, 0, past.len, present, b, [](int64_t t) { return t; });
    CopyRows(fresh, b, 0, fresh.len, present, b,
             [&](int64_t t) { return past.len + t; });
  }
  return {};
}

// Keys that a mask shorter than them leaves; the others are hidden.
int64_t KeysOf(const AttentionInputs& in) {
  const int64_t all = in.past_key.len + in.k.len;
  const int64_t own = in.attn_mask.kv_len;
  return in.attn_mask.data != nullptr && own > 1 ? std::min(all, own) : all;
}

}  // namespace

Result<Problem> AttentionProblem(const AttentionInputs& in,
                                 const AttentionOptions& options) {
  if (options.qk_matmul_output)
    return Unsupported("qk_matmul_output is not made: scores are never held");
  if ((in.past_key.data == nullptr) != (in.past_value.data == nullptr) ||
      in.past_key.len != in.past_value.len ||
      (in.past_key.data == nullptr && in.past_key.len != 0))
    return Invalid("past_key and past_value come together, of one length");
  Result<Problem> problem = ProblemOf(in.q, in.k, in.v);
  if (!problem.ok()) return problem;
  problem->kv_len = KeysOf(in);
  // Queries stand at the end of the keys: i = row + kv_len - q_len. The
  // operator's causal is key <= row + past.
  if (options.is_causal)
    problem->least_distance = problem->kv_len - in.q.len - in.past_key.len;
  problem->scale = options.scale;
  problem->softcap = options.softcap;
  problem->attn_mask = KindOf(in.attn_mask);
  return problem;
}

Status Attention(const AttentionInputs& in, const AttentionOptions& options,
                 const AttentionOutputs& out, int threads) {
  const Result<Problem> problem = AttentionProblem(in, options);
  if (!problem.ok()) return problem.status();
  if (Status s = Join({"k", "past_key", "present_key"}, in.past_key, in.k,
                      out.present_key);
      !s.ok())
    return s;
  if (Status s = Join({"v", "past_value", "present_value"}, in.past_value, in.v,
                      out.present_value);
      !s.ok())
    return s;
  ConstView k = in.k, v = in.v;
  if (in.past_key.data != nullptr) {
    k = out.present_key;
    v = out.present_value;
  }
  k.len = v.len = problem->kv_len;
  return RunOnce(problem,
                 {.q = in.q, .k = k, .v = v, .attn_mask = in.attn_mask},
                 {out.y}, threads);
}

}  // namespace onnx
}  // namespace saccade
