#include "bench/learn/protocols.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numbers>

#include "bench/learn/pass.h"
#include "bench/learn/train.h"

namespace saccade::bench {
namespace {

using Tick = std::function<bool(int64_t)>;

// Where the segments of `nonoverlap` begin.
std::vector<int64_t> SeparateSegments(int64_t text_bytes,
                                      const ReadOptions& o) {
  const int64_t longest = o.longest * o.train_len,
                len = o.multiple * o.train_len;
  const int64_t bytes =
      std::max(std::min(o.test_bytes, text_bytes) / longest, int64_t{1}) *
      longest;
  std::vector<int64_t> begins(bytes / len);
  for (size_t i = 0; i < begins.size(); ++i) begins[i] = i * len;
  return begins;
}

// Where the segments of `same-target` begin: their ends do not depend on r.
std::vector<int64_t> TargetSegments(int64_t text_bytes, const ReadOptions& o) {
  const int64_t longest = o.longest * o.train_len;
  const int64_t room = text_bytes - longest;
  std::vector<int64_t> begins(o.targets);
  for (int64_t i = 0; i < o.targets; ++i) {
    const int64_t end =
        longest + room * i / std::max<int64_t>(o.targets - 1, 1);
    begins[i] = end - o.multiple * o.train_len;
  }
  return begins;
}

// Losses in bits, [segments, len]; empty when stopped.
Result<std::vector<double>> Losses(const Model& model, std::string_view text,
                                   const std::vector<int64_t>& begins,
                                   int64_t len, int64_t window, Exec& exec,
                                   const Tick& tick) {
  constexpr int64_t kTokens = 4096;  // a pass: enough to keep threads busy
  const auto count = static_cast<int64_t>(begins.size());
  const int64_t batch = std::clamp<int64_t>(kTokens / len, 1, count);
  Result<std::unique_ptr<Pass>> made =
      Pass::Make(model, {.batch = batch, .len = len, .window = window}, exec);
  if (!made.ok()) return made.status();
  Pass& pass = **made;
  std::vector<int32_t> tokens(batch * len), targets(batch * len);
  std::vector<double> losses(count * len);
  for (int64_t first = 0; first < count; first += batch) {
    for (int64_t b = 0; b < batch; ++b) {
      // The last batch is filled up with its last segment.
      const int64_t i = std::min(first + b, count - 1);
      TextSequence(text.substr(begins[i], len), model.bos(), &tokens[b * len],
                   &targets[b * len]);
    }
    const Status status = pass.Forward(model, tokens, targets);
    if (!status.ok()) return status;
    const int64_t here = std::min(batch, count - first) * len;
    for (int64_t i = 0; i < here; ++i) {
      losses[first * len + i] = pass.losses()[i] / std::numbers::ln2;
    }
    if (tick && !tick(here)) return std::vector<double>();
  }
  return losses;
}

// The mean over the last `scored` positions of each segment.
Reading Summarise(std::string protocol, const std::vector<double>& losses,
                  int64_t len, int64_t scored) {
  std::vector<double> means;
  for (size_t end = len; end <= losses.size(); end += len) {
    means.push_back(Mean({&losses[end - scored], static_cast<size_t>(scored)}));
  }
  return {std::move(protocol), Bootstrap(means),
          static_cast<int64_t>(means.size()) * scored};
}

}  // namespace

Result<std::vector<Reading>> ReadText(const Model& model, std::string_view text,
                                      const ReadOptions& o, Exec& exec,
                                      const Tick& tick) {
  const int64_t len = o.multiple * o.train_len;
  const auto bytes = static_cast<int64_t>(text.size());
  if (bytes < o.longest * o.train_len) {
    return Unsupported(fmt::format("the test text has {} bytes, fewer than {}",
                                   bytes, o.longest * o.train_len));
  }
  Result<std::vector<double>> separate = Losses(
      model, text, SeparateSegments(bytes, o), len, o.window, exec, tick);
  if (!separate.ok()) return separate.status();
  if (separate->empty()) return std::vector<Reading>();
  Result<std::vector<double>> targets =
      Losses(model, text, TargetSegments(bytes, o), len, o.window, exec, tick);
  if (!targets.ok()) return targets.status();
  if (targets->empty()) return std::vector<Reading>();
  const int64_t target = std::max<int64_t>(o.train_len / 4, 1);
  return std::vector<Reading>{Summarise("nonoverlap", *separate, len, len),
                              Summarise("tail", *separate, len, o.train_len),
                              Summarise("same-target", *targets, len, target)};
}

int64_t ReadTokens(int64_t text_bytes, const ReadOptions& o) {
  const int64_t len = o.multiple * o.train_len;
  return static_cast<int64_t>(SeparateSegments(text_bytes, o).size()) * len +
         o.targets * len;
}

}  // namespace saccade::bench
