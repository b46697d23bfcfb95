// Text out of an R package's lazy-load database, without R.
//
// The database is two files. The index (.rdx) is a gzip stream holding one
// serialised R list: for each name, where its record lies. The data (.rdb) are
// those records: the raw length, big-endian, then a zlib stream of one
// serialised R object. Both use R's XDR format (R Internals, section 1.8).
#ifndef SACCADE_BENCH_RDATA_H_
#define SACCADE_BENCH_RDATA_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "saccade/status.h"

namespace saccade::bench {

/// A character vector and its name in the database.
struct RText {
  std::string name;
  std::vector<std::string> lines;
};

/// All character vectors of a database, by name. The bytes are not trusted:
/// kIo says what is malformed, truncated or of a kind not read here.
Result<std::vector<RText>> ReadLazyLoad(std::span<const uint8_t> index,
                                        std::span<const uint8_t> data);

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_RDATA_H_
