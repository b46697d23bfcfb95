// A peer's pass over one cell, and what its results are held against.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "bench/peer.h"
#include "bench/verify_data.h"
#include "bench/verify_judge.h"
#include "bench/verify_reference.h"

namespace saccade::bench {
namespace {

// Multiply-adds of the oracle that a check of rows may take: 0.1 s, about.
constexpr double kRowWork = 4e7;
// The oracle runs about as often for the gradient of one row.
constexpr double kRunsOfGradient = 24;
constexpr int64_t kLeastRows = 8;
constexpr int64_t kGateLength = 129;  // odd, and beyond a block of 128

// What a result in fewer bits may be off by, in units of |want| and of size. A
// peer may keep weights in the storage type too, before it multiplies.
struct Roundings {
  double want, size;
};
Roundings RoundingsOf(const Problem& p, Pass pass) {
  const double unit = p.dtype == DType::kBF16 ? 0x1p-8 : 0;
  return {unit, pass == Pass::kBackward ? 3 * unit : unit};
}

void Append(const View& view, int64_t begin, int64_t count,
            std::vector<double>* values) {
  for (int64_t i = begin; i < begin + count; ++i)
    values->push_back(ElementAt(view, i));
}

void Write(const std::vector<double>& values, const View& view) {
  for (int64_t i = 0; i < view.elements(); ++i) {
    const auto x = static_cast<float>(values[static_cast<size_t>(i)]);
    if (view.dtype == DType::kF32) {
      static_cast<float*>(view.data)[i] = x;
    } else {
      // Exact: the values are as the storage type keeps them.
      static_cast<BF16*>(view.data)[i].bits =
          static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
    }
  }
}

// Holds rows of queries against the oracle, in pieces that are problems of
// their own: some queries, and the keys that those may see.
class RowCheck {
 public:
  RowCheck(const PlannedCell& cell, const PeerTensors& tensors)
      : cell_(cell), p_(cell.problem), t_(tensors) {}

  void Run(Judge& judge) {
    const bool backward = cell_.cell.pass == Pass::kBackward;
    const double each = static_cast<double>(p_.kv_len) *
                        static_cast<double>(p_.qk_dim + p_.v_dim + 20) *
                        (backward ? kRunsOfGradient : 1);
    const int64_t some =
        std::max(kLeastRows, static_cast<int64_t>(kRowWork / each));
    // A row of the baseline depends neither on its head nor, but for the keys
    // that it sees, on its place; those of others may.
    const bool alone = cell_.peer->computes().empty();
    const int64_t heads = alone ? 1 : p_.q_heads;
    if (!alone && p_.mask == Mask::kNone) {
      // A piece ends where its keys do.
      const int64_t rows = std::clamp<int64_t>(some / heads, 1, p_.q_len);
      for (int64_t b = 0; b < p_.batch; ++b)
        Check({b, 0, heads, p_.q_len - rows, rows}, judge);
      return;
    }
    const int64_t groups = p_.q_heads / heads;
    const int64_t all = p_.batch * groups * p_.q_len;
    const auto check = [&](int64_t n) {
      const int64_t head = n / p_.q_len;
      Check({head / groups, head % groups, heads, n % p_.q_len, 1}, judge);
    };
    if (all * heads <= some) {
      for (int64_t n = 0; n < all; ++n) check(n);
      return;
    }
    Rng rng(1);
    check(0);
    check(all - 1);
    for (int64_t n = 2; n * heads < some; ++n) check(rng.Below(all));
  }

 private:
  // Rows first .. first + rows - 1 of queries, of some heads of a sequence.
  struct Piece {
    int64_t batch, head, heads, first, rows;
  };

