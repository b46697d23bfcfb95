// How trained models are read: the protocols' segments, intervals, anchors, and
// what claims make of it all.
#include "bench/learn/protocols.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "bench/extrapolation.h"
#include "bench/learn/anchors.h"
#include "bench/learn/claims.h"
#include "bench/learn/jobs.h"
#include "bench/learn/statistics.h"
#include "bench/learn/train.h"
#include "bench/lenses/look.h"

namespace saccade::bench {
namespace {

Model MakeModel(const std::string& spec, int64_t symbols, int64_t train_len) {
  Result<Model> model = Model::Make({.spec = spec,
                                     .width = 16,
                                     .layers = 1,
                                     .heads = 2,
                                     .symbols = symbols,
                                     .train_len = train_len});
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  model->parameters().Start(1);
  return std::move(*model);
}

std::string Noise(int64_t bytes, uint64_t seed) {
  Random random(seed, "noise");
  std::string text(bytes, ' ');
  for (char& c : text) c = static_cast<char>('a' + random.Below(26));
  return text;
}

TEST_CASE("text stands behind its beginning, one byte late") {
  int32_t tokens[4], targets[4];
  TextSequence("a\xffz!", 256, tokens, targets);
  CHECK(std::vector<int32_t>(tokens, tokens + 4) ==
        std::vector<int32_t>{256, 'a', 255, 'z'});
  CHECK(std::vector<int32_t>(targets, targets + 4) ==
        std::vector<int32_t>{'a', 255, 'z', '!'});
  // Every place of the text can be drawn, the last one too.
  const std::string text = "0123456789";
  std::set<int32_t> firsts;
  const Batches batches = TextBatches(text, 4, 256, 1);
  for (int64_t step = 0; step < 200; ++step) {
    batches(step, tokens, targets);
    CHECK(tokens[0] == 256);
    for (int i = 1; i < 4; ++i) {
      CHECK(tokens[i] == targets[i - 1]);
      CHECK(targets[i] == targets[i - 1] + 1);
    }
    firsts.insert(targets[0]);
  }
  CHECK(firsts == std::set<int32_t>{'0', '1', '2', '3', '4', '5', '6'});
}

const ReadOptions kReading = {.train_len = 16,
                              .multiple = 1,
                              .longest = 4,
                              .test_bytes = 1000,
                              .targets = 5};

std::vector<TextReading> Read(const Model& model, const std::string& text,
                              int64_t multiple) {
  ReadOptions options = kReading;
  options.multiple = multiple;
  options.before = multiple / 2;
  int64_t tokens = 0;
  auto readings = ReadText(model, text, options, Serial(), [&](int64_t n) {
    tokens += n;
    return true;
  });
  REQUIRE_MESSAGE(readings.ok(), readings.status().message());
  CHECK(tokens == ReadTokens(std::ssize(text), options));
  return *readings;
}

TEST_CASE("protocols score the tokens they say") {
  const Model model = MakeModel("softmax.flash+rope", 257, 16);
  const std::string text = Noise(2000, 1);
  for (const int64_t r : {1, 2, 4}) {
    const auto readings = Read(model, text, r);
    // 0, 1, 2-3, 4-7 and 8-15; 16-31; 32-63.
    const size_t positions = r == 1 ? 5 : 1;
    REQUIRE(readings.size() == 4 + positions);
    // 1000 bytes hold 15 segments of 64: 960 bytes at every length.
    CHECK(readings[0].protocol == "nonoverlap");
    CHECK(readings[0].tokens == 960);
    CHECK(readings[1].protocol == "tail");
    CHECK(readings[1].tokens == 960 / r);
    CHECK(readings[2].protocol == "same-target");
    CHECK(readings[2].tokens == 5 * 4);
    CHECK(readings[3].protocol == "sliding");
    CHECK(readings[3].tokens == 5 * 4);
    for (size_t i = 0; i < positions; ++i) {
      const TextReading& reading = readings[4 + i];
      CHECK(reading.protocol == "position");
      CHECK(reading.bucket == (r > 1 ? 8 * r : i == 0 ? 0 : 1 << (i - 1)));
      CHECK(reading.tokens ==
            15 * 4 / r * std::max<int64_t>(*reading.bucket, 1));
    }
    for (const TextReading& reading : readings) {
      CHECK(reading.bits.low <= reading.bits.value);
      CHECK(reading.bits.value <= reading.bits.high);
    }
    // At its own length a segment is all tail.
    CHECK((readings[0].bits.value == readings[1].bits.value) == (r == 1));
  }
  CHECK(!ReadText(model, Noise(63, 1), kReading, Serial(), {}).ok());
  const auto stopped =
      ReadText(model, text, kReading, Serial(), [](int64_t) { return false; });
  REQUIRE(stopped.ok());
  CHECK(stopped->empty());
}

// Readings by protocol, buckets left out, of losses that are known.
using Loss = std::function<double(int64_t byte, int64_t position)>;
std::map<std::string, double> ReadKnown(
    int64_t multiple, const Loss& loss,
    std::vector<TextReading>* all = nullptr) {
  ReadOptions options = kReading;
  options.multiple = multiple;
  const auto readings = ReadBy(
      [&](std::span<const int64_t> begins,
          int64_t len) -> Result<std::vector<double>> {
        std::vector<double> bits;
        for (const int64_t begin : begins) {
          for (int64_t i = 0; i < len; ++i) bits.push_back(loss(begin + i, i));
        }
        return bits;
      },
      2000, options);
  REQUIRE(readings.ok());
  if (all != nullptr) *all = *readings;
  std::map<std::string, double> bits;
  for (const TextReading& reading : *readings) {
    if (!reading.bucket)
      bits[std::string(reading.protocol)] = reading.bits.value;
  }
  return bits;
}

TEST_CASE("of a loss by position alone, every protocol gives its mean there") {
  const Loss position = [](int64_t, int64_t i) {
    return static_cast<double>(i);
  };
  for (const int64_t r : {1, 2, 4}) {
    const double last = static_cast<double>(16 * r) - 1;
    std::vector<TextReading> all;
    const auto bits = ReadKnown(r, position, &all);
    CHECK(bits.at("nonoverlap") == last / 2);
    CHECK(bits.at("tail") == last - 7.5);
    CHECK(bits.at("same-target") == last - 1.5);
    CHECK(bits.at("sliding") == last - 1.5);
    for (const TextReading& reading : all) {
      // No segment differs from another.
      CHECK(reading.bits.low == reading.bits.high);
      if (!reading.bucket) continue;
      const auto from = static_cast<double>(*reading.bucket);
      const double to = std::max(2 * from, 1.0) - 1;
      CHECK(reading.bits.value == (from + to) / 2);
    }
  }
}

TEST_CASE(
    "of a loss by byte alone, fixed bytes give the same at every length") {
  const Loss byte = [](int64_t at, int64_t) { return static_cast<double>(at); };
  for (const int64_t r : {1, 2, 4}) {
    const auto bits = ReadKnown(r, byte);
    CHECK(bits.at("nonoverlap") == 959.0 / 2);
    // The last four of what ends at 64, 548, 1032, 1516 and 2000.
    CHECK(bits.at("same-target") == 1032 - 2.5);
    // 60 .. 79, each once.
    CHECK(bits.at("sliding") == 69.5);
  }
}

TEST_CASE("buckets that end within no segment but the longest are cut there") {
  ReadOptions options = {.train_len = 6, .longest = 3, .test_bytes = 36};
  std::vector<std::vector<int64_t>> buckets;
  for (const int64_t r : {1, 2, 3}) {
    options.before = r - 1;
    options.multiple = r;
    const auto readings = ReadBy(
        [](std::span<const int64_t> begins, int64_t len) {
          return Result<std::vector<double>>(
              std::vector<double>(begins.size() * len));
        },
        100, options);
    REQUIRE(readings.ok());
    std::vector<int64_t>& at = buckets.emplace_back();
    for (const TextReading& reading : *readings) {
      if (reading.bucket) at.push_back(*reading.bucket);
    }
  }
  CHECK(buckets == std::vector<std::vector<int64_t>>{{0, 1, 2}, {4}, {8, 16}});
}

TEST_CASE("a text of just one segment can be read; a shorter one cannot") {
  ReadOptions options = kReading;
  options.multiple = 4;
  const Reader zeros = [](std::span<const int64_t> begins, int64_t len) {
    return Result<std::vector<double>>(
        std::vector<double>(begins.size() * len));
  };
  const auto readings = ReadBy(zeros, 64, options);
  REQUIRE(readings.ok());
  CHECK(readings->at(0).tokens == 64);
  CHECK(readings->at(3).protocol == "sliding");
  CHECK(readings->at(3).tokens == 4);
  CHECK(ReadBy(zeros, 63, options).status().code() == Code::kUnsupported);
}

TEST_CASE("protocols read what they say, and nothing else") {
  const Model model = MakeModel("softmax.flash+rope", 257, 16);
  const std::string text = Noise(2000, 1);
  // Targets end at 64, 548, 1032, 1516 and 2000; each is scored in its last 4
  // bytes and seen with 16 r bytes that end there. Sliding views end at 64, 68
  // .. 80.
  for (const int64_t r : {1, 2, 4}) {
    CAPTURE(r);
    const auto before = Read(model, text, r);
    const auto changed = [&](int64_t at) {
      std::string other = text;
      other[at] = '#';
      const auto after = Read(model, other, r);
      std::string which;
      for (int i = 0; i < 4; ++i) {
        if (after[i].bits.value != before[i].bits.value) which += "ntsS"[i];
      }
      return which;
    };
    // At the end and at the beginning of a segment, and so before its tail;
    // between the contexts of targets.
    CHECK(changed(703) == "nt");
    CHECK(changed(640) == "nt");
    // Behind the last segment, in a scored target.
    CHECK(changed(1997) == "s");
    CHECK(changed(1031) == "s");
    // In a target's context, and just before it.
    CHECK(changed(1032 - 16 * r) == "s");
    CHECK(changed(1032 - 16 * r - 1) == "");
    // In no segment at all; 960 is the first byte that is not read.
    CHECK(changed(1200) == "");
    CHECK(changed(79).find('S') != std::string::npos);
    CHECK(changed(80).find('S') == std::string::npos);
    CHECK((changed(64 - 16 * r).find('S') != std::string::npos));
    if (r == 1) CHECK(changed(64 - 16 * r - 1).find('S') == std::string::npos);
    if (r == 1) CHECK(changed(960) == "");
    CHECK(changed(959).find('n') == 0);
  }
}

TEST_CASE("the test-time window hides what lies beyond it") {
  const Model model = MakeModel("softmax.flash", 257, 16);
  const std::string text = Noise(2000, 1);
  ReadOptions options = kReading;
  options.multiple = 4;
  options.window = 16;
  const auto cut = ReadText(model, text, options, Serial(), {});
  REQUIRE(cut.ok());
  // One layer with a window of 16: a target's 4 bytes see 19 tokens back.
  std::string other = text;
  for (int64_t end : {64, 548, 1032, 1516, 2000}) {
    std::fill(other.begin() + end - 64, other.begin() + end - 21, '#');
  }
  const auto after = ReadText(model, other, options, Serial(), {});
  REQUIRE(after.ok());
  CHECK((*after)[2].bits.value == (*cut)[2].bits.value);
  other[2000 - 10] = '#';
  const auto near = ReadText(model, other, options, Serial(), {});
  REQUIRE(near.ok());
  CHECK((*near)[2].bits.value != (*cut)[2].bits.value);
  options.window = 0;
  CHECK(ReadText(model, text, options, Serial(), {})->at(2).bits.value !=
        (*cut)[2].bits.value);
}

TEST_CASE("intervals of means and shares") {
  CHECK(Mean({}) == 0);
  CHECK(Mean(std::vector<double>{1, 2, 6}) == 3);
  const Interval95 point = Bootstrap(std::vector<double>{4});
  CHECK((point.low == 4 && point.value == 4 && point.high == 4));
  const Interval95 equal = Bootstrap(std::vector<double>(9, 2.5));
  CHECK((equal.low == 2.5 && equal.high == 2.5));
  // 100 samples of sd 1: the mean's interval is close to 1.96 / sqrt(100).
  std::vector<double> samples;
  for (int i = 0; i < 100; ++i) samples.push_back(i % 2 ? 1 : -1);
  const Interval95 many = Bootstrap(samples);
  CHECK(many.value == 0);
  CHECK(many.low == doctest::Approx(-0.196).epsilon(0.15));
  CHECK(many.high == doctest::Approx(0.196).epsilon(0.15));
  CHECK(Bootstrap(samples).low == many.low);
  // Wilson's interval for 8 of 10 and for none of 10, as textbooks have it.
  const Interval95 eight = Wilson(8, 10), none = Wilson(0, 10),
                   all = Wilson(10, 10), nothing = Wilson(0, 0);
  CHECK(eight.value == 0.8);
  CHECK(eight.low == doctest::Approx(0.4902).epsilon(1e-3));
  CHECK(eight.high == doctest::Approx(0.9433).epsilon(1e-3));
  CHECK(none.low == 0);
  CHECK(none.high == doctest::Approx(0.2775).epsilon(1e-3));
  CHECK(all.low == doctest::Approx(1 - 0.2775).epsilon(1e-3));
  CHECK(all.high == 1);
  CHECK((nothing.low == 0 && nothing.high == 1));
}

TEST_CASE("anchors, by hand") {
  // "aab" has 2 of 3 a's, 2 symbols; Witten-Bell: (2 + 2/256) / (3 + 2). After
  // an "a": once a, once b, 2 symbols.
  const double p0 = (2 + 2.0 / 256) / 5;
  const double p1 = (1 + 2 * p0) / 4;
  const auto bits = NgramBits("aab", "aa", 1);
  REQUIRE(bits.size() == 2);
  CHECK(bits[0] == doctest::Approx(-std::log2(p0)));
  CHECK(bits[1] == doctest::Approx(-(std::log2(p0) + std::log2(p1)) / 2));
  // What was seen before is cheap, noise costs log2(26) bits.
  const std::string text = Noise(5000, 1), other = Noise(5000, 2);
  CHECK(NgramBits(text, text, 4)[4] < 1.5);
  CHECK(NgramBits(text, other, 0)[0] == doctest::Approx(4.7).epsilon(0.01));
  CHECK(XzBits(text, text) < 0.2);
  CHECK(XzBits(text, other) == doctest::Approx(5).epsilon(0.1));
}

TEST_CASE("claims follow the records") {
  LearnOptions o;
  o.roles["rope"] = {"some+rope"};
  const auto record = [](const char* change, int64_t len, double bits) {
    return nlohmann::json{{"kind", "extrapolation"},  {"status", "ok"},
                          {"variant", "some+rope"},   {"switch", change},
                          {"protocol", "nonoverlap"}, {"eval_len", len},
                          {"bits_per_byte", bits}};
  };
  const auto verdict = [&](double far, double cut, int number) {
    std::vector<nlohmann::json> records = {record("plain", 128, 2.5),
                                           record("plain", 2048, far),
                                           record("window", 2048, cut)};
    // Of another training, which no claim is about.
    records.push_back(record("plain", 2048, 2.9));
    records.back()["match"] = "flops";
    for (const auto& claim : JudgeClaims(o, records)) {
      if (claim["number"] == number) return claim["verdict"].dump();
    }
    return std::string("none");
  };
  CHECK(verdict(3.01, 2.5, 2) == "\"pass\"");
  CHECK(verdict(2.99, 2.5, 2) == "\"fail\"");
  CHECK(verdict(3.01, 2.505, 3) == "\"pass\"");
  CHECK(verdict(3.01, 2.52, 3) == "\"fail\"");
  CHECK(verdict(3.01, 2.5, 1) == "\"not run\"");
  CHECK(JudgeClaims(o, {}).size() == 15);
}

nlohmann::json ClaimOf(const LearnOptions& o,
                       const std::vector<nlohmann::json>& records, int number) {
  for (const auto& claim : JudgeClaims(o, records)) {
    if (claim["number"] == number) return claim;
  }
  FAIL("no claim " << number);
  return {};
}

TEST_CASE("claims pair seeds, and show the interval") {
  LearnOptions o;
  o.roles["rope"] = {"some+rope"};
  std::vector<nlohmann::json> records;
  for (const auto& [seed, near, far] :
       {std::tuple(1, 2.5, 3.1), std::tuple(2, 2.6, 3.22),
        std::tuple(3, 9.0, -1.0)}) {
    for (const int64_t len : {128, 2048}) {
      if (seed == 3 && len == 2048) continue;  // was never read that far
      records.push_back({{"kind", "extrapolation"},
                         {"status", "ok"},
                         {"variant", "some+rope"},
                         {"switch", "plain"},
                         {"protocol", "nonoverlap"},
                         {"seed", seed},
                         {"eval_len", len},
                         {"bits_per_byte", len == 128 ? near : far}});
    }
  }
  // .60 and .62: 12.706 * .01.
  const auto claim = ClaimOf(o, records, 2);
  CHECK(claim["measured"] == "some+rope: +0.610 ± 0.127 bit at 16x");
  CHECK(claim["verdict"] == "pass");
}

TEST_CASE("claims on weights follow the lenses' records") {
  LearnOptions o;
  o.roles["softmax"] = {"a.softmax+rope"};
  o.roles["linear"] = {"a.linear"};
  o.roles["gau"] = {"a.gau:n=128+rope"};
  std::vector<nlohmann::json> records;
  const auto add = [&](const char* spec, const char* lens, const char* subject,
                       double value) {
    records.push_back({{"kind", "lens"},
                       {"status", "ok"},
                       {"variant", spec},
                       {"lens", lens},
                       {"subject", subject},
                       {"seed", 1},
                       {"value", value}});
  };
  CHECK(ClaimOf(o, records, 5)["verdict"] == "not run");
  CHECK(ClaimOf(o, records, 5)["measured"] ==
        "not run: no record of this run bears on it");
  // By itself a variant is known by its name.
  add("a.softmax", "sparsity", "inputs", 0.61);
  add("a.linear", "sparsity", "inputs", 0.99);
  add("a.gau", "sparsity", "inputs", 0.41);
  CHECK(ClaimOf(o, records, 5)["verdict"] == "pass");
  add("a.softmax+rope", "sparsity", "trained", 0.7);
  add("a.linear", "sparsity", "trained", 0.6);
  CHECK(ClaimOf(o, records, 5)["verdict"] == "fail");
  add("a.softmax", "entropy slope", "inputs", 0.97);
  CHECK(ClaimOf(o, records, 6)["verdict"] == "pass");
  add("a.softmax", "noise slope", "inputs", -0.5);
  add("a.softmax", "noise bias", "inputs", 0.0);
  CHECK(ClaimOf(o, records, 7)["verdict"] == "pass");
  add("a.gau", "noise bias", "inputs", 0.01);
  CHECK(ClaimOf(o, records, 7)["verdict"] == "fail");
  add("a.gau:n=128+rope", "attention branch", "fresh", 0.04);
  add("a.softmax+rope", "attention branch", "fresh", 0.2);
  add("a.softmax+rope", "mlp branch", "fresh", 0.5);
  CHECK(ClaimOf(o, records, 8)["verdict"] == "pass");
  // Text is shown beside it and decides nothing.
  add("a.gau:n=128+rope", "attention branch, on text", "fresh", 0.4);
  CHECK(ClaimOf(o, records, 8)["verdict"] == "pass");
  CHECK(ClaimOf(o, records, 8)["measured"].dump().find("on text 0.400") !=
        std::string::npos);
}

TEST_CASE("recall is judged where pairs are most, if softmax learned it") {
  LearnOptions o;
  o.roles["softmax"] = {"a.softmax"};
  o.roles["linear"] = {"a.linear"};
  const auto verdict = [&](double softmax, double linear) {
    std::vector<nlohmann::json> records;
    for (const int64_t pairs : {4, 14}) {
      for (const bool first : {true, false}) {
        records.push_back({{"kind", "probe"},
                           {"status", "ok"},
                           {"variant", first ? "a.softmax" : "a.linear"},
                           {"probe", "mqar"},
                           {"switch", "plain"},
                           {"eval_len", 64},
                           {"seed", 1},
                           {"bucket", pairs},
                           {"accuracy", pairs == 4 ? 1
                                        : first    ? softmax
                                                   : linear}});
      }
    }
    return ClaimOf(o, records, 9)["verdict"].get<std::string>();
  };
  CHECK(verdict(1.0, 0.59) == "pass");
  CHECK(verdict(1.0, 0.8) == "fail");
  CHECK(verdict(0.4, 0.1) == "not run");
}

TEST_CASE("a GAU's branch is larger where bytes repeat") {
  // Its claim is about inputs without repeats, so those are what is measured.
  Result<Model> model = Model::Make({.spec = "gated.gau:n=64",
                                     .width = 64,
                                     .layers = 1,
                                     .heads = 1,
                                     .symbols = 257,
                                     .train_len = 64});
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  model->parameters().Start(1);
  std::map<std::string, double> seen;
  const auto look = [&](const std::string& text) {
    seen.clear();
    return LookAtStart(*model, text, 1, Serial(), [&](const auto& r) {
      CHECK(r["subject"] == "fresh");
      seen[r["lens"]] = r["value"];
      return Status();
    });
  };
  REQUIRE(look(std::string(2000, 'e')).ok());
  CHECK(seen.size() == 2);
  CHECK(seen["attention branch"] > 0);
  CHECK(seen["attention branch"] < 0.1);
  CHECK(seen["attention branch, on text"] > 4 * seen["attention branch"]);
  // Of a text shorter than a sequence there is nothing to draw.
  REQUIRE(look("e").ok());
  CHECK(seen.size() == 1);
}

TEST_CASE("readings do not depend on the number of threads") {
  const Model model = MakeModel("softmax.flash+rope", 257, 16);
  const std::string text = Noise(2000, 1);
  ReadOptions options = kReading;
  options.multiple = 4;
  const auto read = [&](Exec& exec) {
    std::vector<double> bits;
    const auto readings = ReadText(model, text, options, exec, {});
    REQUIRE(readings.ok());
    for (const TextReading& r : *readings) {
      for (const double x : {r.bits.low, r.bits.value, r.bits.high}) {
        bits.push_back(x);
      }
    }
    return bits;
  };
  const std::unique_ptr<Exec> pool = MakeTbbExec(2);
  CHECK(read(Serial()) == read(*pool));
}

TEST_CASE("only what a chosen protocol needs is read") {
  ReadOptions options = kReading;
  options.multiple = 4;
  const auto read = [&](const std::vector<std::string>& names) {
    const auto chosen = FindProtocols(names);
    REQUIRE_MESSAGE(chosen.ok(), chosen.status().message());
    options.protocols = *chosen;
    int64_t tokens = 0;
    const auto readings = ReadBy(
        [&](std::span<const int64_t> begins,
            int64_t len) -> Result<std::vector<double>> {
          tokens += std::ssize(begins) * len;
          return std::vector<double>(begins.size() * len, 1);
        },
        1000, options);
    REQUIRE(readings.ok());
    CHECK(tokens == ReadTokens(1000, options));
    std::set<std::string> said;
    for (const TextReading& r : *readings) said.emplace(r.protocol);
    CHECK(said.size() == chosen->size());
    return tokens;
  };
  const int64_t all = read({"all"}), separate = read({"nonoverlap"});
  CHECK(read({"tail", "nonoverlap", "tail"}) == separate);
  CHECK(read({"sliding"}) + read({"same-target"}) + separate == all);
  CHECK(FindProtocols({"tial"}).status().message() ==
        "there is no protocol 'tial', did you mean tail?");
}

TEST_CASE("settings of training are read, and refused by name") {
  using nlohmann::json;
  const auto read = LearnOptionsFrom(json::parse(
      R"({"learn": ["a", "b"], "flop_matched": ["b"], "learn_settings": {"steps": 7, "warmup": 0, "rate": 0.001,
          "multiples": [1, 3], "seeds": [4, 5], "probe_effort": 2},
          "probes": ["mqar"], "switches": ["plain", "yarn"],
          "protocols": ["tail"]})"));
  REQUIRE(read.ok());
  CHECK(read->specs == std::vector<std::string>{"a", "b"});
  CHECK(read->flop_matched == std::vector<std::string>{"b"});
  CHECK(read->steps == 7);
  CHECK(read->warmup == 0);
  for (const Job& job : JobsOf(*read)) {
    CHECK(job.training.optimiser.warmup == (job.probe ? 50 : 0));
  }
  CHECK(read->rate == 0.001);
  CHECK(read->multiples == std::vector<int64_t>{1, 3});
  CHECK(read->seeds == std::vector<uint64_t>{4, 5});
  CHECK(read->probe_effort == 2);
  REQUIRE(read->switches.size() == 2);
  CHECK(read->switches[1]->name == "yarn");
  REQUIRE(read->protocols.size() == 1);
  CHECK(read->protocols[0]->name == "tail");
  REQUIRE(read->probes.size() == 1);
  CHECK(read->probes[0]->name == "mqar");
  CHECK(read->width == LearnOptions().width);
  for (const char* bad :
       {R"([])", R"({"learn": "a"})", R"({"learn": [1]})",
        R"({"learn_settings": 1})", R"({"learn_settings": {"stops": 7}})",
        R"({"learn_settings": {"steps": 0}})",
        R"({"learn_settings": {"steps": 1.5}})",
        R"({"learn_settings": {"rate": "fast"}})",
        R"({"learn_settings": {"multiples": []}})",
        R"({"learn_settings": {"multiples": [2000]}})", R"({"probes": "mqar"})",
        R"({"probes": []})", R"({"switches": []})", R"({"switches": "plain"})",
        R"({"protocols": []})", R"({"claims": {"rope": 1}})"}) {
    CAPTURE(bad);
    const auto refused = LearnOptionsFrom(json::parse(bad));
    CHECK(refused.status().code() == Code::kInvalid);
  }
}

}  // namespace
}  // namespace saccade::bench
