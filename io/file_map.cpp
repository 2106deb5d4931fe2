#include "io/file_map.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace lockstep::io {
namespace {

constexpr size_t kMaximumExtents = 256;
#ifndef XFS_SUPER_MAGIC
constexpr long XFS_SUPER_MAGIC = 0x58465342;
#endif

}  // namespace

FileMap::FileMap(int fd) : fd_(fd) {
  struct stat about {};
  struct statfs system {};
  if (::fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || ::fstatfs(fd, &system) != 0) return;
  trusted_ = system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_SUPER_MAGIC || system.f_type == TMPFS_MAGIC;
}

size_t FileMap::extents(uint64_t offset_bytes, uint64_t length_bytes, std::span<BlockExtent> into) const {
  const auto all_data = [&] {
    into[0] = {length_bytes, 0};
    return size_t{1};
  };
  if (!trusted_) return all_data();
  const uint64_t end = offset_bytes + length_bytes;
  const size_t most = std::min(into.size(), kMaximumExtents);
  size_t count = 0;
  uint64_t at = offset_bytes;
  while (at < end && count < most) {
    const off_t data = ::lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno != ENXIO) return count > 0 ? count : all_data();
    const uint64_t data_begin = data < 0 ? end : std::min(end, static_cast<uint64_t>(data));
    if (data_begin > at) {
      into[count++] = {data_begin - at, extent_flag::kZero};
      at = data_begin;
      continue;
    }
    const off_t hole = ::lseek(fd_, static_cast<off_t>(at), SEEK_HOLE);
    if (hole < 0 || static_cast<uint64_t>(hole) <= at) return count > 0 ? count : all_data();
    const uint64_t data_end = std::min(end, static_cast<uint64_t>(hole));
    into[count++] = {data_end - at, 0};
    at = data_end;
  }
  return count;
}

}  // namespace lockstep::io
