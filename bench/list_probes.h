// What probes there are.
#ifndef SACCADE_BENCH_LIST_PROBES_H_
#define SACCADE_BENCH_LIST_PROBES_H_

#include "bench/host.h"

namespace saccade::bench {

/// Writes every probe, what it asks and what is expected, to host.out.
int ListProbes(bool as_json, const Host& host);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_LIST_PROBES_H_
