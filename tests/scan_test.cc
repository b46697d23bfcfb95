// The scan engine against the explicit N x N form in float64.
#include "engine/scan.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "arena.h"
#include "simd/bf16.h"
#include "simd/target.h"

namespace saccade {
namespace {

constexpr double kKappa = 8;

// Aligned bytes between guards, full of NaNs: a pass must not rely on what it
// finds in scratch, nor reach beyond it.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes) {
    data_ = static_cast<std::byte*>(
        ::operator new (bytes + 2 * kAlign, std::align_val_t{kAlign}));
    std::memset(data_, 0xff, bytes + 2 * kAlign);
  }
  ~Memory() {
    for (size_t i = 0; i < kAlign; ++i) {
      CHECK(data_[i] == std::byte{0xff});
      CHECK(data_[kAlign + bytes_ + i] == std::byte{0xff});
    }
    ::operator delete (data_, std::align_val_t{kAlign});
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator Bytes() const { return {data_ + kAlign, bytes_}; }

 private:
  size_t bytes_;
  std::byte* data_;
};

// A tensor whose rows are gap elements apart; the gaps hold NaN, and must.
class Tensor {
 public:
  Tensor(DType dtype, int64_t batch, int64_t heads, int64_t len, int64_t dim,
         int64_t gap)
      : view_(Contiguous<void>(nullptr, dtype, batch, heads, len, dim + gap)) {
    view_.dim = dim;
    bits_.assign(static_cast<size_t>(batch * view_.batch_stride) *
                     static_cast<size_t>(SizeOf(dtype)),
                 std::byte{0xff});
  }

  View view() {
    View v = view_;
    v.data = bits_.data();
    return v;
  }
  /// Rows first .. first + n - 1.
  View Rows(int64_t first, int64_t n) {
    View v = view();
    v.data = bits_.data() + first * view_.row_stride * SizeOf(view_.dtype);
    v.len = n;
    return v;
  }
  /// x(b, h, t, c) for each element.
  template <class F>
  Tensor& Fill(F x) {
    ForAll([&](int64_t b, int64_t h, int64_t t, int64_t c) {
      const auto value = static_cast<float>(x(b, h, t, c));
      if (view_.dtype == DType::kF32)
        view().Row<float>(b, h, t)[c] = value;
      else
        view().Row<BF16>(b, h, t)[c] = ToBF16(value);
    });
    return *this;
  }
  Tensor& Normal(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    return Fill([&](auto...) { return normal(random); });
  }
  double operator()(int64_t b, int64_t h, int64_t t, int64_t c) {
    return view_.dtype == DType::kF32
               ? static_cast<double>(view().Row<float>(b, h, t)[c])
               : static_cast<double>(ToFloat(view().Row<BF16>(b, h, t)[c]));
  }
  template <class F>
  void ForAll(F visit) {
    for (int64_t b = 0; b < view_.batch; ++b)
      for (int64_t h = 0; h < view_.heads; ++h)
        for (int64_t t = 0; t < view_.len; ++t)
          for (int64_t c = 0; c < view_.dim; ++c) visit(b, h, t, c);
  }
  bool operator==(const Tensor& other) const { return bits_ == other.bits_; }

 private:
  View view_;
  std::vector<std::byte> bits_;
};

struct Case {
  int64_t q_len, kv_len, qk_dim, v_dim;
  Mask mask = Mask::kCausal;
  bool elu = true;  // and normalised
  bool decay = false;
  DType dtype = DType::kF32;
  int64_t q_heads = 2, kv_heads = 2, batch = 1;
  float scale = 1;

