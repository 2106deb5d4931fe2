// What a replica remembers of everything that is under way: requests of clients, writes of the stream on their way to
// the disk, reads for a resync or for a Primary that has no disk. Private to the core; allocated once, at the start.
#pragma once

#include <array>
#include <cstdint>

#include "replicator/core/message.h"

namespace lockstep::repl {

// What a peer has done with a write of the stream, in the order in which it happens.
enum class Milestone : uint8_t { Sent, Received, Written, Flushed };

// Of a client's request, or of a flush for several of them.
struct Promise {
  PeerMask asked = 0;  // linked peers that have it in their stream; a lost peer's bit is taken out
  PeerMask kept = 0;   // of those, who did what was promised
};

// A request of an NBD client.
struct ClientSlot {
  enum class Phase : uint8_t {
    Free,
    Reading,
    ReadWaiting,    // for a peer that can serve it
    RemoteReading,  // asked of one
    Waiting,
    Writing,
    FlushWaiting,
    Flushing,
    Held,      // done; its answer waits for the end of a suspension
    Suspended  // starts when a suspension ends
  };
  Phase phase = Phase::Free;
  ClientOperation operation = ClientOperation::Read;
  ByteRange range;
  bool fua = false;
  bool no_hole = false;
  bool extents_reserved = false;  // the activity log holds references for it, its transaction is under way or done
  bool local_done = false;
  Promise promise;
  std::array<Milestone, kMaximumPeers> milestones{};  // what each peer must have done: as promised when it started
  int error_errno = 0;
  Sequence sequence = 0;
  // Of a read from a peer, piece by piece.
  uint64_t done_bytes = 0;
  uint64_t ticket = 0;
  uint64_t asked_us = 0;
  PeerIndex asked_of = 0;
  PeerMask read_failed_at = 0;
  uint64_t arrived_us = 0;
};

// A write of the stream on its way to this node's disk, or a comparison on its way from it.
struct ApplySlot {
  enum class Phase : uint8_t { Free, Waiting, Writing, Done };
  Phase phase = Phase::Free;
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  Sequence sequence = 0;
  ByteRange range;
  bool zeroes = false;
  bool may_deallocate = false;
  uint64_t behind = 0;  // so many applies, counted since the start of the node, are stable before it starts
  bool resync = false;
  // With several peers: its extents must be hot durably first; it holds or has reserved references on them; and its
  // place among the unstable writes, where it has one.
  bool needs_log = false;
  bool extents_reserved = false;
  bool holds_extents = false;
  uint64_t unstable = 0;
  uint32_t comparison = kNoComparison;  // what was sent, if the range is to be compared
  static constexpr uint32_t kNoComparison = UINT32_MAX;
};

// Digests that a peer sent, until the range was read here.
struct Comparison {
  bool used = false;
  bool resync = false;
  std::array<BlockDigest, kBlocksPerComparison> digests{};
};

// A write of the Primary's stream that is not known to be stable on every node.
struct UnstableWrite {
  Sequence sequence = 0;
  ByteRange range;
  bool holds_extents = false;
};

inline constexpr PeerIndex kNoPeer = UINT8_MAX;
inline constexpr uint16_t kNothingTold = UINT16_MAX;

struct ResyncSlot {
  enum class Phase : uint8_t { Free, Reading };
  Phase phase = Phase::Free;
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  ByteRange range;
  bool question = false;  // digests are sent, not data
  bool verify = false;
  uint64_t verify_run = 0;
};

// A read of the local disk for a Primary that has none.
struct ServeSlot {
  enum class Phase : uint8_t { Free, Reading };
  Phase phase = Phase::Free;
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  uint64_t ticket = 0;
  uint32_t length_bytes = 0;
};

}  // namespace lockstep::repl
