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
Result<Json> ParseLine(std::string_view line, int64_t schema,
                       Strictness strictness) {
  if (line.size() > static_cast<size_t>(kMaxLineBytes)) {
    return IoError(fmt::format("the line has {} bytes, more than {} allowed",
                               line.size(), kMaxLineBytes));
  }
  Result<Json> record = ParseJson<Json>(line, kMaxDepth);
  if (!record.ok()) return IoError(record.status().message());
  Upgrade(schema, *record);
  const Status status = Validate(*record, strictness);
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

// A line of a text. Lines are taken one after the other: a list of them may be
// larger than the text.
struct Line {
  std::string_view text;
  int64_t number = 0;  // from 1
  int64_t end = 0;     // where the next one begins
  bool whole = false;  // not cut off
};

bool NextLine(std::string_view text, Line* line) {
  const auto begin = static_cast<size_t>(line->end);
  if (begin >= text.size()) return false;
  const size_t newline = text.find('\n', begin);
  line->whole = newline != std::string_view::npos;
  const size_t end = line->whole ? newline : text.size();
  line->text = text.substr(begin, end - begin);
  line->end = static_cast<int64_t>(line->whole ? end + 1 : end);
  ++line->number;
  return true;
}

bool Blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// Takes one line into the run, or says why it cannot.
Status TakeLine(const Line& line, Strictness strictness, Run& run) {
  if (line.number > 1 && Blank(line.text)) return {};
  if (line.number == 1) {
    const Result<int64_t> schema = SchemaOf(line.text);
    if (!schema.ok()) return schema.status();
    run.schema = *schema;
  }
  Result<Json> record = ParseLine(line.text, run.schema, strictness);
  if (!record.ok()) return record.status();
  const bool header = (*record)["kind"] == "run";
  if (header && line.number > 1) return IoError("a second header");
  if (header) {
    run.header = Record(std::move(*record), line.number);
  } else {
    run.records.emplace_back(std::move(*record), line.number);
  }
  return {};
}

std::string At(const std::string& path, const Line& line,
               const Status& status) {
  return fmt::format(
      "{}:{}: {}", path, line.number,
      line.whole ? status.message() : "cut off (was the run killed?)");
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
  for (Line line; NextLine(*text, &line);) {
    const Status status = TakeLine(line, Strictness::kLenient, run);
    if (status.ok() || line.whole) run.size = line.end;
    if (status.ok()) continue;
    if (line.number > 1 && ++dropped > kMaxWarnings) continue;
    const std::string why = At(path, line, status);
    if (line.number == 1) return IoError(why);
    run.warnings.push_back(why + "; this line is dropped");
  }
  if (dropped > kMaxWarnings) {
    run.warnings.push_back(fmt::format("{}: {} more malformed lines dropped",
                                       path, dropped - kMaxWarnings));
  }
  return run;
}

Result<int64_t> CheckRun(const std::string& path,
                         const std::function<void(const std::string&)>& say) {
  const Status own = StaysInFolder(path);
  if (!own.ok()) return own;
  const Result<std::string> text = ReadFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  if (text->empty()) {
    say(path + ":1: the header is missing");
    return 1;
  }
  Run run;
  int64_t wrong = 0;
  for (Line line; NextLine(*text, &line);) {
    const Status status = TakeLine(line, Strictness::kStrict, run);
    if (status.ok()) continue;
    say(At(path, line, status));
    ++wrong;
  }
  return wrong;
}

}  // namespace saccade::record
