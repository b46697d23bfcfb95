// Others' implementations: found or not, held against the oracle, timed in
// processes of their own that may do anything.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/child.h"
#include "bench/cli.h"
#include "bench/peer.h"
#include "bench/verify_judge.h"
#include "record/record.h"
#include "reports/report.h"
#include "tests/folder.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

CellSpec Cell(Pass pass, int64_t length, int64_t kv_heads, Mask mask,
              DType dtype = DType::kF32) {
  return {.spec = std::string(Variants().front()->name),
          .shape = {.batch = 2,
                    .heads = 4,
                    .kv_heads = kv_heads,
                    .dim = 24,
                    .mask = mask},
          .pass = pass,
          .dtype = dtype,
          .length = length,
          .threads = 2};
}

// Runs a peer over a cell once and checks it.
CheckResult CheckOf(Peer& peer, const CellSpec& cell) {
  const Result<PlannedCell> planned = PlanPeerCell(cell, &peer);
  REQUIRE(planned.ok());
  const std::unique_ptr<Exec> exec = MakeTbbExec(cell.threads);
  const Result<std::unique_ptr<PeerRun>> run =
      PeerRun::Make(&*planned, 1, *exec);
  INFO(run.status().message());
  REQUIRE(run.ok());
  const Result<double> seconds = (*run)->Run(1);
  REQUIRE(seconds.ok());
  CHECK(*seconds > 0);
  CHECK((*run)->Finite());
  return (*run)->Check(*exec);
}

TEST_CASE("peers are named one by one, by package or all at once") {
  const auto all = ParsePeers("all");
  REQUIRE(all.ok());
  CHECK(*all == std::vector<std::string>{
                    "openblas", "torch", "torch.math", "torch.flex.window",
                    "torch.flex.alibi", "onnxruntime", "onnxruntime.attention",
                    "onnxruntime.linear", "ggml"});
  CHECK(*ParsePeers("ggml, onnxruntime") ==
        std::vector<std::string>{"onnxruntime", "onnxruntime.attention",
                                 "onnxruntime.linear", "ggml"});
  CHECK(*ParsePeers("torch.math") == std::vector<std::string>{"torch.math"});
  const auto unknown = ParsePeers("openblas,torhc");
  CHECK(unknown.status().code() == Code::kNotFound);
  CHECK(Has(unknown.status().message(), "did you mean torch?"));
  CHECK(!ParsePeers(",").ok());
}

TEST_CASE("OpenBLAS computes what the oracle says") {
  const std::unique_ptr<Peer> peer = MakeBlasPeer("openblas");
  CHECK(Has(peer->version(), "."));
  for (const Mask mask : {Mask::kNone, Mask::kCausal})
    for (const int64_t kv_heads : {4, 2, 1})
      // One query, a tail of a vector, one block of queries and two.
      for (const int64_t length : {1, 37, 256, 300}) {
        CAPTURE(length);
        CAPTURE(kv_heads);
        const CheckResult check =
            CheckOf(*peer, Cell(Pass::kForward, length, kv_heads, mask));
        INFO(check.what);
        CHECK(check.kind == CheckResult::Kind::kOk);
      }
  const CheckResult decode =
      CheckOf(*peer, Cell(Pass::kDecode, 200, 2, Mask::kCausal));
  INFO(decode.what);
  CHECK(decode.kind == CheckResult::Kind::kOk);
  CHECK(Has(peer->how(), "2 threads"));
}

TEST_CASE("what a peer does not offer is said so") {
  const std::unique_ptr<Peer> peer = MakeBlasPeer("openblas");
  for (const CellSpec& cell :
       {Cell(Pass::kBackward, 8, 4, Mask::kNone),
        Cell(Pass::kForward, 8, 4, Mask::kNone, DType::kBF16)}) {
    const Result<PlannedCell> planned = PlanPeerCell(cell, peer.get());
    REQUIRE(planned.ok());
    const auto run = PeerRun::Make(&*planned, 1, Serial());
    CHECK(run.status().code() == Code::kUnsupported);
    CHECK(!run.status().message().empty());
  }
}

// A variant, the list's first unless named, as a peer; the elements of one
// tensor may be off.
class OwnPeer final : public Peer {
 public:
  OwnPeer(std::string spoilt, double by, std::string computes = "")
      : Peer("own"),
        spoilt_(std::move(spoilt)),
        by_(by),
        computes_(std::move(computes)) {}

