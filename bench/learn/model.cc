#include "bench/learn/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "distance_bias.h"
#include "position.h"

namespace saccade::bench {
namespace {

constexpr int64_t kMlpExpansion = 4;

// Parameters of a unit's attention, without its gain, as a function of v_dim.
int64_t AttentionSize(const Variant& variant, int64_t width, int64_t heads,
                      int64_t qk_dim, int64_t v_dim) {
  const Layer& layer = variant.layer;
  const int64_t qk = heads * qk_dim;
  const int64_t both = (layer.reads_q ? 1 : 0) + (layer.reads_k ? 1 : 0);
  int64_t cols = (layer.shared_qk ? qk : both * qk) + heads * v_dim;
  for (const ExtraInput& extra : variant.inputs) {
    cols += heads * WidthOf(extra, qk_dim, v_dim);
  }
  return width * (cols + heads * v_dim) + (layer.shared_qk ? 4 * qk : 0);
}

// For how many positions the variant learns rows of their own; 0: none.
int64_t LearnedPlaces(const Spec& spec) {
  const Variant& variant = *spec.variant;
  if (variant.parameters == nullptr) return 0;
  for (const Knob& knob : variant.knobs) {
    if (knob.name != "length") continue;
    const Knobs::Entry* const given = spec.knobs.Find("length");
    return static_cast<int64_t>(given ? given->number : knob.initial);
  }
  return 0;
}

// Numbers that all heads learn within the variant; but for rows of positions,
// which come on top as learned embeddings do.
int64_t LearnedSize(const Spec& spec, int64_t heads, int64_t qk_dim,
                    int64_t v_dim) {
  const Variant& variant = *spec.variant;
  if (variant.parameters == nullptr || LearnedPlaces(spec) > 0) return 0;
  Problem p;
  p.q_heads = p.kv_heads = heads;
  p.q_len = p.kv_len = 1;
  p.qk_dim = qk_dim;
  p.v_dim = v_dim;
  p.mask = Mask::kCausal;
  p.knobs = spec.knobs;
  const Result<Problem> resolved = Resolve(variant, p);
  return resolved.ok() ? heads * variant.parameters(*resolved) : 0;
}

// The plain layer that all others are matched to: q, k, v, out and the MLP.
int64_t PlainLayerSize(int64_t width) {
  return (4 + 2 * kMlpExpansion) * width * width;
}

}  // namespace

Result<Model> Model::Make(const ModelOptions& options) {
  const ModelOptions& o = options;
  if (o.width < 1 || o.width > 8192 || o.layers < 1 || o.layers > 64 ||
      o.heads < 1 || o.width % o.heads != 0 || o.symbols < 2 ||
      o.symbols > (1 << 16) || o.train_len < 1) {
    return Invalid(
        fmt::format("no model of width {}, {} layers, {} heads, {} "
                    "symbols and length {}",
                    o.width, o.layers, o.heads, o.symbols, o.train_len));
  }
  Result<Spec> spec = ParseSpec(o.spec);
  if (!spec.ok()) return spec.status();
  const Variant& variant = *spec->variant;
  if (!variant.traits.causal || !variant.traits.backward) {
    return Unsupported(fmt::format(
        "{} cannot train a language model: it has no {}", variant.name,
        variant.traits.causal ? "backward pass" : "causal mask"));
  }
  Model model;
  model.options_ = o;
  model.spec_ = *spec;
  // Rows of length 1. Were they longer, and logits divided to match, the model
  // would start as the same function, but a step of the optimiser, which is as
  // long for every tensor, would turn them less.
  const auto unit =
      static_cast<float>(1 / std::sqrt(static_cast<double>(o.width)));
  model.embedding_ =
      model.parameters_.Add("embedding", o.symbols, o.width, 0, unit);
  if (FindIn(spec->positions, "learned")) {
    model.positions_ = model.parameters_.Add("positions", o.train_len, o.width,
                                             0, 0.5f * unit);
  }
  if (o.shift)
    model.shift_ = model.parameters_.Add("shift", 1, o.width, 0.5, 0);
  // Widths that match the plain layer: of the MLP, or, where there is none, of
  // the values.
  const Layer& layer = variant.layer;
  const int64_t heads = layer.heads > 0 ? layer.heads : o.heads;
  const int64_t qk_dim = std::max<int64_t>(o.width / heads, 1);
  const auto size = [&](int64_t v_dim) {
    return AttentionSize(variant, o.width, heads, qk_dim, v_dim) +
           LearnedSize(*spec, heads, qk_dim, v_dim);
  };
  const auto nominal = static_cast<int64_t>(
      std::lround(layer.value_expansion * static_cast<double>(qk_dim)));
  const int64_t plain = PlainLayerSize(o.width);
  if (layer.replaces_mlp) {
    const int64_t step = size(2) - size(1), base = size(1) - step;
    const double match =
        (static_cast<double>(plain) / 2 - static_cast<double>(base)) /
        static_cast<double>(step);
    const auto v_dim = std::max<int64_t>(std::llround(match / 4) * 4, 4);
    for (int64_t n = 0; n < 2 * o.layers; ++n) {
      model.AddAttention(fmt::format("unit{}", n), v_dim);
    }
  } else {
    const double match = static_cast<double>(plain - size(nominal)) /
                         static_cast<double>(2 * o.width);
    const auto hidden = std::max<int64_t>(std::llround(match / 8) * 8, 8);
    for (int64_t n = 0; n < o.layers; ++n) {
      model.AddAttention(fmt::format("attention{}", n), nominal);
      model.AddMlp(fmt::format("mlp{}", n), hidden);
    }
  }
  model.last_gain_ = model.parameters_.Add("gain", 1, o.width, 1, 0);
  return model;
}

void Model::AddAttention(const std::string& name, int64_t v_dim) {
  const int64_t d = options_.width;
  const Variant& variant = *spec_.variant;
  const Layer& layer = variant.layer;
  Unit unit;
  unit.attention = true;
  unit.heads = layer.heads > 0 ? layer.heads : options_.heads;
  unit.qk_dim = std::max<int64_t>(d / unit.heads, 1);
  unit.v_dim = v_dim;
  const int64_t qk = unit.heads * unit.qk_dim, values = unit.heads * v_dim;
  const auto sd = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  const auto named = [&](std::string_view tensor) {
    return fmt::format("{}.{}", name, tensor);
  };
  // Matrices that stand side by side form W_in. Returns the piece made.
  const auto make = [&](std::string_view tensor, int64_t cols,
                        Activation activation) -> Piece& {
    const int64_t at = parameters_.Add(named(tensor), cols, d, 0, sd);
    if (unit.in_cols == 0) unit.in = at;
    unit.pieces.push_back({unit.in_cols, unit.mid_cols, cols, activation});
    unit.in_cols += cols;
    unit.mid_cols += cols;
    return unit.pieces.back();
  };
  unit.gain = parameters_.Add(named("gain"), 1, d, 1, 0);
  // Columns that nothing writes, for views that nothing reads.
  const auto unread = [&] {
    unit.mid_cols += qk;
    return unit.mid_cols - qk;
  };
  if (layer.shared_qk) {
    unit.q = make("z", qk, layer.qk_activation).to;
    unit.k = unit.mid_cols;
    Piece view = unit.pieces.back();
    view.to = unit.k;
    view.shared = true;
    unit.pieces.push_back(view);
    unit.mid_cols += qk;
  } else {
    unit.q = layer.reads_q ? make("q", qk, layer.qk_activation).to : unread();
    unit.k = layer.reads_k ? make("k", qk, layer.qk_activation).to : unread();
  }
  unit.v = make("v", values, layer.v_activation).to;
  for (const ExtraInput& extra : variant.inputs) {
    const int64_t dim = WidthOf(extra, unit.qk_dim, v_dim);
    unit.extras.push_back(
        make(extra.name, unit.heads * dim, extra.activation).to);
    unit.extra_dims.push_back(dim);
  }
  if (layer.shared_qk) {
    for (const auto& [piece, tensor] : {std::pair(0, "q"), {1, "k"}}) {
      unit.pieces[piece].gamma = parameters_.Add(
          fmt::format("{}.{}.gamma", name, tensor), 1, qk, 1, 0);
      unit.pieces[piece].beta =
          parameters_.Add(fmt::format("{}.{}.beta", name, tensor), 1, qk, 0, 0);
    }
  }
  // What is refused here is so again, with the reason, when a pass is made.
  if (const Result<Problem> problem =
          Resolve(variant, ProblemOf(unit, 1, options_.train_len, 0));
      problem.ok()) {
    const std::vector<float> start = LearnedStart(variant, *problem);
    if (!start.empty()) unit.bias = parameters_.Add(named("bias"), start);
  }
  unit.out_cols = values;
  unit.out = parameters_.Add(
      named("out"), d, values, 0,
      static_cast<float>(
          1 / std::sqrt(static_cast<double>(values * 2 * options_.layers))));
  units_.push_back(std::move(unit));
}

void Model::AddMlp(const std::string& name, int64_t hidden) {
  const int64_t d = options_.width;
  Unit unit;
  unit.in_cols = unit.mid_cols = unit.out_cols = hidden;
  unit.pieces = {{0, 0, hidden, Activation::kSilu}};
  unit.gain = parameters_.Add(name + ".gain", 1, d, 1, 0);
  unit.in = parameters_.Add(
      name + ".in", hidden, d, 0,
      static_cast<float>(1 / std::sqrt(static_cast<double>(d))));
  unit.out = parameters_.Add(
      name + ".out", d, hidden, 0,
      static_cast<float>(
          1 / std::sqrt(static_cast<double>(hidden * 2 * options_.layers))));
  units_.push_back(std::move(unit));
}

int64_t Model::max_len() const {
  const int64_t places = LearnedPlaces(spec_);
  if (positions_ < 0) return places;
  return places > 0 ? std::min(places, options_.train_len) : options_.train_len;
}

Result<std::vector<Position>> Model::TestPositions(
    std::string_view text) const {
  if (text.empty()) return spec_.positions;
  const bool adds = text.front() == '+';
  const std::string own = adds ? ToText(spec_.positions) : "";
  const std::string whole = own + std::string(text);
  Result<std::vector<Position>> positions = ParsePositions(
      *spec_.variant, std::string_view(whole).substr(whole.front() == '+'));
  if (!positions.ok()) return positions.status();
  if (const Status fits = CheckLearned(*positions); !fits.ok()) return fits;
  return positions;
}

Status Model::CheckLearned(const std::vector<Position>& positions) const {
  if (FindIn(positions, "learned") && positions_ < 0) {
    return Unsupported("the model was trained without +learned positions");
  }
  const Position* const bias = PositionOf(positions, PositionKind::kBias);
  const Position* const own = PositionOf(spec_.positions, PositionKind::kBias);
  Problem p = AttentionProblem(1, 1, 0);
  const int64_t trained = BiasParameters(p);
  p.positions = positions;
  if (bias == nullptr || BiasParameters(p) == 0) return {};
  if (own == nullptr || own->name != bias->name ||
      BiasParameters(p) != trained) {
    return Unsupported(fmt::format(
        "{} has learned parameters that the model was not trained with",
        ToText({*bias})));
  }
  return {};
}

Problem Model::AttentionProblem(int64_t batch, int64_t len,
                                int64_t window) const {
  return ProblemOf(units_.front(), batch, len, window);
}

Problem Model::ProblemOf(const Unit& unit, int64_t batch, int64_t len,
                         int64_t window) const {
  Problem p;
  p.batch = batch;
  p.q_heads = p.kv_heads = unit.heads;
  p.q_len = p.kv_len = len;
  p.qk_dim = unit.qk_dim;
  p.v_dim = unit.v_dim;
  p.mask = Mask::kCausal;
  p.window = window;
  p.knobs = spec_.knobs;
  p.positions = spec_.positions;
  return p;
}

Result<double> Model::FlopsPerToken(int64_t len) const {
  const Result<Problem> problem =
      Resolve(*spec_.variant, AttentionProblem(1, len, 0));
  if (!problem.ok()) return problem.status();
  const Cost cost = spec_.variant->cost(*problem);
  const double attention =
      (cost.forward_flops + cost.backward_flops) / static_cast<double>(len);
  int64_t columns = options_.symbols;  // of matrices with `width` rows
  double flops = 0;
  for (const Unit& unit : units_) {
    columns += unit.in_cols + unit.out_cols;
    flops += unit.attention ? attention : 0;
  }
  return flops + 6.0 * static_cast<double>(columns * options_.width);
}

}  // namespace saccade::bench
