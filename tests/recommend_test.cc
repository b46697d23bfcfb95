// A recommendation rests on measurements, says so, and errs by what it says.
#include "bench/recommend.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "bench/cli_parse.h"
#include "bench/machine.h"
#include "bench/recommend_runs.h"
#include "tests/program.h"
#include "tests/report_fixture.h"

namespace saccade::bench {
namespace {

using record::Json;
using reports::Lines, reports::Mentions;

// ---- times

// A pass whose rate grows with length and shrinks with width, as caches and
// tiles would have it.
TimedPass Law(const std::string& name, double length, double width,
              double threads, double speed) {
  TimedPass p;
  p.name = p.spec = name;
  p.pass = "forward";
  p.dtype = "f32";
  p.length = length;
  p.width = width;
  p.threads = threads;
  p.heads = 4;
  p.flops = 4 * length * length * width;
  p.bytes = 16 * length * width;
  p.shape = std::to_string(length) + " " + std::to_string(width) + " " +
            std::to_string(threads);
  const double rate = speed * std::pow(length / 1024, 0.1) *
                      std::pow(width / 64, -0.2) * std::pow(threads, 0.9);
  p.seconds = (p.flops / 1e11 + p.bytes / 1e10) / rate;
  return p;
}

std::vector<TimedPass> Laws() {
  std::vector<TimedPass> passes;
  for (const double length : {256, 512, 1024, 2048, 4096, 8192})
    for (const double width : {32, 64, 128})
      for (const double threads : {1, 2}) {
        passes.push_back(Law("a.fast", length, width, threads, 0.8));
        passes.push_back(Law("a.slow", length, width, threads, 0.5));
      }
  return passes;
}

TEST_CASE("times that follow a law are foretold, between and beyond") {
  const TimePredictor times(Laws());
  for (const auto& [length, width, threads] : {std::tuple{1500.0, 64.0, 2.0},
                                               {1024.0, 96.0, 1.0},
                                               {16384.0, 64.0, 2.0},
                                               {700.0, 48.0, 1.0}}) {
    CAPTURE(length);
    TimedPass wanted = Law("a.fast", length, width, threads, 0.8);
    const std::optional<double> seconds = times.Seconds(wanted);
    REQUIRE(seconds);
    CHECK(*seconds == doctest::Approx(wanted.seconds).epsilon(0.05));
    // Work counts, whatever the shape: knobs and masks change it.
    wanted.flops /= 8;
    wanted.bytes /= 8;
    CHECK(*times.Seconds(wanted) == doctest::Approx(*seconds / 8));
  }
  // Less work than any that was timed takes no less than that.
  CHECK(*times.Seconds(Law("a.fast", 16, 32, 1, 0.8)) ==
        Law("a.fast", 256, 32, 1, 0.8).seconds);
}

TEST_CASE("what was never timed is not foretold") {
  const TimePredictor times(Laws());
  TimedPass wanted = Law("b.other", 1024, 64, 1, 1);
  CHECK(!times.Seconds(wanted));
  wanted.name = "a.fast";
  CHECK(times.Seconds(wanted));
  wanted.dtype = "bf16";
  CHECK(!times.Seconds(wanted));
  wanted.dtype = "f32";
  wanted.pass = "decode";
  CHECK(!times.Seconds(wanted));
  CHECK(!TimePredictor({}).Seconds(wanted));
}

TEST_CASE("the error of the times is found by leaving shapes out") {
  const HeldOut lawful =
      TimePredictor(Laws()).LeaveOneOut("forward", "f32", {"a.fast", "a.slow"});
  CHECK(lawful.shapes == 36);
  CHECK(lawful.variants == 2);
  CHECK(lawful.close == 36);
  CHECK(lawful.worst == 0);
  CHECK(lawful.median < 0.03);
  // At one shape the order is another than everywhere else: nobody can know.
  std::vector<TimedPass> odd = Laws();
  const auto slow = std::find_if(odd.begin(), odd.end(), [](const auto& p) {
    return p.name == "a.slow" && p.length == 1024 && p.width == 64;
  });
  const double fast = Law("a.fast", 1024, 64, slow->threads, 0.8).seconds;
  slow->seconds = fast / 2;
  const HeldOut unlawful =
      TimePredictor(odd).LeaveOneOut("forward", "f32", {"a.fast", "a.slow"});
  CHECK(unlawful.close == 35);
  CHECK(unlawful.worst == doctest::Approx(1));
  // Of one variant there is nothing to pick.
  CHECK(
      TimePredictor(Laws()).LeaveOneOut("forward", "f32", {"a.fast"}).shapes ==
      0);
}

// ---- quality

Json Recalled(const std::string& spec, const std::string& probe, int64_t length,
              double accuracy, const std::string& change = "plain",
              int64_t seed = 1) {
  return {{"kind", "probe"},    {"variant", spec},     {"probe", probe},
          {"switch", change},   {"seed", seed},        {"train_len", 64},
          {"eval_len", length}, {"accuracy", accuracy}};
}

TEST_CASE(
    "evidence is of the spec, or of its variant; at length, or as far as "
    "was read") {
  record::Run run =
      reports::RunOf({reports::Text("a.b+rope", "plain", 128, 2.0, 1),
                      reports::Text("a.b+rope", "plain", 128, 2.2, 2),
                      reports::Text("a.b+rope", "plain", 1024, 6.0),
                      reports::Text("a.b+rope", "window", 1024, 2.4),
                      reports::Text("a.b", "plain", 128, 3.0),
                      reports::Text("c.d", "plain", 128, 2.6)});
  const Quality quality(run);
  const auto rope = quality.Language("a.b+rope", 1);
  REQUIRE(rope);
  CHECK(rope->value == doctest::Approx(2.1));
  CHECK(rope->seeds == 2);
  CHECK(quality.Language("a.b", 1)->value == 3.0);
  CHECK(quality.Language("c.d:size=2", 1)->spec == "c.d");
  CHECK(!quality.Language("e.f", 1));
  // Four times: the next that was read is eight, best under a window.
  const auto far = quality.Language("a.b+rope", 4);
  CHECK(far->eval_len == 1024);
  CHECK(far->change == "window");
  CHECK(far->value == 2.4);
  CHECK(quality.Language("c.d", 4)->eval_len == 128);
  CHECK(*quality.BestLanguage(1) == doctest::Approx(2.1));
  CHECK(Mentions(quality.LanguageSource(), "same-target"));
  CHECK(!quality.Recall("a.b", 1));
  CHECK(quality.RecallSource().empty());
}

TEST_CASE("recall is compared on probes that all were asked") {
  const record::Run run = reports::RunOf(
      {Recalled("a.b", "induction", 64, 0.9),
       Recalled("a.b", "passkey", 64, 0.1), Recalled("a.b", "sort", 64, 0.0),
       Recalled("c.d", "sort", 64, 1.0), Recalled("c.d", "induction", 64, 0.5),
       Recalled("c.d", "induction", 64, 0.7, "plain", 2)});
  const Quality quality(run);
  CHECK(quality.Recall("a.b", 1)->value == 0.9);
  CHECK(quality.Recall("c.d", 1)->value == doctest::Approx(0.6));
  CHECK(*quality.BestRecall(1) == 0.9);
  CHECK(Mentions(quality.RecallSource(), "induction"));
  CHECK(!Mentions(quality.RecallSource(), "sort"));
  CHECK(!Mentions(quality.RecallSource(), "passkey"));
}

// ---- the recommendation

// As if each of these ran at half of the price everywhere, timed at a shape
// lighter than any that is asked about.
TimePredictor AllAlike() {
  std::vector<TimedPass> passes;
  for (const char* pass : {"forward", "backward", "decode"})
    for (const Variant* v : Variants()) {
      TimedPass p = Law(std::string(v->name), 64, 8, 1, 0.5);
      p.pass = pass;
      passes.push_back(p);
    }
  return TimePredictor(passes);
}

Wish Decoder(int64_t length) {
  Wish wish;
  wish.cell.shape.heads = 8;
  wish.cell.pass = Pass::kDecode;
  wish.cell.length = length;
  return wish;
}

const Candidate& Of(const Recommendation& r, const std::string& spec) {
  const auto found =
      std::find_if(r.candidates.begin(), r.candidates.end(),
                   [&](const Candidate& c) { return c.spec == spec; });
  REQUIRE(found != r.candidates.end());
  return *found;
}

const std::vector<std::string> kSome = {"softmax.flash", "softmax.window",
                                        "linear.elu", "softmax.alibi"};

TEST_CASE("the fastest that will do comes first, the others say why not") {
  Wish wish = Decoder(32768);
  const TimePredictor times = AllAlike();
  const Recommendation any = Recommend(wish, kSome, times, nullptr, {});
  for (size_t i = 0; i < any.candidates.size(); ++i) {
    CHECK(any.candidates[i].rejected.empty());
    if (i > 0)
      CHECK(*any.candidates[i - 1].seconds <= *any.candidates[i].seconds);
  }
  CHECK(any.candidates[0].spec == "linear.elu");
  // The figure is the plan's own.
  CellSpec cell = wish.cell;
  cell.spec = "softmax.flash";
  const Result<PlannedCell> planned = PlanCell(cell);
  REQUIRE(planned.ok());
  const Needs needs = planned->needs();
  CHECK(Of(any, "softmax.flash").bytes.kept == needs.state);
  CHECK(Of(any, "softmax.flash").bytes.scratch == needs.scratch);

  wish.layers = 3;
  wish.memory = static_cast<double>(3 * needs.state);
  const Recommendation tight = Recommend(wish, kSome, times, nullptr, {});
  CHECK(Mentions(Of(tight, "softmax.flash").rejected, "needs "));
  CHECK(Mentions(Of(tight, "softmax.flash").rejected, "by 3 layers"));
  CHECK(Of(tight, "linear.elu").rejected.empty());

  const Recommendation failed =
      Recommend(wish, kSome, times, nullptr, {"linear.elu"});
  CHECK(Mentions(Of(failed, "linear.elu").rejected, "check"));
  wish.memory = 0;
  const Recommendation untimed =
      Recommend(wish, kSome, TimePredictor({}), nullptr, {});
  CHECK(Mentions(Of(untimed, "softmax.alibi").rejected, "no time"));
}

TEST_CASE("what the plan refuses is the reason") {
  const TimePredictor times = AllAlike();
  Wish wish = Decoder(1024);
  wish.cell.shape.mask = Mask::kNone;
  CHECK(Mentions(
      Of(Recommend(wish, kSome, times, nullptr, {}), "linear.elu").rejected,
      "causal"));
  wish.cell.pass = Pass::kForward;
  for (const Variant* v : Variants()) {
    const std::string name(v->name);
    CHECK(Of(Recommend(wish, {name}, times, nullptr, {}), name)
              .rejected.empty() == v->traits.bidirectional);
  }
}

TEST_CASE("who is to recall must not forget, and must have been asked") {
  const record::Run run =
      reports::RunOf({Recalled("softmax.flash", "induction", 64, 0.99),
                      Recalled("softmax.window", "induction", 64, 0.99),
                      Recalled("linear.elu", "induction", 64, 0.99),
                      Recalled("sparse.strided", "induction", 64, 0.5)});
  const Quality quality(run);
  Wish wish = Decoder(8192);
  wish.need = Need::kRecall;
  std::vector<std::string> specs = kSome;
  specs.push_back("sparse.strided");
  const Recommendation r = Recommend(wish, specs, AllAlike(), &quality, {});
  CHECK(r.candidates[0].spec == "softmax.flash");
  CHECK(r.candidates[1].rejected != "");
  for (const char* name : {"softmax.window", "linear.elu"})
    CHECK(Mentions(Of(r, name).rejected, "forgets: its state has one size"));
  CHECK(Mentions(Of(r, "softmax.alibi").rejected, "no evidence"));
  CHECK(Mentions(Of(r, "sparse.strided").rejected, "recalls less: 0.50"));
  // Within the window nothing is forgotten.
  wish.cell.length = 128;
  CHECK(Of(Recommend(wish, specs, AllAlike(), &quality, {}), "softmax.window")
            .rejected.empty());
}

TEST_CASE("who is to read text must read it about as well as the best") {
  const record::Run run =
      reports::RunOf({reports::Text("softmax.alibi", "plain", 128, 2.0),
                      reports::Text("softmax.flash", "plain", 128, 2.05),
                      reports::Text("linear.elu", "plain", 128, 2.5),
                      reports::Text("softmax.alibi", "plain", 2048, 2.0),
                      reports::Text("softmax.flash", "plain", 2048, 4.0)});
  const Quality quality(run);
  Wish wish = Decoder(4096);
  wish.need = Need::kLanguage;
  const Recommendation near = Recommend(wish, kSome, AllAlike(), &quality, {});
  CHECK(Of(near, "softmax.flash").rejected.empty());
  CHECK(Mentions(Of(near, "linear.elu").rejected, "reads text worse: 2.50"));
  CHECK(Mentions(Of(near, "softmax.window").rejected, "no evidence"));
  wish.train_len = 256;  // read at 16 times that
  const Recommendation far = Recommend(wish, kSome, AllAlike(), &quality, {});
  CHECK(Of(far, "softmax.alibi").rejected.empty());
  CHECK(
      Mentions(Of(far, "softmax.flash").rejected, "2k tokens, trained at 128"));
}

// ---- the command

// A run of this machine with times of two variants.
std::string TimedRun(const std::string& cpu = "") {
  Json header = reports::Header();
  header.update(MachineFacts());
  if (!cpu.empty()) header["cpu"] = cpu;
  std::vector<Json> records = {header};
  for (const char* name : {"softmax.flash", "linear.elu"})
    for (const int64_t length : {1024, 4096}) {
      CellSpec cell;
      cell.spec = name;
      cell.length = length;
      cell.pass = Pass::kDecode;
      const Result<PlannedCell> planned = PlanCell(cell);
      REQUIRE(planned.ok());
      Json r = reports::Speed(name, length, {planned->flops()});
      r.update({{"pass", "decode"},
                {"q_len", 1},
                {"dtype", "f32"},
                {"mask", "causal"},
                {"batch", 1},
                {"q_heads", 4},
                {"qk_dim", 64},
                {"threads", 1},
                {"flops", planned->flops()},
                {"bytes", planned->bytes()}});
      records.push_back(std::move(r));
    }
  records.push_back(Recalled("softmax.flash", "induction", 64, 0.9));
  records.push_back({{"kind", "train"},
                     {"variant", "softmax.flash"},
                     {"task", "induction"},
                     {"seed", 1},
                     {"train_len", 64},
                     {"final_loss", 1}});
  return Lines(records);
}

TEST_CASE("the command ranks, and says what it rests on") {
  const Folder folder;
  const std::string run = folder.Write("run.jsonl", TimedRun());
  const Answer a = Saccade({"recommend", "-n", "8k", "--pass", "decode",
                            "--run", run, "-t", "1", "--need", "recall"});
  REQUIRE_MESSAGE(a.code == kExitOk, a.err);
  CHECK(Mentions(a.out, "decode, n = 8k"));
  CHECK(Mentions(a.out, "On 2 held-out shapes"));
  CHECK(Mentions(a.out, "Make(\"softmax.flash\", problem)"));
  CHECK(Mentions(a.out, "linear.elu: forgets"));
  CHECK(Mentions(a.out, "right answers to induction"));
  const Answer json = Saccade({"recommend", "-n", "8k", "--pass", "decode",
                               "--run", run, "-t", "1", "--json"});
  REQUIRE(json.code == kExitOk);
  const auto read = nlohmann::json::parse(json.out);
  CHECK(read["recommended"] == "linear.elu");
  CHECK(read["candidates"].size() == Variants().size());
  CHECK(read["times"]["held_out_shapes"] == 2);
  CHECK(read["times"]["runs"][0] == run);
  // Nothing will do: that is no success.
  const Answer none = Saccade({"recommend", "-n", "8k", "--pass", "decode",
                               "--run", run, "--memory", "1kB"});
  CHECK(none.code == kExitUsage);
  CHECK(Mentions(none.out, "needs "));
  CHECK(!Mentions(none.out, "In code"));
  const Answer other =
      Saccade({"recommend", "-n", "8k", "--pass", "decode", "--run",
               folder.Write("other.jsonl", TimedRun("another")), "-t", "1"});
  CHECK(Mentions(other.out, "is of another machine"));
}

TEST_CASE("where nothing was timed, something is, and kept for the next time") {
  const Folder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const std::vector<std::string> arguments = {"recommend",
                                              "-n",
                                              "32",
                                              "-d",
                                              "8",
                                              "--heads",
                                              "2",
                                              "-t",
                                              "1",
                                              "--only",
                                              "linear.elu,softmax.flash",
                                              "--check"};
  const Answer first = Saccade(arguments), second = Saccade(arguments);
  std::filesystem::current_path(before);
  REQUIRE_MESSAGE(first.code == kExitOk, first.err);
  CHECK(Mentions(first.err, "timing some now"));
  CHECK(Mentions(first.out, "runs/recommend-"));
  CHECK(Mentions(first.out, "Measured just now"));
  CHECK(second.code == kExitOk);
  CHECK(!Mentions(second.err, "timing some now"));
}

TEST_CASE("what cannot be recommended for is said in a line") {
  const auto refused = [](std::vector<std::string> more,
                          const std::string& what) {
    more.insert(more.begin(), "recommend");
    const Answer a = Saccade(more);
    CHECK(a.code == kExitUsage);
    CHECK(a.out.empty());
    CHECK_MESSAGE(OneLine(a.err), a.err);
    CHECK_MESSAGE(Mentions(a.err, what), a.err);
  };
  refused({}, "--length");
  refused({"-n", "1k,2k"}, "one problem");
  refused({"-n", "1k", "--pass", "forwards"}, "forwards");
  refused({"-n", "1k", "--memory", "2Gi"}, "2Gi");
  refused({"-n", "1k", "--need", "speed"}, "speed");
  refused({"-n", "1k", "--run", "/nowhere"}, "/nowhere");
  refused({"-n", "1k", "--train-len", "x"}, "--train-len");
}

TEST_CASE("bytes are read as people write them") {
  CHECK(*ParseBytes("512") == 512);
  CHECK(*ParseBytes("1.5KiB") == 1536);
  CHECK(*ParseBytes("2GiB") == 2147483648.0);
  CHECK(*ParseBytes("8GB") == 8e9);
  for (const char* text :
       {"", "GiB", "-1GiB", "0", "1G", "1 GiB", "nan", "inf", "1e400"})
    CHECK_MESSAGE(!ParseBytes(text).ok(), text);
}

}  // namespace
}  // namespace saccade::bench
