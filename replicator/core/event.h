// What happens to a replica. Everything that the core learns, it learns from one of these.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "replicator/core/message.h"
#include "replicator/core/metadata_image.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

// Whose I/O on the local disk, and whose payload. The core knows slots; the bytes in them are the driver's.
enum class SlotKind : uint8_t {
  Client,  // a request of an NBD client: 0 .. client_slots - 1, chosen by the driver, free until Reply
  Apply,   // a write received from a peer: 0 .. apply_slots - 1, chosen by the driver, free at ReleaseApply
  Resync,  // a block range on its way to a target: 0 .. resync_slots - 1, chosen by the core
  Flush,   // the local flush; one at a time, slot 0
  Serve,   // a read for a Primary without a disk: 0 .. kServedReads - 1, chosen by the core
};
struct SlotRef {
  SlotKind kind = SlotKind::Client;
  uint32_t slot = 0;
  friend bool operator==(const SlotRef&, const SlotRef&) = default;
};

struct Ticked {};  // at least every 50 ms; Event::now_us is the time

// All completions and messages at hand were given: now is the time for what is batched (acknowledgements).
struct TurnEnded {};

inline constexpr uint64_t kMaximumRequestBytes = 32 * kMiB;  // the driver cuts longer trims and zeroes
enum class ClientOperation : uint8_t { Read, Write, WriteZeroes, Trim, Flush };
struct ClientRequestArrived {
  uint32_t slot = 0;
  ClientOperation operation = ClientOperation::Read;
  ByteRange range;  // inside the device, multiples of the disk's block, not longer than
                    // kMaximumRequestBytes; empty for Flush
  bool fua = false;
  bool no_hole = false;  // WriteZeroes
};

struct LocalIoCompleted {
  SlotRef slot;
  int error_errno = 0;                     // 0 or a positive errno
  bool all_zeroes = false;                 // of a resync read: nothing but zeroes was read
  std::span<const BlockDigest> digests{};  // of a read with `digests`, one for each block; valid during the step
  bool all_stable = false;  // of a write: it and all writes that ended before are on stable storage, without a flush
};

struct PersistCompleted {  // persists complete in the order in which they were asked for
  PersistId id = 0;
  int error_errno = 0;
};

// ReleaseDisk was carried out: no I/O and no persist is under way any more, and the files are closed.
struct DiskReleased {};

struct LinkEstablished {  // identities were exchanged and match: resource, node, size, protocol version
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
};
struct LinkLost {  // also after CloseLink, once nothing of that incarnation can arrive any more
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
};
struct MessageArrived {
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  Message message;
  uint32_t apply_slot = 0;  // of a stream frame: where the payload is, and what stands for it until it is applied
};

enum class OrderKind : uint8_t {
  Promote,
  Demote,
  Connect,
  Disconnect,
  Switchover,
  Resync,
  PauseResync,
  ResumeResync,
  Invalidate,
  InvalidatePeer,
  Resize,
  SetProtocol,
  Attach,  // Replica::attach() does it; this is its name
  Detach,
  Shutdown,
  Suspend,
  Resume,       // ends an operator's suspension; with `alone`, one for a lost peer as well
  AbandonHeld,  // what a suspension holds, and what arrives until it ends, fails: its clients are to be sent away
  Verify,
  Outdate  // this node's data is called old
};
// PrepareDisk was carried out: up to there the disk has room and reads as zeroes beyond the present size, durably, and
// the metadata has room.
struct DiskPrepared {
  uint64_t size_bytes = 0;
  int error_errno = 0;
};

// PrepareResync was carried out.
struct ResyncPrepared {
  PeerIndex peer = 0;
  bool ready = false;  // else the resync is held until an operator wants it tried again, or the link is made anew
};

// What the arbiter said to AskArbiter (action.h).
enum class ArbiterVerdict : uint8_t {
  Granted,  // it is recorded
  Denied,   // and never will be: another node has the place that this one asked for
  Unclear   // no answer, or none that is understood: anything may be recorded
};
struct ArbiterAnswered {
  uint64_t ticket = 0;
  ArbiterVerdict verdict = ArbiterVerdict::Unclear;
};

// How many NBD clients are in the transmission phase on the export: demote and switchover refuse while there are any.
struct ExportClientsChanged {
  uint32_t count = 0;
};

struct OrderGiven {
  uint64_t ticket = 0;  // comes back in OrderAnswered
  OrderKind kind = OrderKind::Promote;
  bool every_peer = true;  // Connect, Disconnect, …: else `peer`
  PeerIndex peer = 0;      // Switchover: to whom, unless to_self
  bool to_self = false;
  bool peer_fenced = false;      // Promote
  bool alone = false;            // Resume
  bool give_generation = false;  // Promote --force-data-loss, Resync --discard-my-data: `generation` was typed
  Generation generation;
  Protocol protocol = Protocol::C;                                      // SetProtocol
  std::array<std::optional<Protocol>, kMaximumPeers> peer_protocols{};  // … towards each peer, if it is another one
  bool repair = false;                                                  // Verify
  uint64_t size_bytes = 0;                                              // Resize
};

using EventBody = std::variant<Ticked, TurnEnded, ClientRequestArrived, LocalIoCompleted, PersistCompleted,
                               DiskReleased, LinkEstablished, LinkLost, MessageArrived, ExportClientsChanged,
                               DiskPrepared, OrderGiven, ArbiterAnswered, ResyncPrepared>;
struct Event {
  uint64_t now_us = 0;  // monotonic; never the wall clock
  EventBody body;
};

}  // namespace lockstep::repl
