// The program as its users meet it: a command line in; an exit code, results
// and messages out.
#ifndef SACCADE_TESTS_PROGRAM_H_
#define SACCADE_TESTS_PROGRAM_H_

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "bench/cli.h"

namespace saccade::bench {

struct Answer {
  int code = 0;
  std::string out, err;
};

inline Answer Saccade(const std::vector<std::string>& arguments,
                      StopFlag* stop = nullptr) {
  std::ostringstream out, err;
  Answer a;
  a.code =
      RunCommand(arguments, {out, err, false, SACCADE_PROGRAM, stop, false});
  a.out = out.str();
  a.err = err.str();
  return a;
}

inline bool OneLine(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n') == 1;
}

}  // namespace saccade::bench

#endif  // SACCADE_TESTS_PROGRAM_H_
