// Records of a run: what bench writes and reports reads.
//
// A run is a file of JSON lines (run.jsonl): a header, then one record a line,
// written as it is measured. Killed at any moment it leaves a readable file.
// reports/SCHEMA.md documents every field.
#ifndef SACCADE_COMMON_RECORD_RECORD_H_
#define SACCADE_COMMON_RECORD_RECORD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "record/schema.h"
#include "saccade/status.h"

namespace saccade::record {

/// One validated record. Accessors never fail: a field that is missing reads
/// as empty, 0, false or NaN.
class Record {
 public:
  Record() = default;
  explicit Record(Json fields, int64_t line = 0)
      : fields_(std::move(fields)), line_(line) {}

  bool Has(std::string_view field) const;
  std::string Text(std::string_view field) const;
  int64_t Count(std::string_view field) const;
  double Number(std::string_view field) const;  // NaN when missing
  bool Flag(std::string_view field) const;
  std::vector<double> Numbers(std::string_view field) const;
  std::vector<std::string> Texts(std::string_view field) const;

  std::string kind() const { return Text("kind"); }
  /// "ok", "fail", "skipped", "unsupported"; ok when the record says nothing.
  std::string status() const;
  bool ok() const { return status() == "ok"; }
  int64_t line() const { return line_; }  // in its file, from 1
  const Json& fields() const { return fields_; }

 private:
  const Json* Find(std::string_view field) const;

  Json fields_ = Json::object();
  int64_t line_ = 0;
};

/// A run as read: the header and all records that were valid, in file order.
struct Run {
  std::string path;
  Record header;
  std::vector<Record> records;
  /// One sentence for each line that was dropped, "FILE:LINE: why".
  std::vector<std::string> warnings;
  /// Bytes of the file without a last line that was cut off.
  int64_t size = 0;
  /// Version of the file; records here are brought up to kSchemaVersion.
  int64_t schema = kSchemaVersion;
};

/// The file of a run that may be named by its folder.
std::string RunFile(const std::string& path);

/// Reads a run. kNotFound when there is no file; kIo when it cannot be read,
/// is too large, or its header is missing, malformed or of a schema that is not
/// read (kOldestSchema to kSchemaVersion are). A last line that was cut off (a
/// killed run) and malformed lines are dropped with a warning; all others are
/// kept.
Result<Run> ReadRun(const std::string& path);

/// How many lines of a run's file a writer of this schema would not have
/// written; each is said, "FILE:LINE: why", in file order. kNotFound or kIo
/// when the file cannot be read at all.
Result<int64_t> CheckRun(const std::string& path,
                         const std::function<void(const std::string&)>& say);

/// Writes a run's file. Every record reaches the file before Write returns. A
/// failed write is taken back, so that the file stays valid. For one thread.
class RecordWriter {
 public:
  /// Starts a new file with `header` (kind and schema are filled in). kInvalid
  /// when there is one already that is not empty: measurements are never
  /// overwritten.
  static Result<RecordWriter> Create(const std::string& path, Json header);

  /// Goes on with the file of a run that was read, after cutting off a last
  /// line that is incomplete. kInvalid for a file of an older schema.
  static Result<RecordWriter> Resume(const Run& run);

  RecordWriter(RecordWriter&& other) noexcept;
  RecordWriter& operator=(RecordWriter&& other) noexcept;
  ~RecordWriter();

  /// Appends one record:
  ///
  ///   writer->Write({{"kind", "speed"}, {"status", "ok"}, ...});
  ///
  /// Numbers that are not finite are written as null: not known. kInvalid
  /// when the schema does not allow the record (nothing is written),
  /// kExhausted when there is no space, kIo when writing fails otherwise.
  Status Write(const Json& record);

  /// Closes the file; kIo when the system reports a late failure.
  Status Close();

  const std::string& path() const { return path_; }

 private:
  RecordWriter(int fd, std::string path, int64_t size)
      : fd_(fd), path_(std::move(path)), size_(size) {}
  static Result<RecordWriter> Open(const std::string& path, int flags);
  Status WriteLine(std::string line);

  int fd_ = -1;
  std::string path_;
  int64_t size_ = 0;  // bytes of complete lines
};

}  // namespace saccade::record

#endif  // SACCADE_COMMON_RECORD_RECORD_H_
