// The shipped recovery over a metadata file that a crash has left: MetadataStore::open, the bitmaps, Replica::start.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/disk_observer.h"
#include "io/loop.h"
#include "replicator/core/replica.h"
#include "replicator/metadata_store.h"

namespace lockstep::crash {

inline constexpr uint64_t kDeviceBytes = 128 * kMiB;  // 32 extents, two bitmap pages
inline constexpr uint64_t kBlocks = kDeviceBytes / repl::kBlockBytes;
inline constexpr uint32_t kActivityLogSlots = 18;  // fewer than extents, so that some are evicted

repl::ReplicaOptions replica_options();

struct Recovered {
  std::string error;  // of open(); the rest is then empty
  repl::SuperblockImage found;
  bool activity_log_valid = false;
  std::vector<uint32_t> activity_log;
  std::vector<std::vector<uint64_t>> pages;  // as loaded
  uint32_t damaged_pages = 0;
  // What the replica makes of it.
  repl::SuperblockImage image;
  std::vector<uint64_t> bits;  // a bit for each block: out of sync
};

class Recoverer : private io::DiskObserver {
 public:
  // Works in `path`, which it makes.
  Recoverer(std::string path, std::string node, std::string peer);
  ~Recoverer() override;

  // Puts the file into this state. `bytes` may be patched by patch() afterwards, cheaply.
  void put(const std::vector<uint8_t>& bytes);
  void patch(uint64_t offset_bytes, std::span<const uint8_t> bytes);

  // Opens and starts; what the replica asks to be persisted is not carried out, but what open() mends is.
  Recovered recover();
  // The same, and everything is carried out. `observer`, if any, is told of each request.
  Recovered recover_wholly(io::DiskObserver* observer);
  std::vector<uint8_t> content() const { return content_; }

 private:
  class Run;
  void disk_request_started(const void* operation, const io::DiskRequest& request) noexcept override;
  void disk_request_ended(const void* operation, int error_errno) noexcept override;
  io::Loop& loop();

  const std::string path_, node_, peer_;
  int fd_ = -1;
  std::vector<uint8_t> content_;  // of the file
  io::DiskObserver* observer_ = nullptr;
  std::unique_ptr<io::Loop> loop_;
};

}  // namespace lockstep::crash
