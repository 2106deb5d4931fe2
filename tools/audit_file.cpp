#include "tools/audit_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>

namespace lockstep::tools {
namespace {

// What of a file is read at most, should somebody have put a huge one there.
constexpr std::streamoff kReadBytes = 4 * static_cast<std::streamoff>(kAuditFileBytes);

void read_lines(const std::string& path, std::vector<std::string>& lines) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return;
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kReadBytes));
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(line);
  }
}

}  // namespace

Result<AuditFile> open_audit_file(const std::string& path) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) return system_error("cannot open the audit log " + path, errno);
    struct stat found {};
    Status status;
    if (::fstat(fd, &found) != 0) status = system_error("cannot look at the audit log " + path, errno);
    if (status && !S_ISREG(found.st_mode)) {
      status = Error{ErrorKind::Invalid, 0, "the audit log " + path + " is no file"};
    }
    const bool is_full = status && static_cast<uint64_t>(found.st_size) >= kAuditFileBytes;
    if (is_full && ::rename(path.c_str(), (path + ".1").c_str()) != 0) {
      status = system_error("cannot rename the audit log " + path, errno);
    }
    if (!status || is_full) ::close(fd);
    if (!status) return std::move(status).error();
    if (is_full) continue;
    char last = '\n';
    const bool ends_well = found.st_size == 0 || (::pread(fd, &last, 1, found.st_size - 1) == 1 && last == '\n');
    return AuditFile{fd, ends_well};
  }
}

Status append_audit_line(const std::string& path, const std::string& line) {
  Result<AuditFile> file = open_audit_file(path);
  if (!file) return std::move(file).error();
  const std::string text = (file->ends_well ? "" : "\n") + line + "\n";
  Status status;
  errno = ENOSPC;  // of a write that was cut off
  if (::write(file->fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fdatasync(file->fd) != 0) {
    status = system_error("cannot write to the audit log " + path, errno);
  }
  ::close(file->fd);
  return status;
}

std::vector<std::string> read_audit_lines(const std::string& path) {
  std::vector<std::string> lines;
  read_lines(path + ".1", lines);
  read_lines(path, lines);
  return lines;
}

uint64_t next_audit_stamp(uint64_t last) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t now_us = static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
  return std::max(now_us, last + 1);
}

}  // namespace lockstep::tools
