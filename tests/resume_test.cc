// What was begun can be finished: trainings to the same bits, runs to the same
// record, whatever killed them.
#include "bench/resume.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "bench/cli.h"
#include "bench/learn/checkpoint.h"
#include "bench/learn/jobs.h"
#include "record/record.h"
#include "tests/folder.h"
#include "tests/process.h"

namespace saccade::bench {
namespace {

namespace fs = std::filesystem;

std::string Babble(int64_t bytes) {
  Random random(1, "babble");
  std::string text;
  while (std::ssize(text) < bytes)
    for (int64_t word = random.Below(20), i = 0; i <= word % 5; ++i)
      text += i < word % 5 ? static_cast<char>('a' + word - i / 2) : ' ';
  return text;
}

struct Trained {
  std::vector<float> weights;
  std::vector<double> loss;
  bool operator==(const Trained&) const = default;
};

constexpr int64_t kSteps = 12;

// A tiny training; `tick` as that of Train.
Trained TrainTiny(const std::string& spec, const Checkpoints& checkpoints,
                  const TrainTick& tick = {}) {
  static const std::string text = Babble(4000);
  Result<Model> model = Model::Make(
      {.spec = spec, .width = 16, .layers = 1, .heads = 2, .train_len = 16});
  REQUIRE(model.ok());
  model->parameters().Start(7);
  const auto result = Train(
      *model,
      {.batch = 2,
       .len = 16,
       .optimiser = {.rate = 0.01, .steps = kSteps, .warmup = 4}},
      TextBatches(text, 16, model->bos(), 7), Serial(), tick, checkpoints);
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  const float* const w = model->parameters().value(0);
  return {{w, w + model->parameters().count()}, result->loss};
}

TEST_CASE("a training that was killed goes on to the same bits") {
  for (const std::string spec : {"softmax.flash+rope", "linear.elu"}) {
    const Trained whole = TrainTiny(spec, {});
    for (const int64_t killed : {1, 5, 10}) {
      CAPTURE(killed);
      const Folder folder;
      const Checkpoints each = {folder / "each", "tiny", 0};
      // The file as a kill in this very step would leave it; the rest of that
      // training, and all that it had in memory, is thrown away.
      TrainTiny(spec, each, [&](int64_t step, double) {
        if (step == killed) fs::copy_file(each.path, folder / "left");
        return true;
      });
      int64_t first = -1;
      const Trained resumed = TrainTiny(spec, {folder / "left", "tiny", 1e9},
                                        [&](int64_t step, double) {
                                          if (first < 0) first = step;
                                          return true;
                                        });
      CHECK(first == killed);
      CHECK(resumed == whole);
      // At the end the file holds the end: nothing is left to be done.
      bool stepped = false;
      CHECK(
          TrainTiny(spec, {folder / "left", "tiny", 1e9}, [&](int64_t, double) {
            stepped = true;
            return true;
          }) == whole);
      CHECK(!stepped);
    }
  }
}

TEST_CASE("a checkpoint that is no good costs time and nothing else") {
  const Folder folder;
  const Checkpoints mine = {folder / "state", "tiny", 1e9};
  const Trained whole = TrainTiny("linear.elu", {});
  TrainTiny("linear.elu", mine, [](int64_t step, double) { return step < 3; });
  const auto count = std::ssize(whole.weights);
  REQUIRE(ReadCheckpoint(mine.path, "tiny", count).ok());
  CHECK(ReadCheckpoint(mine.path, "other", count).status().code() ==
        Code::kInvalid);
  CHECK(ReadCheckpoint(mine.path, "tiny", count + 1).status().code() ==
        Code::kInvalid);
  CHECK(ReadCheckpoint(folder / "none", "tiny", count).status().code() ==
        Code::kNotFound);
  std::ifstream in(mine.path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  for (size_t cut = 0; cut < bytes.size(); cut += 1 + bytes.size() / 50) {
    folder.Write("cut", bytes.substr(0, cut));
    CHECK(!ReadCheckpoint(folder / "cut", "tiny", count).ok());
    std::string wrong = bytes;
    wrong[cut] ^= 1;
    folder.Write("wrong", wrong);
    CHECK(!ReadCheckpoint(folder / "wrong", "tiny", count).ok());
  }
  CHECK(TrainTiny("linear.elu", {folder / "cut", "tiny", 1e9}) == whole);
  CHECK(TrainTiny("linear.elu", {mine.path, "other", 1e9}) == whole);
  // What a kill leaves half written lies beside the good one.
  folder.Write("state", bytes);
  folder.Write("state.part", bytes.substr(0, 100));
  CHECK(ReadCheckpoint(mine.path, "tiny", count)->step() == 4);
  CHECK(TrainTiny("linear.elu", mine) == whole);
  CHECK(!fs::exists(folder / "state.part"));
  CHECK(!WriteCheckpoint(folder / "no/where", "tiny", {}).ok());
}

LearnOptions TwoByTwo() {
  LearnOptions o;
  o.specs = {"linear.elu", "softmax.flash+rope"};
  o.probe_specs = {"linear.elu"};
  o.seeds = {1, 2};
  return o;
}

TEST_CASE("what is too long is dropped by the rules, in their order") {
  LearnOptions o = TwoByTwo();
  o.drops = {{.task = "", .variants = "softmax.*", .seed = 2},
             {.task = "text", .variants = "", .seed = {}}};
  const auto left = [&o](double seconds) {
    std::vector<Job> jobs = JobsOf(o);
    for (Job& job : jobs) job.seconds = 10;
    const auto sentences = DropToFit(o, seconds, jobs);
    std::string names;
    for (const Job& job : jobs) {
      if (!job.status.ok()) {
        CHECK(job.status.code() == Code::kExhausted);
        continue;
      }
      names += job.task[0];
      names += job.spec[0];
      names += std::to_string(job.seed) + " ";
    }
    CHECK(sentences.empty() == (seconds >= 60));
    CHECK(SecondsOf(jobs) <= seconds);
    return names;
  };
  // Text (t) and induction (i), linear (l) and softmax (s), by seeds.
  CHECK(left(60) == "tl1 il1 ts1 tl2 il2 ts2 ");
  CHECK(left(59) == "tl1 il1 ts1 tl2 il2 ");
  CHECK(left(50) == "tl1 il1 ts1 tl2 il2 ");
  CHECK(left(49) == "il1 il2 ");
  CHECK(left(15) == "il1 ");
  CHECK(left(5) == "");
}

TEST_CASE("what is matched by FLOPs has the reference's, and goes first") {
  LearnOptions o = TwoByTwo();
  o.specs.push_back("gated.gau:n=128+rope");
  o.flop_matched = {"softmax.flash+rope", "gated.gau:n=128+rope", "linear.elu"};
  const auto flops = [&o](const Job& job) {
    const Result<Model> model = Model::Make(job.model);
    REQUIRE(model.ok());
    return *model->FlopsPerToken(o.train_len) *
           static_cast<double>(job.training.optimiser.steps);
  };
  std::vector<Job> jobs = JobsOf(o);
  // The reference itself is not trained twice.
  REQUIRE(jobs.size() == 12);
  for (size_t i = 0; i < jobs.size(); ++i) {
    CAPTURE(jobs[i].Name());
    CHECK(jobs[i].by_flops == (i >= 8));
    if (i < 8) continue;
    CHECK(jobs[i].seed == (i < 10 ? 1 : 2));
    CHECK(jobs[i].training.optimiser.steps != o.steps);
    CHECK(flops(jobs[i]) == doctest::Approx(flops(jobs[0])).epsilon(0.5 / 300));
    CHECK(OwnerOf(jobs[i], 1) != OwnerOf(jobs[i == 8 || i == 10 ? 2 : 0], 1));
  }
  CHECK(jobs[8].training.optimiser.steps < 400);
  o.flop_reference = "gated.gau:n=128+rope";
  CHECK(JobsOf(o)[8].training.optimiser.steps > 400);
  // Dropped before the rules' first, one by one.
  o.drops = {{.task = "", .variants = "linear.*", .seed = {}}};
  for (Job& job : jobs) job.seconds = 10;
  const auto left = [&](double seconds) {
    DropToFit(o, seconds, jobs);
    return std::count_if(jobs.begin(), jobs.end(),
                         [](const Job& job) { return job.status.ok(); });
  };
  CHECK(left(110) == 11);
  CHECK(jobs[11].status.code() == Code::kExhausted);
  CHECK(left(80) == 8);
  CHECK(jobs[7].status.ok());
  CHECK(left(79) == 4);
  // What cannot be made is said once.
  o.specs = {"softmax.flash+rope", "softmax.naive+nothing"};
  o.flop_matched = {"softmax.naive+nothing"};
  CHECK(JobsOf(o).size() == 6);
}

TEST_CASE("a training's owner differs where its result would") {
  LearnOptions o = TwoByTwo();
  std::vector<std::string> owners;
  for (const Job& job : JobsOf(o)) owners.push_back(OwnerOf(job, 1));
  owners.push_back(OwnerOf(JobsOf(o)[0], 2));
  o.steps += 1;
  owners.push_back(OwnerOf(JobsOf(o)[0], 1));
  o.width *= 2;
  owners.push_back(OwnerOf(JobsOf(o)[0], 1));
  std::sort(owners.begin(), owners.end());
  CHECK(std::adjacent_find(owners.begin(), owners.end()) == owners.end());
}

constexpr char kTinyProfile[] = R"({
  "measures": ["speed", "lenses", "extrapolation", "probes"],
  "variants": "linear.elu,softmax.flash",
  "shape": {"heads": 2, "dims": "8", "threads": "1"},
  "speed": {"lengths": "16,32", "passes": "forward,decode",
            "sample_seconds": 1e-4, "cell_seconds": 1e-3},
  "learn": ["softmax.flash+rope", "linear.elu", "gated.gau:n=16+rope"],
  "flop_matched": ["gated.gau:n=16+rope"],
  "probe": ["linear.elu"],
  "lenses": ["linear.elu"],
  "switches": ["plain", "window", "yarn"],
  "claims": {"softmax": ["softmax.flash+rope"], "linear": ["linear.elu"]},
  "learn_settings": {"width": 16, "layers": 1, "heads": 2, "train_len": 16,
    "steps": 30, "tokens_per_step": 64, "multiples": [1, 4],
    "test_bytes": 512, "targets": 4, "seeds": [1, 2], "probe_max_len": 1,
    "probe_effort": 0.02, "probe_tokens_per_step": 128, "probe_sequences": 2,
    "checkpoint_seconds": 0}
})";

// Names of all measurements, and what came of those that must repeat to the
// bit.
std::vector<std::string> Measurements(const std::string& file) {
  const Result<record::Run> run = record::ReadRun(file);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(run->warnings.empty());
  std::vector<std::string> all;
  for (const record::Record& r : run->records) {
    if (r.kind() == "peak" || r.kind() == "noise" || r.kind() == "end")
      continue;
    all.push_back(record::IdentityOf(r.fields()));
  }
  CHECK(run->records.back().kind() == "end");
  CHECK(run->records.back().ok());
  std::sort(all.begin(), all.end());
  return all;
}

// One model of a seed has the reference's FLOPs, and its readings are told from
// those of the same model with the reference's steps.
void CheckMatched(const std::string& file) {
  const Result<record::Run> run = record::ReadRun(file);
  REQUIRE(run.ok());
  double reference = 0, within = 0;
  int trained = 0;
  std::map<int64_t, int> read;
  for (const record::Record& r : run->records) {
    const bool by_flops = r.Text("match") == "flops";
    if (r.kind() == "train" && r.Text("variant") == "softmax.flash+rope")
      reference = r.Number("flops"), within = reference / r.Number("steps");
    if (!by_flops) continue;
    CHECK(r.Text("variant") == "gated.gau:n=16+rope");
    if (r.kind() == "train") {
      ++trained;
      CHECK(std::abs(r.Number("flops") - reference) < within);
      CHECK(r.Count("steps") != 30);
    } else {
      CHECK(r.kind() == "extrapolation");
      ++read[r.Count("eval_len")];
    }
  }
  CHECK(trained == 2);
  CHECK(read.size() == 2);
  CHECK(read[16] > 0);
  CHECK(read[64] > 0);
}

TEST_CASE("a run that is killed again and again ends in the same record") {
  const Folder folder;
  const std::string profile = folder.Write("tiny.json", kTinyProfile);
  const std::string text = folder.Write("text.txt", Babble(40000));
  const auto begin = [&](const std::string& out) {
    return std::vector<std::string>{"compare", "--profile", profile, "--corpus",
                                    text,      "--out",     out};
  };
  REQUIRE(Process(begin(folder / "whole")).Wait() == kExitOk);
  const std::string whole = folder / "whole/run.jsonl";
  const std::string cut = folder / "cut/run.jsonl";
  const int64_t lines = LinesOf(whole);
  bool first = true;
  // A line early, in the middle of what is timed, and of what is trained.
  for (const int64_t at : {int64_t{3}, lines / 3, lines / 2, lines - 20}) {
    Process process(first ? begin(folder / "cut")
                          : std::vector<std::string>{"compare", "--resume",
                                                     folder / "cut"});
    first = false;
    while (process.Running() && LinesOf(cut) < at)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    process.Kill();
    REQUIRE(LinesOf(cut) >= std::min(at, int64_t{1}));
    std::ofstream(cut, std::ios::app) << R"({"kind":"speed","variant":"li)";
  }
  REQUIRE(Process({"compare", "--resume", folder / "cut"}).Wait() == kExitOk);
  CHECK(Measurements(cut) == Measurements(whole));
  // Claims are judged on what the lenses of the same run saw.
  std::set<int64_t> judged;
  const Result<record::Run> run = record::ReadRun(cut);
  for (const record::Record& r : run->records)
    if (r.kind() == "claim" && r.Text("verdict") != "not run")
      judged.insert(r.Count("number"));
  for (const int64_t claim : {5, 6, 7}) CHECK(judged.contains(claim));
  CheckMatched(whole);
  CHECK(fs::exists(folder / "cut/report.html"));
  CHECK(!fs::exists(folder / "cut/training.state"));

