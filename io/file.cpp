#include "io/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <cstdlib>
#include <utility>

#include "io/disk_observer.h"

namespace lockstep::io {
namespace {

constexpr uint32_t kSafeAlignment = 4096;
constexpr uint32_t kSmallAlignment = 512;

constexpr unsigned kXfsMagic = 0x58465342;  // not among those of linux/magic.h

// Those of which it is known.
bool has_durable_writes(int fd) {
  struct statfs found {};
  if (fstatfs(fd, &found) != 0) return false;
  switch (static_cast<unsigned>(found.f_type)) {
    case EXT4_SUPER_MAGIC:
    case kXfsMagic:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
      return true;
    default:
      return false;
  }
}

Error open_error(const std::string& path, int system_errno) {
  Error error = system_error("cannot open " + path, system_errno);
  switch (system_errno) {
    case ENOENT:
      error.kind = ErrorKind::NotFound;
      break;
    case EBUSY:
    case ETXTBSY:
      error.kind = ErrorKind::Busy;
      error.message += ": it is mounted or in use by another program";
      break;
    default:
      break;
  }
  return error;
}

// For kernels that do not tell: whether a small aligned read works. A file that is too short to try gets the safe one.
uint32_t probe_alignment(int fd, uint64_t size_bytes) {
  if (size_bytes < 2 * kSmallAlignment) return kSafeAlignment;
  void* memory = std::aligned_alloc(kSafeAlignment, 2 * kSafeAlignment);
  if (memory == nullptr) return kSafeAlignment;
  const ssize_t got =
      pread(fd, static_cast<uint8_t*>(memory) + kSmallAlignment, kSmallAlignment, static_cast<off_t>(kSmallAlignment));
  std::free(memory);
  return got == static_cast<ssize_t>(kSmallAlignment) ? kSmallAlignment : kSafeAlignment;
}

int fallocate_mode(ZeroMode mode) {
  return FALLOC_FL_KEEP_SIZE | (mode == ZeroMode::PunchHole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

class AwaitedFileOperation final : public FileOperation {
 public:
  explicit AwaitedFileOperation() = default;
  bool await_ready() const noexcept { return !in_flight(); }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
  }
  int await_resume() const noexcept { return error_errno_; }

 private:
  // Completions are never delivered inline, so the awaiting task is suspended by now.
  void ended(int error_errno) noexcept override {
    error_errno_ = error_errno;
    waiting_->run();
  }
  TaskPromiseBase* waiting_ = nullptr;
  int error_errno_ = 0;
};

Status file_status(const std::string& path, const char* what, uint64_t offset_bytes, int error_errno) {
  if (error_errno == 0) return {};
  return system_error("cannot " + std::string(what) + " " + path + " at byte " + std::to_string(offset_bytes),
                      error_errno);
}

}  // namespace

Result<std::unique_ptr<File>> File::open(Loop& loop, const std::string& path, FileOptions options) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) return open_error(path, errno);
  const bool block_device = S_ISBLK(found.st_mode);
  if (!block_device && !S_ISREG(found.st_mode)) {
    return Error{ErrorKind::Invalid, 0, path + " is neither a file nor a block device"};
  }
  const bool want_direct = options.caching == FileCaching::Direct;
  int flags = O_CLOEXEC | (options.mode == FileMode::ReadOnly ? O_RDONLY : O_RDWR);
  if (block_device && options.exclusive_device) flags |= O_EXCL;
  int fd = ::open(path.c_str(), flags | (want_direct ? O_DIRECT : 0));
  if (fd < 0 && want_direct && errno == EINVAL) fd = ::open(path.c_str(), flags);
  if (fd < 0) return open_error(path, errno);
  std::unique_ptr<File> file(new File(loop, path, fd));
  file->block_device_ = block_device;
  file->durable_writes_ = options.durable_writes && (block_device || has_durable_writes(fd));
  if (Status known = file->refresh_size(); !known.ok()) return std::move(known).error();
  if (Status known = file->ask_properties(want_direct); !known.ok()) return std::move(known).error();
  return file;
}

File::File(Loop& loop, std::string path, int fd) : loop_(loop), path_(std::move(path)), fd_(fd) {}

File::~File() {
  ::close(fd_);
}

Status File::refresh_size() {
  if (block_device_) {
    uint64_t size = 0;
    if (ioctl(fd_, BLKGETSIZE64, &size) != 0) return system_error("cannot read the size of " + path_, errno);
    size_bytes_ = size;
    return {};
  }
  struct stat found {};
  if (fstat(fd_, &found) != 0) return system_error("cannot read the size of " + path_, errno);
  size_bytes_ = static_cast<uint64_t>(found.st_size);
  return {};
}