  ScanSpec Spec() const {
    ScanSpec spec{.batch = batch,
                  .q_heads = q_heads,
                  .kv_heads = kv_heads,
                  .qk_dim = qk_dim,
                  .v_dim = v_dim,
                  .dtype = dtype,
                  .mask = mask,
                  .scale = scale};
    if (elu) {
      spec.feature = FeatureMap::kEluPlusOne;
      spec.read_out = ReadOut::kNormalised;
      spec.epsilon = 1e-6f;
    }
    // From one that forgets at once to one that forgets nothing.
    if (decay)
      for (int64_t h = 0; h < kv_heads; ++h)
        spec.decay.push_back(
            std::vector<float>{0.9f, 0.999f, 0.25f, 0.0f, 1.0f}[h % 5]);
    return spec;
  }
  std::string Name() const {
    std::ostringstream name;
    name << q_len << "x" << kv_len << " d" << qk_dim << " e" << v_dim << " "
         << NameOf(mask) << (elu ? " elu" : " plain")
         << (decay ? " decay " : " ") << NameOf(dtype) << " heads " << q_heads
         << "/" << kv_heads;
    return name.str();
  }
  Tensor Queries(int64_t dim) const {
    return {dtype, batch, q_heads, q_len, dim, 3};
  }
  Tensor Keys(int64_t dim) const {
    return {dtype, batch, kv_heads, kv_len, dim, 0};
  }
};

// All tensors of a case, and what the engine made of them.
struct Run {
  explicit Run(const Case& c)
      : q(c.Queries(c.qk_dim).Normal(1)),
        k(c.Keys(c.qk_dim).Normal(2)),
        v(c.Keys(c.v_dim).Normal(3)),
        dout(c.Queries(c.v_dim).Normal(4)),
        out(c.Queries(c.v_dim)),
        dq(c.Queries(c.qk_dim)),
        dk(c.Keys(c.qk_dim)),
        dv(c.Keys(c.v_dim)) {}

  void Passes(const ScanSpec& spec, Exec& exec) {
    const auto rows = static_cast<size_t>(spec.batch * spec.q_heads) *
                      static_cast<size_t>(q.view().len);
    std::vector<float> factor(rows);
    ScanCall call{q.view(), k.view(), v.view(), out.view(), factor.data()};
    {
      const Memory scratch(ScanForwardScratch(spec, exec.slots()));
      ScanForward(spec, call, scratch, exec);
    }
    const Memory scratch(ScanBackwardScratch(spec, exec.slots()));
    ScanBackward(
        spec, {call, out.view(), dout.view(), dq.view(), dk.view(), dv.view()},
        scratch, exec);
  }

  Tensor q, k, v, dout;
  Tensor out, dq, dk, dv;
};

// A sum, and the sum of the absolute values of its terms.
struct Sum {
  double value = 0, size = 0;
  void Add(double x) { Add(x, std::abs(x)); }
  void Add(double x, double x_size) {
    value += x;
    size += x_size;
  }
};

double Feature(const ScanSpec& s, double x) {
  if (s.feature == FeatureMap::kIdentity) return x;
  return x > 0 ? x + 1 : std::exp(x);
}
double Slope(const ScanSpec& s, double x) {
  if (s.feature == FeatureMap::kIdentity) return 1;
  return x > 0 ? 1 : std::exp(x);
}

struct Worst {
  double ratio = 0;
  void Check(const ScanSpec& spec, double got, const Sum& want) {
    const double u = spec.dtype == DType::kF32 ? 0x1p-24 : 0x1p-8;
    const double error = std::abs(got - want.value);
    // Denormals of storage have no relative accuracy.
    const double r = error == 0 ? 0 : error / (u * want.size + 1e-40);
    if (!(r <= ratio)) ratio = r;
  }
};

// One query head against the equations: out and dq are checked, its share of
// dk and dv is added up.
class Head {
 public:
  Head(const ScanSpec& spec, Run& run, int64_t b, int64_t h)
      : s_(spec),
        run_(run),
        b_(b),
        h_(h),
        kv_(h / (spec.q_heads / spec.kv_heads)),
        offset_(spec.mask == Mask::kCausal ? run.k.view().len - run.q.view().len
                                           : 0) {}

  bool Sees(int64_t i, int64_t j) const {
    return s_.mask == Mask::kNone || j <= i + offset_;
  }
  double Decay(int64_t i, int64_t j) const {
    return s_.decay.empty() ? 1
                            : std::pow(static_cast<double>(s_.decay[kv_]),
                                       static_cast<double>(i + offset_ - j));
  }
  // scale decay phi(q_i).phi(k_j)
  Sum Weight(int64_t i, int64_t j) {
    Sum w;
    for (int64_t c = 0; c < s_.qk_dim; ++c)
      w.Add(s_.scale * Decay(i, j) * Feature(s_, run_.q(b_, h_, i, c)) *
            Feature(s_, run_.k(b_, kv_, j, c)));
    return w;
  }

