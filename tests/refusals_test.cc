// What cannot be done is refused with a code and a sentence, before anything is
// written.
#include <doctest/doctest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/verify.h"
#include "bench/verify_run.h"

namespace saccade::bench {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

// A small problem that a variant offers.
Problem SmallProblem(const Variant& v) {
  return {.batch = 1,
          .q_heads = 2,
          .kv_heads = 2,
          .q_len = 9,
          .kv_len = 9,
          .qk_dim = 5,
          .v_dim = 6,
          .mask = v.traits.causal ? Mask::kCausal : Mask::kNone};
}

void CheckRefused(const Variant& v, const Problem& p, Code code,
                  const std::string& what) {
  const auto plan = MakePlan(v, p);
  INFO(v.name << ", " << what);
  REQUIRE(!plan.ok());
  CHECK(plan.status().code() == code);
  CHECK(plan.status().message().size() > 8);
}

TEST_CASE("what a variant does not offer is unsupported, because") {
  for (const Variant* v : Variants()) {
    const Traits& t = v->traits;
    const Problem small = SmallProblem(*v);
    REQUIRE(MakePlan(*v, small).ok());
    Problem p = small;
    p.mask = Mask::kNone;
    if (!t.bidirectional) CheckRefused(*v, p, Code::kUnsupported, "no mask");
    p.mask = Mask::kCausalTopLeft;
    if (!t.causal) CheckRefused(*v, p, Code::kUnsupported, "causal");
    p = small;
    p.q_len = 4;
    if (!t.cross) CheckRefused(*v, p, Code::kUnsupported, "cross");
    p = small;
    p.kv_heads = 1;
    if (!t.grouped_heads) CheckRefused(*v, p, Code::kUnsupported, "grouped");
    p = small;
    p.window = 3;
    if (!t.window) CheckRefused(*v, p, Code::kUnsupported, "window");
    p = small;
    p.positions = {{"alibi"}};
    if (!t.bias) CheckRefused(*v, p, Code::kUnsupported, "alibi");
    p.positions = {{"rope"}};
    if (!t.rotary) CheckRefused(*v, p, Code::kUnsupported, "rope");
    p.positions = {{"logn"}};
    if (!t.scores) CheckRefused(*v, p, Code::kUnsupported, "logn");
    p = small;
    p.dtype = DType::kBF16;
    if (!t.bf16) CheckRefused(*v, p, Code::kUnsupported, "bf16");
  }
}

TEST_CASE("impossible shapes are invalid") {
  const std::vector<std::pair<const char*, std::function<void(Problem&)>>>
      wrong = {
          {"batch < 0", [](Problem& p) { p.batch = -1; }},
          {"q_heads = 0", [](Problem& p) { p.q_heads = 0; }},
          {"kv_heads = 0", [](Problem& p) { p.kv_heads = 0; }},
          {"kv_heads < 0", [](Problem& p) { p.kv_heads = -2; }},
          {"heads do not divide", [](Problem& p) { p.q_heads = 3; }},
          {"fewer query heads", [](Problem& p) { p.q_heads = 1; }},
          {"q_len < 0", [](Problem& p) { p.q_len = -1; }},
          {"kv_len < 0", [](Problem& p) { p.kv_len = -9; }},
          {"qk_dim = 0", [](Problem& p) { p.qk_dim = 0; }},
          {"v_dim < 0", [](Problem& p) { p.v_dim = -1; }},
          {"window < 0", [](Problem& p) { p.window = -1; }},
          {"batch huge", [](Problem& p) { p.batch = kHuge; }},
          {"heads huge", [](Problem& p) { p.q_heads = p.kv_heads = kHuge; }},
          {"lengths huge", [](Problem& p) { p.q_len = p.kv_len = kHuge; }},
          {"q width huge", [](Problem& p) { p.qk_dim = kHuge; }},
          {"v width huge", [](Problem& p) { p.v_dim = kHuge; }},
          {"a product that wraps to 0",
           [](Problem& p) {
             p.batch = int64_t{1} << 32;
             p.q_len = p.kv_len = int64_t{1} << 32;
           }},
          {"a product that wraps to little",
           [](Problem& p) {
             p.batch = (int64_t{1} << 31) + 1;
             p.q_heads = p.kv_heads = int64_t{1} << 33;
           }},
          {"scale NaN", [](Problem& p) { p.scale = std::nanf(""); }},
          {"scale infinite",
           [](Problem& p) {
             p.scale = std::numeric_limits<float>::infinity();
           }},
      };
  for (const Variant* v : Variants())
    for (const auto& [what, change] : wrong) {
      Problem p = SmallProblem(*v);
      change(p);
      CheckRefused(*v, p, Code::kInvalid, what);
    }
}

TEST_CASE("knobs out of range, unknown or of the wrong kind are refused") {
  for (const Variant* v : Variants()) {
    Problem p = SmallProblem(*v);
    p.knobs.Set("no_such_knob", 1);
    CheckRefused(*v, p, Code::kNotFound, "an unknown knob");
    p = SmallProblem(*v);
    p.positions = {{"no_such_position"}};
    CheckRefused(*v, p, Code::kNotFound, "an unknown position");
    for (const Knob& knob : v->knobs) {
      const auto with = [&](const std::string& text) {
        Problem q = SmallProblem(*v);
        q.knobs.SetText(knob.name, text);
        return q;
      };
      const std::string name(knob.name);
      if (knob.choices == "*") continue;
      CheckRefused(*v, with("no_such_word"), Code::kInvalid, name + " a word");
      if (!knob.choices.empty()) continue;
      CheckRefused(*v, with(std::to_string(knob.low - 1)), Code::kInvalid,
                   name + " too low");
      CheckRefused(*v, with(std::to_string(knob.high * 2 + 1)), Code::kInvalid,
                   name + " too high");
      CheckRefused(*v, with("nan"), Code::kInvalid, name + " NaN");
      CheckRefused(*v, with("1e400"), Code::kInvalid, name + " infinite");
      if (knob.integer)
        CheckRefused(*v, with(std::to_string(knob.low + 0.5)), Code::kInvalid,
                     name + " not whole");
    }
  }
}

TEST_CASE("a problem of no tokens is no error") {
  for (const Variant* v : Variants())
    for (const int64_t batch : {0, 1}) {
      CheckCase c;
      c.variant = v;
      c.pass = v->traits.backward ? Pass::kBackward : Pass::kForward;
      c.problem = SmallProblem(*v);
      c.problem.batch = batch;
      c.problem.q_len = c.problem.kv_len = batch ? 0 : 9;
      const CheckResult r = RunCase(c);
      INFO(v->name << ": " << r.what);
      CHECK(r.kind == CheckResult::Kind::kOk);
    }
}

// Everything that the passes of a plan take, right; tests make one thing wrong.
struct Call {
  explicit Call(const Variant& v)
      : variant(v),
        plan([&] {
          auto made = MakePlan(v, SmallProblem(v));
          REQUIRE(made.ok());
          return std::move(*made);
        }()),
        problem(plan->problem()),
        need(plan->Memory(1)),
        operands(v, problem, Values(), Layout::kPacked),
        in(operands.inputs()),
        out(1, 2, 9, 6, DType::kF32, Layout::kPacked),
        dout(1, 2, 9, 6, DType::kF32, Layout::kPacked),
        scratch(need.forward_scratch + need.backward_scratch +
                need.extend_scratch + 64),
        saved(need.saved + 64),
        state(need.state + 64) {
    for (int t = 0; t < kFirstExtra + std::ssize(v.inputs); ++t) {
      const ExtraShape s = TensorShape(v, problem, t);
      grads.emplace_back(1, s.heads, s.len, s.dim, DType::kF32,
                         Layout::kPacked);
    }
    grad = {grads[kQuery].view(), grads[kKey].view(), grads[kValue].view(), {}};
    for (size_t n = 0; n < v.inputs.size(); ++n)
      grad.dextra[n] = grads[kFirstExtra + n].view();
  }

