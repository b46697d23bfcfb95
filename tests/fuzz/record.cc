// Record files, through all that is made of them.
#include "record/record.h"

#include "reports/report.h"
#include "tests/fuzz/input.h"

namespace saccade {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::InputFile file("run.jsonl");
  const std::string path = file.Write(fuzz::TextOf(data, size));
  const Result<record::Run> run = record::ReadRun(path);
  fuzz::RequireClear(run.status());
  if (!run.ok()) return 0;
  for (const std::string& warning : run->warnings)
    fuzz::RequireClear(IoError(warning));
  fuzz::Require(!reports::VerdictTable(*run).empty());
  const std::string folder = path.substr(0, path.rfind('/'));
  const Status status = reports::WriteReport({path}, folder);
  fuzz::RequireClear(status);
  fuzz::Require(status.ok());
  return 0;
}

}  // namespace saccade
