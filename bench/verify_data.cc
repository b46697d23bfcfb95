#include "bench/verify_data.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numbers>

#include "activation.h"

#if defined(__has_feature)  // clang's way to say it
#if __has_feature(address_sanitizer)
#define SACCADE_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SACCADE_ASAN 1
#endif
#if defined(SACCADE_ASAN)
#include <sanitizer/asan_interface.h>
#define SACCADE_CLOSE(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define SACCADE_OPEN(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define SACCADE_CLOSE(p, n) ((void)(p), (void)(n))
#define SACCADE_OPEN(p, n) ((void)(p), (void)(n))
#endif

namespace saccade::bench {
namespace {

constexpr std::byte kPoison{0xFF};

bool AllPoison(const std::byte* p, size_t n) {
  return std::all_of(p, p + n, [](std::byte b) { return b == kPoison; });
}

}  // namespace

uint64_t Rng::Next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

int64_t Rng::Below(int64_t n) {
  return static_cast<int64_t>(Next() % static_cast<uint64_t>(n));
}

double Rng::Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

double Rng::Normal() {
  const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

double Stored(double x, DType dtype) {
  const float f = static_cast<float>(x);
  if (dtype == DType::kF32 || !std::isfinite(f)) return f;
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  return std::bit_cast<float>(rounded & 0xFFFF0000u);
}

GuardedBytes::GuardedBytes(size_t size)
    : size_(size),
      memory_(static_cast<std::byte*>(
          ::operator new (size + 2 * kGuard, std::align_val_t{64}))) {
  std::memset(memory_, 0xFF, size + 2 * kGuard);
  SACCADE_CLOSE(memory_, kGuard);
  SACCADE_CLOSE(memory_ + kGuard + size_, kGuard);
}

GuardedBytes::~GuardedBytes() {
  SACCADE_OPEN(memory_, size_ + 2 * kGuard);
  ::operator delete (memory_, std::align_val_t{64});
}

void GuardedBytes::Poison() {
  if (size_ > 0) std::memset(memory_ + kGuard, 0xFF, size_);
}

bool GuardedBytes::Intact() const {
  SACCADE_OPEN(memory_, size_ + 2 * kGuard);
  const bool intact =
      AllPoison(memory_, kGuard) && AllPoison(memory_ + kGuard + size_, kGuard);
  SACCADE_CLOSE(memory_, kGuard);
  SACCADE_CLOSE(memory_ + kGuard + size_, kGuard);
  return intact;
}

Tensor::Tensor(int64_t batch, int64_t heads, int64_t len, int64_t dim,
               DType dtype, Layout layout)
    : view_([&] {
        View v = Contiguous<void>(nullptr, dtype, batch, heads, len, dim);
        if (layout == Layout::kTokenMajor)
          v = TokenMajor<void>(nullptr, dtype, batch, heads, len, dim);
        if (layout == Layout::kGaps) {
          v.row_stride = dim + 3;
          v.head_stride = len * v.row_stride + 5;
          v.batch_stride = heads * v.head_stride + 7;
        }
        return v;
      }()),
      // One element more in front, so that rows of gaps start misaligned.
      memory_(static_cast<size_t>((Extent(view_) + (layout == Layout::kGaps)) *
                                  SizeOf(dtype))) {
  if (view_.elements() > 0)
    view_.data = memory_.bytes().data() +
                 (layout == Layout::kGaps ? SizeOf(dtype) : int64_t{0});
}

int64_t Tensor::Extent(const View& v) {
  if (v.elements() == 0) return 0;
  return (v.batch - 1) * v.batch_stride + (v.heads - 1) * v.head_stride +
         (v.len - 1) * v.row_stride + v.dim;
}

std::byte* Tensor::At(int64_t b, int64_t h, int64_t t) const {
  return static_cast<std::byte*>(view_.data) +
         (b * view_.batch_stride + h * view_.head_stride +
          t * view_.row_stride) *
             SizeOf(view_.dtype);
}

void Tensor::SetAt(int64_t index, double value) {
  SetRow(index / view_.dim, index % view_.dim, &value, 1);
}

// Elements from c on of row n, of those of all heads.
void Tensor::SetRow(int64_t n, int64_t c, const double* values, int64_t count) {
  const int64_t head = n / view_.len;
  std::byte* const row =
      At(head / view_.heads, head % view_.heads, n % view_.len);
  for (int64_t i = 0; i < count; ++i) {
    const float x = static_cast<float>(Stored(values[i], view_.dtype));
    if (view_.dtype == DType::kF32) {
      std::memcpy(row + (c + i) * 4, &x, 4);
    } else {
      const uint16_t upper =
          static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
      std::memcpy(row + (c + i) * 2, &upper, 2);
    }
  }
}

void Tensor::Set(const std::vector<double>& values) {
  const int64_t rows = view_.dim > 0 ? std::ssize(values) / view_.dim : 0;
  for (int64_t n = 0; n < rows; ++n)
    SetRow(n, 0, values.data() + n * view_.dim, view_.dim);
}

std::vector<double> Tensor::Get() const {
  std::vector<double> values;
  values.reserve(static_cast<size_t>(view_.elements()));
  for (int64_t b = 0; b < view_.batch; ++b)
    for (int64_t h = 0; h < view_.heads; ++h)
      for (int64_t t = 0; t < view_.len; ++t)
        for (int64_t c = 0; c < view_.dim; ++c) {
          const std::byte* const at = At(b, h, t) + c * SizeOf(view_.dtype);
          uint32_t bits = 0;
          if (view_.dtype == DType::kF32) {
            std::memcpy(&bits, at, 4);
          } else {
            uint16_t upper;
            std::memcpy(&upper, at, 2);
            bits = uint32_t{upper} << 16;
          }
          values.push_back(std::bit_cast<float>(bits));
        }
  return values;
}

bool Tensor::Intact() const {
  if (!memory_.Intact()) return false;
  std::vector<std::byte> rest = Snapshot();
  // Rows without elements may stand anywhere.
  if (view_.dim == 0) return AllPoison(rest.data(), rest.size());
  const std::byte* const base = memory().data();
  for (int64_t b = 0; b < view_.batch; ++b)
    for (int64_t h = 0; h < view_.heads; ++h)
      for (int64_t t = 0; t < view_.len; ++t)
        std::fill_n(rest.begin() + (At(b, h, t) - base),
                    view_.dim * SizeOf(view_.dtype), kPoison);
  return AllPoison(rest.data(), rest.size());
}

std::vector<std::byte> Tensor::Snapshot() const {
  const Bytes bytes = memory();
  return {bytes.begin(), bytes.end()};
}

MaskTensor::MaskTensor(const MaskView& shape, const Problem& p,
                       const std::vector<double>& dense, Layout layout)
    : view_(shape) {
  // Keys side by side, or a key's queries; nothing behind the last element.
  const int64_t gap = layout == Layout::kGaps ? 3 : 0;
  if (layout == Layout::kTokenMajor) {
    view_.row_stride = 1;
    view_.key_stride = view_.q_len;
  } else {
    view_.row_stride = view_.kv_len + gap;
    view_.key_stride = 1;
  }
  view_.head_stride = view_.q_len * (view_.kv_len + gap);
  view_.batch_stride = view_.heads * view_.head_stride;
  const int64_t size = SizeOf(view_.element);
  const int64_t elements = view_.batch * view_.batch_stride;
  memory_ = std::make_unique<GuardedBytes>(
      static_cast<size_t>(std::max<int64_t>(0, elements - gap) * size));
  view_.data = memory_->bytes().data();
  const auto at = [](int64_t n, int64_t of) { return of == 1 ? 0 : n; };
  int64_t n = 0;
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.q_heads; ++h)
      for (int64_t i = 0; i < p.q_len; ++i)
        for (int64_t j = 0; j < p.kv_len; ++j) {
          const double x = dense[n++];
          std::byte* const to =
              memory_->bytes().data() +
              size * (at(b, view_.batch) * view_.batch_stride +
                      at(h, view_.heads) * view_.head_stride +
                      at(i, view_.q_len) * view_.row_stride +
                      at(j, view_.kv_len) * view_.key_stride);
          const auto f = static_cast<float>(x);
          const auto upper =
              static_cast<uint16_t>(std::bit_cast<uint32_t>(f) >> 16);
          switch (view_.element) {
            case MaskElement::kBool:
              *to = std::byte{x == 0 ? uint8_t{1} : uint8_t{0}};
              break;
            case MaskElement::kF32:
              std::memcpy(to, &f, sizeof f);
              break;
            case MaskElement::kBF16:
              std::memcpy(to, &upper, sizeof upper);
              break;
          }
        }
}

void SlotExec::For(int64_t tasks, LoopBody body) {
  for (int64_t t = 0; t < tasks; ++t) {
    body(t, next_);
    next_ = (next_ + 1) % slots_;
  }
}

OracleInputs Data::inputs() const {
  OracleInputs in{.q = q.data(), .k = k.data(), .v = v.data()};
  for (int n = 0; n < kMaxExtras; ++n) in.extra[n] = extra[n].data();
  if (!bias.empty()) in.bias = bias.data();
  if (!attn_mask.empty()) in.attn_mask = attn_mask.data();
  return in;
}

ExtraShape ShapeOf(const ExtraInput& extra, const Problem& p) {
  return {extra.per_query ? p.q_heads : p.kv_heads,
          extra.per_query ? p.q_len : p.kv_len,
          WidthOf(extra, p.qk_dim, p.v_dim)};
}

namespace {

// Scales rows of q and k to make the scores a fill asks for.
class Filler {
 public:
  Filler(const CheckCase& c, const Problem& p, Rng& rng)
      : fill_(c.fill), p_(p), rng_(rng), direction_(p.qk_dim) {
    // Of all lengths, for a sum of equal terms rounds one way at every step.
    Normal(direction_.data(), p.qk_dim, 1);
    double length = 0;
    for (const double x : direction_) length += x * x;
    for (double& x : direction_) x /= std::sqrt(length);
    outlier_ = p.kv_len > 0 ? rng.Below(p.kv_len) : 0;
  }

