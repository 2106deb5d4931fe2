// What a replica wants done. Actions are executed in the order in which they stand, except that one whose
// `after_persist` is not durable yet waits for it, and so does every later Send to the same peer: order on a link
// is never changed. When a persist fails, what waits for it fails: I/O completes with EIO, a Reply goes out with EIO,
// an OrderAnswered as NoDisk, Sends and OpenExport are dropped; no later persist is tried. The core learns of the
// failure.
#pragma once

#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "replicator/core/event.h"
#include "replicator/core/message.h"
#include "replicator/core/metadata_image.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

// I/O on the local disk; each is answered by LocalIoCompleted with the same slot.
struct SubmitRead {
  SlotRef slot;
  ByteRange range;
  bool digests = false;  // of Resync and Apply: the completion brings the digests of the range's blocks
  PersistId after_persist = 0;
};
struct SubmitWrite {
  SlotRef slot;  // its payload is written
  ByteRange range;
  bool fua = false;  // durable before it completes
  PersistId after_persist = 0;
};
struct SubmitZeroes {
  SlotRef slot;
  ByteRange range;
  bool fua = false;
  bool may_deallocate = false;  // the range reads as zeroes in any case
  PersistId after_persist = 0;
};
struct SubmitFlush {  // fdatasync
  SlotRef slot;
  PersistId after_persist = 0;
};

// The local disk and its metadata are not used any more: once all that was asked of them has ended, their files are
// closed. Answered by DiskReleased. Nothing is asked of them before Replica::attach().
struct ReleaseDisk {};
// The payload of the ReadReply of this step belongs there, in the buffer of a client's read.
struct StoreRead {
  uint32_t slot = 0;
  uint64_t offset_bytes = 0;  // in the request
  uint32_t length_bytes = 0;
};

// What `message` points to is valid during the step: who holds it longer copies it. The payload of Write or ReadReply
// is that of `slot`; the driver holds it until it is sent, also when the slot is freed before.
struct Send {
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  Message message;
  SlotRef payload;
  PersistId after_persist = 0;
};

// Metadata writes, durable one after the other in order of `id`; answered by PersistCompleted.
struct PersistSuperblock {
  PersistId id = 0;
  SuperblockImage image;
};
struct PersistActivityLog {  // encode when the action is executed: the rest of the slots comes from Replica
  PersistId id = 0;
  uint16_t update_count = 0;
  std::array<ActivityLogUpdate, kActivityLogUpdatesPerTransaction> updates{};
};
// The bitmap's pages first_page .. first_page + page_count - 1 as they are when it is their turn to be written
// (Replica::bitmap_words): later is as good, since bits are only cleared when the peer has the block stably.
struct PersistBitmapPages {
  PersistId id = 0;
  PeerIndex peer = 0;
  uint32_t first_page = 0;
  uint32_t page_count = 0;
};
// The device has this size from now on: bitmap pages for the new part, then the superblock, which makes them count.
struct PersistSize {
  PersistId id = 0;
  uint64_t size_bytes = 0;
  SuperblockImage image;
};
// Every slot of the activity log is empty from now on.
struct PersistActivityLogEmpty {
  PersistId id = 0;
};

// Answered by DiskPrepared, after as long as it takes. Nothing reads or writes beyond the present size meanwhile.
struct PrepareDisk {
  uint64_t size_bytes = 0;
};

// The apply slot is free: its write was done, or refused before anything was done with it. Its payload is not needed
// any more once its I/O completed.
struct ReleaseApply {
  uint32_t slot = 0;
};

struct Reply {  // to an NBD client; frees the slot
  uint32_t slot = 0;
  int error_errno = 0;
  PersistId after_persist = 0;
};

enum class LinkEnd : uint8_t { Timeout, BrokenRule, Refused, Ordered, HandshakeRestart, PeerLeft, DiskFailed };
struct CloseLink {  // what was sent before it is still tried, briefly; then LinkLost is given
  PeerIndex peer = 0;
  Incarnation incarnation = 0;
  LinkEnd reason = LinkEnd::Ordered;
};
struct Connect {
  PeerIndex peer = 0;
};  // keep trying to have a link to the peer
struct StopConnecting {
  PeerIndex peer = 0;
};  // leave the peer alone until the next Connect

// An operator's handler is to run before this node becomes target of a resync from that peer. Answered by
// ResyncPrepared, after as long as it takes; one at a time for each peer.
struct PrepareResync {
  PeerIndex peer = 0;
};

// The export opens or closes. Closing is asked for only when no client request is in flight.
struct OpenExport {
  PersistId after_persist = 0;
};
struct CloseExport {};