Status File::ask_properties(bool want_direct) {
  const int flags = fcntl(fd_, F_GETFL);
  if (flags < 0) return system_error("cannot read the flags of " + path_, errno);
  direct_ = want_direct && (flags & O_DIRECT) != 0;
  if (!direct_) return {};

  struct statx told {};
  if (statx(fd_, "", AT_EMPTY_PATH, STATX_DIOALIGN, &told) == 0 && (told.stx_mask & STATX_DIOALIGN) != 0) {
    if (told.stx_dio_offset_align == 0) {  // the file system accepts the flag and cannot do it
      if (fcntl(fd_, F_SETFL, flags & ~O_DIRECT) != 0) return system_error("cannot use " + path_ + " buffered", errno);
      direct_ = false;
      return {};
    }
    memory_alignment_bytes_ = std::max<uint32_t>(told.stx_dio_mem_align, 1);
    offset_alignment_bytes_ = told.stx_dio_offset_align;
    return {};
  }
  if (block_device_) {
    int sector_bytes = 0;
    if (ioctl(fd_, BLKSSZGET, &sector_bytes) != 0 || sector_bytes <= 0) sector_bytes = static_cast<int>(kSafeAlignment);
    offset_alignment_bytes_ = static_cast<uint32_t>(sector_bytes);
  } else {
    offset_alignment_bytes_ = probe_alignment(fd_, size_bytes_);
  }
  memory_alignment_bytes_ = offset_alignment_bytes_;
  return {};
}

Status File::lock_exclusive() {
  if (locked_) return {};
  while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) {
      return Error{
          ErrorKind::Busy, EWOULDBLOCK,
          path_ + " is in use: another program has it locked ('fuser " + path_ + "' shows which); stop it first"};
    }
    return system_error("cannot lock " + path_, errno);
  }
  locked_ = true;
  return {};
}

void File::start_read(FileOperation& operation, std::span<uint8_t> into, uint64_t offset_bytes) {
  operation.file_ = this;
  operation.kind_ = FileOperation::Kind::Read;
  operation.memory_ = into.data();
  operation.offset_bytes_ = offset_bytes;
  operation.left_bytes_ = into.size();
  operation.begin();
}

void File::start_write(FileOperation& operation, std::span<const uint8_t> from, uint64_t offset_bytes, bool data_sync) {
  operation.file_ = this;
  operation.kind_ = FileOperation::Kind::Write;
  operation.data_sync_ = data_sync;
  operation.memory_ = const_cast<uint8_t*>(from.data());  // only read from
  operation.offset_bytes_ = offset_bytes;
  operation.left_bytes_ = from.size();
  operation.begin();
}

void File::start_data_sync(FileOperation& operation) {
  operation.file_ = this;
  operation.kind_ = FileOperation::Kind::DataSync;
  operation.begin();
}

void File::start_zero(FileOperation& operation, ZeroMode mode, uint64_t offset_bytes, uint64_t length_bytes) {
  operation.file_ = this;
  operation.kind_ = FileOperation::Kind::Zero;
  operation.zero_mode_ = mode;
  operation.offset_bytes_ = offset_bytes;
  operation.left_bytes_ = length_bytes;
  operation.begin();
}

void FileOperation::begin() {
  if (DiskObserver* observer = file_->loop_.disk_observer(); observer != nullptr && kind_ != Kind::Read) {
    DiskRequest request;
    request.file = file_;
    if (kind_ == Kind::DataSync) {
      request.kind = DiskRequestKind::Sync;
    } else {
      request.kind = kind_ == Kind::Write ? DiskRequestKind::Write : DiskRequestKind::Zero;
      request.offset_bytes = offset_bytes_;
      request.length_bytes = left_bytes_;
      if (kind_ == Kind::Write) request.bytes = {memory_, left_bytes_};
      request.durable = kind_ == Kind::Write && data_sync_ && file_->makes_writes_durable();
    }
    observer->disk_request_started(this, request);
  }
  go_on();
}

void FileOperation::end(int error_errno) noexcept {
  DiskObserver* observer = file_->loop_.disk_observer();
  if (observer != nullptr && kind_ != Kind::Read) observer->disk_request_ended(this, error_errno);
  ended(error_errno);
}

