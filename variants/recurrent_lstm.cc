// recurrent.lstm: long short-term memory, the baseline that attention replaced.
//
//   z_t = x_t + U h_(t-1) + b,   z = (z^i, z^f, z^g, z^o)
//   c_t = f c_(t-1) + i (.) g,   h_t = o_t = sigmoid(z^o) (.) tanh(c_t)
//   i = sigmoid(z^i),   f = sigmoid(z^f),   g = tanh(z^g)
//
// with c, h and each gate e wide, for each head its own. In a layer x are
// projections of its tokens: v of z^g, and inputs of their own of the gates. U
// [4 e, e] and b [4 e] are learned; q and k are not read.
//
// Source: Hochreiter & Schmidhuber 1997, Neural Computation 9(8), section 4;
// the forget gate is of Gers et al. 2000, Neural Computation 12(10), equation
// 3.1, whose bias begins above 0 (here at 1) so that much is kept at first.
//
// Ours differs: heads are LSTMs of their own beside each other, which see what
// the others held only in the next layer; of one head it is the whole. No
// connections from c to the gates (peepholes). Learned numbers of a head are
// U^T [e][4 e], then b; U begins normal with deviation 1 / sqrt(4 e).
//
// Shapes: v, input, forget, output [B, H, Tk, e]. Cost a token and head: 8 e^2
// flops forward, 16 e^2 backward, 8 e^2 for a decoding step of any context,
// whose state is 2 e floats. A token waits for the one before, and one token's
// product is too small to be cut for threads below e ~ 512: heads and sequences
// run in parallel, up to eight sequences of a head share the reads of U, and
// one head of one sequence has one thread, but for half of backward's work, the
// sum for U's gradient. Forward keeps 6 e floats a token for backward.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/lstm.h"
#include "engine/lstm_plan.h"
#include "normal.h"
#include "oracle.h"

