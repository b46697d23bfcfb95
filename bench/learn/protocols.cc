#include "bench/learn/protocols.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numbers>
#include <utility>

#include "bench/learn/pass.h"
#include "bench/learn/train.h"
#include "bench/named.h"

namespace saccade::bench {
namespace {

// Bytes that a segment of same-target or sliding scores.
int64_t Stride(const ReadOptions& o) {
  return std::max<int64_t>(o.train_len / 4, 1);
}

std::vector<int64_t> SeparateSegments(int64_t text_bytes,
                                      const ReadOptions& o) {
  const int64_t bytes =
      std::max(std::min(o.test_bytes, text_bytes) / o.most(), int64_t{1}) *
      o.most();
  std::vector<int64_t> begins(bytes / o.len());
  for (size_t i = 0; i < begins.size(); ++i) {
    begins[i] = static_cast<int64_t>(i) * o.len();
  }
  return begins;
}

// Their ends do not depend on r.
std::vector<int64_t> TargetSegments(int64_t text_bytes, const ReadOptions& o) {
  const int64_t room = text_bytes - o.most();
  std::vector<int64_t> begins(o.targets);
  for (int64_t i = 0; i < o.targets; ++i) {
    const int64_t end =
        o.most() + room * i / std::max<int64_t>(o.targets - 1, 1);
    begins[i] = end - o.len();
  }
  return begins;
}

// Nor do these.
std::vector<int64_t> SlidingSegments(int64_t text_bytes, const ReadOptions& o) {
  const int64_t fit = (text_bytes - o.most()) / Stride(o) + 1;
  std::vector<int64_t> begins(std::min(o.targets, fit));
  for (size_t i = 0; i < begins.size(); ++i) {
    begins[i] = o.most() - o.len() + static_cast<int64_t>(i) * Stride(o);
  }
  return begins;
}

// The mean over positions [from, to) of each segment.
TextReading MeanOver(std::string_view protocol, const SegmentLosses& losses,
                     int64_t from, int64_t to) {
  std::vector<double> means;
  const auto end = static_cast<int64_t>(losses.bits.size());
  for (int64_t begin = 0; begin < end; begin += losses.len) {
    means.push_back(
        Mean({&losses.bits[begin + from], static_cast<size_t>(to - from)}));
  }
  const auto count = static_cast<int64_t>(means.size());
  return {protocol, {}, Bootstrap(means), count * (to - from)};
}

std::vector<TextReading> ScoreAll(std::string_view name, const SegmentLosses& x,
                                  const ReadOptions&) {
  return {MeanOver(name, x, 0, x.len)};
}

std::vector<TextReading> ScoreTail(std::string_view name,
                                   const SegmentLosses& x,
                                   const ReadOptions& o) {
  return {MeanOver(name, x, x.len - o.train_len, x.len)};
}

std::vector<TextReading> ScoreEnd(std::string_view name, const SegmentLosses& x,
                                  const ReadOptions& o) {
  return {MeanOver(name, x, x.len - Stride(o), x.len)};
}

std::vector<TextReading> ScorePositions(std::string_view name,
                                        const SegmentLosses& x,
                                        const ReadOptions& o) {
  std::vector<TextReading> readings;
  const auto end = [](int64_t from) { return std::max<int64_t>(2 * from, 1); };
  for (int64_t from = 0; from < x.len; from = end(from)) {
    const bool cut = end(from) > x.len && o.multiple < o.longest;
    if (cut || end(from) <= o.before * o.train_len) continue;
    readings.push_back(MeanOver(name, x, from, std::min(end(from), x.len)));
    readings.back().bucket = from;
  }
  return readings;
}

// The losses of a model, batch by batch.
Result<std::vector<double>> LossesOf(const Model& model, std::string_view text,
                                     std::span<const int64_t> begins,
                                     const PassOptions& shape, Exec& exec,
                                     const std::function<bool(int64_t)>& tick) {
  const auto count = static_cast<int64_t>(begins.size());
  const int64_t batch = shape.batch, len = shape.len;
  Result<std::unique_ptr<ModelPass>> made = ModelPass::Make(model, shape, exec);
  if (!made.ok()) return made.status();
  ModelPass& pass = **made;
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

}  // namespace

std::span<const Protocol> Protocols() {
  static constexpr Protocol kAll[] = {
      {"nonoverlap",
       "all bytes of separate segments of r L, their starts included",
       SeparateSegments, ScoreAll},
      {"tail", "the last L bytes of each of these segments", SeparateSegments,
       ScoreTail},
      {"same-target",
       "one fixed set of bytes, spread over the text, behind contexts of r L",
       TargetSegments, ScoreEnd},
      {"sliding",
       "one fixed passage, by a view of r L that moves on by L/4 and scores "
       "what is new",
       SlidingSegments, ScoreEnd},
      {"position", "separate segments of r L, by log2 bucket of position",
       SeparateSegments, ScorePositions},
  };
  return kAll;
}

std::vector<const Protocol*> AllProtocols() { return PointersTo(Protocols()); }

Result<std::vector<const Protocol*>> FindProtocols(
    const std::vector<std::string>& names) {
  return FindNamed("protocol", AllProtocols(), names);
}

Result<std::vector<TextReading>> ReadBy(const Reader& reader,
                                        int64_t text_bytes,
                                        const ReadOptions& o) {
  if (text_bytes < o.most()) {
    return Unsupported(fmt::format("the test text has {} bytes, fewer than {}",
                                   text_bytes, o.most()));
  }
  std::vector<std::pair<decltype(Protocol::segments), SegmentLosses>> read;
  std::vector<TextReading> readings;
  for (const Protocol* protocol : o.protocols) {
    auto known = std::find_if(read.begin(), read.end(), [&](const auto& r) {
      return r.first == protocol->segments;
    });
    if (known == read.end()) {
      Result<std::vector<double>> bits =
          reader(protocol->segments(text_bytes, o), o.len());
      if (!bits.ok()) return bits.status();
      if (bits->empty()) return std::vector<TextReading>();
      read.push_back({protocol->segments, {o.len(), std::move(*bits)}});
      known = read.end() - 1;
    }
    for (TextReading& r : protocol->score(protocol->name, known->second, o)) {
      readings.push_back(std::move(r));
    }
  }
  return readings;
}

Result<std::vector<TextReading>> ReadText(
    const Model& model, std::string_view text, const ReadOptions& o, Exec& exec,
    const std::function<bool(int64_t tokens)>& tick) {
  constexpr int64_t kTokens = 4096;  // a pass: enough to keep threads busy
  const Reader reader = [&](std::span<const int64_t> begins, int64_t len) {
    const auto count = static_cast<int64_t>(begins.size());
    const PassOptions shape = {
        .batch = std::clamp<int64_t>(kTokens / len, 1, count),
        .len = len,
        .window = o.window,
        .positions = o.positions};
    return LossesOf(model, text, begins, shape, exec, tick);
  };
  return ReadBy(reader, static_cast<int64_t>(text.size()), o);
}

int64_t ReadTokens(int64_t text_bytes, const ReadOptions& o) {
  int64_t tokens = 0;
  std::vector<decltype(Protocol::segments)> read;
  for (const Protocol* protocol : o.protocols) {
    if (std::find(read.begin(), read.end(), protocol->segments) != read.end()) {
      continue;
    }
    read.push_back(protocol->segments);
    tokens += std::ssize(protocol->segments(text_bytes, o)) * o.len();
  }
  return tokens;
}

}  // namespace saccade::bench
