// What a power cut may leave of a file: everything that was made stable, and of each sector that was written since, the
// stable content or any that was written over it. A disk writes a sector of 512 bytes whole or not at all.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include "io/disk_observer.h"

namespace lockstep::crash {

inline constexpr uint64_t kSectorBytes = 512;

// A metadata file, byte by byte.
class MetadataModel {
 public:
  explicit MetadataModel(std::vector<uint8_t> stable) : stable_(std::move(stable)) {}

  void started(const void* operation, const io::DiskRequest& request);
  void ended(const void* operation, int error_errno);

  // Grows with each change of what may be found.
  uint64_t version() const { return version_; }
  bool is_settled() const { return pending_.empty(); }
  size_t writes_under_way() const;
  const std::vector<uint8_t>& stable() const { return stable_; }
  std::vector<uint8_t> newest() const;

  // A state is the sectors whose new content is on the disk. All of them when they are few, else the prefixes, the
  // suffixes, and `sample` drawn ones.
  using State = std::vector<bool>;
  struct Sector {
    uint64_t offset_bytes = 0;
    std::span<const uint8_t> bytes;  // the new content, which differs from the stable one
  };
  std::vector<Sector> open_sectors() const;
  static std::vector<State> states(size_t open_sectors, size_t sample, std::mt19937_64& random);

 private:
  struct Pending {
    const void* operation;
    uint64_t offset_bytes;
    std::vector<uint8_t> bytes;
    bool durable = false;
    bool ended = false;
    const void* sync = nullptr;  // the sync under way that makes it stable
  };
  void make_stable(const Pending& pending);

  std::vector<uint8_t> stable_;
  std::vector<Pending> pending_;  // oldest first
  uint64_t version_ = 1;
};

// A disk with data. Each sector's content is named by the number in its first eight bytes: the write that it is of.
class DataModel {
 public:
  void started(const void* operation, const io::DiskRequest& request);
  void ended(const void* operation, int error_errno);

  struct Sector {
    uint64_t stable = 0;
    std::vector<std::pair<uint64_t, uint64_t>> pending;  // of which request, what
  };
  const Sector& sector(uint64_t number) const;
  // Sectors whose possible contents have changed since the last call.
  std::vector<uint64_t> take_touched();

 private:
  struct Request {
    uint64_t id = 0;
    uint64_t first_sector = 0, sector_count = 0;
    bool durable = false, ended = false, lost = false;
    const void* operation = nullptr;
    const void* sync = nullptr;
  };
  void make_stable(const Request& request);

  std::unordered_map<uint64_t, Sector> sectors_;
  std::map<uint64_t, Request> requests_;
  uint64_t requests_started_ = 0;
  std::vector<uint64_t> touched_;
};

}  // namespace lockstep::crash