namespace saccade::variants {
namespace {

constexpr int64_t kWidest = 4096;

int64_t Parameters(const Problem& p) { return lstm::Numbers(p.v_dim); }

void Start(const Problem& p, int64_t head, float* to) {
  const int64_t e = p.v_dim, matrix = lstm::kGates * e * e;
  Normal normal(static_cast<uint64_t>(head) + 1);
  const double deviation = 1 / std::sqrt(4.0 * static_cast<double>(e));
  for (int64_t n = 0; n < matrix; ++n)
    to[n] = static_cast<float>(deviation * normal());
  for (int64_t n = 0; n < lstm::kGates * e; ++n)
    to[matrix + n] = n / e == 1 ? 1 : 0;
}

std::vector<float> StartOf(const Problem& p) {
  std::vector<float> start(static_cast<size_t>(p.q_heads * Parameters(p)));
  for (int64_t h = 0; h < p.q_heads; ++h)
    Start(p, h, start.data() + h * Parameters(p));
  return start;
}

Result<std::unique_ptr<Plan>> MakeLstm(const Problem& p) {
  if (p.v_dim > kWidest)
    return Unsupported("recurrent.lstm holds matrices of values up to " +
                       std::to_string(kWidest) + " wide: these are " +
                       std::to_string(p.v_dim));
  return MakeLstmPlan(p, StartOf(p));
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// What a value is off by, in units of u, beside it.
struct Rounded {
  double value = 0, off = 0;
};

// One token. What was off before comes back through U, from every unit with a
// sign of its own: squares add up.
void OracleStep(const std::vector<double>& z, const double* u, int64_t e,
                std::vector<Rounded>& c, std::vector<Rounded>& h) {
  const int64_t all = lstm::kGates * e;
  std::vector<double> sum(u + e * all, u + (e + 1) * all);  // b
  std::vector<double> terms(sum.size()), before(sum.size());
  for (int64_t n = 0; n < all; ++n) {
    terms[n] = std::abs(z[n]) + std::abs(sum[n]);
    sum[n] += z[n];
  }
  for (int64_t k = 0; k < e; ++k) {
    const double value = h[k].value, square = h[k].off * h[k].off;
    const double* const by = u + k * all;
    for (int64_t n = 0; n < all; ++n) {
      const double term = by[n] * value;
      sum[n] += term;
      terms[n] += std::abs(term);
      before[n] += by[n] * by[n] * square;
    }
  }
  std::vector<Rounded> gate(sum.size());
  for (int64_t n = 0; n < all; ++n) {
    const double off = terms[n] + std::sqrt(before[n]);
    const bool candidate = n / e == 2;
    const double y = candidate ? std::tanh(sum[n]) : Sigmoid(sum[n]);
    const double slope = candidate ? 1 - y * y : y * (1 - y);
    gate[n] = {y, std::abs(y) + slope * off};
  }
  for (int64_t n = 0; n < e; ++n) {
    const Rounded &i = gate[n], &f = gate[e + n], &g = gate[2 * e + n],
                  &o = gate[3 * e + n];
    Rounded& cell = c[n];
    const double off = f.value * cell.off + std::abs(cell.value) * f.off +
                       i.value * g.off + std::abs(g.value) * i.off;
    cell.value = f.value * cell.value + i.value * g.value;
    cell.off = off + std::abs(cell.value);
    const double t = std::tanh(cell.value);
    h[n] = {o.value * t, std::abs(o.value * t) + std::abs(t) * o.off +
                             o.value * (1 - t * t) * cell.off};
  }
}

void LstmOracle(const Problem& p, const OracleInputs& in,
                const OracleOutputs& out) {
  const int64_t e = p.v_dim, n = Parameters(p);
  std::vector<double> learned;
  if (in.bias) {
    learned.assign(in.bias, in.bias + p.q_heads * n);
  } else {
    const std::vector<float> start = StartOf(p);
    learned.assign(start.begin(), start.end());
  }
  const double* const inputs[] = {in.extra[0], in.extra[1], in.v, in.extra[2]};
  std::vector<double> z(static_cast<size_t>(lstm::kGates * e));
  for (int64_t s = 0; s < p.batch * p.q_heads; ++s) {
    std::vector<Rounded> c(static_cast<size_t>(e)), h(c);
    int64_t tokens = 0;
    for (int64_t t = 0; t < p.q_len; ++t) {
      for (; tokens < p.kv_len && tokens <= oracle::QueryPosition(p, t);
           ++tokens) {
        for (int64_t gate = 0; gate < lstm::kGates; ++gate)
          std::copy_n(inputs[gate] + (s * p.kv_len + tokens) * e, e,
                      z.begin() + gate * e);
        OracleStep(z, learned.data() + s % p.q_heads * n, e, c, h);
      }
      for (int64_t x = 0; x < e; ++x) {
        out.out[(s * p.q_len + t) * e + x] = h[x].value;
        out.size[(s * p.q_len + t) * e + x] = h[x].off;
      }
    }
  }
}

ExtraInput GateInput(std::string_view name, std::string_view doc) {
  return {.name = name, .doc = doc, .per_query = false};
}

}  // namespace

const Variant& recurrent_lstm() {
  static const Variant variant = {
      .name = "recurrent.lstm",
      .title = "LSTM: the recurrent baseline that attention replaced",
      .source =
          "Hochreiter & Schmidhuber 1997, Neural Computation 9(8), "
          "section 4; Gers et al. 2000, Neural Computation 12(10)",
      .traits = {.bidirectional = false,
                 .grouped_heads = false,
                 .rotary = false,
                 .scores = false},
      .inputs = {GateInput("input", "z of the input gate, before U h"),
                 GateInput("forget", "z of the forget gate, before U h"),
                 GateInput("output", "z of the output gate, before U h")},
      .layer = {.reads_q = false, .reads_k = false},
      .parameters = Parameters,
      .start = Start,
      .scaled = false,
      .cost = LstmCost,
      .plan = MakeLstm,
      .oracle = LstmOracle,
  };
  return variant;
}

}  // namespace saccade::variants