  Data Values() const {
    CheckCase c;
    c.variant = &variant;
    return MakeData(c, problem);
  }

  Status Forward(const Inputs& i, const View& o, Bytes sv, Bytes sc) {
    return plan->Forward(i, {o, nullptr}, sv, sc, Serial());
  }
  Status Forward(const Inputs& i) {
    return Forward(i, out.view(), {}, scratch.bytes());
  }

  // Still poison everywhere that a pass would write.
  bool Untouched() {
    const auto poison = [](Bytes bytes) {
      for (const std::byte b : bytes)
        if (b != std::byte{0xFF}) return false;
      return true;
    };
    for (Tensor& t : grads)
      if (!poison(t.memory())) return false;
    return poison(out.memory()) && poison(scratch.bytes()) &&
           poison(saved.bytes()) && poison(state.bytes());
  }

  const Variant& variant;
  std::unique_ptr<Plan> plan;
  Problem problem;
  Footprint need;
  Operands operands;
  Inputs in;
  Tensor out, dout;
  std::deque<Tensor> grads;
  Gradients grad;
  GuardedBytes scratch, saved, state;
};

void CheckInvalid(const Status& status, const std::string& what) {
  INFO(what << ": " << status.message());
  CHECK(status.code() == Code::kInvalid);
  CHECK(status.message().size() > 8);
}

TEST_CASE("a view that does not fit is invalid, and nothing is written") {
  const std::vector<std::pair<const char*, std::function<void(ConstView&)>>>
      wrong = {
          {"batch", [](ConstView& x) { ++x.batch; }},
          {"heads", [](ConstView& x) { --x.heads; }},
          {"length", [](ConstView& x) { --x.len; }},
          {"width", [](ConstView& x) { ++x.dim; }},
          {"dtype", [](ConstView& x) { x.dtype = DType::kBF16; }},
          {"null", [](ConstView& x) { x.data = nullptr; }},
          {"misaligned",
           [](ConstView& x) {
             x.data = static_cast<const std::byte*>(x.data) + 1;
           }},
      };
  for (const Variant* v : Variants()) {
    Call call(*v);
    for (const auto& [what, change] : wrong) {
      const std::string name = std::string(v->name) + ", " + what;
      for (ConstView Inputs::*member : {&Inputs::q, &Inputs::k, &Inputs::v}) {
        Inputs in = call.in;
        change(in.*member);
        CheckInvalid(call.Forward(in), name);
        if (!v->traits.backward) continue;
        CheckInvalid(
            call.plan->Backward(
                in, {call.out.view(), call.saved.bytes(), call.dout.view()},
                call.grad, call.scratch.bytes(), Serial()),
            name);
      }
      for (size_t n = 0; n < v->inputs.size(); ++n) {
        Inputs in = call.in;
        change(in.extra[n]);
        CheckInvalid(call.Forward(in), name + " of an extra");
      }
      ConstView out = call.out.view();
      change(out);
      View bad = call.out.view();
      bad.data = const_cast<void*>(out.data);
      bad.batch = out.batch;
      bad.heads = out.heads;
      bad.len = out.len;
      bad.dim = out.dim;
      bad.dtype = out.dtype;
      CheckInvalid(call.Forward(call.in, bad, {}, call.scratch.bytes()),
                   name + " of out");
    }
    CHECK(call.Untouched());
  }
}

TEST_CASE("memory too short or misaligned is invalid, and nothing is written") {
  for (const Variant* v : Variants()) {
    Call call(*v);
    const std::string name(v->name);
    const auto wrong = [](Bytes whole, size_t need) {
      return std::vector<Bytes>{whole.first(need - 1), whole.subspan(4, need)};
    };
    if (call.need.forward_scratch > 0)
      for (const Bytes b :
           wrong(call.scratch.bytes(), call.need.forward_scratch))
        CheckInvalid(call.Forward(call.in, call.out.view(), {}, b), name);
    if (call.need.saved > 0)
      for (const Bytes b : wrong(call.saved.bytes(), call.need.saved)) {
        CheckInvalid(
            call.Forward(call.in, call.out.view(), b, call.scratch.bytes()),
            name + " saved");
        if (v->traits.backward)
          CheckInvalid(call.plan->Backward(
                           call.in, {call.out.view(), b, call.dout.view()},
                           call.grad, call.scratch.bytes(), Serial()),
                       name + " saved");
      }
    if (v->traits.backward && call.need.backward_scratch > 0)
      for (const Bytes b :
           wrong(call.scratch.bytes(), call.need.backward_scratch))
        CheckInvalid(call.plan->Backward(call.in,
                                         {call.out.view(), call.saved.bytes(),
                                          call.dout.view()},
                                         call.grad, b, Serial()),
                     name + " backward");
    if (Offers(*v, Pass::kDecode, DType::kF32)) {
      for (const Bytes b : wrong(call.state.bytes(), call.need.state)) {
        CheckInvalid(call.plan->Reset(b), name + " state");
        CheckInvalid(call.plan->Extend(call.in, {call.out.view(), nullptr}, b,
                                       call.scratch.bytes(), Serial()),
                     name + " state");
      }
    }
    CHECK(call.Untouched());
  }
}

TEST_CASE("decoding stops at the capacity, and the state stays good") {
  for (const Variant* v : Variants()) {
    if (!Offers(*v, Pass::kDecode, DType::kF32)) continue;
    INFO(v->name);
    Call call(*v);
    const Outputs out{call.out.view(), nullptr};
    REQUIRE(call.plan->Reset(call.state.bytes()).ok());
    const auto extend = [&](const Inputs& in, const Outputs& to) {
      return call.plan->Extend(in, to, call.state.bytes(), call.scratch.bytes(),
                               Serial());
    };
    REQUIRE(extend(call.in, out).ok());
    const std::vector<double> first = call.out.Get();

    // Nine tokens fill the nine of kv_len.
    Inputs one = call.in;
    one.q.len = one.k.len = one.v.len = 1;
    for (ConstView& x : one.extra) x.len = std::min<int64_t>(x.len, 1);
    View row = call.out.view();
    row.len = 1;
    const Status full = extend(one, {row, nullptr});
    CHECK(full.code() == Code::kExhausted);
    CHECK(full.message().size() > 8);
    CHECK(call.out.Get() == first);

    // No tokens fit, always.
    Inputs none = one;
    none.q.len = none.k.len = none.v.len = 0;
    for (ConstView& x : none.extra) x.len = 0;
    row.len = 0;
    CHECK(extend(none, {row, nullptr}).ok());

    // A new sequence in the same memory is as the first.
    REQUIRE(call.plan->Reset(call.state.bytes()).ok());
    call.out.Poison();
    REQUIRE(extend(call.in, out).ok());
    CHECK(call.out.Get() == first);
  }
}

TEST_CASE("decoding without a causal mask is unsupported") {
  for (const Variant* v : Variants()) {
    if (!v->traits.bidirectional) continue;
    Problem p = SmallProblem(*v);
    p.mask = Mask::kNone;
    const auto plan = MakePlan(*v, p);
    REQUIRE(plan.ok());
    GuardedBytes state((*plan)->Memory(1).state + 64);
    CHECK((*plan)->Reset(state.bytes()).code() == Code::kUnsupported);
  }
}

TEST_CASE("a log-sum-exp that a variant lacks is unsupported") {
  for (const Variant* v : Variants()) {
    if (v->traits.lse) continue;
    Call call(*v);
    std::vector<float> lse(2 * 9);
    const Status status =
        call.plan->Forward(call.in, {call.out.view(), lse.data()}, {},
                           call.scratch.bytes(), Serial());
    CHECK(status.code() == Code::kUnsupported);
  }
}

TEST_CASE("unknown names suggest the nearest") {
  for (const Variant* v : Variants()) {
    std::string name(v->name);
    name.back() = '_';
    const Result<Spec> spec = ParseSpec(name);
    REQUIRE(!spec.ok());
    CHECK(spec.status().code() == Code::kNotFound);
    CHECK(spec.status().message().find(v->name) != std::string::npos);
  }
}

TEST_CASE("spec strings that make no sense are refused with a sentence") {
  const std::string name(Variants().front()->name);
  for (const std::string& text :
       {std::string(), std::string("+rope"), std::string(":"), name + ":size",
        name + ":=3", name + ":size=", name + "+", name + "+rope:base=0",
        name + "+rope:base=x", name + "+rope+rope", name + ":no_such=1",
        name + "++", name + std::string(10000, 'x'),
        std::string("\0\1\xff", 3)}) {
    const Result<Spec> spec = ParseSpec(text);
    REQUIRE_MESSAGE(!spec.ok(), text);
    CHECK(spec.status().message().size() > 8);
    CHECK(spec.status().message().size() < 1000);
  }
}

}  // namespace
}  // namespace saccade::bench
