// The text a language model is trained on and tested on.
#ifndef SACCADE_BENCH_CORPUS_H_
#define SACCADE_BENCH_CORPUS_H_

#include <span>
#include <string>

#include "saccade/status.h"

namespace saccade::bench {

struct Corpus {
  std::string name;  // what a report calls it
  std::string train, test;
};

/// The smallest parts worth training on and testing on, in bytes.
constexpr size_t kMinTrain = 16384, kMinTest = 2048;

/// Reads text files: the last one is the test text; a lone file gives its last
/// tenth. One line in the status names the file that is missing, unreadable,
/// empty, too small or not text (it holds a zero byte, or more than one
/// control character in a hundred).
Result<Corpus> ReadCorpus(std::span<const std::string> files);

/// Jane Austen's six novels from Debian's package r-cran-janeaustenr; tests on
/// "Persuasion". Uses the package if it is installed, else a copy in the folder
/// `cache`, else downloads and unpacks it there with apt-get and dpkg-deb,
/// which needs neither root nor R. kIo says why it cannot be had.
Result<Corpus> ReadAusten(const std::string& cache);

/// The cache folder of this user: $XDG_CACHE_HOME/saccade, ~/.cache/saccade.
std::string DefaultCache();

}  // namespace saccade::bench

#endif  // SACCADE_BENCH_CORPUS_H_