  void Row(int64_t i, std::vector<Sum>& dk, std::vector<Sum>& dv,
           Worst& worst) {
    const int64_t n = run_.k.view().len, d = s_.qk_dim, e = s_.v_dim;
    const bool normalised = s_.read_out == ReadOut::kNormalised;
    std::vector<Sum> w(static_cast<size_t>(n)), out(static_cast<size_t>(e)),
        dq(static_cast<size_t>(d));
    double below = normalised ? s_.epsilon : 1;
    for (int64_t j = 0; j < n; ++j) {
      if (!Sees(i, j)) continue;
      w[j] = Weight(i, j);
      if (normalised) below += w[j].value;
    }
    Sum own;  // dout.out
    for (int64_t c = 0; c < e; ++c) {
      for (int64_t j = 0; j < n; ++j) {
        const double v = run_.v(b_, kv_, j, c) / below;
        out[c].Add(w[j].value * v, w[j].size * std::abs(v));
      }
      if (normalised) out[c].size += std::abs(out[c].value);
      const double g = run_.dout(b_, h_, i, c);
      if (normalised) own.Add(g * out[c].value, std::abs(g) * out[c].size);
      worst.Check(s_, run_.out(b_, h_, i, c), out[c]);
    }
    for (int64_t j = 0; j < n; ++j) {
      if (!Sees(i, j)) continue;
      Sum dw;
      dw.Add(-own.value, own.size);
      for (int64_t c = 0; c < e; ++c) {
        const double g = run_.dout(b_, h_, i, c) / below;
        dw.Add(g * below * run_.v(b_, kv_, j, c));
        dv[j * e + c].Add(g * w[j].value, std::abs(g) * w[j].size);
      }
      const double to = s_.scale * Decay(i, j) / below;
      for (int64_t c = 0; c < d; ++c) {
        const double q = run_.q(b_, h_, i, c), k = run_.k(b_, kv_, j, c);
        const double by_q = to * Feature(s_, k) * Slope(s_, q);
        const double by_k = to * Feature(s_, q) * Slope(s_, k);
        dq[c].Add(dw.value * by_q, dw.size * std::abs(by_q));
        dk[j * d + c].Add(dw.value * by_k, dw.size * std::abs(by_k));
      }
    }
    for (int64_t c = 0; c < d; ++c)
      worst.Check(s_, run_.dq(b_, h_, i, c), dq[c]);
  }

 private:
  const ScanSpec& s_;
  Run& run_;
  int64_t b_, h_, kv_, offset_;
};

// The largest |got - want| / (u size) of out and the gradients.
double Ratio(const ScanSpec& spec, Run& run) {
  Worst worst;
  const int64_t group = spec.q_heads / spec.kv_heads, n = run.k.view().len;
  for (int64_t b = 0; b < spec.batch; ++b)
    for (int64_t kv = 0; kv < spec.kv_heads; ++kv) {
      std::vector<Sum> dk(static_cast<size_t>(n * spec.qk_dim)),
          dv(static_cast<size_t>(n * spec.v_dim));
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
        Head head(spec, run, b, h);
        for (int64_t i = 0; i < run.q.view().len; ++i)
          head.Row(i, dk, dv, worst);
      }
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t c = 0; c < spec.qk_dim; ++c)
          worst.Check(spec, run.dk(b, kv, j, c), dk[j * spec.qk_dim + c]);
        for (int64_t c = 0; c < spec.v_dim; ++c)
          worst.Check(spec, run.dv(b, kv, j, c), dv[j * spec.v_dim + c]);
      }
    }
  return worst.ratio;
}

void CheckCase(const Case& c) {
  CAPTURE(c.Name());
  const ScanSpec spec = c.Spec();
  Run run(c);
  run.Passes(spec, Serial());
  CHECK(Ratio(spec, run) <= kKappa);
}

// And by both ways through a tile.
void OnEveryTarget(const std::function<void()>& test) {
  for (const std::string_view name : TargetNames())
    for (const bool zen4 : {false, true}) {
      CAPTURE(name);
      CAPTURE(zen4);
      const ScopedTarget target(name);
      const ScopedZen4 core(zen4);
      test();
    }
}

}  // namespace

