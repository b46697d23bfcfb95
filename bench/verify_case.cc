// Which cases a variant is checked on, and cases as text.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>

#include "bench/verify.h"
#include "bench/verify_data.h"
#include "position.h"

namespace saccade::bench {
namespace {

constexpr std::pair<Fill, std::string_view> kFills[] = {
    {Fill::kNormal, "normal"}, {Fill::kZero, "zero"},
    {Fill::kHuge, "huge"},     {Fill::kTied, "tied"},
    {Fill::kRising, "rising"}, {Fill::kOutlier, "outlier"},
    {Fill::kHidden, "hidden"}};
constexpr std::pair<Layout, std::string_view> kLayouts[] = {
    {Layout::kPacked, "packed"},
    {Layout::kTokenMajor, "token_major"},
    {Layout::kGaps, "gaps"}};
constexpr std::pair<Mask, std::string_view> kMasks[] = {
    {Mask::kNone, "none"},
    {Mask::kCausal, "causal"},
    {Mask::kCausalTopLeft, "causal_top_left"}};
constexpr std::pair<AttnMask, std::string_view> kAttnMasks[] = {
    {AttnMask::kNone, "none"},
    {AttnMask::kBoolean, "boolean"},
    {AttnMask::kAdditive, "additive"}};
constexpr std::pair<DType, std::string_view> kDTypes[] = {
    {DType::kF32, "f32"}, {DType::kBF16, "bf16"}};
constexpr std::pair<Pass, std::string_view> kPassNames[] = {
    {Pass::kForward, "forward"},
    {Pass::kBackward, "backward"},
    {Pass::kDecode, "decode"}};

template <class T, size_t N>
std::string_view NameIn(const std::pair<T, std::string_view> (&names)[N],
                        T value) {
  for (const auto& [v, name] : names)
    if (v == value) return name;
  return "?";
}

template <class T, size_t N>
Status Pick(const std::pair<T, std::string_view> (&names)[N],
            std::string_view key, std::string_view text, T* value) {
  std::string choices;
  for (const auto& [v, name] : names) {
    if (name == text) {
      *value = v;
      return {};
    }
    choices += (choices.empty() ? "" : ", ") + std::string(name);
  }
  return Invalid(std::string(key) + " is '" + std::string(text) +
                 "', must be one of " + choices);
}

template <class T>
Status Number(std::string_view key, std::string_view text, T* value) {
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, *value);
  if (error != std::errc() || at != end || text.empty())
    return Invalid(std::string(key) + " is '" + std::string(text) +
                   "', which is not a number");
  return {};
}

// "a/b", or "a" for both.
Status Two(std::string_view key, std::string_view text, int64_t* a,
           int64_t* b) {
  const size_t slash = text.find('/');
  if (Status s = Number(key, text.substr(0, slash), a); !s.ok()) return s;
  if (slash == std::string_view::npos) {
    *b = *a;
    return {};
  }
  return Number(key, text.substr(slash + 1), b);
}

std::string Join(const Knobs& knobs) {
  std::string text;
  for (const Knobs::Entry& e : knobs.entries())
    if (!e.text.empty())
      text += (text.empty() ? ":" : ",") + e.name + "=" + e.text;
  return text;
}

Status SetField(std::string_view key, std::string_view text, CheckCase* c) {
  Problem& p = c->problem;
  if (key == "pass") return Pick(kPassNames, key, text, &c->pass);
  if (key == "dtype") return Pick(kDTypes, key, text, &p.dtype);
  if (key == "mask") return Pick(kMasks, key, text, &p.mask);
  if (key == "fill") return Pick(kFills, key, text, &c->fill);
  if (key == "layout") return Pick(kLayouts, key, text, &c->layout);
  if (key == "batch") return Number(key, text, &p.batch);
  if (key == "heads") return Two(key, text, &p.q_heads, &p.kv_heads);
  if (key == "len") return Two(key, text, &p.q_len, &p.kv_len);
  if (key == "dim") return Two(key, text, &p.qk_dim, &p.v_dim);
  if (key == "window") return Number(key, text, &p.window);
  if (key == "attn_mask") return Pick(kAttnMasks, key, text, &p.attn_mask);
  if (key == "softcap") return Number(key, text, &p.softcap);
  if (key == "scale") return Number(key, text, &p.scale);
  if (key == "seed") return Number(key, text, &c->seed);
  if (key == "slots") {
    if (Status s = Number(key, text, &c->slots); !s.ok()) return s;
    return c->slots >= 1 && c->slots <= 64
               ? Status()
               : Invalid("slots must be from 1 to 64");
  }
  return Invalid(
      "a case has no field '" + std::string(key) +
      "': they are pass, dtype, mask, batch, heads, len, dim, "
      "window, attn_mask, softcap, scale, fill, layout, slots, seed");
}

// Hands out the values of a list in a random order, all before any again.
template <class T>
class Deck {
 public:
  Deck(std::vector<T> values, Rng& rng) : values_(std::move(values)) {
    rng_ = &rng;
    at_ = values_.size();
  }

