// A peer in a process of its own.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bench/child.h"
#include "bench/peer.h"

namespace saccade::bench {
namespace {

using nlohmann::json;

constexpr int kMostFailures = 3;  // then a peer is given up

std::string TextOf(const json& answer, const char* key) {
  const auto it = answer.find(key);
  return it != answer.end() && it->is_string() ? it->get<std::string>() : "";
}

double NumberOf(const json& answer, const char* key) {
  const auto it = answer.find(key);
  return it != answer.end() && it->is_number() ? it->get<double>() : 0;
}

class PeerProcess final : public Peer {
 public:
  PeerProcess(std::string name, std::vector<std::string> argv, double patience,
              const StopFlag* stop)
      : Peer(std::move(name)),
        argv_(std::move(argv)),
        patience_(patience),
        stop_(stop) {}

  // Starts the child and hears who it is.
  Status Start() {
    Result<std::unique_ptr<ChildProcess>> child = ChildProcess::Start(argv_);
    if (!child.ok()) return Fail(child.status());
    child_ = std::move(*child);
    const Result<json> hello = Ask(nullptr, patience_);
    if (!hello.ok()) return hello.status();
    if (const std::string missing = TextOf(*hello, "missing");
        !missing.empty()) {
      child_.reset();
      return NotFound(missing);
    }
    version_ = TextOf(*hello, "version");
    computes_ = TextOf(*hello, "computes");
    const auto bytes = hello->find("score_bytes");
    if (bytes != hello->end() && bytes->is_object())
      for (const Pass pass : kPasses)
        score_bytes_[pass] = std::max(0.0, NumberOf(*bytes, NameOf(pass)));
    return {};
  }

  std::string version() const override { return version_; }
  std::string computes() const override { return computes_; }
  std::string how() const override { return how_; }
  double ScoreBytes(Pass pass) const override {
    const auto it = score_bytes_.find(pass);
    return it == score_bytes_.end() ? 0 : it->second;
  }

  Status Setup(const Problem& p, Pass pass, PeerTensors* tensors,
               Exec& exec) override {
    if (failures_ >= kMostFailures)
      return IoError(fmt::format("it failed {} times, the last time: {}",
                                 failures_, last_failure_));
    if (!child_) {
      const Status started = Start();
      if (!started.ok()) return started;
    }
    json question = {{"op", "setup"},
                     {"path", tensors->path()},
                     {"pass", NameOf(pass)},
                     {"dtype", NameOf(p.dtype)},
                     {"causal", p.mask != Mask::kNone},
                     {"scale", p.scale},
                     {"threads", exec.slots()},
                     {"knobs", json::object()}};
    for (const Knobs::Entry& knob : p.knobs.entries())
      question["knobs"][knob.name] =
          std::isnan(knob.number) ? json(knob.text) : json(knob.number);
    for (const PeerTensors::Item& item : tensors->items())
      question["tensors"][std::string(item.name)] = {
          {"offset", item.offset},
          {"shape",
           {item.view.batch, item.view.heads, item.view.len, item.view.dim}}};
    const Result<json> answer = Ask(question, patience_);
    if (!answer.ok()) return answer.status();
    if (const std::string why = TextOf(*answer, "unsupported"); !why.empty())
      return Unsupported(why);
    how_ = TextOf(*answer, "how");
    seconds_ = 0;
    return {};
  }

  Result<double> Run(int64_t runs) override {
    const Result<json> answer =
        Ask({{"op", "sample"}, {"runs", runs}},
            patience_ + 10 * seconds_ * static_cast<double>(runs));
    if (!answer.ok()) return answer.status();
    const double ns = NumberOf(*answer, "ns");
    if (!(ns > 0)) return Fail(IoError("it said no time above zero"));
    return seconds_ = ns * 1e-9;
  }

  Status Fetch() override {
    return Ask({{"op", "result"}}, patience_).status();
  }

  void Drop() override {
    // What it answers, and whether, is of no interest any more: a failure
    // counts, and the next problem starts another child.
    if (child_) (void)Ask({{"op", "drop"}}, patience_);
  }

 private:
  Result<json> Ask(const json& question, double patience) {
    if (!child_) return IoError(last_failure_);
    Result<json> answer = child_->Ask(question, patience, stop_);
    if (!answer.ok()) return Fail(answer.status());
    child_->Pause();
    // A refusal of this problem leaves the child as it was.
    if (const std::string error = TextOf(*answer, "error"); !error.empty())
      return IoError(error);
    return answer;
  }

  Status Fail(Status status) {
    child_.reset();
    ++failures_;
    last_failure_ = status.message();
    return status;
  }

  const std::vector<std::string> argv_;
  const double patience_;
  const StopFlag* const stop_;
  std::unique_ptr<ChildProcess> child_;
  int failures_ = 0;
  std::string last_failure_, version_, computes_, how_;
  double seconds_ = 0;  // of the last run
  std::map<Pass, double> score_bytes_;
};

}  // namespace

Result<std::unique_ptr<Peer>> StartPeerProcess(std::string name,
                                               const std::string& script,
                                               const std::string& argument,
                                               const PeerPlaces& places,
                                               const StopFlag* stop) {
  if (access(places.python.c_str(), X_OK) != 0)
    return NotFound("it is not installed");
  auto peer = std::make_unique<PeerProcess>(
      std::move(name),
      std::vector<std::string>{places.python, places.scripts + "/" + script,
                               argument},
      places.patience, stop);
  const Status started = peer->Start();
  // One that fails is asked again for every cell, and says why in each.
  if (started.code() == Code::kNotFound) return started;
  return std::unique_ptr<Peer>(std::move(peer));
}

}  // namespace saccade::bench
