#include "io/file_setup.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "io/base/units.h"

namespace lockstep::io {
namespace {

constexpr size_t kChunkBytes = 4 * kMiB;
constexpr size_t kAlignment = 4096;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Error write_error(const std::string& path, int system_errno) {
  Error error = system_error("cannot write zeroes to " + path, system_errno);
  if (system_errno == ENOSPC || system_errno == EDQUOT) error.kind = ErrorKind::Exhausted;
  return error;
}

// Past the page cache where the file system allows it: the image is far larger than what anybody reads soon.
bool try_direct(int fd, bool on) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

Status write_zeroes(int fd, const std::string& path, uint64_t size_bytes, const ZeroProgress& progress) {
  const std::unique_ptr<void, void (*)(void*)> zeroes(std::aligned_alloc(kAlignment, kChunkBytes), &std::free);
  if (zeroes == nullptr) return write_error(path, ENOMEM);
  std::memset(zeroes.get(), 0, kChunkBytes);
  bool direct = try_direct(fd, true);
  uint64_t done = 0;
  while (done < size_bytes) {
    const uint64_t left = size_bytes - done;
    if (direct && (left < kAlignment || done % kAlignment != 0)) direct = !try_direct(fd, false);
    uint64_t length = std::min<uint64_t>(left, kChunkBytes);
    if (direct) length = round_down(length, kAlignment);
    const ssize_t put = pwrite(fd, zeroes.get(), length, static_cast<off_t>(done));
    if (put < 0) {
      if (errno == EINTR) continue;
      if (errno == EINVAL && direct) {
        direct = !try_direct(fd, false);
        if (!direct) continue;
      }
      return write_error(path, errno);
    }
    if (put == 0) return write_error(path, EIO);
    done += static_cast<uint64_t>(put);
    if (progress) progress(done, size_bytes);
  }
  if (fsync(fd) != 0) return write_error(path, errno);
  return {};
}

}  // namespace

Status allocate_zeroed(const std::string& path, uint64_t size_bytes, const ZeroProgress& progress) {
  Result<uint64_t> free_bytes = free_space_bytes(path);
  if (!free_bytes.ok()) return std::move(free_bytes).error();
  if (*free_bytes < size_bytes) {
    return Error{ErrorKind::Exhausted, ENOSPC,
                 path + " needs " + format_size(size_bytes) + ", and its file system has " + format_size(*free_bytes) +
                     " free: make room, or choose another place or a smaller size"};
  }
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) {
    Error error = system_error("cannot create " + path, errno);
    if (error.system_errno == EEXIST) error.kind = ErrorKind::Refused;
    if (error.system_errno == ENOENT) error.kind = ErrorKind::NotFound;
    return error;
  }
  // Reserved in one piece first, so that a lack of room shows before the writing; not every file system can.
  Status done;
  if (size_bytes > 0 && fallocate(file.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0 && errno != EOPNOTSUPP) {
    done = write_error(path, errno);
  }
  if (done.ok()) done = write_zeroes(file.get(), path, size_bytes, progress);
  if (done.ok()) done = sync_folder_of(path);
  if (!done.ok()) unlink(path.c_str());
  return done;
}

Status overwrite_with_zeroes(const std::string& path, const ZeroProgress& progress) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) {
    Error error = system_error("cannot open " + path, errno);
    if (error.system_errno == ENOENT) error.kind = ErrorKind::NotFound;
    return error;
  }
  struct stat found {};
  if (fstat(file.get(), &found) != 0) return system_error("cannot read the size of " + path, errno);
  auto size_bytes = static_cast<uint64_t>(found.st_size);
  if (S_ISBLK(found.st_mode)) {
    if (ioctl(file.get(), BLKGETSIZE64, &size_bytes) != 0) {
      return system_error("cannot read the size of " + path, errno);
    }
  } else if (!S_ISREG(found.st_mode)) {
    return Error{ErrorKind::Invalid, 0, path + " is neither a file nor a block device"};
  }
  return write_zeroes(file.get(), path, size_bytes, progress);
}

Status sync_folder_of(const std::string& path) {
  const std::string folder = folder_of(path);
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) return system_error("cannot open the folder " + folder, errno);
  if (fsync(opened.get()) != 0) return system_error("cannot sync the folder " + folder, errno);
  return {};
}

Result<uint64_t> free_space_bytes(const std::string& path) {
  const std::string folder = folder_of(path);
  struct statvfs told {};
  if (statvfs(folder.c_str(), &told) != 0) {
    Error error = system_error("cannot ask the free space of " + folder, errno);
    if (error.system_errno == ENOENT) error.kind = ErrorKind::NotFound;
    return error;
  }
  return static_cast<uint64_t>(told.f_bavail) * told.f_frsize;
}

}  // namespace lockstep::io
