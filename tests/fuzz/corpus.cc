// Texts to train on.
#include "bench/corpus.h"

#include <string>
#include <vector>

#include "tests/fuzz/input.h"

namespace saccade::bench {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::InputFile file("text"), test("test");
  // Few inputs grow to the least size by themselves; repeated they reach it.
  const std::string_view text = fuzz::TextOf(data, size);
  std::string bytes(text);
  if (size >= 64 && bytes.size() < 2 * kMinTrain)
    while (bytes.size() < 2 * kMinTrain) bytes += text;
  const std::string path = file.Write(bytes);
  for (const std::vector<std::string>& files :
       {std::vector<std::string>{path}, {path, test.Write(text)}}) {
    const Result<Corpus> corpus = ReadCorpus(files);
    fuzz::RequireClear(corpus.status());
    if (!corpus.ok()) continue;
    fuzz::Require(corpus->train.size() >= kMinTrain);
    fuzz::Require(corpus->test.size() >= kMinTest);
  }
  return 0;
}

}  // namespace saccade::bench
