// Tensors of random numbers for the tests of saccade/familiar.h.
#ifndef SACCADE_TESTS_FAMILIAR_FIXTURE_H_
#define SACCADE_TESTS_FAMILIAR_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/verify_data.h"
#include "saccade/attention.h"
#include "simd/bf16.h"

namespace saccade::familiar {

using bench::Rng;

// A tensor [B, H, T, D] in either order of memory.
struct Array {
  Array(DType dtype, int64_t batch, int64_t heads, int64_t len, int64_t dim,
        bool token_major)
      : memory(static_cast<size_t>(batch * heads * len * dim * SizeOf(dtype))) {
    view = token_major ? TokenMajor<void>(memory.bytes().data(), dtype, batch,
                                          heads, len, dim)
                       : Contiguous<void>(memory.bytes().data(), dtype, batch,
                                          heads, len, dim);
  }
  void Fill(Rng& rng) {
    for (int64_t b = 0; b < view.batch; ++b)
      for (int64_t h = 0; h < view.heads; ++h)
        for (int64_t t = 0; t < view.len; ++t)
          for (int64_t c = 0; c < view.dim; ++c)
            Set(b, h, t, c, static_cast<float>(rng.Normal()));
  }
  void Set(int64_t b, int64_t h, int64_t t, int64_t c, float x) {
    if (view.dtype == DType::kF32)
      view.Row<float>(b, h, t)[c] = x;
    else
      view.Row<BF16>(b, h, t)[c] = ToBF16(x);
  }
  double At(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return view.dtype == DType::kF32 ? view.Row<float>(b, h, t)[c]
                                     : ToFloat(view.Row<BF16>(b, h, t)[c]);
  }

  Buffer memory;
  View view;
};

struct Shape {
  int64_t batch, q_heads, kv_heads, q_len, kv_len, d, e;
};
struct Tensors {
  Tensors(const Shape& s, DType dtype, bool token_major, uint64_t seed)
      : rng(seed),
        q(dtype, s.batch, s.q_heads, s.q_len, s.d, token_major),
        k(dtype, s.batch, s.kv_heads, s.kv_len, s.d, token_major),
        v(dtype, s.batch, s.kv_heads, s.kv_len, s.e, token_major),
        out(dtype, s.batch, s.q_heads, s.q_len, s.e, token_major),
        lse(static_cast<size_t>(s.batch * s.q_heads * s.q_len)) {
    q.Fill(rng);
    k.Fill(rng);
    v.Fill(rng);
  }
  Rng rng;
  Array q, k, v, out;
  std::vector<float> lse;
};

}  // namespace saccade::familiar

#endif  // SACCADE_TESTS_FAMILIAR_FIXTURE_H_