TEST_CASE("a scan equals its explicit form at every length and width") {
  OnEveryTarget([] {
    for (const int64_t n : {0, 1, 5, 6, 7, 12, 47, 63, 65, 95, 96, 97, 130}) {
      CheckCase({n, n, 8, 8});
      CheckCase({n, n, 5, 3, Mask::kCausal, false, true});
    }
    for (const int64_t d : {1, 3, 16, 17, 64, 70})
      for (const int64_t e : {1, 7, 16, 20, 33, 64}) {
        CheckCase({20, 20, d, e});
        CheckCase({20, 20, d, e, Mask::kNone, false});
      }
  });
}

TEST_CASE("a scan equals its explicit form under every mask") {
  OnEveryTarget([] {
    for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft})
      for (const bool elu : {true, false})
        for (const bool decay : {false, true}) {
          if (decay && mask == Mask::kNone) continue;
          const auto check = [&](int64_t d, int64_t e) {
            CheckCase({30, 110, d, e, mask, elu, decay});
            CheckCase({110, 30, d, e, mask, elu, decay});
            CheckCase({1, 50, d, e, mask, elu, decay});
            CheckCase({50, 0, d, e, mask, elu, decay});
            CheckCase({0, 50, d, e, mask, elu, decay});
          };
          check(9, 18);
          // Rows that are read and written where they stand.
          if (!elu) check(32, 48);
        }
  });
}

TEST_CASE("query heads share the state of their key head") {
  OnEveryTarget([] {
    for (const bool elu : {true, false})
      for (const bool decay : {false, true}) {
        Case c{40, 45, 12, 34, Mask::kCausal, elu, decay};
        c.q_heads = 6;
        c.batch = 2;
        CheckCase(c);
        c.q_heads = 40;  // runs get shorter
        c.kv_heads = 1;
        c.batch = 1;
        c.qk_dim = 64;
        CheckCase(c);
        c.mask = decay ? Mask::kCausalTopLeft : Mask::kNone;
        CheckCase(c);
      }
  });
}

TEST_CASE("scans of bf16 keep f32 sums") {
  OnEveryTarget([] {
    for (const bool elu : {true, false})
      CheckCase({130, 130, 33, 20, Mask::kCausal, elu, !elu, DType::kBF16});
    CheckCase({70, 130, 16, 32, Mask::kNone, true, false, DType::kBF16});
  });
}

TEST_CASE("a scale multiplies the weights") {
  for (const bool elu : {true, false}) {
    Case c{50, 60, 16, 16, Mask::kCausal, elu};
    c.scale = 0.125f;
    CheckCase(c);
  }
}

TEST_CASE("a scan's bits do not depend on the number of threads") {
  const tbb::global_control parallel(
      tbb::global_control::max_allowed_parallelism, 8);
  const auto exec = MakeTbbExec(7);
  for (const int64_t heads : {1, 3}) {
    Case c{150, 150, 70, 100};
    c.q_heads = 2 * heads;
    c.kv_heads = heads;
    Run one(c), many(c);
    one.Passes(c.Spec(), Serial());
    many.Passes(c.Spec(), *exec);
    CHECK(one.out == many.out);
    CHECK(one.dq == many.dq);
    CHECK(one.dk == many.dk);
    CHECK(one.dv == many.dv);
  }
}

TEST_CASE("extending in pieces of any size equals the explicit form") {
  OnEveryTarget([] {
    for (const bool decay : {false, true})
      for (const int64_t piece : {1, 2, 6, 13, 64, 97, 200}) {
        Case c{230, 230, 10, 40, Mask::kCausal, !decay, decay};
        c.q_heads = 4;
        const ScanSpec spec = c.Spec();
        Run run(c);
        run.Passes(spec, Serial());
        const Memory state(ScanStateBytes(spec));
        std::memset(Bytes(state).data(), 0, Bytes(state).size());
        const Memory scratch(ScanExtendScratch(spec, 1));
        for (int64_t t = 0; t < c.q_len; t += piece) {
          const int64_t n = std::min(piece, c.q_len - t);
          ScanExtend(spec,
                     {run.q.Rows(t, n), run.k.Rows(t, n), run.v.Rows(t, n),
                      run.out.Rows(t, n)},
                     state, scratch, Serial());
        }
        CHECK(Ratio(spec, run) <= kKappa);
      }
  });
}