enum class Outcome : uint8_t {
  Done,
  AlreadySo,    // nothing to do
  NotUpToDate,  // promote: this disk's data is not known to be the newest
  PeerAbsent,   // promote: a peer is not connected and nobody vouched for it
  PeerIsPrimary,
  PeerSaidNo,       // promote: a peer is being promoted at the same time
  PeerLost,         // the peer went away before the end
  WrongGeneration,  // the generation that was typed is not this node's current one
  NoDisk,           // the local disk is failed or not attached
  ClientsAttached,  // demote, switchover: NBD clients use the export
  RequestsInFlight,
  NotPrimary,
  NotConnected,
  NotSyncing,
  IsPrimary,     // the order is for a Secondary
  LastUpToDate,  // it would give up the last good copy
  Busy,          // another order of this kind is under way
  Stopping,
  ConnectedPeer,  // promote --force-data-loss: disconnect first
  NotSplitBrain,
  Restored,            // switchover: the peer did not take over; this node is Primary again
  ResyncRuns,          // invalidate: a resync with the peer is not over
  ResizeOnPrimary,     // resize: it is ordered where the writes come from
  SmallerSize,         // resize: a device never shrinks
  NeedsEveryPeer,      // resize: a peer is not connected and in sync
  NoRoom,              // resize: a disk or its metadata cannot grow so far
  PeerIsLastUpToDate,  // invalidate-peer: the peer would give up the last good copy
  ArbiterDenied,       // promote: it has another node as Primary, or this one is not in sync
  ArbiterUnclear,      // promote: it gave no answer
  NotSuspended,
  ResumeAlone,     // resume: a peer was lost, and nobody said to go on without it
  NotEstablished,  // verify, resync: both copies must be UpToDate and get the same writes
  NoSource,        // verify --repair, resync: no Primary says whose copy counts
  RunOnPrimary,    // verify: another node is Primary
  VerifyRuns,      // a verify runs already
  DiskBusy,        // attach: the disk that was taken away still has requests under way
};
struct OrderAnswered {
  uint64_t ticket = 0;
  Outcome outcome = Outcome::Done;
  PeerIndex peer = 0;  // whom it is about, where it is about one
  PersistId after_persist = 0;
};

// One question at a time: a new one takes the place of one that is not answered. Answered by ArbiterAnswered.
enum class ArbiterQuestion : uint8_t {
  FencePeers,  // a Primary has lost them: take them out of the in-sync set
  Promote,     // a Secondary wants to be Primary without them: the same
  PeersInSync  // they hold everything again: put them back
};
struct AskArbiter {
  uint64_t ticket = 0;
  ArbiterQuestion question = ArbiterQuestion::FencePeers;
  PeerMask peers = 0;
  PeerMask behind = 0;  // FencePeers, Promote: others that do not get what is written from here on
  // What the record is to bear. FencePeers, Promote: what this node's writes belong to once it was granted.
  Generation generation;
  PersistId after_persist = 0;
};

// For the log and the event stream; carries no duty.
enum class NoteKind : uint8_t {
  PeerDropped,
  GenerationMade,
  HandshakeDecided,
  ResyncStarted,
  ResyncFinished,
  DiskFailed,
  SplitBrain,
  Promoted,
  Demoted,
  Outdated,
  Suspended,
  Resumed,
  Thawed,  // nothing ran here for `number` ms
  ArbiterUnclear,
  Replaced,  // another node is, or was, Primary in this one's place
  CrashRecovered,
  Resized,      // number: the new size
  Invalidated,  // this node, with the peer as source
  VerifyStarted,
  VerifyDiffers,  // `number` is the first block of 64, `mask` says which of them differ
  VerifyEnded,    // `number` blocks differ
  RuleBroken,
  DiskDetached,
  DiskAttached,
  ErrorPassedOn,    // of the last copy: the client gets the error, the disk stays
  ServedByPeer,     // clients are served from the peer's disk
  ServesPeer,       // the peer's clients are served from this disk
  DataUnreachable,  // no copy can be reached: requests wait
  DataLost,         // … and what the last one had not made stable may be gone: requests fail
  ResyncStopped     // a resync's read failed
};
struct Note {
  NoteKind kind = NoteKind::PeerDropped;
  PeerIndex peer = 0;
  uint64_t number = 0;    // blocks, bytes or a code, by kind
  const char* text = "";  // static: a rule's name or the broken rule
  uint64_t mask = 0;
};

using Action = std::variant<SubmitRead, SubmitWrite, SubmitZeroes, SubmitFlush, ReleaseDisk, StoreRead, Send,
                            PersistSuperblock, PersistActivityLog, PersistBitmapPages, PersistActivityLogEmpty,
                            PersistSize, PrepareDisk, ReleaseApply, Reply, CloseLink, Connect, StopConnecting,
                            OpenExport, CloseExport, OrderAnswered, AskArbiter, PrepareResync, Note>;

// Filled by one step, emptied by the driver before the next. Bounded: a step never makes more than its capacity.
class Actions {
 public:
  explicit Actions(size_t capacity) { list_.reserve(capacity); }

  template <typename A>
  void add(A&& action) {
    LOCKSTEP_CHECK(list_.size() < list_.capacity());
    list_.emplace_back(std::forward<A>(action));
  }
  void clear() { list_.clear(); }
  bool empty() const { return list_.empty(); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }
  size_t size() const { return list_.size(); }

 private:
  std::vector<Action> list_;
};

}  // namespace lockstep::repl