  const auto resume = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"compare", "--resume", folder / "cut"});
    std::ostringstream out, err;
    const int code =
        RunCommand(more, {out, err, false, SACCADE_PROGRAM, nullptr, false});
    return fmt::format("{} {}", code, err.str());
  };
  CHECK(resume({}) == "0 saccade: this run is complete\n");
  // Not the run that was begun.
  CHECK(resume({"--profile", profile, "--corpus", text, "-n", "64"})
            .find("the settings, or text was") != std::string::npos);
  CHECK(resume({"--profile", profile, "--corpus", profile})
            .starts_with("2 saccade: "));
  CHECK(resume({"--profile", "quick", "--measure", "speed"})
            .starts_with("2 saccade: "));
}

TEST_CASE("a run that was killed before its first word is a new run") {
  const Folder folder;
  const std::string profile = folder.Write("tiny.json", R"({
    "measures": ["speed"], "variants": "linear.elu",
    "shape": {"heads": 1, "dims": "8", "threads": "1"},
    "speed": {"lengths": "16", "passes": "forward", "sample_seconds": 1e-4,
              "cell_seconds": 1e-3}})");
  for (const char* option : {"--out", "--resume"}) {
    CAPTURE(option);
    const std::string out = folder / (option + 2);
    fs::create_directories(out);
    std::ofstream(out + "/run.jsonl").flush();
    REQUIRE(fs::file_size(out + "/run.jsonl") == 0);
    CHECK(NothingBegun(out));
    std::ostringstream said, err;
    const int code = RunCommand(
        std::vector<std::string>{"compare", "--profile", profile, option, out},
        {said, err, false, SACCADE_PROGRAM, nullptr, false});
    CHECK_MESSAGE(code == kExitOk, err.str());
    CHECK((err.str().find("a new run begins there") != std::string::npos) ==
          (option == std::string("--resume")));
    CHECK(!NothingBegun(out));
    const Result<record::Run> run = record::ReadRun(out + "/run.jsonl");
    REQUIRE_MESSAGE(run.ok(), run.status().message());
    CHECK(run->records.back().kind() == "end");
    // What holds anything is never written over.
    const auto again =
        record::RecordWriter::Create(run->path, run->header.fields());
    CHECK(again.status().message().find("exists already") != std::string::npos);
  }
  CHECK(!NothingBegun(folder / "nowhere"));
}

TEST_CASE("a run goes on only where and as it was begun") {
  const record::Json header = {
      {"cpu", "this"}, {"commit", "abc"}, {"options", "1"}};
  CHECK(CheckSameRun(record::Record(header), header).ok());
  const auto refused = [&](const char* field, const record::Json& value) {
    record::Json other = header;
    if (value.is_null()) {
      other.erase(field);
    } else {
      other[field] = value;
    }
    const Status status = CheckSameRun(record::Record(other), header);
    CHECK(status.code() == Code::kInvalid);
    return status.message();
  };
  CHECK(
      refused("cpu", "that").find("processor was \"that\", and is \"this\"") !=
      std::string::npos);
  CHECK(refused("commit", "abd").find("commit") != std::string::npos);
  CHECK(refused("options", nullptr).find("none") != std::string::npos);
  CHECK(refused("build", "x").find("build") != std::string::npos);
}

}  // namespace
}  // namespace saccade::bench
