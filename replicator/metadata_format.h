// The bytes of a node's metadata, version 1: docs/on-disk-format.md is its description. Pure.
//
// Little-endian, units of 4 KiB, CRC32C over everything. The superblock stands twice; the activity log is a ring of
// transactions; one dirty bitmap for each peer. Whatever the bytes are, decoding gives a state that was once asked
// to be written, or says that they are damaged: never a third thing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/base/result.h"
#include "replicator/core/metadata_image.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

inline constexpr size_t kMetadataUnitBytes = 4096;
inline constexpr size_t kSectorBytes = 512;  // what a disk writes whole or not at all
inline constexpr uint32_t kMetadataVersion = 1;
inline constexpr std::string_view kSuperblockMagic = "LOCKSTEP";
inline constexpr size_t kMaximumNameBytes = 64;
inline constexpr size_t kSuperblockCopies = 2;
inline constexpr uint64_t kActivityLogRecords = 256;
inline constexpr uint32_t kMaximumActivityLogSlots = 65534;

using MetadataUnit = std::span<uint8_t, kMetadataUnitBytes>;
using ConstMetadataUnit = std::span<const uint8_t, kMetadataUnitBytes>;

// Names a resource in metadata and on the wire: FNV-1a, 128 bits, of its name's bytes.
Generation resource_id_of(std::string_view resource_name);

// Where things stand in the file. All are multiples of 4 KiB; the superblocks are the first two units.
struct MetadataLayout {
  uint64_t activity_log_offset_bytes = 0;  // kActivityLogRecords units
  uint64_t bitmap_offset_bytes = 0;        // of the first peer's
  uint64_t bitmap_stride_bytes = 0;        // from one peer's to the next's
  uint32_t pages_per_bitmap = 0;

  uint64_t record_offset_bytes(uint64_t transaction) const {
    return activity_log_offset_bytes + (transaction % kActivityLogRecords) * kMetadataUnitBytes;
  }
  uint64_t page_offset_bytes(PeerIndex peer, uint32_t page) const {
    return bitmap_offset_bytes + peer * bitmap_stride_bytes + uint64_t{page} * kMetadataUnitBytes;
  }
  friend bool operator==(const MetadataLayout&, const MetadataLayout&) = default;
};
MetadataLayout metadata_layout(uint64_t size_bytes, uint32_t peer_count);
// For a device that has grown. Where the bitmaps are at another place than before, no part of them overlaps an old one.
MetadataLayout grown_layout(const MetadataLayout& old, uint64_t size_bytes, uint32_t peer_count);
// Of the whole file.
uint64_t metadata_size_bytes(const MetadataLayout& layout, uint32_t peer_count);

struct Superblock {
  uint64_t sequence = 0;  // grows by one with each writing
  MetadataIdentity identity;
  MetadataLayout layout;
  std::string resource_name;
  std::string node_name;
  std::vector<std::string> peer_names;  // identity.peer_count of them; the place is the number of the bitmap
  SuperblockImage image;
};

enum class SuperblockFault : uint8_t {
  NoMagic,         // not Lockstep metadata at all
  BadChecksum,     // torn or damaged
  UnknownVersion,  // intact, and written by another version of this format
  BadField,        // intact checksum over values that make no sense
};
struct SuperblockDecoding {
  std::optional<Superblock> superblock;
  SuperblockFault fault = SuperblockFault::NoMagic;  // meaningful without superblock
  uint32_t version = 0;                              // of UnknownVersion
};

// Names are at most kMaximumNameBytes long, peers at most kMaximumPeers.
void encode_superblock(const Superblock& superblock, MetadataUnit unit);
SuperblockDecoding decode_superblock(ConstMetadataUnit unit);

// The state that the two copies stand for: the newer of the valid ones. An error when none is valid, when one is of
// an unknown version, or when two of one sequence differ.
struct SuperblockChoice {
  Superblock superblock;
  bool copies_agree = false;  // false: write it again to both before anything else
};
struct SuperblockChoiceFault {
  SuperblockFault fault = SuperblockFault::NoMagic;
  uint32_t version = 0;
};
std::variant<SuperblockChoice, SuperblockChoiceFault> choose_superblock(ConstMetadataUnit first,
                                                                        ConstMetadataUnit second);

// ---- activity log ----

// A record is eight sectors, each with the transaction's number and a checksum of its own: so a record that was torn
// by a power cut (whole sectors of two transactions) can be told from one that is damaged.
inline constexpr size_t kRecordSectors = kMetadataUnitBytes / kSectorBytes;
inline constexpr size_t kContextEntriesPerSector = 124;
inline constexpr size_t kContextEntries = (kRecordSectors - 1) * kContextEntriesPerSector;  // 868

// Nobody lives to write as many: a sector that says more is damaged, and the next number never wraps.
inline constexpr uint64_t kLastTransaction = uint64_t{1} << 62;

// Transaction `number`, from 1, stands at place number % kActivityLogRecords of the ring. `attempt` tells the sectors
// of one writing of it from those of a writing that a crash cut short.
struct ActivityLogPosition {
  uint64_t number = 1;
  uint16_t attempt = 0;
  friend bool operator==(const ActivityLogPosition&, const ActivityLogPosition&) = default;
};
// `updates` have been applied to `slots` already. The record's context is a slice of `slots` whose place follows from
// the number, so that any 255 records in a row name every slot.
void encode_activity_log_record(const ActivityLogPosition& position, std::span<const ActivityLogUpdate> updates,
                                std::span<const uint32_t> slots, MetadataUnit unit);
// Every slot is empty.
void encode_activity_log_empty(const ActivityLogPosition& position, uint32_t slot_count, MetadataUnit unit);
// A whole ring of such records, the first of which is transaction `first_number`.
void encode_empty_ring(uint64_t first_number, uint32_t slot_count, std::span<uint8_t> ring);

struct ActivityLogRecovery {
  bool valid = false;  // false: a record is damaged, so every extent counts as hot
  // What to write next. Not valid: the first number of a new ring, higher than any that was found.
  ActivityLogPosition next;
  std::vector<uint32_t> slots;  // slot_count of them; all kNoExtent when not valid
};
// `ring`: kActivityLogRecords units. Extents lie below `extent_count`.
ActivityLogRecovery recover_activity_log(std::span<const uint8_t> ring, uint32_t slot_count, uint64_t extent_count);

// ---- dirty bitmap ----

struct BitmapPageName {
  Generation resource_id;
  PeerIndex peer = 0;
  uint32_t page = 0;
};
void encode_bitmap_page(const BitmapPageName& name, std::span<const uint64_t, kWordsPerBitmapPage> words,
                        MetadataUnit unit);
// False: damaged, or another page's. `words` is then untouched.
bool decode_bitmap_page(const BitmapPageName& name, ConstMetadataUnit unit,
                        std::span<uint64_t, kWordsPerBitmapPage> words);

}  // namespace lockstep::repl
