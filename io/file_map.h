// Which parts of a file read as zeroes because nothing was written there, as the file system knows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/block_backend.h"

namespace lockstep::io {

class FileMap {
 public:
  // The descriptor stays the caller's, and open as long as this is used. Only of file systems whose word is known to be
  // good, ext4, XFS and tmpfs: of others, and of block devices, everything counts as data.
  explicit FileMap(int fd);

  // As BlockBackend::extents of the allocation. A range without data has kZero, not kHole: the daemon's disks have
  // their space reserved. The work is bounded: a few hundred look-ups in the file system's memory.
  size_t extents(uint64_t offset_bytes, uint64_t length_bytes, std::span<BlockExtent> into) const;

 private:
  int fd_;
  bool trusted_ = false;
};

}  // namespace lockstep::io