  std::string computes() const override { return computes_; }
  std::string version() const override { return "1"; }
  std::string how() const override { return "ours"; }
  double ScoreBytes(Pass) const override { return 0; }

  Status Setup(const Problem& problem, Pass pass, PeerTensors* tensors,
               Exec& exec) override {
    const Variant* const variant =
        computes_.empty() ? Variants().front() : Find(computes_);
    auto plan = MakePlan(*variant, problem);
    if (!plan.ok()) return plan.status();
    plan_ = std::move(*plan);
    pass_ = pass;
    tensors_ = tensors;
    exec_ = &exec;
    const Footprint need = plan_->Memory(exec.slots());
    for (const auto& [block, bytes] :
         {std::pair{&scratch_,
                    std::max(need.forward_scratch, need.backward_scratch)},
          {&saved_, need.saved}}) {
      Result<MemoryBlock> made = MemoryBlock::Make(bytes, Pages::kSmall);
      if (!made.ok()) return made.status();
      *block = std::move(*made);
    }
    return {};
  }

  Result<double> Run(int64_t) override {
    const PeerTensors& t = *tensors_;
    const bool backward = pass_ == Pass::kBackward;
    const Inputs in{t["q"], t["k"], t["v"]};
    Status status =
        plan_->Forward(in, {t["out"]}, backward ? saved_.bytes() : Bytes(),
                       scratch_.bytes(), *exec_);
    if (status.ok() && backward)
      status = plan_->Backward(in, {t["out"], saved_.bytes(), t["dout"]},
                               {t["dq"], t["dk"], t["dv"]}, scratch_.bytes(),
                               *exec_);
    if (!status.ok()) return status;
    if (!spoilt_.empty()) {
      // All of it: gradients are compared at some elements only.
      const View& view = t[spoilt_];
      for (int64_t i = 0; i < view.elements(); ++i)
        static_cast<float*>(view.data)[i] += static_cast<float>(by_);
    }
    return 1e-3;
  }

  Status Fetch() override { return {}; }
  void Drop() override {}

 private:
  const std::string spoilt_;
  const double by_;
  const std::string computes_;
  std::unique_ptr<Plan> plan_;
  Pass pass_ = Pass::kForward;
  PeerTensors* tensors_ = nullptr;
  Exec* exec_ = nullptr;
  MemoryBlock scratch_, saved_;
};

TEST_CASE("a wrong result of a peer is found, in every tensor it writes") {
  for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
    const CellSpec forward = Cell(Pass::kForward, 70, 2, mask);
    const CellSpec backward = Cell(Pass::kBackward, 70, 2, mask);
    OwnPeer right("", 0);
    CHECK(CheckOf(right, forward).kind == CheckResult::Kind::kOk);
    const CheckResult gradients = CheckOf(right, backward);
    INFO(gradients.what);
    CHECK(gradients.kind == CheckResult::Kind::kOk);
    for (const std::string tensor : {"out", "dq", "dk", "dv"}) {
      CAPTURE(tensor);
      OwnPeer wrong(tensor, 1e-2);
      const CheckResult check =
          CheckOf(wrong, tensor == "out" ? forward : backward);
      CHECK(check.kind == CheckResult::Kind::kFail);
      CHECK(Has(check.what, tensor + "["));
      CHECK(check.ratio > Variants().front()->kappa);
    }
  }
}

