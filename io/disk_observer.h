// Sees what is asked of files and block devices through one loop, and how it ends: for tests that ask what a crash
// leaves on a disk. Not in the way of anything: it changes nothing, and without one nothing is done.
#pragma once

#include <cstdint>
#include <span>

namespace lockstep::io {

class File;

enum class DiskRequestKind : uint8_t { Write, Zero, Sync };

struct DiskRequest {
  DiskRequestKind kind = DiskRequestKind::Write;
  const File* file = nullptr;
  uint64_t offset_bytes = 0;       // of Write and Zero
  uint64_t length_bytes = 0;       // the same
  std::span<const uint8_t> bytes;  // of a Write, during the call
  bool durable = false;            // on stable storage when it ends well
};

class DiskObserver {
 public:
  virtual ~DiskObserver() = default;
  // `operation` names the request until it ends; then the name may be used again.
  virtual void disk_request_started(const void* operation, const DiskRequest& request) noexcept = 0;
  virtual void disk_request_ended(const void* operation, int error_errno) noexcept = 0;
};

}  // namespace lockstep::io