  void Query(double* row) {
    const double along = Along();
    switch (fill_) {
      case Fill::kZero:
        return Line(row, 0);
      case Fill::kHuge:
        return Line(row, Sign() * Reach(90) * (0.9 + 0.1 * along));
      case Fill::kRising:
        return Line(row, Reach(60) * (0.9 + 0.1 * along));
      default:
        return Normal(row, p_.qk_dim, 1);
    }
  }

  void Key(double* row, int64_t j) {
    const double place =
        static_cast<double>(j + 1) / static_cast<double>(p_.kv_len);
    switch (fill_) {
      case Fill::kHuge:
        return Line(row, Sign() * Reach(90) * (0.9 + 0.1 * Along()));
      case Fill::kRising:
        return Line(row, Reach(60) * place);
      case Fill::kTied:
        if (tied_.empty()) {
          tied_.resize(p_.qk_dim);
          Normal(tied_.data(), p_.qk_dim, 1);
        }
        std::copy(tied_.begin(), tied_.end(), row);
        return;
      default:
        Normal(row, p_.qk_dim,
               fill_ == Fill::kOutlier && j == outlier_ ? 30 : 1);
    }
  }

  void Value(double* row, int64_t j) {
    Normal(row, p_.v_dim,
           fill_ == Fill::kOutlier && j == p_.kv_len - 1 - outlier_ ? 1000 : 1);
  }