TEST_CASE("a peer is held against the variant whose function it computes") {
  const std::vector<std::string> specs = {"softmax.window:size=9+rope",
                                          "softmax.window:size=9,sinks=2",
                                          "softmax.window", "linear.elu"};
  CHECK(*SpecForPeer(OwnPeer("", 0), specs) == Variants().front()->name);
  CHECK(*SpecForPeer(OwnPeer("", 0, "softmax.window"), specs) == specs[1]);
  const Status none =
      SpecForPeer(OwnPeer("", 0, "softmax.alibi"), specs).status();
  CHECK(none.code() == Code::kUnsupported);
  CHECK(Has(none.message(), "softmax.alibi"));
  for (const std::string spec :
       {"softmax.window:size=9,sinks=2", "softmax.alibi", "linear.elu"})
    for (const Mask mask : {Mask::kNone, Mask::kCausal})
      for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
        CAPTURE(spec);
        CAPTURE(std::string(NameOf(mask)));
        CAPTURE(std::string(NameOf(pass)));
        // Longer than what is checked whole.
        CellSpec cell = Cell(pass, 600, 2, mask);
        cell.shape.batch = 1;
        cell.spec = spec;
        const std::string name = spec.substr(0, spec.find(':'));
        OwnPeer right("", 0, name);
        const CheckResult good = CheckOf(right, cell);
        INFO(good.what);
        CHECK(good.kind == CheckResult::Kind::kOk);
        if (pass == Pass::kBackward) continue;
        OwnPeer wrong("out", 1e-2, name);
        CHECK(CheckOf(wrong, cell).kind == CheckResult::Kind::kFail);
        // Another function, which has no knobs, is not taken for it.
        OwnPeer other("", 0, "softmax.flash");
        if (spec == name)
          CHECK(CheckOf(other, cell).kind == CheckResult::Kind::kFail);
      }
}

TEST_CASE("the judge holds a NaN for the worst error there is") {
  const double nan = std::nan("");
  for (const auto& [got, want] : {std::pair{nan, 1.0}, {1.0, nan}}) {
    Judge judge(8);
    judge.Check([] { return "x"; }, got, want, 1, 0.5);
    CHECK(judge.result().kind == CheckResult::Kind::kFail);
  }
  Judge judge(8);
  judge.Check([] { return "x"; }, 1 + 0x1p-24, 1, 1, 0);
  CHECK(judge.result().kind == CheckResult::Kind::kOk);
  CHECK(judge.result().ratio == doctest::Approx(1));
}

// ---- Children

Result<nlohmann::json> AskShell(const std::string& script, double patience,
                                const StopFlag* stop = nullptr) {
  const auto child = ChildProcess::Start({"/bin/sh", "-c", script});
  REQUIRE(child.ok());
  return (*child)->Ask({{"op", "x"}}, patience, stop);
}

TEST_CASE("a child answers, or what became of it is said in a line") {
  const auto answer = AskShell("read -r line; echo \"$line\"", 10);
  REQUIRE(answer.ok());
  CHECK((*answer)["op"] == "x");
  struct Bad {
    std::string script, says;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"read -r l; echo 'out of luck' >&2; exit 3",
            "code 3; its last words: out of luck"},
           {"read -r l; kill -9 $$", "signal 9"},
           {"read -r l; echo hello", "no answer: 'hello'"},
           {"read -r l; echo 5", "no answer"},
           {"exec /nonexistent-program", "code 127"},
           {"read -r l; exec >&-; exec <&-; sleep 30", "closed its output"},
           {"read -r l; while :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxx'; done",
            "far too much"}}) {
    CAPTURE(bad.script);
    const Status status = AskShell(bad.script, 10).status();
    CHECK(status.code() == Code::kIo);
    CHECK(Has(status.message(), bad.says));
    CHECK(!Has(status.message(), "\n"));
  }
  CHECK(!ChildProcess::Start({"/nonexistent-program"}).ok());
}

TEST_CASE("a child that hangs is not waited for longer than patience allows") {
  const auto start = std::chrono::steady_clock::now();
  const Status status = AskShell("sleep 60", 0.2).status();
  CHECK(Has(status.message(), "did not answer within 0.2 s"));
  const StopFlag stop{true};
  CHECK(AskShell("sleep 60", 60, &stop).status().code() == Code::kInvalid);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}

TEST_CASE("a child ends with the object that stands for it") {
  auto child = ChildProcess::Start(
      {"/bin/sh", "-c", "read -r l; echo \"{\\\"pid\\\":$$}\"; sleep 60"});
  REQUIRE(child.ok());
  const auto answer = (*child)->Ask({{"op", "pid"}}, 10, nullptr);
  REQUIRE(answer.ok());
  const pid_t pid = (*answer)["pid"].get<pid_t>();
  CHECK(kill(pid, 0) == 0);
  child->reset();
  CHECK(kill(pid, 0) == -1);
  CHECK(errno == ESRCH);
}

