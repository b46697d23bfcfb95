// Changes at test time: which a model allows, and what they change.
#include "bench/learn/switches.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bench/learn/model.h"
#include "position.h"

namespace saccade::bench {
namespace {

Model MakeModel(const std::string& spec) {
  Result<Model> model = Model::Make({.spec = spec,
                                     .width = 32,
                                     .layers = 1,
                                     .heads = 2,
                                     .symbols = 257,
                                     .train_len = 32});
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(*model);
}

const Switch& Named(const std::string& name) {
  const auto found = FindSwitches({name});
  REQUIRE(found.ok());
  return *found->front();
}

std::string AllowedBy(const std::string& spec) {
  std::vector<const Switch*> all;
  for (const Switch& s : Switches()) all.push_back(&s);
  std::string names;
  for (const Switch* s : Allowed(MakeModel(spec), all)) {
    names += std::string(s->name) + " ";
  }
  return names;
}

TEST_CASE("a model is read under what it allows, and no more") {
  CHECK(AllowedBy("softmax.flash+rope") ==
        "plain window logn pi ntk yarn rerope ");
  CHECK(AllowedBy("softmax.flash") == "plain window logn ");
  CHECK(AllowedBy("softmax.alibi") == "plain window logn ");
  CHECK(AllowedBy("linear.elu") == "plain ");
}

TEST_CASE("switches change what they say and leave the rest") {
  const Model model = MakeModel("softmax.flash+rope:base=500");
  const auto at = [&](const std::string& name, int64_t multiple) {
    const Result<Changes> changes = Named(name).at(model, multiple);
    REQUIRE_MESSAGE(changes.ok(), changes.status().message());
    return *changes;
  };
  CHECK((at("plain", 8).window == 0 && !at("plain", 8).positions));
  CHECK((at("window", 8).window == 32 && !at("window", 8).positions));
  const auto logn = *at("logn", 8).positions;
  CHECK(logn.size() == 2);
  CHECK(FindIn(logn, "logn")->knobs.Number("length") == 32);
  CHECK(FindIn(logn, "rope")->knobs.Number("base") == 500);
  for (const char* name : {"pi", "ntk", "yarn"}) {
    const auto scaled = *at(name, 8).positions;
    REQUIRE(scaled.size() == 1);
    CHECK(scaled[0].knobs.Number("base") == 500);
    CHECK(scaled[0].knobs.Number("factor") == 8);
    CHECK(scaled[0].knobs.Text("scaling") == name);
    CHECK(ToText(*at(name, 1).positions) == ToText(model.spec().positions));
  }
  CHECK(at("yarn", 8).positions->front().knobs.Number("length") == 32);
  const auto held = *at("rerope", 8).positions;
  REQUIRE(held.size() == 1);
  CHECK(held[0].name == "rerope");
  CHECK(held[0].knobs.Number("base") == 500);
  CHECK(held[0].knobs.Number("window") == 16);
}

TEST_CASE("switches are found by name, each once") {
  const auto two = FindSwitches({"yarn", "plain", "yarn"});
  REQUIRE(two.ok());
  REQUIRE(two->size() == 2);
  CHECK(two->front()->name == "yarn");
  const auto unknown = FindSwitches({"yarm"});
  CHECK(unknown.status().code() == Code::kNotFound);
  CHECK(unknown.status().message() ==
        "there is no switch 'yarm', did you mean yarn?");
  CHECK(FindSwitches({}).status().code() == Code::kInvalid);
}

}  // namespace
}  // namespace saccade::bench
