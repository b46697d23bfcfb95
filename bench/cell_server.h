// A program that runs cells for another, which times it beside a second one.
#ifndef SACCADE_BENCH_CELL_SERVER_H_
#define SACCADE_BENCH_CELL_SERVER_H_

#include <iosfwd>

#include "bench/interrupt.h"

namespace saccade::bench {

/// The name of the program's hidden command that runs ServeCells.
inline constexpr char kServeCommand[] = "serve-cells";

/// Of what is said below. An answer may gain fields; it is raised when programs
/// would misunderstand each other.
inline constexpr int kCellProtocol = 1;

/// Lines of JSON. Says {"cells": kCellProtocol} and then answers until its
/// input ends:
///
///   {"op": "facts"}                 {"facts": {fields of a run's header}}
///   {"op": "verify", "cell": {..}}  {"records": [{variant}, {verify}, ..]}
///   {"op": "setup", "cell": {..}, "handicap": .05, "seed": 1}
///       {"record": {the cell as a run has it}, "seconds": of a run,
///        "before": seconds of filling a context}
///   {"op": "sample", "runs": 8}     {"seconds": of one run}
///   {"op": "finite"}                {"finite": whether results are}
///
/// A cell is as ToJson of memory.h has it. What is not offered is answered with
/// {"unsupported": reason}, what went wrong with {"error": reason}.
void ServeCells(std::istream& in, std::ostream& out, const StopFlag* stop);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CELL_SERVER_H_