TEST_CASE("a child that is paused does nothing until it is asked again") {
  const auto child = ChildProcess::Start(
      {"/bin/bash", "-c",
       "i=0; read -r l; echo '{}'; while ! read -r -t 0.01 l; do "
       "i=$((i + 1)); done; echo \"{\\\"turns\\\":$i}\"; read -r l"});
  REQUIRE(child.ok());
  REQUIRE((*child)->Ask({{"op", "begin"}}, 10, nullptr).ok());
  (*child)->Pause();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const auto answer = (*child)->Ask({{"op", "count"}}, 10, nullptr);
  REQUIRE(answer.ok());
  CHECK((*answer)["turns"].get<int>() < 25);  // of 50
}

// ---- The whole way

// A peer that computes softmax attention over one key: its value. `sample` is
// what it does when asked for one.
std::string Script(const std::string& sample, const std::string& result) {
  return R"(echo '{"version": "7.1", "score_bytes": {"forward": 4}}'
while read -r line; do
  case "$line" in
    *'"setup"'*)
      case "$line" in
        *'"backward"'*) echo '{"unsupported": "only forward"}'; continue ;;
      esac
      path=$(expr "$line" : '.*"path":"\([^"]*\)')
      v=$(expr "$line" : '.*"v":{"offset":\([0-9]*\)')
      out=$(expr "$line" : '.*"out":{"offset":\([0-9]*\)')
      echo '{"how": "by the shell"}' ;;
    *'"sample"'*) )" +
         sample + R"( ;;
    *'"result"'*) )" +
         result + R"(
      echo '{}' ;;
    *) echo '{}' ;;
  esac
done
)";
}

constexpr char kSample[] = R"(echo '{"ns": 2500}')";
// Of two heads of eight floats.
constexpr char kResult[] =
    R"(dd if="$path" of="$path" bs=1 skip="$v" seek="$out" count=64 )"
    R"(conv=notrunc 2>/dev/null)";

struct Outcome {
  int code = 0;
  std::string out, err, html;
  record::Run run;

  std::vector<record::Record> Of(std::string_view kind) const {
    std::vector<record::Record> some;
    for (const record::Record& r : run.records)
      if (r.kind() == kind) some.push_back(r);
    return some;
  }
};

// Compares the list's first variant with peers; `script` is that of ggml.
// Empty: there is nothing to run it.
Outcome CompareWith(const std::string& peers, const std::string& script,
                    double patience = 20) {
  const Folder folder;
  std::ofstream(folder / "peer_ggml.py") << script;
  std::ostringstream out, err;
  Host host{out, err, false, SACCADE_PROGRAM, nullptr, false};
  host.places = {folder / ".", script.empty() ? folder / "none" : "/bin/sh",
                 patience};
  Outcome o;
  const std::vector<std::string> arguments = {
      "compare",
      "--measure",
      "speed",
      "--only",
      std::string(Variants().front()->name),
      "--peers",
      peers,
      "-n",
      "1",
      "-d",
      "8",
      "--heads",
      "2",
      "-t",
      "1",
      "--pass",
      "forward,backward",
      "--mask",
      "none",
      "--dtype",
      "f32",
      "--budget",
      "10m",
      "--out",
      folder / "run"};
  o.code = RunCommand(arguments, host);
  o.out = out.str();
  o.err = err.str();
  const auto run = record::ReadRun(folder / "run/run.jsonl");
  REQUIRE(run.ok());
  CHECK(run->warnings.empty());
  o.run = *run;
  std::ifstream html(folder / "run/report.html");
  std::stringstream text;
  text << html.rdbuf();
  o.html = text.str();
  // Whatever a peer does, ours is measured and the run is whole.
  CHECK(o.code == kExitOk);
  REQUIRE(o.Of("speed").size() == 2);
  for (const record::Record& r : o.Of("speed")) CHECK(r.ok());
  CHECK(o.run.records.back().kind() == "end");
  CHECK(o.run.records.back().ok());
  return o;
}