  void Check(const Piece& x, Judge& judge) {
    const int64_t group = p_.q_heads / p_.kv_heads;
    const int64_t end = x.first + x.rows + p_.kv_len - p_.q_len;
    Problem one = p_;
    one.batch = 1;
    one.q_heads = x.heads;
    one.kv_heads = x.heads == 1 ? 1 : p_.kv_heads;
    one.q_len = x.rows;
    if (p_.mask != Mask::kNone) {
      one.mask = Mask::kCausal;
      one.kv_len = std::clamp<int64_t>(end, 0, p_.kv_len);
    }
    Data data;
    const auto take = [&](const char* name, int64_t head, int64_t heads,
                          int64_t first, int64_t rows) {
      const View& view = t_[name];
      std::vector<double> values;
      for (int64_t h = head; h < head + heads; ++h)
        Append(view, ((x.batch * view.heads + h) * view.len + first) * view.dim,
               rows * view.dim, &values);
      return values;
    };
    data.q = take("q", x.head, x.heads, x.first, x.rows);
    data.k = take("k", x.head / group, one.kv_heads, 0, one.kv_len);
    data.v = take("v", x.head / group, one.kv_heads, 0, one.kv_len);
    if (cell_.cell.pass == Pass::kBackward) {
      data.dout = take("dout", x.head, x.heads, x.first, x.rows);
      Gradient(ReferenceOn(*cell_.variant, one, std::move(data)), x, judge);
    } else {
      Output(ReferenceOn(*cell_.variant, one, std::move(data)), x, judge);
    }
  }

  // The row of the whole that is row n of a piece.
  int64_t Whole(const Piece& x, int64_t n) const {
    return (x.batch * p_.q_heads + x.head + n / x.rows) * p_.q_len + x.first +
           n % x.rows;
  }

  void Output(const Reference& ref, const Piece& x, Judge& judge) const {
    const Roundings r = RoundingsOf(p_, Pass::kForward);
    for (int64_t n = 0; n < x.heads * x.rows * p_.v_dim; ++n) {
      const int64_t row = Whole(x, n / p_.v_dim), c = n % p_.v_dim;
      const double want = ref.out[static_cast<size_t>(n)];
      const double size = ref.size[static_cast<size_t>(n)];
      judge.Check([&] { return Place("out", row, c); },
                  ElementAt(t_["out"], row * p_.v_dim + c), want, size,
                  r.want * std::abs(want) + r.size * size);
    }
  }

  void Gradient(Reference ref, const Piece& x, Judge& judge) const {
    CheckCase c;
    c.variant = cell_.variant;
    c.pass = Pass::kBackward;
    c.seed = static_cast<uint64_t>(Whole(x, 0));
    AddDerivatives(c, kQuery + 1, &ref);
    const Roundings r = RoundingsOf(p_, Pass::kBackward);
    for (const Reference::Derivative& d : ref.derivatives) {
      const int64_t row = Whole(x, d.index / p_.qk_dim);
      const int64_t column = d.index % p_.qk_dim;
      judge.Check([&] { return Place("dq", row, column); },
                  ElementAt(t_["dq"], row * p_.qk_dim + column), d.want, d.size,
                  r.want * std::abs(d.want) + r.size * d.size + d.noise);
    }
  }

  std::string Place(std::string_view name, int64_t row, int64_t c) const {
    const int64_t head = row / p_.q_len;
    return fmt::format("{}[{}, {}, {}, {}]", name, head / p_.q_heads,
                       head % p_.q_heads, row % p_.q_len, c);
  }

