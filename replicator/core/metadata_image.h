// What a node knows durably about itself and its peers, as values. metadata_format.h gives it bytes.
#pragma once

#include <array>
#include <cstdint>

#include "replicator/core/types.h"

namespace lockstep::repl {

// What this node knows durably of one peer.
struct PeerRecord {
  // Zero: the peer may hold our current generation. Else: the bitmap says what changed here since the peer held it.
  Generation bitmap_generation;
  // A second generation for which the bitmap is as good: the peer was told to leave it and may not have heard.
  Generation previous_bitmap_generation;
  // This node crashed as Primary and has not been brought together with the peer since.
  bool crashed_primary = false;
  // As Primary this node answers, or answered until it crashed, writes that the peer may not have received (protocol
  // A).
  bool answered_ahead = false;
  // With more than one peer: of which Primary these two speak. Of what the peer got from a later one they say nothing.
  uint32_t ahead_term = 0;
  // Bits that count what the peer misses are only in memory, since its clients write through this node: after a crash
  // of this node everything counts as missed.
  bool bitmap_in_memory = false;

  friend bool operator==(const PeerRecord&, const PeerRecord&) = default;
};

// How far a disk with its metadata has come, so that an older copy of it is known as one: born with `create`, and older
// by one with each writing of the superblock, which comes every few seconds at least while data is written.
struct Life {
  uint64_t birth = 0;  // random
  uint64_t age = 0;

  friend bool operator==(const Life&, const Life&) = default;
};
// What a disk ages by a full resync: more than any peer can have seen it age beyond what the source remembers.
inline constexpr uint64_t kAgesOfFullResync = uint64_t{1} << 40;

// How far a disk holds a Primary's stream of writes. The stream is known by that daemon's run (0: of none) and by the
// term, which is 0 with one peer: of a later one each place is further.
struct StreamPosition {
  uint64_t stream = 0;
  Sequence through = 0;
  uint32_t term = 0;
  bool is_same_stream(const StreamPosition& other) const {
    return stream != 0 && stream == other.stream && term == other.term;
  }
  friend bool operator==(const StreamPosition&, const StreamPosition&) = default;
};

// The part of the superblock that changes while the node runs. Always written whole.
struct SuperblockImage {
  Generation current;  // zero: the disk was zeroed by create and nobody has been Primary since
  std::array<Generation, kHistoryGenerations> history{};  // newest first, zero where unused
  DiskState disk_state = DiskState::Inconsistent;         // only Inconsistent, Outdated, Consistent and UpToDate
  bool primary = false;  // this node is Primary: found set at a start, it crashed as one
  bool forced = false;   // somebody accepted a loss of data by promoting this disk
  // Of a target whose resync has not come to its end: the generation that it held before (zero: what it holds cannot
  // be told by bits), the one that it is on its way to, and from whom it has copied since.
  Generation sync_base;
  Generation sync_toward;
  uint8_t sync_sources = 0;  // by place of the peer
  // Not zero: this node made its current generation, asked peers to take it, and answers nothing in it before each of
  // them has it or is left behind. The generation before.
  Generation unanswered_since;
  // Not zero: one that this node had made after its current one, and undid at a start or a demotion. Peers may hold it
  // still; until this node holds another they hold nothing that is not under a bit here or there.
  Generation undone;
  // With more than one peer; of this node, or of the one that its data was copied from.
  WaitedFor waited_for = WaitedFor::Unknown;
  // With more than one peer: of that stream this disk has made stable at least so much.
  StreamPosition stable_position;
  // With more than one peer: counts the Primaries, one after the other, and is of the last that this disk was in sync
  // with, or was itself.
  uint32_t term = 0;
  std::array<PeerRecord, kMaximumPeers> peers{};
  // Not zero: the disk has room up to there and reads as zeroes beyond the present size. A peer that has grown so far
  // is followed.
  uint64_t prepared_size_bytes = 0;
  Life life;                                     // of this disk
  std::array<Life, kMaximumPeers> peer_lives{};  // of each peer's, as it told last
  Generation reserved;  // what the arbiter was told as this node's next generation: its record may bear that name

  friend bool operator==(const SuperblockImage&, const SuperblockImage&) = default;
};

// What identifies the metadata; fixed at create but for the size, which resize may grow.
struct MetadataIdentity {
  Generation resource_id;
  uint64_t size_bytes = 0;
  uint32_t peer_count = 0;  // bitmaps laid out
  uint32_t activity_log_slots = 0;
};

// One slot of the activity log that changed: from now on it holds `extent` (kNoExtent: nothing).
inline constexpr uint32_t kNoExtent = UINT32_MAX;
struct ActivityLogUpdate {
  uint32_t slot = 0;
  uint32_t extent = kNoExtent;
};
inline constexpr size_t kActivityLogUpdatesPerTransaction = 64;

// A bitmap page is what is written at once: 31 extents' worth of bits, which leaves room for its header in 4 KiB.
inline constexpr uint64_t kBlocksPerExtent = kExtentBytes / kBlockBytes;  // 1024
inline constexpr uint64_t kExtentsPerBitmapPage = 31;
inline constexpr uint64_t kBlocksPerBitmapPage = kExtentsPerBitmapPage * kBlocksPerExtent;  // 31744
inline constexpr uint64_t kWordsPerBitmapPage = kBlocksPerBitmapPage / 64;                  // 496

}  // namespace lockstep::repl