TEST_CASE("a peer in a process of its own stands beside ours") {
  const Outcome o = CompareWith("ggml", Script(kSample, kResult));
  const auto peers = o.Of("peer");
  REQUIRE(peers.size() == 2);
  const record::Record& forward = peers[0];
  CAPTURE(forward.Text("reason"));
  CHECK(forward.ok());
  CHECK(forward.Text("peer") == "ggml");
  CHECK(forward.Text("version") == "7.1");
  CHECK(forward.Text("reason") == "by the shell");
  const std::vector<double> ns = forward.Numbers("ns");
  CHECK(ns.size() >= 6);
  for (const double sample : ns) CHECK(sample == doctest::Approx(2500));
  CHECK(forward.Number("worst") == 0);
  const auto ours = o.Of("speed")[0];
  CHECK(forward.Number("flops") == ours.Number("flops"));
  CHECK(forward.Text("setting") == ours.Text("setting"));
  CHECK(forward.Number("peak_share") > 0);
  CHECK(peers[1].status() == "unsupported");
  CHECK(peers[1].Text("reason") == "only forward");
  CHECK(Has(o.out, "ggml 7.1"));
  CHECK(Has(o.html, "ggml 7.1"));
  CHECK(Has(o.html, "by the shell"));
  CHECK(Has(o.html, "Outside implementations"));
  // Dashed in the figures, where ours is whole.
  const auto style = [&](const std::string& name) {
    const size_t series = o.html.find("\"name\":\"" + name + "\"");
    REQUIRE(series != std::string::npos);
    return o.html[o.html.find("\"style\":", series) + 8];
  };
  CHECK(style("ggml 7.1") == '1');
  CHECK(style(std::string(Variants().front()->name)) == '0');
}

TEST_CASE("a peer whose result is wrong shows FAIL and no time") {
  const Outcome o = CompareWith("ggml,openblas", Script(kSample, ":"));
  const auto peers = o.Of("peer");
  REQUIRE(peers.size() == 4);
  CHECK(peers[0].Text("peer") == "openblas");
  CHECK(peers[0].ok());
  for (const record::Record& r : peers) {
    if (r.Text("peer") != "ggml" || r.Text("pass") != "forward") continue;
    CAPTURE(r.Text("reason"));
    CHECK(r.status() == "fail");
    CHECK(Has(r.Text("reason"), "its result is wrong: out["));
    CHECK(!r.Has("median_ns"));
    CHECK(!r.Has("ns"));
  }
  CHECK(Has(o.out, "FAIL"));
}

TEST_CASE("a peer that is missing is n/a, with the command that installs it") {
  for (const std::string script :
       {"", "echo '{\"missing\": \"No module named libggml\"}'; exit 0"}) {
    const Outcome o = CompareWith("ggml", script);
    const auto peers = o.Of("peer");
    REQUIRE(peers.size() == 2);
    for (const record::Record& r : peers) {
      CHECK(r.status() == "unsupported");
      CHECK(Has(r.Text("reason"), "bash bench/peers/setup.sh ggml"));
    }
    CHECK(Has(o.out, "ggml"));
    CHECK(Has(o.out, "n/a"));
    CHECK(Has(o.html, "n/a"));
    CHECK(Has(o.html, "bash bench/peers/setup.sh ggml"));
  }
}

TEST_CASE("a peer that crashes, hangs or babbles costs its own cells only") {
  struct Bad {
    std::string script, says;
  };
  for (const Bad& bad : std::vector<Bad>{
           {Script("echo 'Segmentation fault' >&2; exit 139", kResult),
            "last words: Segmentation fault"},
           {Script("sleep 60", kResult), "did not answer"},
           {Script("echo gibberish", kResult), "gibberish"},
           {Script("echo '{\"ns\": -1}'", kResult), "no time above zero"},
           {Script("echo '{\"error\": \"ValueError: no\"}'", kResult),
            "ValueError: no"},
           {"echo broken >&2; exit 1", "last words: broken"}}) {
    CAPTURE(bad.script);
    const Outcome o = CompareWith("ggml", bad.script, 0.5);
    const auto peers = o.Of("peer");
    REQUIRE(peers.size() == 2);
    CHECK(peers[0].status() == "fail");
    CHECK(Has(peers[0].Text("reason"), bad.says));
    CHECK(!peers[0].Has("median_ns"));
  }
}

TEST_CASE("--peers says what is wrong in one line") {
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{
           {"--peers", "nobody"}, {"--peers", "all", "--measure", "memory"}}) {
    std::vector<std::string> arguments = {"compare"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::ostringstream out, err;
    CHECK(RunCommand(arguments, {out, err}) == kExitUsage);
    const std::string text = err.str();
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
    CHECK(Has(text, "--peers"));
  }
}

}  // namespace
}  // namespace saccade::bench
