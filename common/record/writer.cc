// Writes a run's file: one line, one write.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "record/json.h"
#include "record/record.h"

namespace saccade::record {
namespace {

Status SystemError(const std::string& path, std::string_view what, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return {full ? Code::kExhausted : Code::kIo,
          fmt::format("{}: {}: {}", path, what, std::strerror(error))};
}

// The parser reads null as "not known"; a number that is not finite has no
// other form in JSON.
void DropNonFinite(Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    value = nullptr;
  } else if (value.is_structured()) {
    for (Json& item : value) DropNonFinite(item);
  }
}

}  // namespace

Result<RecordWriter> RecordWriter::Open(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) {
    return SystemError(path, "cannot open for writing", errno);
  }
  RecordWriter writer(fd, path, 0);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return Invalid(fmt::format("{}: another run is writing here", path));
  }
  return writer;
}

Result<RecordWriter> RecordWriter::Create(const std::string& path,
                                          Json header) {
  if (!header.is_object()) return Invalid("a header must be a JSON object");
  Json first = Json::object();
  first["kind"] = "run";
  first["schema"] = kSchemaVersion;
  for (const auto& [key, value] : header.items()) {
    if (!first.contains(key)) first[key] = value;
  }
  DropNonFinite(first);
  Status status = Validate(first, Strictness::kStrict);
  if (!status.ok()) return status;
  Result<RecordWriter> writer = Open(path, O_WRONLY | O_CREAT | O_APPEND);
  if (!writer.ok()) return writer;
  // An empty file is a run that was killed before its first word.
  struct stat facts = {};
  if (::fstat(writer->fd_, &facts) != 0) {
    return SystemError(path, "cannot read", errno);
  }
  if (facts.st_size > 0) {
    return Invalid(fmt::format(
        "{}: exists already; resume that run or choose another folder", path));
  }
  status = writer->WriteLine(Dump(first));
  if (!status.ok()) {
    ::unlink(path.c_str());
    return status;
  }
  return writer;
}

Result<RecordWriter> RecordWriter::Resume(const Run& run) {
  if (run.schema != kSchemaVersion) {
    return Invalid(fmt::format(
        "{}: written by schema {}, and this program writes schema {}: a file "
        "holds one of them",
        run.path, run.schema, kSchemaVersion));
  }
  Result<RecordWriter> writer = Open(run.path, O_RDWR | O_APPEND);
  if (!writer.ok()) return writer;
  if (::ftruncate(writer->fd_, run.size) != 0) {
    return SystemError(run.path, "cannot cut off the last line", errno);
  }
  writer->size_ = run.size;
  // A whole line may lack its newline only.
  char last = '\n';
  if (run.size > 0 && ::pread(writer->fd_, &last, 1, run.size - 1) != 1) {
    return SystemError(run.path, "cannot read", errno);
  }
  if (last != '\n') {
    const Status status = writer->WriteLine("");
    if (!status.ok()) return status;
  }
  return writer;
}

RecordWriter::RecordWriter(RecordWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      size_(other.size_) {}

RecordWriter& RecordWriter::operator=(RecordWriter&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
    size_ = other.size_;
  }
  return *this;
}

RecordWriter::~RecordWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status RecordWriter::Write(const Json& record) {
  if (fd_ < 0) return Invalid(fmt::format("{}: is closed", path_));
  Json line = record;
  DropNonFinite(line);
  const Status status = Validate(line, Strictness::kStrict);
  if (!status.ok()) return status;
  if (line["kind"] == "run") return Invalid("a run has one header");
  return WriteLine(Dump(InTableOrder(line)));
}

Status RecordWriter::WriteLine(std::string line) {
  if (line.size() > static_cast<size_t>(kMaxLineBytes)) {
    return Invalid(fmt::format("a record of {} bytes, more than {} allowed",
                               line.size(), kMaxLineBytes));
  }
  line += '\n';
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t wrote = ::write(fd_, line.data() + done, line.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? ENOSPC : errno;
      // Best effort: readers drop a line that was cut off anyway.
      if (::ftruncate(fd_, size_) != 0) (void)0;
      return SystemError(path_, "cannot write a record", error);
    }
    done += static_cast<size_t>(wrote);
  }
  size_ += static_cast<int64_t>(line.size());
  return {};
}

Status RecordWriter::Close() {
  if (fd_ < 0) return {};
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) return SystemError(path_, "closing failed", errno);
  return {};
}

}  // namespace saccade::record