  const PlannedCell& cell_;
  const Problem& p_;
  const PeerTensors& t_;
};

}  // namespace

Status PeerOffers(Peer& peer, const CellSpec& cell, Exec& exec) {
  CellSpec small = cell;
  small.length = std::min<int64_t>(cell.length, 16);
  const Result<PlannedCell> planned = PlanPeerCell(small, &peer);
  if (!planned.ok()) return planned.status();
  const Status status = PeerRun::Make(&*planned, 1, exec).status();
  return status.code() == Code::kUnsupported ? status : Status();
}

Result<std::unique_ptr<PeerRun>> PeerRun::Make(const PlannedCell* planned,
                                               uint64_t seed, Exec& exec) {
  const Pass pass = planned->cell.pass;
  Result<PeerTensors> tensors = PeerTensors::Make(planned->problem, pass);
  if (!tensors.ok()) return tensors.status();
  int number = 0;
  for (const PeerTensors::Item& item : tensors->items())
    if (++number; !item.result) FillNormal(item.view, seed, number);
  tensors->PoisonResults();
  std::unique_ptr<PeerRun> run(new PeerRun(*planned, std::move(*tensors)));
  const Status status =
      run->peer_.Setup(planned->problem, pass, &run->tensors_, exec);
  if (!status.ok()) return status;
  return run;
}

PeerRun::~PeerRun() { peer_.Drop(); }

CheckResult PeerRun::Check(Exec& exec) {
  Judge judge(planned_.variant->kappa);
  const Status fetched = peer_.Fetch();
  if (!fetched.ok()) return {CheckResult::Kind::kRefused, 0, fetched.message()};
  RowCheck(planned_, tensors_).Run(judge);
  const CheckResult rows = judge.result();
  if (planned_.cell.pass != Pass::kBackward ||
      rows.kind != CheckResult::Kind::kOk)
    return rows;
  CheckResult gate = Gate(exec);
  if (gate.kind == CheckResult::Kind::kOk)
    gate.ratio = std::max(gate.ratio, rows.ratio);
  return gate;
}

// At most two heads of keys: all others differ in nothing but their place,
// which the rows above see.
CheckResult PeerRun::Gate(Exec& exec) {
  const Problem& p = planned_.problem;
  CheckCase c;
  c.variant = planned_.variant;
  c.pass = Pass::kBackward;
  c.problem = p;
  c.problem.batch = 1;
  c.problem.kv_heads = std::min<int64_t>(2, p.kv_heads);
  c.problem.q_heads = p.q_heads / p.kv_heads * c.problem.kv_heads;
  c.problem.q_len = c.problem.kv_len = std::min(kGateLength, p.kv_len);
  const std::string key = ToString(c) + fmt::format(" t={}", exec.slots());
  if (const auto it = peer_.gates().find(key); it != peer_.gates().end())
    return it->second;
  const auto refused = [](const Status& s) -> CheckResult {
    return {CheckResult::Kind::kRefused, 0, s.message()};
  };
  const Result<Reference> ref = MakeReference(c);
  if (!ref.ok()) return refused(ref.status());
  Result<PeerTensors> tensors = PeerTensors::Make(ref->problem, c.pass);
  if (!tensors.ok()) return refused(tensors.status());
  Write(ref->data.q, (*tensors)["q"]);
  Write(ref->data.k, (*tensors)["k"]);
  Write(ref->data.v, (*tensors)["v"]);
  Write(ref->data.dout, (*tensors)["dout"]);
  tensors->PoisonResults();
  peer_.Drop();
  Status status = peer_.Setup(ref->problem, c.pass, &*tensors, exec);
  if (status.ok()) status = peer_.Run(1).status();
  if (status.ok()) status = peer_.Fetch();
  Judge judge(c.variant->kappa);
  const Roundings r = RoundingsOf(p, c.pass);
  if (status.ok())
    for (const Reference::Derivative& d : ref->derivatives) {
      const char* const name = d.tensor == kQuery ? "dq"
                               : d.tensor == kKey ? "dk"
                                                  : "dv";
      judge.Check([&] { return fmt::format("{}[{}]", name, d.index); },
                  ElementAt((*tensors)[name], d.index), d.want, d.size,
                  r.want * std::abs(d.want) + r.size * d.size + d.noise);
    }
  peer_.Drop();
  // Back to the cell, warm again.
  if (status.ok())
    status = peer_.Setup(planned_.problem, c.pass, &tensors_, exec);
  if (status.ok()) status = peer_.Run(1).status();
  if (!status.ok()) return refused(status);
  return peer_.gates()[key] = judge.result();
}

bool PeerRun::Finite() {
  if (!peer_.Fetch().ok()) return false;
  for (const PeerTensors::Item& item : tensors_.items())
    for (int64_t i = 0; item.result && i < item.view.elements(); ++i) {
      // Of a backward pass, out is made before and need not be brought here.
      if (planned_.cell.pass == Pass::kBackward && item.name == "out") break;
      if (!std::isfinite(ElementAt(item.view, i))) return false;
    }
  return true;
}

}  // namespace saccade::bench
