#include "bench/versus.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>

#include "bench/cell_server.h"
#include "bench/child.h"
#include "bench/compare_records.h"
#include "bench/machine.h"
#include "bench/memory.h"
#include "bench/noise.h"
#include "bench/peaks.h"
#include "bench/progress.h"
#include "bench/statistics.h"
#include "record/json.h"
#include "reports/paired.h"

namespace saccade::bench {
namespace {

using nlohmann::json;
using record::Json;

constexpr int kLeastTurns = 8, kMostTurns = 40;
constexpr int kSamples = 3;        // of each program, in a turn
constexpr double kPatience = 120;  // seconds for an answer
constexpr double kTight = 0.01;    // half the ratio's interval: enough

std::string TextOf(const json& answer, const char* key) {
  const auto it = answer.find(key);
  return it != answer.end() && it->is_string() ? it->get<std::string>() : "";
}

double NumberOf(const json& answer, const char* key) {
  const auto it = answer.find(key);
  return it != answer.end() && it->is_number() ? it->get<double>() : 0;
}

// One of the two programs, and the run that its times go to.
struct Side {
  std::string program;
  double handicap = 0;
  Json header;
  std::unique_ptr<RecordSink> sink;
  std::map<std::string, std::string> failures;  // of checks, by what failed
};

// A program that is running, asked for cells.
class Player {
 public:
  static Result<Player> Start(const Side& side, const StopFlag* stop) {
    Result<std::unique_ptr<ChildProcess>> child =
        ChildProcess::Start({side.program, kServeCommand});
    const auto failed = [&](const std::string& why) {
      return IoError(
          fmt::format("{}: cannot be timed in turn: {}", side.program, why));
    };
    if (!child.ok()) return failed(child.status().message());
    Player player(std::move(*child), stop);
    const Result<json> hello = player.Hear(nullptr);
    if (!hello.ok())
      return failed(hello.status().message() +
                    " (programs from before `saccade versus` do not offer it; "
                    "`saccade diff` compares their runs)");
    if (NumberOf(*hello, "cells") != kCellProtocol)
      return failed("it and this program do not understand each other");
    return player;
  }

  // What it answers; what it cannot do or does wrong is the Status.
  Result<json> Ask(const json& question) {
    Result<json> answer = Hear(question);
    if (!answer.ok()) return answer;
    child_->Pause();
    if (const std::string why = TextOf(*answer, "unsupported"); !why.empty())
      return Unsupported(why);
    if (const std::string why = TextOf(*answer, "error"); !why.empty())
      return IoError(why);
    return answer;
  }

 private:
  Player(std::unique_ptr<ChildProcess> child, const StopFlag* stop)
      : child_(std::move(child)), stop_(stop) {}
  Result<json> Hear(const json& question) {
    return child_->Ask(question, kPatience, stop_);
  }

  std::unique_ptr<ChildProcess> child_;
  const StopFlag* stop_;
};

// A cell of one side: what its run will say of it, and its time by turn.
struct Times {
  Status status;
  Json record;
  std::vector<double> ns;
};
using Both = std::array<Times, 2>;

std::string CheckKey(const CellSpec& cell) {
  return fmt::format("{} {} {}", cell.spec, NameOf(cell.pass),
                     NameOf(cell.dtype));
}

class Contest {
 public:
  Contest(const VersusOptions& options, const Host& host)
      : o_(options),
        host_(host),
        progress_(host.err, host.terminal, host.talk == Talk::kQuiet) {
    for (size_t i = 0; i < 2; ++i) sides_[i].program = o_.programs[i];
    sides_[1].handicap = o_.handicap;
    for (const Part& part : o_.cells.speed)
      for (const auto& group : part.groups)
        for (const CellSpec& cell : group) {
          cells_.push_back({cell, &part});
          threads_ = std::max(threads_, cell.threads);
        }
  }

  int Run() {
    const NoiseWatch watch(threads_, {host_.root});
    Status status = Meet();
    if (!status.ok()) return Fail(status);
    const std::vector<Noise> before = watch.AtStart();
    for (const Noise& n : before) Say(host_, "noise: " + n.reason);
    if (!before.empty() && o_.cells.strict) {
      Say(host_,
          "too noisy to begin (--strict); `saccade doctor` says what to do");
      return kExitNoisy;
    }
    status = Open();
    if (!status.ok()) return Fail(status);
    progress_.AddPhase("verify", 0.6 * static_cast<double>(2 * Checks()));
    progress_.AddPhase("speed", Seconds());
    if (status.ok()) status = WriteNoise(before);
    if (status.ok()) status = Check();
    if (status.ok()) status = Time();
    if (status.ok()) status = WriteNoise(watch.SinceStart());
    progress_.Finish();
    return Close(status);
  }

 private:
  struct Cell {
    CellSpec spec;
    const Part* part;
  };

