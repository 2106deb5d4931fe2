// Keeps a range of an export from being written by others while one request reads, changes and writes it back: a write
// that is not aligned to the disk's blocks. One holder at a time; who writes aligned blocks asks in passing.
#pragma once

#include <cstdint>

#include "io/signal.h"
#include "io/task.h"

namespace lockstep::nbd {

class RangeLock {
 public:
  // The loop must outlive the lock.
  explicit RangeLock(io::Loop& loop) : released_(loop), progress_(loop) {}

  // Whether the range must not be written now, except by the holder.
  bool forbids(uint64_t offset_bytes, uint64_t length_bytes) const {
    return held_ && overlaps(offset_bytes, length_bytes);
  }
  bool held() const { return held_; }
  bool overlaps(uint64_t offset_bytes, uint64_t length_bytes) const {
    return offset_bytes < end_bytes_ && offset_bytes + length_bytes > begin_bytes_;
  }
  io::Signal& released() { return released_; }
  // Notified, while it is held, whenever a write has completed: the holder waits for those that began before it.
  io::Signal& progress() { return progress_; }

  io::Task<void> acquire(uint64_t offset_bytes, uint64_t length_bytes) {
    while (held_) static_cast<void>(co_await released_.wait());
    held_ = true;
    begin_bytes_ = offset_bytes;
    end_bytes_ = offset_bytes + length_bytes;
  }
  void release() {
    held_ = false;
    released_.notify_all();
  }

 private:
  io::Signal released_;
  io::Signal progress_;
  bool held_ = false;
  uint64_t begin_bytes_ = 0;
  uint64_t end_bytes_ = 0;
};

}  // namespace lockstep::nbd
