#include "tools/disk_inspection.h"

#include <blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "replicator/metadata_setup.h"

namespace lockstep::tools {
namespace {

// The loop device that stands on the file, or empty. A file system that is mounted through one is not locked in any
// way that the file itself would tell.
std::string loop_device_on(const std::string& path) {
  std::error_code code;
  const std::filesystem::path real = std::filesystem::canonical(path, code);
  if (code) return {};
  for (auto entry = std::filesystem::directory_iterator("/sys/block", code);
       !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    std::ifstream backing(entry->path() / "loop" / "backing_file");
    std::string line;
    if (std::getline(backing, line) && line == real.string()) return "/dev/" + entry->path().filename().string();
  }
  return {};
}

std::string probe_value(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  if (blkid_probe_lookup_value(probe, name, &value, nullptr) != 0 || value == nullptr) return {};
  return value;
}

std::string with_article(const std::string& noun) {
  return (std::string("aeiou").find(noun.front()) == std::string::npos ? "a " : "an ") + noun;
}

std::string describe(blkid_probe probe) {
  const std::string type = probe_value(probe, "TYPE");
  const std::string usage = probe_value(probe, "USAGE");
  const std::string partitions = probe_value(probe, "PTTYPE");
  if (type.empty()) return partitions.empty() ? "" : "a partition table (" + partitions + ")";
  if (usage == "filesystem") return with_article(type) + " file system";
  return with_article(type) + " signature";
}

}  // namespace

Result<HeldPath> HeldPath::open(const std::string& path) {
  HeldPath held(path);
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) {
    if (errno != ENOENT) return system_error("cannot open " + path, errno);
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::error_code code;
    if (std::filesystem::is_directory(folder, code)) return held;
    return Error{ErrorKind::NotFound, ENOENT,
                 "cannot make " + path + ": there is no folder " + folder.string() + ": make it with 'mkdir -p'"};
  }
  const bool device = S_ISBLK(about.st_mode);
  if (!device && !S_ISREG(about.st_mode)) {
    return Error{ErrorKind::Invalid, 0, path + " is neither a file nor a block device"};
  }
  // O_EXCL without O_CREAT: the kernel refuses a device that is mounted, or part of another device.
  held.fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (device ? O_EXCL : 0));
  if (held.fd_ < 0) {
    const int code = errno;
    if (code == EBUSY) {
      return Error{ErrorKind::Busy, code,
                   path + " is in use: it is mounted or part of another device: see 'lsblk " + path + "'"};
    }
    return system_error("cannot open " + path + " for writing", code);
  }
  held.kind_ = device ? PathKind::Device : PathKind::File;
  // The same lock that the daemon holds (io::File::lock_exclusive).
  while (::flock(held.fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return system_error("cannot lock " + path, errno);
    return Error{ErrorKind::Busy, errno,
                 path + " is in use: a daemon or another program has it locked: see 'fuser -v " + path + "'"};
  }
  held.size_bytes_ = static_cast<uint64_t>(about.st_size);
  if (device) {
    if (::ioctl(held.fd_, BLKGETSIZE64, &held.size_bytes_) != 0)
      return system_error("cannot ask the size of " + path, errno);
  } else if (const std::string loop_device = loop_device_on(path); !loop_device.empty()) {
    return Error{ErrorKind::Busy, 0,
                 path + " is in use: " + loop_device + " stands on it: end that with 'losetup -d " + loop_device + "'"};
  }
  return held;
}

HeldPath::~HeldPath() {
  if (fd_ >= 0) ::close(fd_);
}

HeldPath::HeldPath(HeldPath&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      kind_(other.kind_),
      size_bytes_(other.size_bytes_) {}

bool HeldPath::is_lockstep_metadata() const {
  // Also metadata that is damaged or of another version is somebody's.
  const Result<repl::Superblock> found = repl::find_metadata(path_);
  return found || found.error().kind == ErrorKind::Corrupt || found.error().kind == ErrorKind::Unsupported;
}

Result<std::string> HeldPath::known_content() const {
  if (kind_ == PathKind::Missing || size_bytes_ == 0) return std::string();
  if (is_lockstep_metadata()) return std::string("Lockstep metadata");
  const std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)> probe(blkid_new_probe(), &blkid_free_probe);
  if (probe == nullptr || blkid_probe_set_device(probe.get(), fd_, 0, 0) != 0) {
    return system_error("cannot look at what " + path_ + " holds", errno == 0 ? EIO : errno);
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  switch (blkid_do_safeprobe(probe.get())) {
    case 0:
      return describe(probe.get());
    case 1:
      return std::string();
    case -2:
      return std::string("the signatures of several file systems");
    default:
      return system_error("cannot look at what " + path_ + " holds", errno == 0 ? EIO : errno);
  }
}

Status HeldPath::reserve_space() {
  if (kind_ != PathKind::File || size_bytes_ == 0) return {};
  if (::fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size_bytes_)) == 0 || errno == EOPNOTSUPP) return {};
  Error error = system_error("cannot reserve the space of " + path_, errno);
  if (errno == ENOSPC || errno == EDQUOT) error.kind = ErrorKind::Exhausted;
  return error;
}

Status HeldPath::wipe_start(uint64_t length_bytes) {
  const std::vector<uint8_t> zeroes(std::min(length_bytes, size_bytes_));
  for (size_t done = 0; done < zeroes.size();) {
    const ssize_t put = ::pwrite(fd_, zeroes.data() + done, zeroes.size() - done, static_cast<off_t>(done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return system_error("cannot write to " + path_, put == 0 ? EIO : errno);
    done += static_cast<size_t>(put);
  }
  if (::fsync(fd_) != 0) return system_error("cannot write to " + path_, errno);
  return {};
}

dev_t file_system_of(const std::string& path) {
  struct stat about {};
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return ::stat(folder.c_str(), &about) == 0 ? about.st_dev : 0;
}

}  // namespace lockstep::tools