void FileOperation::go_on() {
  Loop& loop = file_->loop_;
  switch (kind_) {
    case Kind::Read:
      loop.start_read(*this, file_->fd_, {memory_, left_bytes_}, offset_bytes_);
      return;
    case Kind::Write:
      loop.start_write(*this, file_->fd_, {memory_, left_bytes_}, offset_bytes_,
                       data_sync_ && file_->makes_writes_durable());
      return;
    case Kind::DataSync:
      loop.start_fdatasync(*this, file_->fd_);
      return;
    case Kind::Zero:
      loop.start_fallocate(*this, file_->fd_, fallocate_mode(zero_mode_), offset_bytes_, left_bytes_);
      return;
  }
}

void FileOperation::transferred() noexcept {
  if (kind_ != Kind::Write || !data_sync_ || file_->makes_writes_durable()) return end(0);
  syncs_ = true;
  if (DiskObserver* observer = file_->loop_.disk_observer(); observer != nullptr) {
    observer->disk_request_ended(this, 0);
    observer->disk_request_started(this, {DiskRequestKind::Sync, file_, 0, 0, {}, false});
  }
  file_->loop_.start_fdatasync(*this, file_->fd_);
}

void FileOperation::completed(int32_t result) noexcept {
  // A sync is not repeated even for EINTR or EAGAIN: after a failed one nothing is known of the earlier writes.
  const bool syncs = kind_ == Kind::DataSync || std::exchange(syncs_, false);
  if ((result == -EINTR || result == -EAGAIN) && !syncs) return go_on();
  if (result < 0) return end(-result);
  if (syncs || kind_ == Kind::Zero) return end(0);
  auto done = static_cast<size_t>(result);
  if (done >= left_bytes_) return transferred();
  // What follows must be aligned too: go back to the last boundary that was passed.
  done -= done % file_->offset_alignment_bytes_;
  if (done == 0) return end(EIO);
  memory_ += done;
  offset_bytes_ += done;
  left_bytes_ -= done;
  go_on();
}

Task<Status> File::read(std::span<uint8_t> into, uint64_t offset_bytes) {
  AwaitedFileOperation operation;
  start_read(operation, into, offset_bytes);
  const int error_errno = co_await operation;
  co_return file_status(path_, "read", offset_bytes, error_errno);
}

Task<Status> File::write(std::span<const uint8_t> from, uint64_t offset_bytes, bool data_sync) {
  AwaitedFileOperation operation;
  start_write(operation, from, offset_bytes, data_sync);
  const int error_errno = co_await operation;
  co_return file_status(path_, "write", offset_bytes, error_errno);
}

Task<Status> File::data_sync() {
  AwaitedFileOperation operation;
  start_data_sync(operation);
  const int error_errno = co_await operation;
  co_return file_status(path_, "sync", 0, error_errno);
}

Task<Status> File::zero(ZeroMode mode, uint64_t offset_bytes, uint64_t length_bytes) {
  AwaitedFileOperation operation;
  start_zero(operation, mode, offset_bytes, length_bytes);
  const int error_errno = co_await operation;
  co_return file_status(path_, "zero", offset_bytes, error_errno);
}

Status File::read_now(std::span<uint8_t> into, uint64_t offset_bytes) const {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = pread(fd_, into.data() + done, into.size() - done, static_cast<off_t>(offset_bytes + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return file_status(path_, "read", offset_bytes + done, got == 0 ? EIO : errno);
    done += static_cast<size_t>(got);
  }
  return {};
}

Status File::write_now(std::span<const uint8_t> from, uint64_t offset_bytes) {
  if (DiskObserver* observer = loop_.disk_observer(); observer != nullptr) {
    observer->disk_request_started(this, {DiskRequestKind::Write, this, offset_bytes, from.size(), from, false});
  }
  size_t done = 0;
  while (done < from.size()) {
    const ssize_t put = pwrite(fd_, from.data() + done, from.size() - done, static_cast<off_t>(offset_bytes + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      const int reason = put == 0 ? EIO : errno;
      if (loop_.disk_observer() != nullptr) loop_.disk_observer()->disk_request_ended(this, reason);
      return file_status(path_, "write", offset_bytes + done, reason);
    }
    done += static_cast<size_t>(put);
  }
  if (loop_.disk_observer() != nullptr) loop_.disk_observer()->disk_request_ended(this, 0);
  return {};
}

Status File::data_sync_now() {
  DiskObserver* observer = loop_.disk_observer();
  if (observer != nullptr) observer->disk_request_started(this, {DiskRequestKind::Sync, this, 0, 0, {}, false});
  const int reason = fdatasync(fd_) == 0 ? 0 : errno;
  if (observer != nullptr) observer->disk_request_ended(this, reason);
  return file_status(path_, "sync", 0, reason);
}

}  // namespace lockstep::io
