// The kernel authors' bench: that it measures what it says it does. How fast
// anything is, is not asked.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "simd/target.h"
#include "tests/folder.h"

namespace saccade {
namespace {

using nlohmann::json;

struct Answer {
  int code = -1;
  std::string out;
};

Answer Kernels(const std::string& arguments) {
  const std::string command =
      std::string("'") + SACCADE_KERNELS + "' " + arguments + " 2>&1";
  FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Answer answer;
  char some[4096];
  for (size_t n; (n = fread(some, 1, sizeof some, pipe)) > 0;)
    answer.out.append(some, n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) answer.code = WEXITSTATUS(status);
  return answer;
}

// As short as can be: every case runs, once or a few times.
constexpr const char* kBriefly = " --benchmark_min_time=0.0001";

struct Named {
  std::string pass, part, form, target;
};

Named Parse(const std::string& name) {
  std::istringstream in(name);
  Named n;
  std::getline(in, n.pass, '/');
  std::getline(in, n.form, '/');
  std::getline(in, n.target, '/');
  const size_t dot = n.pass.find('.');
  if (dot != std::string::npos) n.part = n.pass.substr(dot + 1);
  n.pass = n.pass.substr(0, dot);
  return n;
}

// Words of the last line that begins with `name`.
std::vector<double> NumbersOfLastRow(const std::string& text,
                                     const std::string& name) {
  const size_t at = text.rfind("\n" + name + " ");
  REQUIRE_MESSAGE(at != std::string::npos, name);
  std::istringstream line(text.substr(
      at + 1 + name.size(), text.find('\n', at + 1) - at - 1 - name.size()));
  std::vector<double> numbers;
  for (double x; line >> x;) numbers.push_back(x);
  return numbers;
}

// Those that multiply bf16 have no kernels of f32 of their own.
std::set<std::string> FloatTargets() {
  std::set<std::string> names;
  for (const std::string_view name : TargetNames()) {
    const ScopedTarget scope(name);
    if (!MultipliesBF16()) names.emplace(name);
  }
  return names;
}

TEST_CASE("the kernels' bench has sane counters for every pass and target") {
  const Folder folder;
  const std::string file = folder / "kernels.json";
  const Answer answer = Kernels(
      "--benchmark_filter='(/(causal|elu)/.*/d64/n(1024|4096)/f32"
      "|decode/heads/.*/d64/.*/f32)' --benchmark_out='" +
      file + "'" + kBriefly);
  INFO(answer.out);
  REQUIRE(answer.code == 0);

  std::set<std::string> passes, parts, targets;
  const json all = json::parse(std::ifstream(file));
  for (const json& run : all.at("benchmarks")) {
    const std::string name = run.at("name");
    CAPTURE(name);
    const Named named = Parse(name);
    passes.insert(named.pass);
    parts.insert(named.part);
    targets.insert(named.target);
    const auto counter = [&](const char* key) {
      CAPTURE(key);
      const double value = run.at(key);
      CHECK(std::isfinite(value));
      CHECK(value > 0);
      return value;
    };
    CHECK(counter("median") >= counter("fastest"));
    counter("rate");
    if (named.pass == "tile_decode") {
      counter("of_stream");
      continue;
    }
    CHECK(run.at("label").get<std::string>().ends_with("/s"));
    const double peak = counter("peak");
    if (run.at("label") != "FLOP/s") continue;
    CHECK(counter("of_peak") == doctest::Approx(counter("rate") / peak));
    CHECK(counter("of_machine") <= counter("of_peak"));
  }
  CHECK(passes == std::set<std::string>{"tile_forward", "tile_backward",
                                        "tile_decode", "scan_forward",
                                        "scan_backward"});
  CHECK(parts == std::set<std::string>{"", "scores", "values", "exp", "queries",
                                       "outputs", "cutting", "diagonal"});
  CHECK(targets == FloatTargets());
}

TEST_CASE("the kernels' bench splits a pass's time into all of it") {
  const std::string best(TargetNames().front());
  const std::set<std::string> floats = FloatTargets();
  const std::string target = floats.count(best) ? best : "AVX3";
  const Answer answer =
      Kernels("--benchmark_filter='tile_forward[./].*/(" + target + "|" + best +
              ")/d64/n1024/'" + kBriefly);
  INFO(answer.out);
  REQUIRE(answer.code == 0);
  // products, exp, transposes, packing, cutting, rest
  const auto split = [&](const std::string& form, const std::string& dtype) {
    std::vector<double> numbers =
        NumbersOfLastRow(answer.out, "tile_forward/" + form + "/" +
                                         (dtype == "bf16" ? best : target) +
                                         "/d64/n1024/" + dtype);
    REQUIRE(numbers.size() == 6);
    double sum = 0;
    for (const double x : numbers) sum += x;
    CHECK(sum == doctest::Approx(100).epsilon(0.005));
    CHECK(numbers[0] > 0);
    CHECK(numbers[2] > 0);
    return numbers;
  };
  CHECK(split("causal", "f32")[1] > 0);
  CHECK(split("causal", "f32")[3] == 0);
  CHECK(split("causal", "bf16")[3] > 0);
  CHECK(split("gau", "f32")[1] == 0);  // has no exponentials
}

TEST_CASE("the kernels' bench refuses what it does not know") {
  CHECK(Kernels("--benchmark_fliter=x").code == 2);
  const Answer none = Kernels("--benchmark_filter=softmin");
  CHECK(none.code == 1);
  CHECK(none.out.find("softmin") != std::string::npos);
  CHECK(Kernels("--help").out.find("saccade_kernels") != std::string::npos);
}

}  // namespace
}  // namespace saccade
