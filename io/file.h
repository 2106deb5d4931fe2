// Files and block devices, read and written through the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/operation.h"
#include "io/task.h"

namespace lockstep::io {

class File;

enum class ZeroMode : uint8_t {
  KeepAllocated,  // FALLOC_FL_ZERO_RANGE: reads as zeroes; space stays reserved
  PunchHole,      // FALLOC_FL_PUNCH_HOLE: reads as zeroes; space is given back
};

// The callback form of a whole transfer: short transfers are continued, so that it ends complete or with an error.
// The same lifetime rules as for Operation.
class FileOperation : private Operation {
 public:
  // Exactly once for each start, from the loop. 0, or a positive errno.
  virtual void ended(int error_errno) noexcept = 0;

  using Operation::in_flight;

 private:
  friend class File;
  enum class Kind : uint8_t { Read, Write, DataSync, Zero };
  void completed(int32_t result) noexcept final;
  void begin();
  void go_on();
  void transferred() noexcept;
  void end(int error_errno) noexcept;

  const File* file_ = nullptr;
  Kind kind_ = Kind::Read;
  ZeroMode zero_mode_ = ZeroMode::KeepAllocated;
  bool data_sync_ = false;
  bool syncs_ = false;  // all is written, and fdatasync makes it durable
  uint8_t* memory_ = nullptr;
  uint64_t offset_bytes_ = 0;
  size_t left_bytes_ = 0;
};

enum class FileMode : uint8_t { ReadOnly, ReadWrite };
enum class FileCaching : uint8_t { Direct, Buffered };

struct FileOptions {
  FileMode mode = FileMode::ReadWrite;
  FileCaching caching = FileCaching::Direct;
  bool exclusive_device = false;  // block devices: O_EXCL, so that a mounted or otherwise held device is Busy
  bool durable_writes = true;     // false: as on a file system that is not known to have them
};

class File {
 public:
  // An existing file or block device; blocking. Direct falls back to buffered where the file system has no O_DIRECT:
  // see is_direct().
  static Result<std::unique_ptr<File>> open(Loop& loop, const std::string& path, FileOptions options = {});
  // Nothing may be in flight.
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  bool is_direct() const { return direct_; }
  bool is_block_device() const { return block_device_; }
  // A write can be durable by itself, for no more than that costs. Else data_sync has an fdatasync follow: there are
  // file systems that take RWF_DSYNC, hand it on to whom they write through (FUSE), and are not heard.
  bool makes_writes_durable() const { return durable_writes_; }
  // As it was at open() or at the last refresh_size().
  uint64_t size_bytes() const { return size_bytes_; }
  Status refresh_size();
  // What memory addresses, and what offsets and lengths, must be multiples of, as the kernel says; 1 when buffered.
  uint32_t memory_alignment_bytes() const { return memory_alignment_bytes_; }
  uint32_t offset_alignment_bytes() const { return offset_alignment_bytes_; }

  // Until this object ends. Busy, naming the path, when another process, or another File here, holds it.
  Status lock_exclusive();

  // Callback forms. Reading past the end is EIO. The span stays valid (and unchanged for writes) until ended().
  void start_read(FileOperation& operation, std::span<uint8_t> into, uint64_t offset_bytes);
  void start_write(FileOperation& operation, std::span<const uint8_t> from, uint64_t offset_bytes,
                   bool data_sync = false);
  // fdatasync. After an error nothing may be assumed about earlier writes, and a later success proves nothing.
  void start_data_sync(FileOperation& operation);
  // EOPNOTSUPP where the file system or device cannot: the caller writes zeroes then.
  void start_zero(FileOperation& operation, ZeroMode mode, uint64_t offset_bytes, uint64_t length_bytes);

  // Awaitable forms. Errors are Io with the errno, the path and the offset.
  Task<Status> read(std::span<uint8_t> into, uint64_t offset_bytes);
  Task<Status> write(std::span<const uint8_t> from, uint64_t offset_bytes, bool data_sync = false);
  Task<Status> data_sync();
  Task<Status> zero(ZeroMode mode, uint64_t offset_bytes, uint64_t length_bytes);

  // Blocking forms, for start-up and tools: no loop needs to run. The same alignment rules.
  Status read_now(std::span<uint8_t> into, uint64_t offset_bytes) const;
  Status write_now(std::span<const uint8_t> from, uint64_t offset_bytes);
  Status data_sync_now();

 private:
  friend class FileOperation;
  File(Loop& loop, std::string path, int fd);
  Status ask_properties(bool want_direct);

  Loop& loop_;
  std::string path_;
  int fd_;
  bool direct_ = false;
  bool block_device_ = false;
  bool locked_ = false;
  bool durable_writes_ = false;
  uint64_t size_bytes_ = 0;
  uint32_t memory_alignment_bytes_ = 1;
  uint32_t offset_alignment_bytes_ = 1;
};

}  // namespace lockstep::io
