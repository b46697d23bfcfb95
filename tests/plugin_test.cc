// Variants from outside, through the program and through the library.
#include "saccade/plugin.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <string>

#include "folder.h"

namespace saccade {
namespace {

const std::string kGood = SACCADE_PLUGINS "/pool_mean.so";

std::string Broken(int how) {
  return SACCADE_PLUGINS "/broken_" + std::to_string(how) + ".so";
}

struct Ran {
  int code;
  std::string text;  // of both streams
};

Ran Saccade(const std::string& arguments) {
  FILE* const pipe =
      popen((SACCADE_PROGRAM " " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Ran ran;
  std::array<char, 4096> piece;
  for (size_t n; (n = fread(piece.data(), 1, piece.size(), pipe)) > 0;)
    ran.text.append(piece.data(), n);
  ran.code = WEXITSTATUS(pclose(pipe));
  return ran;
}

TEST_CASE("a plug-in's variant is checked like any other") {
  const Ran ran =
      Saccade("--plugin " + kGood + " verify --effort quick --only pool.mean");
  CHECK_MESSAGE(ran.code == 0, ran.text);
  CHECK(ran.text.find("pool.mean") != std::string::npos);
  CHECK(ran.text.find("FAIL") == std::string::npos);
}

TEST_CASE("a plug-in's variant is timed, weighed, trained and reported") {
  const Folder folder;
  const std::string out = folder.path() + "/run";
  const Ran ran = Saccade(
      "--plugin " + kGood +
      " compare --only 'pool.mean,linear.elu' -n 64,128 --heads 2 -d 16 "
      "--measure verify,speed,memory --out " +
      out);
  CHECK_MESSAGE(ran.code == 0, ran.text);
  std::ifstream record(out + "/run.jsonl"), page(out + "/report.md");
  const std::string lines{std::istreambuf_iterator<char>(record), {}};
  const std::string report{std::istreambuf_iterator<char>(page), {}};
  for (const char* kind :
       {"\"kind\":\"verify\"", "\"kind\":\"speed\"", "\"kind\":\"memory\""}) {
    CAPTURE(kind);
    bool found = false;
    for (size_t at = lines.find(kind); at != std::string::npos;
         at = lines.find(kind, at + 1)) {
      const std::string line = lines.substr(at, lines.find('\n', at) - at);
      found |= line.find("\"pool.mean\"") != std::string::npos &&
               line.find("\"reason\"") == std::string::npos;
    }
    CHECK(found);
  }
  CHECK(report.find("pool.mean") != std::string::npos);
}

TEST_CASE("a plug-in that is wrong is refused with a line that says how") {
  const std::array<const char*, 7> why = {
      "it crashed when it was tried",
      "there is a variant 'linear.elu' already",
      "'Broken Name' is no name of a variant",
      "broken.oracle lacks one of cost, plan and oracle",
      "broken.refusal refuses a plain problem: it does nothing",
      "it was built against Saccade 9.9.9, this is",
      "it has no symbol saccade_plugin_version"};
  for (int how = 1; how <= 7; ++how) {
    CAPTURE(how);
    const Ran ran = Saccade("--plugin " + Broken(how) + " list");
    CHECK(ran.code == 2);
    CHECK_MESSAGE(ran.text.find(why[how - 1]) != std::string::npos, ran.text);
    CHECK(std::count(ran.text.begin(), ran.text.end(), '\n') == 1);
  }
  CHECK(Saccade("--plugin /nowhere.so list").text.find("No such file") !=
        std::string::npos);
  const Folder folder;
  const std::string text = folder.Write("text.so", "no shared object\n");

  const Ran ran = Saccade("--plugin " + text + " list");
  CHECK(ran.code == 2);
  CHECK(std::count(ran.text.begin(), ran.text.end(), '\n') == 1);
}

}  // namespace
}  // namespace saccade