  bool stopped() const { return host_.stop && host_.stop->load(); }
  double Seconds() const { return o_.cells.seconds.find("speed")->second; }
  double Elapsed() const { return SteadySeconds() - begin_; }

  int Fail(const Status& status) {
    Say(host_, status.message());
    return kExitUsage;
  }

  // Who they are.
  Status Meet() {
    const std::string pair =
        fmt::format("{:016x}", std::mt19937_64(std::random_device()())());
    for (Side& side : sides_) {
      Result<Player> player = Player::Start(side, host_.stop);
      if (!player.ok()) return player.status();
      const Result<json> answer = player->Ask({{"op", "facts"}});
      if (!answer.ok()) return answer.status();
      side.header = Json(answer->value("facts", json::object()));
      side.header["threads"] = threads_;
      side.header["command"] = o_.cells.command;
      side.header["profile"] = o_.cells.profile;
      side.header["started"] = UtcNow();
      side.header["options"] = fmt::format("{:016x}", o_.cells.digest);
      side.header["pair"] = pair;
      if (!o_.cells.note.empty()) side.header["note"] = o_.cells.note;
    }
    return {};
  }

  Status Open() {
    for (size_t i = 0; i < 2; ++i) {
      Result<std::unique_ptr<RecordSink>> sink = RecordSink::Create(
          o_.cells.out + "/" + kVersusFolders[i], sides_[i].header);
      if (!sink.ok()) return sink.status();
      sides_[i].sink = std::move(*sink);
    }
    return {};
  }

  int Close(const Status& status) {
    const bool cut = stopped();
    for (Side& side : sides_) {
      const Status last =
          cut ? side.sink->Finish("interrupted", "stopped by a signal",
                                  Elapsed())
              : side.sink->Finish(status.ok() ? "ok" : "fail", status.message(),
                                  Elapsed());
      if (!last.ok() && status.ok()) return Fail(last);
    }
    if (cut) {
      Say(host_,
          fmt::format("interrupted; `saccade diff {0}/{1} {0}/{2}` "
                      "shows what was timed",
                      o_.cells.out, kVersusFolders[0], kVersusFolders[1]));
      return kExitInterrupted;
    }
    return status.ok() ? kExitOk : Fail(status);
  }

  Status WriteNoise(const std::vector<Noise>& noise) {
    for (const Noise& n : noise)
      for (Side& side : sides_) {
        const Status status = side.sink->Write(NoiseRecord(n));
        if (!status.ok()) return status;
      }
    return {};
  }

  // Variants, passes and storage types to check, each once.
  size_t Checks() const {
    std::set<std::string> keys;
    for (const Cell& cell : cells_) keys.insert(CheckKey(cell.spec));
    return keys.size();
  }

  // Correct before fast: each program by its own oracle.
  Status Check() {
    progress_.Begin("verify");
    const double all = 2.0 * static_cast<double>(Checks());
    double done = 0;
    for (Side& side : sides_) {
      Result<Player> player = Player::Start(side, host_.stop);
      if (!player.ok()) return player.status();
      std::set<std::string> seen;
      for (const Cell& cell : cells_) {
        if (stopped()) return {};
        if (!seen.insert(CheckKey(cell.spec)).second) continue;
        progress_.Update(done++ / all, CheckKey(cell.spec));
        const Result<json> answer =
            player->Ask({{"op", "verify"}, {"cell", ToJson(cell.spec)}});
        if (answer.status().code() == Code::kUnsupported) continue;
        if (!answer.ok()) return answer.status();
        const Status status = TakeChecks(
            answer->value("records", json::array()), cell.spec, &side);
        if (!status.ok()) return status;
      }
    }
    return {};
  }

  Status TakeChecks(const json& records, const CellSpec& cell, Side* side) {
    for (const json& r : records) {
      if (TextOf(r, "status") == "fail")
        side->failures[CheckKey(cell)] =
            fmt::format("its check failed: {}; repeat it with {}",
                        TextOf(r, "reason"), TextOf(r, "repeat"));
      if (!described_[side].insert(record::Dump(r)).second) continue;
      const Status status = side->sink->Write(Json(r));
      if (!status.ok()) return status;
    }
    return {};
  }

  Status Time() {
    progress_.Begin("speed");
    TimeModel model(SampleFmaPeak(1));
    const double begin = SteadySeconds();
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (stopped()) return {};
      const Cell& cell = cells_[i];
      const double left = Seconds() - (SteadySeconds() - begin);
      progress_.Update(1 - left / Seconds(),
                       fmt::format("{} {} {}", NameOf(cell.spec.pass),
                                   cell.spec.length, cell.spec.spec));
      const Status status = TimeCell(
          cell, left, left / static_cast<double>(cells_.size() - i), &model);
      if (!status.ok()) return status;
    }
    return {};
  }

