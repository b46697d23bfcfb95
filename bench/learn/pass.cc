#include "bench/learn/pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bench/learn/ops.h"
#include "bench/learn/unit.h"
#include "position.h"

namespace saccade::bench {
namespace {

// The first cols columns' worth of a matrix's memory, as rows of that width.
Rows Shaped(const Matrix& m, int64_t cols) {
  return {m.data, m.rows, cols, cols};
}

const float* ShiftOf(const Model& model) {
  return model.shift() < 0 ? nullptr : model.parameters().value(model.shift());
}

}  // namespace

Result<std::unique_ptr<ModelPass>> ModelPass::Make(const Model& model,
                                                   const PassOptions& options,
                                                   Exec& exec) {
  if (options.batch < 1 || options.len < 1) {
    return Invalid("a pass needs at least one token");
  }
  const std::vector<Position> positions =
      options.positions.value_or(model.spec().positions);
  if (FindIn(positions, "learned") && options.len > model.options().train_len) {
    return Unsupported(fmt::format("learned positions end at {} tokens",
                                   model.options().train_len));
  }
  if (Status fits = model.CheckLearned(positions); !fits.ok()) return fits;
  Problem problem =
      model.AttentionProblem(options.batch, options.len, options.window);
  problem.positions = positions;
  Result<std::unique_ptr<Plan>> plan = MakePlan(*model.spec().variant, problem);
  if (!plan.ok()) return plan.status();
  std::unique_ptr<ModelPass> pass(new ModelPass(model, options, exec));
  pass->plan_ = std::move(*plan);
  const Footprint memory = pass->plan_->Memory(exec.slots());
  size_t scratch = memory.forward_scratch;
  if (options.train) {
    scratch = std::max(scratch, memory.backward_scratch);
    for (size_t u = 0; u < model.units().size(); ++u) {
      if (model.units()[u].attention) {
        pass->kept_[u].saved = Buffer(memory.saved);
      }
    }
  }
  pass->scratch_ = Buffer(scratch);
  return pass;
}

ModelPass::ModelPass(const Model& model, const PassOptions& options, Exec& exec)
    : options_(options), exec_(exec) {
  const int64_t n = options.batch * options.len;
  const int64_t width = model.options().width;
  const std::vector<Unit>& units = model.units();
  int64_t in = 0, mid = 0, out = 0;
  for (const Unit& unit : units) {
    in = std::max(in, unit.in_cols);
    mid = std::max(mid, unit.mid_cols);
    out = std::max(out, unit.out_cols);
  }
  const bool train = options.train;
  kept_.resize(train ? units.size() : 1);
  for (size_t u = 0; u < kept_.size(); ++u) {
    Kept& kept = kept_[u];
    kept.x = Matrix(n, width);
    kept.h = Matrix(n, width);
    kept.in = Matrix(n, train ? units[u].in_cols : in);
    kept.mid = Matrix(n, train ? units[u].mid_cols : mid);
    kept.out = Matrix(n, train ? units[u].out_cols : out);
    kept.inverse.resize(n);
  }
  positions_ = options.positions.value_or(model.spec().positions);
  if (FindIn(positions_, "sinusoidal")) {
    sinusoids_ = Sinusoids(options.len, width);
  }
  last_h_ = Matrix(n, width);
  last_inverse_.resize(n);
  losses_.resize(n);
  hits_.resize(n);
  // Reading needs the logits of the chunks in flight only.
  logits_ = Matrix(train ? n : exec.slots() * kChunk, model.options().symbols);
  if (!train) return;
  last_x_ = Matrix(n, width);
  dx_ = Matrix(n, width);
  dh_ = Matrix(n, width);
  din_ = Matrix(n, in);
  dmid_ = Matrix(n, mid);
  dout_ = Matrix(n, out);
  partial_.resize(2 * Chunks(n) * std::max(width, mid));
}

View ModelPass::Heads(const Rows& rows, int64_t column, int64_t heads,
                      int64_t dim) const {
  return HeadsOf(rows, column, heads, dim, {options_.batch, options_.len});
}

Inputs ModelPass::AttentionInputs(const Model& model, const Unit& unit,
                                  const Rows& mid) const {
  return bench::AttentionInputs(
      model, unit, mid, {options_.batch, options_.len}, plan_->problem());
}

Inputs ModelPass::AttentionRead(const Model& model, size_t unit) const {
  const Unit& u = model.units()[unit];
  const Kept& kept = kept_[unit];
  return AttentionInputs(model, u,
                         PlainPieces(u) ? Shaped(kept.in, u.in_cols)
                                        : Shaped(kept.mid, u.mid_cols));
}

Status ModelPass::UnitForward(const Model& model, size_t index) {
  const Unit& unit = model.units()[index];
  const Parameters& p = model.parameters();
  Kept& kept = KeptBy(index);
  const UnitSteps steps = {.x = kept.x,
                           .h = kept.h,
                           .in = Shaped(kept.in, unit.in_cols),
                           .mid = Shaped(kept.mid, unit.mid_cols),
                           .out = Shaped(kept.out, unit.out_cols),
                           .inverse = kept.inverse.data()};
  const auto attend = [&](const Rows& mid, const Rows& out) {
    return plan_->Forward(AttentionInputs(model, unit, mid),
                          {.out = Heads(out, 0, unit.heads, unit.v_dim)},
                          options_.train ? kept.saved.bytes() : Bytes(),
                          scratch_.bytes(), exec_);
  };
  if (Status s = RunUnit(model, unit, steps, attend, exec_); !s.ok()) return s;
  Rows next = kept.x;
  if (options_.train) {
    next = index + 1 < kept_.size() ? kept_[index + 1].x : last_x_;
    std::memcpy(next.data, kept.x.data, sizeof(float) * next.rows * next.cols);
  }
  Project(steps.out, p.value(unit.out), next, Write::kAdd, exec_);
  return {};
}

void ModelPass::Score(const Model& model) {
  const Parameters& p = model.parameters();
  const Rows x = options_.train ? last_x_ : kept_[0].x;
  RmsNorm(x, p.value(model.last_gain()), last_h_, last_inverse_.data(), exec_);
  scored_ = std::count_if(targets_.begin(), targets_.end(),
                          [](int32_t target) { return target >= 0; });
  constexpr float kScale = 1;
  const float weight =
      options_.train && scored_ > 0 ? 1 / static_cast<float>(scored_) : 0;
  const float* const table = p.value(model.embedding());
  exec_.For(Chunks(x.rows), [&](int64_t task, int slot) {
    const auto [begin, end] = ChunkOf(x.rows, task);
    Rows logits = logits_;
    logits.data = logits_[options_.train ? begin : slot * kChunk];
    logits.rows = end - begin;
    Rows h = last_h_;
    h.data = last_h_[begin];
    h.rows = end - begin;
    Project(h, table, logits, Write::kSet, Serial());
    CrossEntropy(logits, targets_.data() + begin, kScale, weight,
                 losses_.data() + begin, hits_.data() + begin);
  });
}

Status ModelPass::Forward(const Model& model, std::span<const int32_t> tokens,
                          std::span<const int32_t> targets) {
  const auto n = static_cast<size_t>(options_.batch * options_.len);
  const auto fits = [&](int32_t symbol) {
    return symbol < model.options().symbols;
  };
  if (tokens.size() != n || targets.size() != n ||
      !std::all_of(tokens.begin(), tokens.end(),
                   [&](int32_t t) { return t >= 0 && fits(t); }) ||
      !std::all_of(targets.begin(), targets.end(), fits)) {
    return Invalid(fmt::format("a pass wants {} tokens of the vocabulary", n));
  }
  tokens_.assign(tokens.begin(), tokens.end());
  targets_.assign(targets.begin(), targets.end());
  const Parameters& p = model.parameters();
  const float* const positions = FindIn(positions_, "learned")
                                     ? p.value(model.positions())
                                 : sinusoids_.empty() ? nullptr
                                                      : sinusoids_.data();
  Embed(tokens_, {p.value(model.embedding()), positions, ShiftOf(model)},
        options_.len, kept_[0].x, exec_);
  for (size_t u = 0; u < model.units().size(); ++u) {
    if (Status status = UnitForward(model, u); !status.ok()) return status;
  }
  Score(model);
  return {};
}

Status ModelPass::UnitBackward(Model& model, size_t index) {
  const Unit& unit = model.units()[index];
  Parameters& p = model.parameters();
  Kept& kept = kept_[index];
  const Rows dout = Shaped(dout_, unit.out_cols);
  ProjectBackX(dx_, p.value(unit.out), dout, Write::kSet, exec_);
  ProjectBackW(dx_, kept.out, p.gradient(unit.out), Write::kSet, exec_);
  const bool plain = PlainPieces(unit);
  const Rows din = Shaped(din_, unit.in_cols);
  Rows dmid = dout;
  if (unit.attention) {
    dmid = plain ? din : Shaped(dmid_, unit.mid_cols);
    Gradients grad;
    grad.dq = Heads(dmid, unit.q, unit.heads, unit.qk_dim);
    grad.dk = Heads(dmid, unit.k, unit.heads, unit.qk_dim);
    grad.dv = Heads(dmid, unit.v, unit.heads, unit.v_dim);
    for (size_t i = 0; i < unit.extras.size(); ++i) {
      grad.dextra[i] =
          Heads(dmid, unit.extras[i], unit.heads, unit.extra_dims[i]);
    }
    if (const int64_t n =
            LearnedParameters(*model.spec().variant, plan_->problem());
        n > 0) {
      grad.dbias = Contiguous<void>(p.gradient(unit.bias), DType::kF32, 1,
                                    unit.heads, 1, n);
    }
    const Upstream up = {.out = Heads(kept.out, 0, unit.heads, unit.v_dim),
                         .saved = kept.saved.bytes(),
                         .dout = Heads(dout, 0, unit.heads, unit.v_dim)};
    const Status status = plan_->Backward(
        AttentionInputs(model, unit, plain ? kept.in : kept.mid), up, grad,
        scratch_.bytes(), exec_);
    if (!status.ok()) return status;
  }
  for (const Piece& piece : unit.pieces) {
    if (plain) break;
    const bool affine = piece.gamma >= 0;
    ActivateBack(piece.activation, dmid.Columns(piece.to, piece.cols),
                 kept.in.Columns(piece.from, piece.cols),
                 affine ? p.value(piece.gamma) : nullptr,
                 din.Columns(piece.from, piece.cols),
                 piece.shared ? Write::kAdd : Write::kSet,
                 affine ? p.gradient(piece.gamma) : nullptr,
                 affine ? p.gradient(piece.beta) : nullptr, partial_.data(),
                 exec_);
  }
  ProjectBackX(din, p.value(unit.in), dh_, Write::kSet, exec_);
  ProjectBackW(din, kept.h, p.gradient(unit.in), Write::kSet, exec_);
  RmsNormBack(dh_, kept.x, p.value(unit.gain), kept.inverse.data(), dx_,
              p.gradient(unit.gain), partial_.data(), exec_);
  return {};
}

Status ModelPass::Backward(Model& model) {
  if (!options_.train) return Invalid("the pass keeps nothing for Backward");
  Parameters& p = model.parameters();
  const int64_t width = model.options().width;
  ProjectBackX(logits_, p.value(model.embedding()), dh_, Write::kSet, exec_);
  ProjectBackW(logits_, last_h_, p.gradient(model.embedding()), Write::kSet,
               exec_);
  std::fill_n(dx_.data, dx_.rows * dx_.cols, 0.0f);
  RmsNormBack(dh_, last_x_, p.value(model.last_gain()), last_inverse_.data(),
              dx_, p.gradient(model.last_gain()), partial_.data(), exec_);
  for (size_t u = model.units().size(); u-- > 0;) {
    if (Status status = UnitBackward(model, u); !status.ok()) return status;
  }
  Embedding<float> gradient = {.table = p.gradient(model.embedding())};
  if (FindIn(positions_, "learned")) {
    gradient.positions = p.gradient(model.positions());
    std::fill_n(gradient.positions, model.options().train_len * width, 0.0f);
  }
  if (model.shift() >= 0) {
    gradient.shift = p.gradient(model.shift());
    std::fill_n(gradient.shift, width, 0.0f);
  }
  EmbedBack(tokens_, dx_, {p.value(model.embedding()), nullptr, ShiftOf(model)},
            options_.len, gradient, exec_);
  return {};
}

double ModelPass::mean_loss() const {
  double sum = 0;
  for (const float loss : losses_) sum += loss;
  return scored_ > 0 ? sum / static_cast<double>(scored_) : 0;
}

}  // namespace saccade::bench