  T Draw() {
    if (at_ == values_.size()) {
      for (size_t n = values_.size(); n > 1; --n)
        std::swap(values_[n - 1], values_[rng_->Below(n)]);
      at_ = 0;
    }
    return values_[at_++];
  }

 private:
  std::vector<T> values_;
  Rng* rng_;
  size_t at_;
};

// Values of a knob worth trying: its default, its ends, and numbers around the
// lengths and block sizes of cases. Empty text stands for the default.
std::vector<std::string> ValuesOf(const Knob& knob) {
  std::vector<std::string> values = {""};
  if (!knob.choices.empty()) {
    if (knob.choices == "*") return values;
    std::string_view rest = knob.choices;
    while (true) {
      const size_t bar = rest.find('|');
      values.emplace_back(rest.substr(0, bar));
      if (bar == std::string_view::npos) return values;
      rest.remove_prefix(bar + 1);
    }
  }
  const auto add = [&](double x) {
    x = std::clamp(x, knob.low, knob.high);
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, x).ptr;
    values.emplace_back(text, end);
  };
  if (!knob.integer) {
    add(knob.low);
    add((knob.low + knob.initial) / 2);
    return values;
  }
  for (const double x : {knob.low, knob.low + 1, 3.0, 16.0, 17.0, 64.0, 100.0})
    add(x);
  return values;
}

// Draws cases.
class Dealer {
 public:
  Dealer(const Variant& v, Pass pass, DType dtype)
      : variant_(v),
        pass_(pass),
        dtype_(dtype),
        rng_(Seed(v.name, pass, dtype)),
        masks_(Masks(), rng_),
        lengths_(Lengths(), rng_),
        widths_({1, 3, 8, 16, 33, 64, 80}, rng_),
        narrow_({1, 2, 3, 5, 8}, rng_),
        heads_(Heads(), rng_),
        batches_({1, 1, 2}, rng_),
        windows_(v.traits.window ? std::vector<int64_t>{0, 0, 0, 1, 2, 16, 100}
                                 : std::vector<int64_t>{0},
                 rng_),
        positions_(Positions(), rng_),
        fills_(Fills(), rng_),
        layouts_({Layout::kPacked, Layout::kTokenMajor, Layout::kGaps}, rng_),
        scales_({0, 0, 0, 0.25f}, rng_),
        attn_masks_(
            v.traits.attn_mask && pass != Pass::kDecode
                ? std::vector<AttnMask>{AttnMask::kNone, AttnMask::kNone,
                                        AttnMask::kNone, AttnMask::kBoolean,
                                        AttnMask::kAdditive}
                : std::vector<AttnMask>{AttnMask::kNone},
            rng_),
        softcaps_(v.traits.softcap ? std::vector<float>{0, 0, 0, 0, 1.5f, 30}
                                   : std::vector<float>{0},
                  rng_) {
    for (const Knob& knob : v.knobs) knobs_.emplace_back(ValuesOf(knob), rng_);
  }

  CheckCase Deal() {
    CheckCase c;
    c.variant = &variant_;
    c.pass = pass_;
    c.seed = rng_.Next() >> 40;
    c.fill = fills_.Draw();
    c.layout = layouts_.Draw();
    c.slots = rng_.Below(3) == 0 ? 3 : 1;
    Problem& p = c.problem;
    p.dtype = dtype_;
    p.mask = masks_.Draw();
    p.batch = batches_.Draw();
    std::tie(p.q_heads, p.kv_heads) = heads_.Draw();
    p.window = windows_.Draw();
    p.scale = scales_.Draw();
    p.attn_mask = attn_masks_.Draw();
    p.softcap = softcaps_.Draw();
    p.positions = *ParsePositions(variant_, positions_.Draw());
    if (BiasParameters(p) > 0) p.softcap = 0;
    for (size_t n = 0; n < knobs_.size(); ++n)
      if (const std::string text = knobs_[n].Draw(); !text.empty())
        p.knobs.SetText(variant_.knobs[n].name, text);
    DealShape(c);
    return c;
  }

