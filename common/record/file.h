// Whole files, in and out, where nothing about them is trusted.
#ifndef SACCADE_COMMON_RECORD_FILE_H_
#define SACCADE_COMMON_RECORD_FILE_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "saccade/status.h"

namespace saccade::record {

/// The bytes of a regular file of at most `most` bytes, or, of such a file, the
/// first `part` alone. Never waits: a pipe, a device or a folder is refused
/// before it is read. kNotFound, kIo or, for want of memory, kExhausted; the
/// message begins with the path.
Result<std::string> ReadFile(
    const std::string& path, int64_t most,
    int64_t part = std::numeric_limits<int64_t>::max());

/// Writes a file beside `path` and renames it: whatever happens meanwhile,
/// `path` is the old file or the new one, and it is on the disk when this
/// returns. A symbolic link at `path` is replaced, never followed. kExhausted
/// when the disk is full, kIo.
Status WriteFile(const std::string& path, std::string_view bytes);

/// Ok unless `path` is a symbolic link out of its own folder: what somebody
/// else packed as a run must not name other files of whoever looks at it. kIo
/// names the path and where it leads.
Status StaysInFolder(const std::string& path);

}  // namespace saccade::record

#endif  // SACCADE_COMMON_RECORD_FILE_H_
