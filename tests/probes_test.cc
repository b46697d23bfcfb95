// Probes: that their sequences ask what they say and nothing easier, that
// readings count what was asked, and that theory is foretold from what a
// variant does.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bench/learn/probing.h"
#include "bench/learn/sight.h"
#include "bench/probes/probe.h"

namespace saccade::bench {
namespace {

const Probe& Named(std::string_view name) {
  const auto probe = FindProbe(name);
  REQUIRE(probe.ok());
  return **probe;
}

Sample Make(const Probe& probe, Random& random, const SampleShape& shape) {
  Sample sample;
  const Status status = Draw(probe, random, shape, &sample);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return sample;
}

// What training draws, and what is read at the longest length.
std::vector<SampleShape> ShapesOf(const Probe& probe) {
  return {{probe.train_len(), true}, {probe.lengths.back(), false}};
}

TEST_CASE("every probe says what it is") {
  std::set<std::string_view> names;
  for (const Probe* probe : Probes()) {
    INFO(probe->name);
    CHECK(names.insert(probe->name).second);
    for (const auto text :
         {probe->title, probe->source, probe->expectation, probe->bucket}) {
      CHECK(text.size() > 5);
    }
    CHECK((probe->chance > 0 && probe->chance < 1));
    CHECK(std::is_sorted(probe->lengths.begin(), probe->lengths.end()));
    CHECK(probe->model_width % probe->heads == 0);
    Random random(1, "short");
    Sample sample;
    CHECK(!Draw(*probe, random, {probe->train_len() - 1, true}, &sample).ok());
  }
}

TEST_CASE("probes are found by name, or the nearest is told") {
  CHECK(FindProbes({"all", "mqar"})->size() == Probes().size());
  CHECK(FindProbes({"mqar", "induction", "mqar"})->size() == 2);
  CHECK(!FindProbes({}).ok());
  const auto wrong = FindProbe("mqra");
  CHECK(wrong.status().code() == Code::kNotFound);
  CHECK(wrong.status().message().find("did you mean mqar?") !=
        std::string::npos);
}

TEST_CASE("marks stand in the text, in order, behind their sources") {
  for (const Probe* probe : Probes()) {
    INFO(probe->name);
    Random random(1, "marks");
    for (const SampleShape& shape : ShapesOf(*probe)) {
      for (int n = 0; n < 50; ++n) {
        const Sample s = Make(*probe, random, shape);
        REQUIRE(std::ssize(s.text) == shape.len);
        REQUIRE(!s.marks.empty());
        for (const int32_t symbol : s.text) {
          CHECK((symbol >= 0 && symbol < probe->symbols));
        }
        CHECK(s.marks.front().answer == 0);
        for (size_t i = 0; i < s.marks.size(); ++i) {
          const Mark& m = s.marks[i];
          CHECK((m.source >= 0 && m.source < m.at && m.at < shape.len));
          CHECK(m.bucket >= 0);
          if (i == 0) continue;
          CHECK(m.at > s.marks[i - 1].at);
          const int64_t step = m.answer - s.marks[i - 1].answer;
          CHECK((step == 0 || step == 1));
        }
      }
    }
  }
}

TEST_CASE(
    "the best constant answer is right as often as chance is said to be") {
  for (const Probe* probe : Probes()) {
    INFO(probe->name);
    for (const SampleShape& shape : ShapesOf(*probe)) {
      Random random(2, "constant");
      std::vector<int64_t> count(probe->symbols);
      int64_t asked = 0;
      const int sequences = shape.train ? 4000 : 400;
      int64_t most = 0;  // marks of a sequence, which may go together
      for (int n = 0; n < sequences; ++n) {
        const Sample s = Make(*probe, random, shape);
        most = std::max(most, std::ssize(s.marks));
        for (const Mark& m : s.marks) ++count[s.text[m.at]], ++asked;
      }
      const double best =
          static_cast<double>(*std::max_element(count.begin(), count.end())) /
          static_cast<double>(asked);
      const double spread =
          std::sqrt(probe->chance / static_cast<double>(asked));
      CHECK(best >= probe->chance - spread);
      // The best of many symbols is above its mean.
      CHECK(best <= probe->chance + 6 * spread);
    }
  }
}

TEST_CASE("no place a fixed way back holds the answers") {
  for (const Probe* probe : Probes()) {
    INFO(probe->name);
    const SampleShape shape = {probe->train_len(), true};
    Random random(3, "offset");
    std::vector<int64_t> right(shape.len);
    int64_t asked = 0;
    for (int n = 0; n < 1000; ++n) {
      const Sample s = Make(*probe, random, shape);
      for (const Mark& m : s.marks) {
        ++asked;
        for (int64_t back = 1; back <= m.at; ++back) {
          right[back] += s.text[m.at - back] == s.text[m.at];
        }
      }
    }
    const double best =
        static_cast<double>(*std::max_element(right.begin(), right.end())) /
        static_cast<double>(asked);
    CHECK(best < 0.2 + 0.8 * probe->chance);
  }
}

TEST_CASE("probes repeat by seed and step") {
  for (const Probe* probe : Probes()) {
    INFO(probe->name);
    const int64_t len = probe->train_len();
    std::vector<std::vector<int32_t>> seen;
    for (const auto& [seed, step] : {std::pair(1, 0), {1, 0}, {1, 1}, {2, 0}}) {
      std::vector<int32_t> tokens(8 * len), targets(8 * len);
      ProbeBatches(*probe, seed)(step, tokens, targets);
      for (int64_t i = 0; i < 8 * len; ++i) {
        CHECK((tokens[i] == probe->symbols) == (i % len == 0));
        // What is asked for is read next.
        if (targets[i] >= 0 && (i + 1) % len != 0) {
          CHECK(tokens[i + 1] == targets[i]);
        }
      }
      CHECK(std::count_if(targets.begin(), targets.end(),
                          [](int32_t t) { return t >= 0; }) >= 8);
      seen.push_back(tokens);
    }
    CHECK(seen[0] == seen[1]);
    CHECK(seen[0] != seen[2]);
    CHECK(seen[0] != seen[3]);
  }
}

TEST_CASE("induction asks how second copies of blocks go on") {
  const Probe& probe = Named("induction");
  constexpr int32_t kFillers = 16, kNames = 48, kBlocks = 4, kTokens = 4;
  Random random(1, "induction");
  std::set<int64_t> distances;
  int64_t asked = 0, usual = 0;
  for (int n = 0; n < 1000; ++n) {
    const Sample s = Make(probe, random, {n % 2 ? 64 : 300, true});
    CHECK(s.marks.size() == kBlocks * (kTokens - 1));
    std::map<int32_t, int> names;
    for (const int32_t symbol : s.text) names[symbol] += symbol >= kFillers;
    std::erase_if(names, [](const auto& name) { return name.second == 0; });
    CHECK(names.size() == kBlocks * kTokens);
    for (const auto& [name, count] : names) CHECK(count == 2);
    for (const Mark& m : s.marks) {
      const int64_t distance = m.at - m.source;
      // The symbol before stood before the source too.
      CHECK(s.text[m.at] == s.text[m.source]);
      CHECK(s.text[m.at - 1] == s.text[m.source - 1]);
      CHECK(distance >= kTokens);
      CHECK((m.bucket <= distance && distance < 2 * m.bucket));
      distances.insert(distance);
      ++asked;
      usual += s.text[m.at] == s.text[m.at - 1] + 1;
    }
  }
  CHECK(distances.size() > 200);
  // A fixed map from name to name is right one time in 48.
  const double share = 1.0 / kNames;
  CHECK(std::abs(static_cast<double>(usual) / static_cast<double>(asked) -
                 share) < 5 * std::sqrt(share / static_cast<double>(asked)));
}

TEST_CASE("mqar asks each key once, keys and values all different") {
  const Probe& probe = Named("mqar");
  Random random(1, "mqar");
  for (const int64_t len : {64, 128, 512}) {
    std::map<int64_t, int> pairs;
    for (int n = 0; n < 500; ++n) {
      const Sample s = Make(probe, random, {len, true});
      const auto count = std::ssize(s.marks);
      ++pairs[count];
      std::set<int32_t> keys, values;
      for (const Mark& m : s.marks) {
        CHECK(m.bucket == count);
        CHECK(s.text[m.at - 1] == s.text[m.source - 1]);
        CHECK(s.text[m.at] == s.text[m.source]);
        CHECK(m.source < 2 * count);
        CHECK(m.at > 2 * count);
        keys.insert(s.text[m.at - 1]);
        values.insert(s.text[m.at]);
      }
      CHECK(std::ssize(keys) == count);
      CHECK(std::ssize(values) == count);
      CHECK((*keys.rbegin() < 32 && *values.begin() >= 32));
      CHECK(*values.rbegin() < 64);
      CHECK(std::count(s.text.begin(), s.text.end(), 64) == len - 4 * count);
    }
    CHECK(pairs.size() == (len < 128 ? 3 : 4));
  }
}

TEST_CASE("mqar's gaps follow their law") {
  // The first pair's query is drawn first, so its place g among the S free ones
  // has p(g) = g^-.99 / sum exactly; chi-squared against that, places pooled.
  const Probe& probe = Named("mqar");
  Random random(2, "mqar");
  constexpr int64_t kLen = 256, kPairs = 8, kFree = kLen / 2 - kPairs;
  double sum = 0;
  for (int64_t g = 1; g <= kFree; ++g) sum += std::pow(g, -0.99);
  std::map<int64_t, double> expected, found;  // by the power of two below g
  const auto pool = [](int64_t g) {
    return static_cast<int64_t>(std::log2(g));
  };
  for (int64_t g = 1; g <= kFree; ++g) {
    expected[pool(g)] += std::pow(g, -0.99) / sum;
  }
  int64_t drawn = 0;
  while (drawn < 4000) {
    const Sample s = Make(probe, random, {kLen, true});
    if (std::ssize(s.marks) != kPairs) continue;
    ++drawn;
    for (const Mark& m : s.marks) {
      if (m.source != 1) continue;
      found[pool((m.at - 1) / 2 - kPairs + 1)] += 1;
    }
  }
  double chi = 0;
  for (const auto& [place, p] : expected) {
    const double wanted = p * static_cast<double>(drawn);
    chi += (found[place] - wanted) * (found[place] - wanted) / wanted;
  }
  CHECK(expected.size() == 7);
  CHECK(chi < 22.5);  // one time in a thousand by chance, 6 degrees of freedom
}

// The question's symbols up to `end`, and what is asked for behind it.
struct Asked {
  std::vector<int32_t> question, answer;
  std::vector<int64_t> sources;
};
Asked Apart(const Sample& s) {
  Asked asked;
  asked.question.assign(s.text.begin(), s.text.begin() + s.marks.front().at);
  for (const Mark& m : s.marks) {
    CHECK(m.at == s.marks.front().at + std::ssize(asked.answer));
    CHECK(m.answer == 0);
    asked.answer.push_back(s.text[m.at]);
    asked.sources.push_back(m.source);
  }
  return asked;
}

// Training mixes sizes up to the longest; a test has the longest only.
template <class Check>
void ForAsked(const char* name, size_t longest, const Check& check) {
  const Probe& probe = Named(name);
  Random random(1, name);
  std::set<size_t> sizes;
  for (int n = 0; n < 300; ++n) {
    const Sample s = Make(probe, random, {probe.train_len(), true});
    const Asked asked = Apart(s);
    sizes.insert(asked.answer.size());
    check(asked, s);
  }
  CHECK(*sizes.rbegin() == longest);
  const Sample s = Make(probe, random, {probe.lengths.back(), false});
  const Asked asked = Apart(s);
  CHECK(std::ssize(s.text) - s.marks.back().at <= 3);
  check(asked, s);
}

TEST_CASE("passkey hides five digits at any depth") {
  std::set<int64_t> tenths;
  ForAsked("passkey", 5, [&](const Asked& a, const Sample& s) {
    CHECK(std::count(a.question.begin(), a.question.end(), 26) == 1);
    CHECK(a.question.back() == 27);
    CHECK(a.question[a.sources[0] - 1] == 26);
    for (int i = 0; i < 5; ++i) {
      CHECK(a.answer[i] < 10);
      CHECK(a.sources[i] == a.sources[0] + i);
      CHECK(a.question[a.sources[i]] == a.answer[i]);
    }
    // No digit but those of the key.
    CHECK(std::count_if(a.question.begin(), a.question.end(),
                        [](int32_t x) { return x < 10; }) == 5);
    tenths.insert(s.marks[0].bucket);
  });
  CHECK(tenths == std::set<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("selective copy asks for all data in their order") {
  ForAsked("selective-copy", 16, [](const Asked& a, const Sample&) {
    std::vector<int32_t> data(a.question);
    CHECK(data.back() == 17);
    std::erase_if(data, [](int32_t symbol) { return symbol >= 16; });
    CHECK(data == a.answer);
    for (int i = 0; i < 16; ++i) CHECK(a.question[a.sources[i]] == a.answer[i]);
  });
}

TEST_CASE("copy, reverse and sort ask for the list in three orders") {
  for (const char* name : {"copy", "reverse", "sort"}) {
    INFO(name);
    ForAsked(name, 20, [&](const Asked& a, const Sample&) {
      std::vector<int32_t> list(a.question.begin(), a.question.end() - 1);
      for (size_t i = 0; i < list.size(); ++i) {
        CHECK(list[a.sources[i]] == a.answer[i]);
      }
      const std::string order = name;
      if (order == "reverse") std::reverse(list.begin(), list.end());
      if (order == "sort") std::sort(list.begin(), list.end());
      CHECK(list == a.answer);
      if (order != "sort") return;
      CHECK(std::set<int32_t>(list.begin(), list.end()).size() == list.size());
    });
  }
}

TEST_CASE("alignment has one word for an item, and three rules") {
  std::map<int32_t, std::set<int32_t>> words, seconds;  // by item
  std::set<int64_t> rules;
  ForAsked("alignment", 24, [&](const Asked& a, const Sample& s) {
    const int64_t rule = s.marks[0].bucket, n = std::ssize(a.question) - 1;
    rules.insert(rule);
    CHECK(a.question.back() == 32 + rule);
    CHECK(std::ssize(a.answer) == (rule == 2 ? 2 * n : n));
    for (int64_t i = 0; i < std::ssize(a.answer); ++i) {
      const int64_t from = rule == 2   ? i / 2
                           : rule == 1 ? i + 1 - i % 2 * 2
                                       : i;
      CHECK(a.sources[i] == from);
      const bool second = rule == 2 && i % 2 == 1;
      (second ? seconds : words)[a.question[from]].insert(a.answer[i]);
    }
  });
  CHECK(rules.size() == 3);
  for (const auto& dictionary : {words, seconds}) {
    CHECK(dictionary.size() == 16);
    std::set<int32_t> all;
    for (const auto& [item, of_it] : dictionary) {
      CHECK(of_it.size() == 1);
      all.insert(*of_it.begin());
    }
    CHECK(all.size() == 16);
    CHECK((*all.begin() >= 16 && *all.rbegin() < 32));
  }
}

TEST_CASE("addition adds") {
  ForAsked("addition", 5, [](const Asked& a, const Sample&) {
    const size_t n = a.answer.size();
    CHECK(a.question[n] == 10);
    CHECK(a.question.back() == 11);
    // By schoolbook from the other end: numbers of up to 15 digits.
    int64_t numbers[3] = {0, 0, 0}, power = 1;
    for (size_t i = 0; i < n; ++i, power *= 10) {
      numbers[0] += power * a.question[i];
      numbers[1] += power * a.question[n + 1 + i];
      numbers[2] += power * a.answer[i];
    }
    CHECK((numbers[0] + numbers[1]) % power == numbers[2]);
  });
}

TEST_CASE("parity counts the ones") {
  ForAsked("parity", 1, [](const Asked& a, const Sample&) {
    CHECK(a.question.back() == 2);
    CHECK(a.answer[0] ==
          std::count(a.question.begin(), a.question.end(), 1) % 2);
  });
}

Model ProbingModel(const Probe& probe, const std::string& spec) {
  Result<Model> model = Model::Make(ProbeModel(probe, spec));
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  model->parameters().Start(1);
  return std::move(*model);
}

TEST_CASE("sight is what the variant's pattern says, through all layers") {
  const Probe& probe = Named("induction");
  constexpr int64_t kLen = 100;
  // Two layers of windows of 8: 14 back, and no farther.
  const auto window = Sight::Of(
      ProbingModel(probe, "softmax.window:size=8+rope"), kLen, Serial());
  REQUIRE(window.ok());
  CHECK(!window->all());
  for (int64_t i = 0; i < kLen; ++i) {
    for (int64_t j = 0; j < kLen; ++j) {
      if (window->Joins(j, i) != (j <= i && i - j <= 14)) {
        FAIL_CHECK(i << " sees " << j);
      }
    }
  }
  // Sinks are always seen, and so is what they saw.
  const auto sinks = Sight::Of(
      ProbingModel(probe, "softmax.window:size=8,sinks=2"), kLen, Serial());
  REQUIRE(sinks.ok());
  CHECK(sinks->Joins(1, 99));
  CHECK(!sinks->Joins(2, 99));
  for (const char* spec : {"softmax.flash+rope", "softmax.alibi", "linear.elu",
                           "gated.gau", "sparse.strided:stride=8"}) {
    INFO(spec);
    const auto sight = Sight::Of(ProbingModel(probe, spec), kLen, Serial());
    REQUIRE(sight.ok());
    CHECK(sight->all());
    CHECK(sight->Joins(0, 99));
    CHECK(!sight->Joins(99, 0));
  }
}

TEST_CASE("a model that shifts joins what stands one before") {
  ModelOptions options =
      ProbeModel(Named("induction"), "softmax.window:size=8");
  const auto reach = [&](bool shift) {
    options.shift = shift;
    const Result<Model> model = Model::Make(options);
    REQUIRE(model.ok());
    const auto sight = Sight::Of(*model, 150, Serial());
    REQUIRE(sight.ok());
    int64_t first = 140;
    while (sight->Joins(first - 1, 140)) --first;
    return 140 - first;
  };
  CHECK(reach(false) == 14);  // two layers of 7
  CHECK(reach(true) == 15);
}

TEST_CASE("a state of one size is told by the plan") {
  const Probe& probe = Named("mqar");
  const auto fixed = [&](const char* spec) {
    const auto known = HasFixedState(ProbingModel(probe, spec), 512);
    REQUIRE(known.ok());
    return *known;
  };
  CHECK(fixed("linear.elu"));
  CHECK(fixed("softmax.window:size=32"));
  CHECK(!fixed("softmax.flash"));
}

TEST_CASE("a probe reading counts every answer once") {
  const Probe& probe = Named("induction");
  const Model model = ProbingModel(probe, "softmax.flash");
  int64_t tokens = 0;
  const auto reading = ReadProbe(probe, model, {.len = 96, .sequences = 50},
                                 Serial(), [&](int64_t n) {
                                   tokens += n;
                                   return true;
                                 });
  REQUIRE(reading.ok());
  CHECK(tokens == 96 * 50);
  CHECK(reading->tokens.asked == 50 * 12);
  CHECK(reading->tokens.in_sight == 50 * 12);
  REQUIRE(reading->answers);
  CHECK(reading->answers->asked == 50 * 4);
  CHECK(3 * reading->answers->right <= reading->tokens.right);
  int64_t asked = 0, right = 0;
  for (const auto& [bucket, score] : reading->buckets) {
    asked += score.asked, right += score.right;
  }
  CHECK(asked == reading->tokens.asked);
  CHECK(right == reading->tokens.right);
  // Not trained: chance is 1 in 48 at best.
  CHECK(right < 50);
  CHECK(!ReadProbe(probe, model, {.len = 31}, Serial(), {}).ok());
  // One token to an answer: there are no others to count.
  const Probe& mqar = Named("mqar");
  const auto single = ReadProbe(mqar, ProbingModel(mqar, "softmax.flash"),
                                {.len = 64, .sequences = 20}, Serial(), {});
  REQUIRE(single.ok());
  CHECK(!single->answers);
  CHECK(single->buckets.size() == 3);
  // Fewer sequences at great lengths, never fewer than 16.
  CHECK(SequencesAt(64, 64, 128) == 128);
  CHECK(SequencesAt(512, 64, 128) == 64);
  CHECK(SequencesAt(65536, 64, 128) == 16);
  CHECK(SequencesAt(65536, 64, 8) == 8);
}

// Theory at a length for a variant that was not even trained.
Expectation Foretold(const char* probe, const char* spec, int64_t len) {
  const Probe& named = Named(probe);
  const auto reading = ReadProbe(named, ProbingModel(named, spec),
                                 {.len = len, .sequences = 40}, Serial(), {});
  REQUIRE_MESSAGE(reading.ok(), reading.status().message());
  return reading->tokens.expected;
}

TEST_CASE("theory goes by what is in sight, kept, and turned") {
  const auto near = Foretold("induction", "softmax.alibi", 64);
  CHECK(near.low == doctest::Approx(0.9));
  CHECK(near.high == 1);
  CHECK(Foretold("induction", "softmax.alibi", 1024).low ==
        doctest::Approx(0.8));
  const auto turned = Foretold("induction", "softmax.flash+rope", 1024);
  CHECK(turned.low == 0);
  CHECK(turned.high == doctest::Approx(0.6));
  CHECK(Foretold("induction", "linear.elu", 64).low == 0);
  // Two layers of 8 join pairs at most 15 apart: the shares are the sample's.
  const Probe& probe = Named("induction");
  const Model model = ProbingModel(probe, "softmax.window:size=8");
  const auto reading =
      ReadProbe(probe, model, {.len = 64, .sequences = 40}, Serial(), {});
  REQUIRE(reading.ok());
  Random random(1, "induction test 64");
  int64_t within = 0, asked = 0;
  for (int n = 0; n < 40; ++n) {
    for (const Mark& m : Make(probe, random, {64, false}).marks) {
      ++asked;
      within += m.at - m.source <= 15;
    }
  }
  CHECK(reading->tokens.in_sight == within);
  const double share = static_cast<double>(within) / static_cast<double>(asked);
  CHECK(share > 0.05);
  CHECK(reading->tokens.expected.high ==
        doctest::Approx(share + (1 - share) / 48));
  CHECK(reading->buckets.at(32).in_sight == 0);
  CHECK(reading->buckets.at(4).in_sight == reading->buckets.at(4).asked);
  // Parity is a coin to everybody; sums fail where they are three times as
  // long.
  CHECK(Foretold("parity", "linear.elu", 82).high == doctest::Approx(0.6));
  CHECK(Foretold("addition", "softmax.alibi", 17).low == doctest::Approx(0.9));
  CHECK(Foretold("addition", "softmax.alibi", 47).high == doctest::Approx(0.5));
  // 30 pairs are more than keys 16 wide can hold apart, 14 are not.
  const Probe& mqar = Named("mqar");
  const auto held = ReadProbe(mqar, ProbingModel(mqar, "linear.elu"),
                              {.len = 128, .sequences = 40}, Serial(), {});
  REQUIRE(held.ok());
  CHECK(held->buckets.at(14).expected.high == 1);
  CHECK(held->buckets.at(30).expected.high ==
        doctest::Approx(16.0 / 30 + 14.0 / 30 / 32));
}

}  // namespace
}  // namespace saccade::bench
