// What stands where a disk or metadata is to be made, so that `lockstep create` overwrites nothing that matters.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "io/base/result.h"

namespace lockstep::tools {

enum class PathKind : unsigned char { Missing, File, Device };

// An open file or device that nobody else uses, as far as the system can tell, while this object lives.
class HeldPath {
 public:
  // Missing is no error: such an object holds nothing. Busy, with who to ask, when a daemon or another program has it
  // locked, when a device is mounted or otherwise claimed, when a loop device stands on the file; Invalid for a folder
  // and the like; Io where it cannot be opened for writing. Links are followed.
  static Result<HeldPath> open(const std::string& path);
  ~HeldPath();
  HeldPath(HeldPath&& other) noexcept;
  HeldPath& operator=(HeldPath&&) = delete;

  PathKind kind() const { return kind_; }
  uint64_t size_bytes() const { return size_bytes_; }
  const std::string& path() const { return path_; }

  // What the first bytes are known to be: "an ext4 file system", "a partition table (gpt)", "Lockstep metadata" and so
  // on, as libblkid knows them. Empty when it is nothing known.
  Result<std::string> known_content() const;
  bool is_lockstep_metadata() const;

  // Reserves the space of a file without touching its content. Exhausted where the file system is full.
  Status reserve_space();
  // Zeroes over the first `length_bytes`, durably.
  Status wipe_start(uint64_t length_bytes);

 private:
  explicit HeldPath(std::string path) : path_(std::move(path)) {}

  std::string path_;
  int fd_ = -1;
  PathKind kind_ = PathKind::Missing;
  uint64_t size_bytes_ = 0;
};

// The device number of the file system that holds, or will hold, the path; 0 when its folder is missing.
dev_t file_system_of(const std::string& path);

}  // namespace lockstep::tools
