// Reads a run's file without trusting any of it.
#include <fmt/format.h>
#include <sys/stat.h>

#include "record/file.h"
#include "record/json.h"
#include "record/record.h"

namespace saccade::record {
namespace {

constexpr int kMaxDepth = 4;
constexpr size_t kMaxWarnings = 20;

// Brought up to this program's schema.
Result<Json> ParseLine(std::string_view line, int64_t schema) {
  if (line.size() > static_cast<size_t>(kMaxLineBytes)) {
    return IoError(fmt::format("the line has {} bytes, more than {} allowed",
                               line.size(), kMaxLineBytes));
  }
  Result<Json> record = ParseJson<Json>(line, kMaxDepth);
  if (!record.ok()) return IoError(record.status().message());
  Upgrade(schema, *record);
  const Status status = Validate(*record, Strictness::kLenient);
  if (!status.ok()) return IoError(status.message());
  return record;
}

// A header of another schema may fail our checks for reasons that would only
// confuse, so the version is told first.
Result<int64_t> SchemaOf(std::string_view line) {
  if (line.size() > static_cast<size_t>(kMaxLineBytes) ||
      JsonDepth(line) > kMaxDepth) {
    return IoError("not the header of a run");
  }
  const Json header = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!header.is_object() || header.value("kind", Json()) != "run") {
    return IoError("not the header of a run");
  }
  const Json schema = header.value("schema", Json());
  if (!schema.is_number_integer() || schema < kOldestSchema ||
      schema > kSchemaVersion) {
    return IoError(fmt::format(
        "written by schema {:.20}; this program reads schemas {} to {}",
        schema.dump(), kOldestSchema, kSchemaVersion));
  }
  return schema.get<int64_t>();
}

// Takes one line into the run, or says why it cannot.
Status TakeLine(std::string_view line, int64_t number, Run& run) {
  if (number == 1) {
    const Result<int64_t> schema = SchemaOf(line);
    if (!schema.ok()) return schema.status();
    run.schema = *schema;
  }
  Result<Json> record = ParseLine(line, run.schema);
  if (!record.ok()) return record.status();
  const bool header = (*record)["kind"] == "run";
  if (header && number > 1) return IoError("a second header");
  if (header) {
    run.header = Record(std::move(*record), number);
  } else {
    run.records.emplace_back(std::move(*record), number);
  }
  return {};
}

bool Blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

std::string RunFile(const std::string& path) {
  struct stat info = {};
  const bool folder = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  return folder ? path + (path.ends_with('/') ? "" : "/") + "run.jsonl" : path;
}

Result<Run> ReadRun(const std::string& path) {
  const Status own = StaysInFolder(path);
  if (!own.ok()) return own;
  const Result<std::string> text = ReadFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  if (text->empty()) {
    return IoError(fmt::format("{}: the file is empty", path));
  }
  Run run;
  run.path = path;
  size_t dropped = 0;
  int64_t number = 0;
  for (size_t begin = 0; begin < text->size();) {
    ++number;
    const size_t newline = text->find('\n', begin);
    const bool whole = newline != std::string::npos;
    const size_t end = whole ? newline : text->size();
    const std::string_view line(text->data() + begin, end - begin);
    begin = whole ? end + 1 : end;
    Status status;
    if (number == 1 || !Blank(line)) status = TakeLine(line, number, run);
    if (status.ok() || whole) run.size = static_cast<int64_t>(begin);
    if (status.ok()) continue;
    if (number > 1 && ++dropped > kMaxWarnings) continue;
    const std::string why =
        fmt::format("{}:{}: {}", path, number,
                    whole ? status.message() : "cut off (was the run killed?)");
    if (number == 1) return IoError(why);
    run.warnings.push_back(why + "; this line is dropped");
  }
  if (dropped > kMaxWarnings) {
    run.warnings.push_back(fmt::format("{}: {} more malformed lines dropped",
                                       path, dropped - kMaxWarnings));
  }
  return run;
}

}  // namespace saccade::record
