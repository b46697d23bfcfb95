#include "bench/learn/decoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/learn/ops.h"
#include "bench/learn/unit.h"
#include "position.h"

namespace saccade::bench {
namespace {

constexpr int64_t kPiece = 64;  // tokens of a prompt that are read at once

// The first rows of a matrix, as wide as a unit wants them.
Rows Cut(const Matrix& m, int64_t rows, int64_t cols) {
  return {m.data, rows, cols, cols};
}

}  // namespace

Decoder::Decoder(const Model& model, int64_t capacity)
    : model_(&model), capacity_(capacity) {
  const int64_t width = model.options().width;
  const int64_t rows = std::min(kPiece, capacity);
  int64_t in = 0, mid = 0, out = 0;
  for (const Unit& unit : model.units()) {
    in = std::max(in, unit.in_cols);
    mid = std::max(mid, unit.mid_cols);
    out = std::max(out, unit.out_cols);
  }
  x_ = Matrix(rows + 1, width);  // the token before them, too
  h_ = Matrix(rows, width);
  in_ = Matrix(rows, in);
  mid_ = Matrix(rows, mid);
  out_ = Matrix(rows, out);
  logits_ = Matrix(1, model.options().symbols);
  inverse_.resize(rows);
  if (FindIn(model.spec().positions, "sinusoidal"))
    sinusoids_ = Sinusoids(capacity, width);
}

Result<Decoder> Decoder::Make(const Model& model, int64_t capacity,
                              int threads) {
  if (capacity < 1) return Invalid("a decoder holds at least one token");
  if (model.max_len() > 0 && capacity > model.max_len())
    return Unsupported(
        fmt::format("learned positions end at {} tokens, and {} are wanted",
                    model.max_len(), capacity));
  UseOneBlasThread();
  Decoder decoder(model, capacity);
  Problem problem = model.AttentionProblem(1, capacity, 0);
  problem.q_len = std::min(kPiece, capacity);
  for (const Unit& unit : model.units()) {
    if (!unit.attention) continue;
    Result<Attention> attention =
        Attention::Make(model.options().spec, problem, threads);
    if (!attention.ok()) return attention.status();
    if (Status s = attention->Reset(); !s.ok()) return s;
    decoder.attentions_.push_back(std::move(*attention));
  }
  return decoder;
}

size_t Decoder::StateBytes() const {
  size_t bytes = 0;
  for (const Attention& a : attentions_)
    bytes += a.plan().Memory(a.exec().slots()).state;
  return bytes;
}

// Into x_ behind one row, which is that of the token before them: a model may
// mix it in.
void Decoder::EmbedRows(std::span<const int32_t> tokens) {
  const Parameters& p = model_->parameters();
  const int64_t width = model_->options().width;
  const bool follows = length_ > 0;
  std::vector<int32_t> all(tokens.begin(), tokens.end());
  if (follows) all.insert(all.begin(), last_);
  const int64_t begin = length_ - follows;
  const float* positions = sinusoids_.empty() ? nullptr : sinusoids_.data();
  if (FindIn(model_->spec().positions, "learned"))
    positions = p.value(model_->positions());
  if (positions != nullptr) positions += begin * width;
  const float* const shift =
      model_->shift() < 0 ? nullptr : p.value(model_->shift());
  const auto rows = std::ssize(all);
  Embed(all, {p.value(model_->embedding()), positions, shift}, rows,
        {x_[follows ? 0 : 1], rows, width, width}, Serial());
}

Status Decoder::RunUnits(int64_t rows) {
  const Parameters& p = model_->parameters();
  const int64_t width = model_->options().width;
  const Rows x = {x_[1], rows, width, width};
  size_t next = 0;
  for (const Unit& unit : model_->units()) {
    const UnitSteps steps = {.x = x,
                             .h = Cut(h_, rows, width),
                             .in = Cut(in_, rows, unit.in_cols),
                             .mid = Cut(mid_, rows, unit.mid_cols),
                             .out = Cut(out_, rows, unit.out_cols),
                             .inverse = inverse_.data()};
    const auto attend = [&](const Rows& mid, const Rows& out) {
      Attention& attention = attentions_[next++];
      const TokenRows one = {1, rows};
      return attention.Extend(
          AttentionInputs(*model_, unit, mid, one, attention.plan().problem()),
          {.out = HeadsOf(out, 0, unit.heads, unit.v_dim, one)});
    };
    if (Status s = RunUnit(*model_, unit, steps, attend, Serial()); !s.ok())
      return s;
    Project(steps.out, p.value(unit.out), x, Write::kAdd, Serial());
  }
  const Rows last = {x[rows - 1], 1, width, width};
  const Rows h = Cut(h_, 1, width);
  RmsNorm(last, p.value(model_->last_gain()), h, inverse_.data(), Serial());
  Project(h, p.value(model_->embedding()), logits_, Write::kSet, Serial());
  return {};
}

Status Decoder::Read(std::span<const int32_t> tokens) {
  EmbedRows(tokens);
  if (Status s = RunUnits(std::ssize(tokens)); !s.ok()) return s;
  length_ += std::ssize(tokens);
  last_ = tokens.back();
  return {};
}

Result<std::span<const float>> Decoder::Extend(
    std::span<const int32_t> tokens) {
  const int64_t symbols = model_->options().symbols;
  if (tokens.empty() ||
      !std::all_of(tokens.begin(), tokens.end(),
                   [&](int32_t t) { return t >= 0 && t < symbols; }))
    return Invalid("a decoder wants tokens of the vocabulary");
  if (length_ + std::ssize(tokens) > capacity_)
    return Exhausted(fmt::format("a decoder of {} tokens is full", capacity_));
  while (!tokens.empty()) {
    const size_t piece = std::min<size_t>(kPiece, tokens.size());
    if (Status s = Read(tokens.first(piece)); !s.ok()) return s;
    tokens = tokens.subspan(piece);
  }
  return std::span<const float>(logits_.data, static_cast<size_t>(symbols));
}

}  // namespace saccade::bench
