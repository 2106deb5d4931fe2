#include "replicator/metadata_setup.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "io/file_setup.h"

namespace lockstep::repl {
namespace {

constexpr size_t kBatchUnits = 256;

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

Error write_error(const std::string& path, int system_errno) {
  Error error = system_error("cannot write metadata to " + path, system_errno);
  if (system_errno == ENOSPC || system_errno == EDQUOT) error.kind = ErrorKind::Exhausted;
  return error;
}

Status write_at(int fd, const std::string& path, std::span<const uint8_t> bytes, uint64_t offset_bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return write_error(path, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset_bytes += static_cast<uint64_t>(written);
  }
  return {};
}

Status read_at(int fd, const std::string& path, std::span<uint8_t> bytes, uint64_t offset_bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read metadata from " + path, errno);
    if (got == 0) return Error{ErrorKind::Corrupt, 0, "the metadata in " + path + " is cut off: the file is too short"};
    bytes = bytes.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return {};
}

Status check_parameters(const MetadataParameters& parameters) {
  const auto invalid = [](std::string what) { return Error{ErrorKind::Invalid, 0, std::move(what)}; };
  if (parameters.size_bytes == 0 || parameters.size_bytes % kBlockBytes != 0) {
    return invalid("the size of a resource must be a multiple of 4096 bytes, not " +
                   std::to_string(parameters.size_bytes));
  }
  if (parameters.peer_names.size() > kMaximumPeers) return invalid("a resource has at most 8 nodes");
  if (parameters.activity_log_slots == 0 || parameters.activity_log_slots > kMaximumActivityLogSlots) {
    return invalid("an activity log has 1 to " + std::to_string(kMaximumActivityLogSlots) + " extents, not " +
                   std::to_string(parameters.activity_log_slots));
  }
  if (parameters.existing_data && parameters.generation.is_zero()) {
    return invalid("existing data needs a generation of its own");
  }
  std::vector<std::string> names = parameters.peer_names;
  names.push_back(parameters.node_name);
  names.push_back(parameters.resource_name);
  for (const std::string& name : names) {
    if (name.empty() || name.size() > kMaximumNameBytes) return invalid("'" + name + "' is no name of 1 to 64 bytes");
  }
  return {};
}

Superblock first_superblock(const MetadataParameters& parameters) {
  const auto peer_count = static_cast<uint32_t>(parameters.peer_names.size());
  Superblock superblock;
  superblock.sequence = 1;
  superblock.identity.resource_id = resource_id_of(parameters.resource_name);
  superblock.identity.size_bytes = parameters.size_bytes;
  superblock.identity.peer_count = peer_count;
  superblock.identity.activity_log_slots = parameters.activity_log_slots;
  superblock.layout = metadata_layout(parameters.size_bytes, peer_count);
  superblock.resource_name = parameters.resource_name;
  superblock.node_name = parameters.node_name;
  superblock.peer_names = parameters.peer_names;
  superblock.image.life.birth = parameters.birth;
  if (parameters.existing_data) {
    superblock.image.current = parameters.generation;
    superblock.image.disk_state = DiskState::UpToDate;
    // No peer ever held this data, so none can have overtaken it: the disk is UpToDate also before it meets one.
    for (size_t peer = 0; peer < parameters.peer_names.size(); ++peer) {
      superblock.image.peers[peer].bitmap_generation = kHeldByNobody;
    }
  }
  return superblock;
}

Status write_bitmaps(int fd, const std::string& path, const Superblock& superblock) {
  const std::array<uint64_t, kWordsPerBitmapPage> clear{};
  const MetadataLayout& layout = superblock.layout;
  std::vector<uint8_t> batch(kBatchUnits * kMetadataUnitBytes);
  const auto stride_units = static_cast<uint32_t>(layout.bitmap_stride_bytes / kMetadataUnitBytes);
  for (PeerIndex peer = 0; peer < superblock.identity.peer_count; ++peer) {
    for (uint32_t first = 0; first < stride_units; first += kBatchUnits) {
      const uint32_t count = std::min(static_cast<uint32_t>(kBatchUnits), stride_units - first);
      std::fill(batch.begin(), batch.end(), uint8_t{0});
      for (uint32_t page = first; page < std::min(first + count, layout.pages_per_bitmap); ++page) {
        const std::span<uint8_t> unit = std::span(batch).subspan((page - first) * kMetadataUnitBytes);
        encode_bitmap_page({superblock.identity.resource_id, peer, page}, clear, unit.first<kMetadataUnitBytes>());
      }
      const auto bytes = std::span<const uint8_t>(batch).first(count * kMetadataUnitBytes);
      if (Status status = write_at(fd, path, bytes, layout.page_offset_bytes(peer, first)); !status) return status;
    }
  }
  return {};
}

// Superblocks are zeroed first and written last, so that a crash in between leaves no metadata rather than a mixture.
Status write_everything(int fd, const std::string& path, const Superblock& superblock) {
  const MetadataLayout& layout = superblock.layout;
  const auto sync = [&]() -> Status {
    if (::fdatasync(fd) != 0) return write_error(path, errno);
    return {};
  };
  const std::vector<uint8_t> zeroes(layout.activity_log_offset_bytes);
  std::vector<uint8_t> ring(kActivityLogRecords * kMetadataUnitBytes);
  encode_empty_ring(1, superblock.identity.activity_log_slots, ring);
  if (Status status = write_at(fd, path, zeroes, 0); !status) return status;
  if (Status status = sync(); !status) return status;
  if (Status status = write_at(fd, path, ring, layout.activity_log_offset_bytes); !status) return status;
  if (Status status = write_bitmaps(fd, path, superblock); !status) return status;
  if (Status status = sync(); !status) return status;
  std::array<uint8_t, kMetadataUnitBytes> unit{};
  encode_superblock(superblock, unit);
  for (size_t copy = 0; copy < kSuperblockCopies; ++copy) {
    if (Status status = write_at(fd, path, unit, copy * kMetadataUnitBytes); !status) return status;
  }
  if (::fsync(fd) != 0) return write_error(path, errno);
  return {};
}

Status refuse_if_held(const std::string& path) {
  const Descriptor file(path, O_RDWR);
  if (file.get() < 0) {
    if (errno == ENOENT) return {};
    return system_error("cannot open " + path, errno);
  }
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{ErrorKind::Busy, errno, path + " is in use: a daemon runs on this metadata; stop it first"};
  }
  return {};
}

Status create_on_device(const std::string& path, const Superblock& superblock, uint64_t size_bytes) {
  const Descriptor device(path, O_RDWR | O_EXCL);
  if (device.get() < 0) return system_error("cannot open " + path, errno);
  const off_t end = ::lseek(device.get(), 0, SEEK_END);
  if (end < 0) return system_error("cannot ask for the size of " + path, errno);
  if (static_cast<uint64_t>(end) < size_bytes) {
    return Error{ErrorKind::Invalid, 0,
                 path + " is too small for the metadata: it has " + std::to_string(end) + " bytes, " +
                     std::to_string(size_bytes) + " are needed"};
  }
  return write_everything(device.get(), path, superblock);
}

Status create_file(const std::string& path, const Superblock& superblock) {
  const std::string unfinished = path + ".new";
  {
    const Descriptor file(unfinished, O_RDWR | O_CREAT | O_TRUNC);
    if (file.get() < 0) return system_error("cannot create " + unfinished, errno);
    if (Status status = write_everything(file.get(), unfinished, superblock); !status) {
      ::unlink(unfinished.c_str());
      return status;
    }
  }
  if (::rename(unfinished.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(unfinished.c_str());
    return system_error("cannot rename " + unfinished + " to " + path, reason);
  }
  return io::sync_folder_of(path);
}

Result<SuperblockChoice> read_superblocks(int fd, const std::string& path) {
  std::vector<uint8_t> copies(kSuperblockCopies * kMetadataUnitBytes);
  if (Status status = read_at(fd, path, copies, 0); !status) {
    if (status.error().kind != ErrorKind::Corrupt) return status.error();
    return Error{ErrorKind::Invalid, 0, path + " holds no Lockstep metadata: it is too short"};
  }
  const std::span<const uint8_t> bytes(copies);
  auto choice =
      choose_superblock(bytes.first<kMetadataUnitBytes>(), bytes.subspan<kMetadataUnitBytes, kMetadataUnitBytes>());
  if (auto* chosen = std::get_if<SuperblockChoice>(&choice)) return std::move(*chosen);
  return superblock_error(path, std::get<SuperblockChoiceFault>(choice));
}

}  // namespace

Error superblock_error(const std::string& path, const SuperblockChoiceFault& fault) {
  switch (fault.fault) {
    case SuperblockFault::NoMagic:
      return {ErrorKind::Invalid, 0,
              path +
                  " holds no Lockstep metadata: correct 'metadata' in the configuration, or make it with 'lockstep "
                  "create'"};
    case SuperblockFault::UnknownVersion:
      return {ErrorKind::Unsupported, 0,
              "the metadata in " + path + " is of version " + std::to_string(fault.version) +
                  ", this program knows version " + std::to_string(kMetadataVersion) +
                  ": use the Lockstep that wrote it"};
    case SuperblockFault::BadChecksum:
    case SuperblockFault::BadField:
      break;
  }
  return {
      ErrorKind::Corrupt, 0,
      "the metadata in " + path +
          " is damaged (no superblock is valid): if a peer has the data, make it anew with 'lockstep create --force'"};
}

uint64_t metadata_size_bytes(const MetadataParameters& parameters) {
  const auto peer_count = static_cast<uint32_t>(parameters.peer_names.size());
  return metadata_size_bytes(metadata_layout(parameters.size_bytes, peer_count), peer_count);
}

Status create_metadata(const std::string& path, const MetadataParameters& parameters) {
  if (Status status = check_parameters(parameters); !status) return status;
  if (Status status = refuse_if_held(path); !status) return status;
  Superblock superblock = first_superblock(parameters);
  uint64_t& birth = superblock.image.life.birth;
  if (birth == 0 && ::getrandom(&birth, sizeof(birth), 0) != static_cast<ssize_t>(sizeof(birth))) {
    return system_error("cannot get random bytes from the system", errno);
  }
  struct stat found {};
  if (::stat(path.c_str(), &found) == 0 && S_ISBLK(found.st_mode)) {
    return create_on_device(path, superblock, metadata_size_bytes(parameters));
  }
  return create_file(path, superblock);
}

Result<Superblock> find_metadata(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0) {
    Error error = system_error("cannot open " + path, errno);
    if (errno == ENOENT) error.kind = ErrorKind::NotFound;
    return error;
  }
  auto choice = read_superblocks(file.get(), path);
  if (!choice) return choice.error();
  return std::move(choice->superblock);
}