  Status TimeCell(const Cell& cell, double left, double share,
                  TimeModel* model) {
    Both both;
    for (size_t i = 0; i < 2; ++i) {
      both[i].record = CellRecord("speed", cell.spec, nullptr);
      const auto failure = sides_[i].failures.find(CheckKey(cell.spec));
      if (failure != sides_[i].failures.end())
        both[i].status = IoError(failure->second);
    }
    const Result<PlannedCell> planned = PlanCell(cell.spec);
    if (planned.ok()) {
      const std::string why =
          SpeedBench(cell.part->timing, nullptr, nullptr, model)
              .WhySkip(*planned, left);
      if (!why.empty()) both[0].status = both[1].status = Exhausted(why);
    }
    const double begin = SteadySeconds();
    for (int turn = 0; turn < kMostTurns && !stopped(); ++turn) {
      if (!both[0].status.ok() || !both[1].status.ok()) break;
      const double seconds = TakeTurn(cell, turn, &both);
      if (planned.ok() && seconds > 0) model->Learn(*planned, seconds);
      const reports::Estimate ratio =
          reports::RatioOfTurns(both[0].ns, both[1].ns).ratio;
      if (turn + 1 < kLeastTurns) continue;
      if (ratio.high - ratio.low < 2 * kTight * ratio.value) break;
      if (SteadySeconds() - begin > share) break;
    }
    if (stopped()) return {};
    for (size_t i = 0; i < 2; ++i) {
      const Status status = sides_[i].sink->Write(RecordOf(both, i));
      if (!status.ok()) return status;
    }
    return {};
  }

  // Adds a time to each side, or says why there is none. Seconds of a run.
  double TakeTurn(const Cell& cell, int turn, Both* both) {
    std::array<std::unique_ptr<Player>, 2> players;
    const size_t first = turn % 2;
    double seconds = 0;
    for (const size_t i : {first, 1 - first}) {
      Times& times = (*both)[i];
      Result<Player> player = Player::Start(sides_[i], host_.stop);
      times.status = player.status();
      if (!player.ok()) return 0;
      players[i] = std::make_unique<Player>(std::move(*player));
      const Result<json> ready =
          players[i]->Ask({{"op", "setup"},
                           {"cell", ToJson(cell.spec)},
                           {"handicap", sides_[i].handicap},
                           {"seed", o_.seed}});
      times.status = ready.status();
      if (!ready.ok()) return 0;
      times.record = Json(ready->value("record", json::object()));
      const double of_run = NumberOf(*ready, "seconds");
      seconds = seconds == 0 ? of_run : std::min(seconds, of_run);
    }
    const double runs =
        std::ceil(cell.part->timing.sample_seconds / std::max(seconds, 1e-7));
    std::array<std::vector<double>, 2> samples;
    for (int n = 0; n < kSamples; ++n)
      for (const size_t k : {size_t{0}, size_t{1}}) {
        const size_t i = (first + n + k) % 2;
        const Result<json> sample = players[i]->Ask(
            {{"op", "sample"}, {"runs", static_cast<int64_t>(runs)}});
        (*both)[i].status = sample.status();
        if (!sample.ok()) return 0;
        samples[i].push_back(NumberOf(*sample, "seconds"));
      }
    for (size_t i = 0; i < 2; ++i) {
      const Result<json> finite = players[i]->Ask({{"op", "finite"}});
      if (!finite.ok() || !finite->value("finite", false))
        (*both)[i].status =
            finite.ok() ? IoError("the result of the timed pass is not finite")
                        : finite.status();
      (*both)[i].ns.push_back(1e9 * Median(samples[i]));
    }
    return seconds;
  }

  // What the run of a side says of a cell. Where only the other side failed,
  // this one has no times either.
  static Json RecordOf(const Both& both, size_t i) {
    const Times &mine = both[i], &other = both[1 - i];
    if (!mine.status.ok()) {
      const Code code = mine.status.code();
      return WithStatus(mine.record,
                        code == Code::kUnsupported ? "unsupported"
                        : code == Code::kExhausted ? "skipped"
                                                   : "fail",
                        mine.status.message());
    }
    if (!other.status.ok())
      return WithStatus(mine.record, "skipped",
                        "the other program has no time of it");
    Json r = mine.record;
    const MedianInterval interval = IntervalOfMedian(mine.ns);
    r["ns"] = mine.ns;
    r["median_ns"] = Median(mine.ns);
    r["low_ns"] = interval.low;
    r["high_ns"] = interval.high;
    return r;
  }

  const VersusOptions& o_;
  const Host& host_;
  const double begin_ = SteadySeconds();
  Progress progress_;
  std::array<Side, 2> sides_;
  std::vector<Cell> cells_;
  int threads_ = 1;
  std::map<const Side*, std::set<std::string>> described_;
};

}  // namespace

int Versus(const VersusOptions& options, const Host& host) {
  return Contest(options, host).Run();
}

}  // namespace saccade::bench
