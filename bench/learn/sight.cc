#include "bench/learn/sight.h"

#include <algorithm>
#include <memory>

#include "bench/learn/matrix.h"
#include "bench/learn/random.h"

namespace saccade::bench {
namespace {

constexpr int64_t kColumns = 64;  // of the identity at a time: a word's bits

// Attention as the model asks for it, but for values of kColumns.
Problem AttentionOf(const Model& model, int64_t len) {
  Problem p = model.AttentionProblem(1, len, 0);
  p.positions = {};
  p.v_dim = kColumns;
  return p;
}

struct Tensor {
  std::vector<float> data;
  int64_t heads, len, dim;
  Tensor(int64_t heads, int64_t len, int64_t dim)
      : data(heads * len * dim), heads(heads), len(len), dim(dim) {}
  template <class Void>
  BasicView<Void> view() {
    return Contiguous<Void>(data.data(), DType::kF32, 1, heads, len, dim);
  }
  // All above zero, so that squared or cut scores are no reason for a zero.
  void Fill(Random& random) {
    for (float& x : data) x = static_cast<float>(0.5 + random.Uniform());
  }
};

// The bits of the last q_len tokens' rows: what a single layer sees.
Result<std::vector<uint64_t>> LayerSees(const Model& model, int64_t len,
                                        int64_t q_len, Exec& exec) {
  Problem p = AttentionOf(model, len);
  p.q_len = q_len;
  Result<std::unique_ptr<Plan>> plan = MakePlan(*model.spec().variant, p);
  if (!plan.ok()) return plan.status();
  Random random(1, "sight");
  Tensor q(p.q_heads, q_len, p.qk_dim), k(p.kv_heads, len, p.qk_dim),
      v(p.kv_heads, len, p.v_dim), out(p.q_heads, q_len, p.v_dim);
  q.Fill(random);
  k.Fill(random);
  Inputs in = {q.view<const void>(), k.view<const void>(),
               v.view<const void>()};
  std::vector<Tensor> extras;
  for (const ExtraInput& x : model.spec().variant->inputs) {
    extras.emplace_back(x.per_query ? p.q_heads : p.kv_heads,
                        x.per_query ? q_len : len,
                        WidthOf(x, p.qk_dim, p.v_dim));
  }
  for (size_t e = 0; e < extras.size(); ++e) {
    extras[e].Fill(random);
    in.extra[e] = extras[e].view<const void>();
  }
  Buffer scratch((*plan)->Memory(exec.slots()).forward_scratch);
  const int64_t words = (len + kColumns - 1) / kColumns;
  std::vector<uint64_t> rows(q_len * words);
  for (int64_t word = 0; word < words; ++word) {
    const int64_t first = word * kColumns,
                  cols = std::min(kColumns, len - first);
    std::fill(v.data.begin(), v.data.end(), 0.f);
    for (int64_t h = 0; h < p.kv_heads; ++h) {
      for (int64_t c = 0; c < cols; ++c) {
        v.data[(h * len + first + c) * kColumns + c] = 1;
      }
    }
    const Status status =
        (*plan)->Forward(in, {out.view<void>()}, {}, scratch.bytes(), exec);
    if (!status.ok()) return status;
    for (int64_t h = 0; h < p.q_heads; ++h) {
      for (int64_t i = 0; i < q_len; ++i) {
        const float* const row = &out.data[(h * q_len + i) * kColumns];
        for (int64_t c = 0; c < cols; ++c) {
          if (row[c] != 0) rows[i * words + word] |= uint64_t{1} << c;
        }
      }
    }
  }
  return rows;
}

// Whether the last q_len tokens of `len` see all before them.
bool SeesAll(const std::vector<uint64_t>& rows, int64_t len, int64_t q_len) {
  const int64_t words = static_cast<int64_t>(rows.size()) / q_len;
  for (int64_t i = 0; i < q_len; ++i) {
    const int64_t seen = len - q_len + i + 1;
    for (int64_t j = 0; j < seen; ++j) {
      if (!(rows[i * words + j / 64] >> (j % 64) & 1)) return false;
    }
  }
  return true;
}

}  // namespace

Result<Sight> Sight::Of(const Model& model, int64_t len, Exec& exec) {
  Sight sight;
  // Whoever sees all at the end saw all before; that is n^2 work.
  if (model.spec().variant->traits.cross) {
    const int64_t last = std::min<int64_t>(len, 8);
    const auto rows = LayerSees(model, len, last, exec);
    if (!rows.ok()) return rows.status();
    sight.all_ = SeesAll(*rows, len, last);
    if (sight.all_) return sight;
  }
  auto layer = LayerSees(model, len, len, exec);
  if (!layer.ok()) return layer.status();
  sight.words_ = (len + kColumns - 1) / kColumns;
  sight.rows_ = *layer;
  const int64_t words = sight.words_;
  for (int64_t i = 0; i < len; ++i) {
    // What the stream holds of itself passes by every layer.
    (*layer)[i * words + i / 64] |= uint64_t{1} << (i % 64);
  }
  const auto layers = std::count_if(model.units().begin(), model.units().end(),
                                    [](const Unit& u) { return u.attention; });
  sight.rows_ = *layer;
  for (int64_t l = 1; l < layers; ++l) {
    std::vector<uint64_t> next(sight.rows_.size());
    for (int64_t i = 0; i < len; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        if (!(sight.rows_[i * words + j / 64] >> (j % 64) & 1)) continue;
        for (int64_t w = 0; w <= j / 64; ++w) {
          next[i * words + w] |= (*layer)[j * words + w];
        }
      }
    }
    sight.rows_ = std::move(next);
  }
  if (model.options().shift) {
    for (int64_t i = 0; i < len; ++i) {
      uint64_t* const row = &sight.rows_[i * words];
      for (int64_t w = 0; w < words; ++w) {
        row[w] |= row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
      }
    }
  }
  sight.all_ = SeesAll(sight.rows_, len, len);
  return sight;
}

Result<bool> HasFixedState(const Model& model, int64_t len) {
  if (!model.spec().variant->traits.extend) return false;
  size_t bytes[2];
  for (const int times : {1, 2}) {
    Problem p = AttentionOf(model, times * len);
    p.q_len = 1;
    const auto plan = MakePlan(*model.spec().variant, p);
    if (!plan.ok()) return plan.status();
    bytes[times - 1] = (*plan)->Memory(1).state;
  }
  return bytes[0] == bytes[1];
}

}  // namespace saccade::bench