TEST_CASE("a NaN reaches what may see it, and nothing else") {
  OnEveryTarget([] {
    const Case c{100, 100, 16, 32};
    for (const int64_t at : {0, 4, 50, 99})
      for (const bool key : {true, false}) {
        Run clean(c), dirty(c);
        const double nan = std::numeric_limits<double>::quiet_NaN();
        dirty.k.Fill([&](int64_t b, int64_t h, int64_t t, int64_t i) {
          return key && t == at && i == 3 ? nan : clean.k(b, h, t, i);
        });
        dirty.v.Fill([&](int64_t b, int64_t h, int64_t t, int64_t i) {
          return !key && t == at && i == 3 ? nan : clean.v(b, h, t, i);
        });
        clean.Passes(c.Spec(), Serial());
        dirty.Passes(c.Spec(), Serial());
        dirty.out.ForAll([&](int64_t b, int64_t h, int64_t t, int64_t i) {
          if (t < at || (!key && i != 3))
            CHECK(dirty.out(b, h, t, i) == clean.out(b, h, t, i));
          else
            CHECK(std::isnan(dirty.out(b, h, t, i)));
        });
        dirty.dq.ForAll([&](int64_t b, int64_t h, int64_t t, int64_t i) {
          if (t < at) CHECK(dirty.dq(b, h, t, i) == clean.dq(b, h, t, i));
        });
      }
  });
}

// Sums of terms of one sign are where rounding adds up: their size is no larger
// than the result. Where each token rounds the whole state, a decay of .995
// comes to 20 instead of 6, and none to thousands when tokens repeat.
TEST_CASE("errors stay within the budget at 64k tokens") {
  OnEveryTarget([] {
    // 0: features and denominators, of what forgets nothing.
    for (const float decay : {0.0f, 0.995f, 0.999f})
      for (const bool constant : {false, true})
        for (const int64_t d : {1, 16}) {
          Case c{int64_t{1} << 16, int64_t{1} << 16, d, 2};
          c.q_heads = c.kv_heads = 1;
          c.elu = decay == 0;
          ScanSpec spec = c.Spec();
          if (!c.elu) spec.decay = {decay};
          Run run(c);
          for (Tensor* x : {&run.q, &run.k, &run.v})
            x->Fill([&](int64_t b, int64_t h, int64_t t, int64_t i) {
              const bool same = constant && x != &run.q;
              const double value = (*x)(b, h, same ? 0 : t, i);
              return c.elu && x != &run.v ? value : std::abs(value);
            });
          const Memory scratch(ScanForwardScratch(spec, 1));
          ScanForward(
              spec, {run.q.view(), run.k.view(), run.v.view(), run.out.view()},
              scratch, Serial());
          std::vector<double> z(static_cast<size_t>(d)), s(2 * z.size());
          Worst worst;
          for (int64_t t = 0; t < c.q_len; ++t) {
            double above[2] = {}, below = c.elu ? spec.epsilon : 1;
            for (int64_t i = 0; i < d; ++i) {
              const double k = Feature(spec, run.k(0, 0, t, i));
              const double q = Feature(spec, run.q(0, 0, t, i));
              z[i] += k;
              if (c.elu) below += q * z[i];
              for (int64_t j = 0; j < 2; ++j) {
                if (!c.elu) s[2 * i + j] *= static_cast<double>(decay);
                s[2 * i + j] += k * run.v(0, 0, t, j);
                above[j] += q * s[2 * i + j];
              }
            }
            const double parts = c.elu ? 2 : 1;
            for (int64_t j = 0; j < 2; ++j)
              worst.Check(spec, run.out(0, 0, t, j),
                          {above[j] / below, parts * above[j] / below});
          }
          CAPTURE(decay);
          CAPTURE(constant);
          CAPTURE(d);
          // Without a denominator the size is half of what it is with one.
          CHECK(worst.ratio <= (c.elu ? kKappa : 1.5 * kKappa));
        }
  });
}

}  // namespace saccade