 private:
  static uint64_t Seed(std::string_view name, Pass pass, DType dtype) {
    uint64_t seed = static_cast<uint64_t>(pass) * 2 +
                    static_cast<uint64_t>(dtype == DType::kBF16);
    for (const char c : name) seed = seed * 131 + static_cast<unsigned char>(c);
    return seed;
  }

  std::vector<Mask> Masks() const {
    if (pass_ == Pass::kDecode) return {Mask::kCausal};
    std::vector<Mask> masks;
    if (variant_.traits.causal)
      masks = {Mask::kCausal, Mask::kCausal, Mask::kCausalTopLeft};
    if (variant_.traits.bidirectional) masks.push_back(Mask::kNone);
    return masks;
  }

  std::vector<int64_t> Lengths() const {
    if (pass_ == Pass::kBackward)
      return {0,  1,  2,  3,  5,  8,  15,  16,  17,  24,
              31, 33, 48, 63, 65, 96, 127, 130, 150, 200};
    return {0,  1,  2,  3,  5,  7,  8,   15,  16,  17,  31,  33, 47,
            63, 64, 65, 66, 97, 99, 127, 129, 130, 191, 257, 300};
  }

  std::vector<std::pair<int64_t, int64_t>> Heads() const {
    if (!variant_.traits.grouped_heads) return {{1, 1}, {2, 2}, {3, 3}};
    return {{1, 1}, {2, 2}, {3, 3}, {6, 2}, {4, 1}, {12, 4}};
  }

  std::vector<std::string> Positions() const {
    std::vector<std::string> names = {"none", "none"};
    const bool causal =
        pass_ == Pass::kDecode || !variant_.traits.bidirectional;
    for (const char* text :
         {"rope", "rope:base=50+logn:length=20",
          "rope:scaling=yarn,factor=6,length=100,fast=4",
          "rope:scaling=ntk,factor=3,base=200", "rope:scaling=pi,factor=2.5",
          "xpos:scale=100", "logn:length=3", "alibi", "alibi+logn", "t5",
          "t5:buckets=8,distance=20", "kerple", "sandwich:width=16",
          "rope+kerple", "rerope:window=5,base=50",
          "rerope:window=1+logn:length=8", "rerope:window=40+t5"})
      if ((causal || std::string_view(text).substr(0, 4) != "xpos") &&
          ParsePositions(variant_, text).ok())
        names.emplace_back(text);
    return names;
  }

  std::vector<Fill> Fills() const {
    std::vector<Fill> fills = {Fill::kNormal, Fill::kHidden};
    for (const auto& [fill, name] : kFills)
      // At zero, features and weights that are kinked have no second
      // derivative, and differences see the kink.
      if (fill != Fill::kZero || pass_ != Pass::kBackward)
        fills.push_back(fill);
    return fills;
  }

  // Lengths and widths, then heads and batch cut to keep the oracle fast.
  void DealShape(CheckCase& c) {
    Problem& p = c.problem;
    p.q_len = lengths_.Draw();
    p.kv_len =
        variant_.traits.cross && rng_.Below(2) ? lengths_.Draw() : p.q_len;
    p.qk_dim = widths_.Draw();
    p.v_dim = rng_.Below(3) ? widths_.Draw() : p.qk_dim;
    // Backward perturbs the inputs one by one: long sequences are narrow.
    if (pass_ == Pass::kBackward && std::max(p.q_len, p.kv_len) > 40) {
      p.qk_dim = narrow_.Draw();
      p.v_dim = narrow_.Draw();
    }
    // Which keys a query sees is found out key by key.
    if (pass_ == Pass::kBackward && c.fill == Fill::kHidden) {
      p.q_len = std::min<int64_t>(p.q_len, 33);
      p.kv_len = std::min<int64_t>(p.kv_len, 33);
    }
    if (pass_ == Pass::kDecode) DealPieces(p);
    const int64_t most = pass_ == Pass::kBackward ? 400'000 : 4'000'000;
    const auto work = [&] {
      return p.batch * p.q_heads * std::max(p.q_len, p.kv_len) * p.kv_len *
             (p.qk_dim + p.v_dim + 16);
    };
    if (work() > most) p.batch = 1;
    if (work() > most) {
      p.q_heads /= p.kv_heads;
      p.kv_heads = 1;
    }
    if (work() > most) p.q_heads = 1;
  }

