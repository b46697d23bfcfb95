// What must not change a bit of the tile engine's forward pass: what is behind
// the mask, and which heads are computed with others.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>

#include "simd/target.h"
#include "tests/tile_forward_fixture.h"

namespace saccade::tile_forward {
namespace {

// What stands in `row` of k and v reaches exactly the queries that see it.
void CheckLeak(const Named& p, TileSpec spec, float hostile) {
  CAPTURE(p.name);
  for (const int64_t row : {0, 50, 77, 129, 190}) {
    Setting s{spec, 230, 230, 0};
    Data clean(s), dirty(s);
    dirty.k.SetRow(row, hostile);
    dirty.v.SetRow(row, hostile);
    Run(s, clean);
    Run(s, dirty);
    int wrong = 0;
    for (int64_t t = 0; t < s.q_len; ++t)
      for (int64_t c = 0; c < spec.v_dim; ++c) {
        const float before = clean.out.At(0, 0, t, c);
        const float after = dirty.out.At(0, 0, t, c);
        const bool same = std::memcmp(&before, &after, sizeof(float)) == 0;
        if (!Sees(spec.pattern, t, row))
          wrong += !same;
        else if (std::isnan(hostile))
          wrong += !std::isnan(after);
      }
    CHECK(wrong == 0);
  }
}

TEST_CASE("what is behind the mask does not reach the result, to the bit") {
  for (const std::string_view target : TargetNames()) {
    CAPTURE(std::string(target));
    const ScopedTarget scope(target);
    for (const Named& p : Patterns())
      for (const float hostile : {kNaN, kInf, -kInf}) {
        TileSpec spec = Spec(9, 11, p.pattern);
        CheckLeak(p, spec, hostile);
        spec.dtype = DType::kBF16;
        CheckLeak(p, spec, hostile);
        spec.dtype = DType::kF32;
        spec.normaliser = Normaliser::kReluSquared;
        CheckLeak(p, spec, hostile);
      }
  }
}

TEST_CASE("heads at once have the bits of each alone, whatever runs share") {
  // 48 tiles, in runs of six; alone each tile is a run.
  for (const Named& p : Patterns())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      CAPTURE(p.name);
      CAPTURE(NameOf(dtype));
      Setting all{Spec(20, 18, p.pattern), 230, 231, 1};
      all.spec.dtype = dtype;
      all.spec.q_heads = 12, all.spec.kv_heads = 3;
      Setting one = all;
      one.spec.q_heads = one.spec.kv_heads = 1;
      Data data(all);
      data.v.SetRow(100, kNaN);
      Run(all, data);
      for (int64_t h = 0; h < all.spec.q_heads; ++h) {
        Data alone(one);
        const auto copy = [&](const Tensor& from, int64_t head, Tensor& to) {
          for (int64_t t = 0; t < to.view().len; ++t)
            for (int64_t c = 0; c < to.view().dim; ++c)
              to.Set(0, 0, t, c, from.At(0, head, t, c));
        };
        copy(data.q, h, alone.q);
        copy(data.k, h / 4, alone.k);
        copy(data.v, h / 4, alone.v);
        Run(one, alone);
        int64_t others = 0;
        for (int64_t t = 0; t < all.q_len; ++t)
          for (int64_t c = 0; c < all.spec.v_dim; ++c) {
            const float x = data.out.At(0, h, t, c);
            const float y = alone.out.At(0, 0, t, c);
            others += std::memcmp(&x, &y, sizeof x) != 0;
          }
        CHECK(others == 0);
      }
    }
}

}  // namespace
}  // namespace saccade::tile_forward
