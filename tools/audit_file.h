// The file of an audit log: lines, the newest last; at kAuditFileBytes it becomes FILE.1, in place of an older one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/base/result.h"

namespace lockstep::tools {

inline constexpr uint64_t kAuditFileBytes = uint64_t{1} << 20;

// Where a line can be appended now: the file, made if it was missing, and turned over if it is full. The descriptor is
// the caller's. Its mode is 0640, its last line may have been cut off by a crash. Blocking.
struct AuditFile {
  int fd = -1;
  bool ends_well = true;  // false: a line's end comes first
};
Result<AuditFile> open_audit_file(const std::string& path);

// One line, and on stable storage. Blocking: for commands. The file may be a running daemon's: both append.
Status append_audit_line(const std::string& path, const std::string& line);

// All lines, the oldest first, of FILE.1 and FILE. Empty where there are none or they cannot be read. Blocking.
std::vector<std::string> read_audit_lines(const std::string& path);

// Microseconds since 1970, and more than `last`.
uint64_t next_audit_stamp(uint64_t last);

}  // namespace lockstep::tools