  // A sequence of kv_len tokens in pieces of at most q_len: often one token,
  // now and then everything at once.
  void DealPieces(Problem& p) {
    p.kv_len = std::max(p.q_len, p.kv_len);
    const int64_t pieces[] = {1, 1, 2, 4, 7, 64, p.kv_len};
    if (variant_.traits.cross)
      p.q_len = std::min(p.kv_len, pieces[rng_.Below(std::ssize(pieces))]);
    else
      p.q_len = p.kv_len;
  }

  const Variant& variant_;
  Pass pass_;
  DType dtype_;
  Rng rng_;
  Deck<Mask> masks_;
  Deck<int64_t> lengths_, widths_, narrow_;
  Deck<std::pair<int64_t, int64_t>> heads_;
  Deck<int64_t> batches_, windows_;
  Deck<std::string> positions_;
  Deck<Fill> fills_;
  Deck<Layout> layouts_;
  Deck<float> scales_;
  Deck<AttnMask> attn_masks_;
  Deck<float> softcaps_;
  std::vector<Deck<std::string>> knobs_;
};

int HowMany(Pass pass, DType dtype, Effort effort) {
  const int full = pass == Pass::kForward ? 150 : 60;
  const int count = dtype == DType::kF32 ? full : full / 2;
  return effort == Effort::kFull ? count : count / 3;
}

}  // namespace

const char* NameOf(Pass pass) { return NameIn(kPassNames, pass).data(); }

std::string ToString(const CheckCase& c) {
  const Problem& p = c.problem;
  const auto pair = [](int64_t a, int64_t b) {
    return std::to_string(a) + "/" + std::to_string(b);
  };
  std::string s = std::string(c.variant->name) + Join(p.knobs);
  s += ToText(p.positions);
  s += " pass=" + std::string(NameOf(c.pass));
  s += " dtype=" + std::string(NameIn(kDTypes, p.dtype));
  s += " mask=" + std::string(NameIn(kMasks, p.mask));
  s += " batch=" + std::to_string(p.batch);
  s += " heads=" + pair(p.q_heads, p.kv_heads);
  s += " len=" + pair(p.q_len, p.kv_len);
  s += " dim=" + pair(p.qk_dim, p.v_dim);
  if (p.window) s += " window=" + std::to_string(p.window);
  const auto number = [&](const char* key, float x) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, x).ptr;
    if (x != 0) s += key + std::string(text, end);
  };
  number(" scale=", p.scale);
  number(" softcap=", p.softcap);
  if (p.attn_mask != AttnMask::kNone)
    s += " attn_mask=" + std::string(NameIn(kAttnMasks, p.attn_mask));
  s += " fill=" + std::string(NameIn(kFills, c.fill));
  s += " layout=" + std::string(NameIn(kLayouts, c.layout));
  s += " slots=" + std::to_string(c.slots);
  return s + " seed=" + std::to_string(c.seed);
}

Result<CheckCase> ParseCase(std::string_view text) {
  CheckCase c;
  c.problem.q_len = c.problem.kv_len = c.problem.qk_dim = c.problem.v_dim = 8;
  while (!text.empty()) {
    const size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    text = space == std::string_view::npos ? "" : text.substr(space + 1);
    if (word.empty()) continue;
    if (!c.variant) {
      Result<Spec> spec = ParseSpec(word);
      if (!spec.ok()) return spec.status();
      c.variant = spec->variant;
      c.problem.knobs = spec->knobs;
      c.problem.positions = spec->positions;
      continue;
    }
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      return Invalid("'" + std::string(word) + "' is not field=value");
    const Status s =
        SetField(word.substr(0, equals), word.substr(equals + 1), &c);
    if (!s.ok()) return s;
  }
  if (!c.variant) return Invalid("a case begins with a variant's name");
  return c;
}

bool Offers(const Variant& v, Pass pass, DType dtype) {
  if (dtype == DType::kBF16 && !v.traits.bf16) return false;
  if (pass == Pass::kBackward) return v.traits.backward;
  if (pass == Pass::kDecode) return v.traits.extend && v.traits.causal;
  return true;
}

std::vector<CheckCase> CasesFor(const Variant& v, Pass pass, DType dtype,
                                Effort effort) {
  std::vector<CheckCase> cases;
  if (!Offers(v, pass, dtype)) return cases;
  Dealer dealer(v, pass, dtype);
  for (int n = HowMany(pass, dtype, effort); n > 0; --n)
    cases.push_back(dealer.Deal());
  return cases;
}

}  // namespace saccade::bench