Result<MetadataSummary> summarize_metadata(const std::string& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.get() < 0) {
    Error error = system_error("cannot open " + path, errno);
    if (errno == ENOENT) error.kind = ErrorKind::NotFound;
    return error;
  }
  auto choice = read_superblocks(file.get(), path);
  if (!choice) return choice.error();
  MetadataSummary summary;
  summary.superblock = std::move(choice->superblock);
  summary.superblock_copies_agree = choice->copies_agree;
  const MetadataIdentity& identity = summary.superblock.identity;
  const MetadataLayout& layout = summary.superblock.layout;

  // False: nothing there, since the file ends before.
  const auto read = [&](std::span<uint8_t> bytes, uint64_t offset_bytes) -> Result<bool> {
    const Status status = read_at(file.get(), path, bytes, offset_bytes);
    if (status.ok()) return true;
    if (status.error().kind != ErrorKind::Corrupt) return status.error();
    summary.cut_off = true;
    return false;
  };
  std::array<uint8_t, kMetadataUnitBytes> unit{};
  for (size_t copy = 0; copy < kSuperblockCopies; ++copy) {
    const Result<bool> there = read(unit, copy * kMetadataUnitBytes);
    if (!there) return there.error();
    const SuperblockDecoding decoding = *there ? decode_superblock(unit) : SuperblockDecoding{};
    if (decoding.superblock) summary.copies[copy] = {true, decoding.superblock->sequence};
  }

  std::vector<uint8_t> ring(kActivityLogRecords * kMetadataUnitBytes);
  const Result<bool> ring_there = read(ring, layout.activity_log_offset_bytes);
  if (!ring_there) return ring_there.error();
  if (*ring_there) {
    const ActivityLogRecovery log =
        recover_activity_log(ring, identity.activity_log_slots, divide_up(identity.size_bytes, kExtentBytes));
    summary.activity_log_valid = log.valid;
    summary.next_transaction = log.next.number;
    for (const uint32_t extent : log.slots) {
      if (extent != kNoExtent) summary.hot_extents.push_back(extent);
    }
    std::sort(summary.hot_extents.begin(), summary.hot_extents.end());
  }

  std::array<uint64_t, kWordsPerBitmapPage> words{};
  summary.bitmaps.resize(identity.peer_count);
  for (PeerIndex peer = 0; peer < identity.peer_count; ++peer) {
    MetadataSummary::Bitmap& bitmap = summary.bitmaps[peer];
    for (uint32_t page = 0; page < layout.pages_per_bitmap; ++page) {
      const Result<bool> there = read(unit, layout.page_offset_bytes(peer, page));
      if (!there) return there.error();
      if (!*there || !decode_bitmap_page({identity.resource_id, peer, page}, unit, words)) {
        if (bitmap.damaged_pages++ < MetadataSummary::Bitmap::kNamedPages) bitmap.first_damaged.push_back(page);
        continue;
      }
      for (const uint64_t word : words) bitmap.dirty_blocks += static_cast<uint64_t>(std::popcount(word));
    }
  }
  return summary;
}

}  // namespace lockstep::repl
