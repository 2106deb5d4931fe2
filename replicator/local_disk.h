// The local disk as the replica uses it: one request for each slot, no allocation on the way.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/base/result.h"
#include "io/base/units.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/task.h"
#include "replicator/core/event.h"
#include "replicator/flush_guess.h"

namespace lockstep::repl {

class LocalDiskOwner {
 public:
  virtual ~LocalDiskOwner() = default;
  // Once for each request, from the loop. 0, or a positive errno. `all_stable`, of a change: it and all that ended
  // before are on stable storage.
  virtual void local_io_ended(SlotRef slot, int error_errno, bool all_stable) noexcept = 0;
};

class LocalDisk {
 public:
  struct Slots {
    uint32_t client = 0;
    uint32_t apply = 0;
    uint32_t resync = 0;
    uint32_t serve = 0;
  };

  // Opens, locks and checks the disk; blocking. Every error names the path and what to do: NotFound, Busy, Invalid
  // (smaller than the resource), Io (not writable), Unsupported (blocks larger than 4096 bytes).
  static Result<std::unique_ptr<io::File>> open(io::Loop& loop, const std::string& path, uint64_t size_bytes);

  // `owner` outlives the disk. Nothing may be in flight at the end.
  LocalDisk(io::Loop& loop, std::unique_ptr<io::File> file, const Slots& slots, LocalDiskOwner& owner);
  ~LocalDisk();

  const std::string& path() const { return file_->path(); }
  int descriptor() const { return file_->fd(); }
  // Offsets and lengths are multiples of it: 512 to 4096.
  uint32_t block_bytes() const { return block_bytes_; }
  uint32_t in_flight() const { return in_flight_; }

  // One request for a slot at a time. The bytes stay valid, and unchanged for writes, until the request has ended.
  void read(SlotRef slot, std::span<uint8_t> into, uint64_t offset_bytes);
  // durable: on stable storage before it ends. Where a flush is likely to follow at once it is so in any case.
  void write(SlotRef slot, std::span<const uint8_t> from, uint64_t offset_bytes, bool durable);
  // The range reads as zeroes afterwards, whatever the disk can do: a file keeps its space, since a database's next
  // write there must find room; a block device may give it back when that is allowed. Where neither can be asked for,
  // zeroes are written.
  void zero(SlotRef slot, const ByteRange& range, bool durable, bool may_deallocate);
  // What has ended is on stable storage then. The disk is not asked where nothing is left to be made so. EIO also when
  // a durable write has failed beside others: they may be lost.
  void flush(SlotRef slot);

  // Room up to `size_bytes`, written with zeroes from `from_bytes` on, durably; a file is made longer, a block device
  // must be so long. Takes its time, a piece at a time, beside the other requests.
  // Counts as in flight; stop_preparing() ends it early, with Closed.
  io::Task<Status> prepare_size(io::Loop& loop, uint64_t from_bytes, uint64_t size_bytes);
  void stop_preparing() { stop_preparing_ = true; }

 private:
  class Request;
  class DecidedFlush;
  Request& request(SlotRef slot);
  void start(Request& request);
  io::Task<Status> make_room(io::Loop& loop, uint64_t from_bytes, uint64_t size_bytes);

  io::Loop& loop_;
  std::unique_ptr<io::File> file_;
  const Slots slots_;
  LocalDiskOwner& owner_;
  uint32_t block_bytes_ = 512;
  uint32_t in_flight_ = 0;
  bool stop_preparing_ = false;
  bool can_keep_allocated_ = true;  // until the disk says no
  bool can_punch_ = true;
  std::unique_ptr<uint8_t, void (*)(void*)> zeroes_;  // a chunk, to write where nothing better is possible
  FlushGuess flush_guess_;
  std::unique_ptr<Request[]> requests_;
  std::unique_ptr<DecidedFlush> decided_flush_;
};

}  // namespace lockstep::repl