  void Normal(double* row, int64_t n, double scale) {
    for (int64_t c = 0; c < n; ++c) row[c] = scale * rng_.Normal();
  }

 private:
  // Length of a row along the direction whose product with another such row is
  // a score of `score`.
  double Reach(double score) const {
    return std::sqrt(score / std::abs(static_cast<double>(p_.scale)));
  }
  double Sign() { return rng_.Below(2) ? 1 : -1; }
  double Along() { return rng_.Uniform(); }
  void Line(double* row, double length) {
    for (int64_t c = 0; c < p_.qk_dim; ++c) row[c] = length * direction_[c];
  }

  Fill fill_;
  const Problem& p_;
  Rng& rng_;
  std::vector<double> direction_, tied_;
  int64_t outlier_ = 0;
};

// A mask that is the same along some dimensions: numbers, or visible or not; of
// both kinds some pairs, some whole keys and some whole queries are hidden, and
// of some masks all but the blocks on the diagonal.
void MakeMask(const Problem& p, Rng& rng, Data* data) {
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  const bool additive = p.attn_mask == AttnMask::kAdditive;
  MaskView& m = data->mask_shape;
  m.element = MaskElement::kBool;
  if (additive)
    m.element = p.dtype == DType::kBF16 && rng.Below(2) ? MaskElement::kBF16
                                                        : MaskElement::kF32;
  const auto some = [&](int64_t all, int64_t odds) {
    return rng.Below(odds) == 0 ? 1 : all;
  };
  m.batch = some(p.batch, 2);
  m.heads = some(p.q_heads, 2);
  m.q_len = some(p.q_len, 4);
  m.kv_len = some(p.kv_len, 12);
  std::vector<bool> keys(m.kv_len);
  for (size_t j = 0; j < keys.size(); ++j)
    keys[j] = m.kv_len > 1 && rng.Below(4) == 0;
  const DType stored =
      m.element == MaskElement::kBF16 ? DType::kBF16 : DType::kF32;
  const int64_t blocks = rng.Below(3) ? 1 : 2 + rng.Below(3);
  std::vector<double> own;
  for (int64_t n = 0; n < m.batch * m.heads * m.q_len; ++n) {
    const bool blind = rng.Below(16) == 0;
    const int64_t block = n % m.q_len * blocks / m.q_len;
    for (int64_t j = 0; j < m.kv_len; ++j) {
      const bool hidden = blind || keys[j] || rng.Below(5) == 0 ||
                          j * blocks / m.kv_len != block;
      const double x = additive ? Stored(2 * rng.Normal(), stored) : 0;
      own.push_back(hidden ? kHidden : x);
    }
  }
  const auto at = [](int64_t n, int64_t of) { return of == 1 ? 0 : n; };
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t h = 0; h < p.q_heads; ++h)
      for (int64_t i = 0; i < p.q_len; ++i)
        for (int64_t j = 0; j < p.kv_len; ++j)
          data->attn_mask.push_back(
              own[((at(b, m.batch) * m.heads + at(h, m.heads)) * m.q_len +
                   at(i, m.q_len)) *
                      m.kv_len +
                  at(j, m.kv_len)]);
}

}  // namespace

