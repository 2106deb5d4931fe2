// Making and looking at metadata while no daemon uses it. Everything here blocks; no loop is needed.
// docs/on-disk-format.md describes the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "io/base/result.h"
#include "replicator/metadata_format.h"

namespace lockstep::repl {

struct MetadataParameters {
  std::string resource_name;
  std::string node_name;
  std::vector<std::string> peer_names;  // their order numbers the bitmaps
  uint64_t size_bytes = 0;              // of the device
  uint32_t activity_log_slots = 1237;
  // The disk holds data that the peers are to get: it is UpToDate from the start and has `generation`, which must not
  // be zero. Otherwise the disk was zeroed: it is Inconsistent until a first promotion or a peer says more.
  bool existing_data = false;
  Generation generation;
  uint64_t birth = 0;  // of the disk's life; 0: drawn
};

// The metadata file's size for such parameters.
uint64_t metadata_size_bytes(const MetadataParameters& parameters);

// Writes new metadata, synced, file and folder. A regular file is replaced at once by a complete one, or stays as it
// was; a block device is written in place, the superblocks last. Busy when a daemon holds the file, Exhausted without
// room, Invalid on parameters that make no sense. Does not ask whether old metadata may be lost: see find_metadata().
Status create_metadata(const std::string& path, const MetadataParameters& parameters);

// What is at `path`: a superblock; NotFound when there is no such file, Invalid when it holds no Lockstep metadata,
// Corrupt or Unsupported (another version) when it does, but cannot be used.
Result<Superblock> find_metadata(const std::string& path);

// The same errors for a caller that has read the superblocks itself.
Error superblock_error(const std::string& path, const SuperblockChoiceFault& fault);

// For dump-metadata: as much as can be read. The errors are those of find_metadata().
struct MetadataSummary {
  Superblock superblock;
  bool superblock_copies_agree = false;
  struct Copy {
    bool valid = false;
    uint64_t sequence = 0;  // of a valid one
  };
  std::array<Copy, kSuperblockCopies> copies;
  bool cut_off = false;  // the file ends too early: what is missing counts as damaged
  bool activity_log_valid = false;
  uint64_t next_transaction = 0;
  std::vector<uint32_t> hot_extents;  // sorted
  struct Bitmap {
    uint64_t dirty_blocks = 0;
    uint32_t damaged_pages = 0;  // everything in them counts as dirty, but not in dirty_blocks
    static constexpr size_t kNamedPages = 16;
    std::vector<uint32_t> first_damaged;  // their numbers, at most kNamedPages
  };
  std::vector<Bitmap> bitmaps;  // one for each peer
};
Result<MetadataSummary> summarize_metadata(const std::string& path);

}  // namespace lockstep::repl