Data MakeData(const CheckCase& c, const Problem& p) {
  Rng rng(c.seed);
  Filler fill(c, p, rng);
  Data data;
  const int64_t queries = p.batch * p.q_heads * p.q_len;
  const int64_t keys = p.batch * p.kv_heads * p.kv_len;
  data.q.resize(queries * p.qk_dim);
  data.k.resize(keys * p.qk_dim);
  data.v.resize(keys * p.v_dim);
  data.dout.resize(queries * p.v_dim);
  for (int64_t r = 0; r < queries; ++r) fill.Query(&data.q[r * p.qk_dim]);
  for (int64_t r = 0; r < keys; ++r) {
    fill.Key(&data.k[r * p.qk_dim], r % p.kv_len);
    fill.Value(&data.v[r * p.v_dim], r % p.kv_len);
  }
  fill.Normal(data.dout.data(), queries * p.v_dim, 1);
  for (size_t n = 0; n < c.variant->inputs.size(); ++n) {
    const ExtraInput& extra = c.variant->inputs[n];
    const ExtraShape shape = ShapeOf(extra, p);
    data.extra[n].resize(p.batch * shape.heads * shape.len * shape.dim);
    for (double& x : data.extra[n])
      x = Activate(extra.activation, rng.Normal());
  }
  data.bias.resize(p.q_heads * LearnedParameters(*c.variant, p));
  for (double& x : data.bias) x = Stored(0.5 * rng.Normal(), DType::kF32);
  if (p.attn_mask != AttnMask::kNone) MakeMask(p, rng, &data);
  const auto store = [&](std::vector<double>& values) {
    for (double& x : values) x = Stored(x, p.dtype);
  };
  for (auto* values : {&data.q, &data.k, &data.v, &data.dout}) store(*values);
  for (auto& values : data.extra) store(values);
  return data;
}

}  // namespace saccade::bench
