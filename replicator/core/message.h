// What two replicas say to each other, as values. peer_protocol.h gives them bytes; docs/protocol.md describes them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <variant>

#include "replicator/core/metadata_image.h"
#include "replicator/core/types.h"

namespace lockstep::repl {

// First on every link, from both sides: all that the handshake's decision depends on.
struct StateReport {
  Generation current;
  Generation bitmap_generation;           // the sender's, for the receiver
  Generation previous_bitmap_generation;  // the same
  std::array<Generation, kHistoryGenerations> history{};
  uint64_t out_of_sync_blocks = 0;  // the sender's bitmap for the receiver
  Role role = Role::Unknown;
  DiskState disk_state = DiskState::DUnknown;
  bool known_behind = false;     // as in StateChanged
  bool crashed_primary = false;  // the sender crashed as Primary and has not met the receiver since
  bool answered_ahead = false;   // … and had answered writes that the receiver may never have received
  bool discard_my_data = false;  // the sender's operator gave up its data to end a split brain
  bool prepares_resync = false;  // the sender becomes no target before its operator's handler has run
  uint8_t node_order = 0;        // place of the node's name among the resource's sorted names: breaks ties
  // The sender is Primary without data of its own: its clients see this generation, on another node's disk.
  Generation served;
  Generation served_previous;  // not zero: the other disk may still call the same data by this name
  uint64_t run = 0;            // of the sender's daemon and disk: another one has lost what its cache held
  Life life;                   // of the sender's disk, as far as it is durable
  Life remembered;             // of the receiver's, as it told last
  uint64_t size_bytes = 0;     // of the device
  uint64_t prepared_size_bytes = 0;

  // With more than one peer.
  bool sees_primary = false;  // the sender is connected to a Primary, and is none
  bool is_target = false;     // the sender is target of a resync from another node
  NodeMask may_hold = 0;      // nodes that may hold the sender's current generation, as far as it knows
  // Of a target whose resync did not come to its end, and not from the receiver: the generation that it held before,
  // zero if what it holds now cannot be told by bits; and the one that it was on its way to.
  Generation sync_base;
  Generation sync_toward;
  // The sender made its current generation and has answered nothing in it: the one before. Else zero.
  Generation unanswered_since;
  Generation undone;  // the sender had made it after its current one, and went back: to hold that is to hold this
  // Of a Secondary what it holds, as long as its daemon lives; of an open Primary its last write.
  StreamPosition position;
  StreamPosition stable_position;             // as in the metadata
  WaitedFor waited_for = WaitedFor::Unknown;  // as in the metadata
  uint32_t term = 0;                          // as in the metadata
  uint32_t ahead_term = 0;                    // of which Primary crashed_primary and answered_ahead speak
};

// Role or disk state of the sender changed.
struct StateChanged {
  Role role = Role::Unknown;
  DiskState disk_state = DiskState::DUnknown;
  bool known_behind = false;  // the disk that the sender has given up says durably that it is old, or incomplete
};

// The sender, Primary, has a new current generation; the receiver, who has every write, takes it over.
struct GenerationChanged {
  Generation current;
  std::array<Generation, kHistoryGenerations> history{};
  NodeMask may_hold = 0;  // nodes that may hold it
};

// The ordered stream: sequences grow strictly on a link.
struct Write {
  Sequence sequence = 0;
  ByteRange range;
  bool resync = false;  // copied by a resync, not written by the application
  // The payload, range.length_bytes of it, follows on the wire.
};
struct WriteZeroes {
  Sequence sequence = 0;
  ByteRange range;
  bool resync = false;
  bool may_deallocate = false;  // TRIM, and WRITE_ZEROES without NO_HOLE: reads back as zeroes in any case
};
// What the receiver owes the sender of the stream, from this place in it on. Nothing at a link's start.
struct StreamRules {
  bool ordered = false;  // nothing behind a Barrier starts before the barrier is done
  bool prompt = false;   // what was received is acknowledged at the end of the turn, before it is written
  // With more than one peer: the sender answers nothing that the receiver lacks, as it does under protocol A. No duty,
  // but what survivors must know of each other.
  bool waited_for = false;
  bool recorded = false;  // how far it is stable is in the receiver's metadata before a barrier is acknowledged
  uint32_t term = 0;      // with more than one peer: of the sender, once it is open
  friend bool operator==(const StreamRules&, const StreamRules&) = default;
};
// Stands in the stream as a write would: the receiver reads the range when all before it is written and before anything
// behind it is, and answers with RangeCompared, before it calls this sequence written.
struct RangeDigests {
  Sequence sequence = 0;
  ByteRange range;                       // whole blocks
  bool resync = false;                   // of a resync that asks before it copies; else of an online verify
  std::span<const BlockDigest> digests;  // one for each block; valid as long as BitmapRuns::runs
};
struct RangeCompared {
  Sequence sequence = 0;
  uint64_t differing = 0;  // bit i: the range's block i differs
};
// Answered by Acknowledged::flushed once everything up to `sequence` is on the receiver's stable storage.
struct Barrier {
  Sequence sequence = 0;
};

// Written are all up to written_through, and those named besides. All numbers are of this link's stream.
inline constexpr size_t kAcknowledgedBesides = 16;
struct Acknowledged {
  Sequence received_through = 0;
  Sequence written_through = 0;
  Sequence flushed_through = 0;
  uint8_t besides_count = 0;
  std::array<Sequence, kAcknowledgedBesides> besides{};
};

// Resync, in the order in which it is spoken. S is the source, T the target.
struct ResyncStart {  // S → T: T takes sync_generation and is Inconsistent from now on
  Generation sync_generation;
  Generation toward;  // S's current generation; the one before, if S may still undo it
  bool full = false;
  bool unused = false;  // nothing was ever written in it: S holds zeroes
};
struct BitmapRun {
  uint64_t first_block = 0;
  uint64_t block_count = 0;
};
inline constexpr size_t kRunsPerMessage = 1024;
struct BitmapRuns {  // T → S: what T's own bitmap says; last when T has said all
  bool last = false;
  // In order, clean blocks between any two; valid until the step or the encoding that it is given to returns.
  std::span<const BitmapRun> runs;
};
struct BitmapWanted {};  // S → T: go on with the next runs
struct ResyncProgress {  // S → T, now and then: what T shows
  uint64_t blocks_left = 0;
  uint64_t blocks_total = 0;
};
struct ResyncPaused {  // either side: its operator wants the resync to wait, or to go on
  bool paused = false;
};
struct ResyncDone {  // S → T: all is copied and stable: T takes S's generations and is UpToDate
  Generation current;
  std::array<Generation, kHistoryGenerations> history{};
  NodeMask may_hold = 0;  // nodes that may hold S's current generation
  NodeMask in_sync = 0;   // nodes that hold what S holds, and so what T holds
  // Nodes that S has not been brought together with since it crashed as Primary, or has its data from one that did; and
  // those of them that may lack what was answered (protocol A).
  NodeMask crashed = 0;
  NodeMask answered_ahead = 0;
  std::array<uint32_t, kMaximumPeers + 1> ahead_terms{};  // by node's order: of which Primary that was
  uint32_t term = 0;                                      // of S's data
  StreamPosition position;                                // up to where S holds what a Primary sent, or sends itself
  Generation undone;  // that was made after S's current one, and nothing answered in
};
// The receiver's current generation (ResyncDone, GenerationChanged) is stored durably by the sender.
struct GenerationStored {
  Generation current;
};

// Online verify. S is the node whose copy counts: the Primary, or where there is none the node whose operator asks.
struct VerifyRequest {  // T → S: an operator of T wants one
  bool repair = false;
};
struct VerifyProgress {  // S → T, at the start and now and then: what T shows
  bool repair = false;
  uint64_t blocks_left = 0;
  uint64_t blocks_total = 0;
  uint64_t differing_blocks = 0;
};
struct VerifyEnded {  // S → T
  bool complete = false;
  uint64_t differing_blocks = 0;
  uint64_t left_blocks = 0;  // of those, still out of sync
};

// What a Primary of several peers tells those that get its stream, so that they know it once the Primary is gone.
// Writes up to `through` are on stable storage on every node but those of `missing`, which lack some of them.
struct StableThrough {
  Sequence through = 0;
  NodeMask missing = 0;
};
// Sender, receiver and these hold the same but for writes that are not stable everywhere yet; no other node does.
struct PeersInSync {
  Generation current;  // the sender's
  NodeMask nodes = 0;
  NodeMask ahead_of = 0;  // nodes that may lack what the sender answered in that generation, and the receiver has
};

// Promotion: asked of every connected peer; a peer that is Primary, or is asking itself and comes first, says no.
struct PromoteRequest {
  uint64_t ticket = 0;
  Generation first_generation;  // not zero: nobody was Primary before; the receiver takes it before it grants
};
struct PromoteAnswer {
  uint64_t ticket = 0;
  bool granted = false;
};
// Switchover: the Primary has demoted itself and asks the receiver to promote itself; and the answer.
struct TakeOver {
  uint64_t ticket = 0;
  NodeMask left = 0;  // nodes that the sender had gone on without: the receiver need not wait for them, either
};
struct TakeOverAnswer {
  uint64_t ticket = 0;
  bool promoted = false;
};
// A Secondary asks the Primary for a switchover to itself, and the answer (the outcome's number).
struct SwitchoverRequest {
  uint64_t ticket = 0;
};
struct SwitchoverAnswer {
  uint64_t ticket = 0;
  uint8_t outcome = 0;
};

// An operator wants the sender's data forgotten: may the receiver be the source of a full resync? It says no by
// InvalidateAnswer, or yes by InvalidateRequest.
struct InvalidateWanted {
  uint64_t ticket = 0;
};
// The receiver forgets its data, to be synced in full from the sender, who does not agree to be invalidated itself
// until it has the answer: an outcome's number, sent when the receiver's disk is Inconsistent durably. Then the
// receiver ends the link, and the handshake starts the resync.
struct InvalidateRequest {
  uint64_t ticket = 0;
  bool was_wanted = false;  // by InvalidateWanted; else by an operator of the sender
};
struct InvalidateAnswer {
  uint64_t ticket = 0;
  uint8_t outcome = 0;
  bool was_wanted = false;  // answers InvalidateWanted
};
// A Primary whose disk is gone serves its clients from the receiver's: what they write from now on, only the receiver
// has. The receiver takes `current` (it holds it, or `previous`), counts in its bitmap what the sender misses, makes
// stable all that it was ever sent, and confirms.
struct ServeRequest {
  Generation current;
  Generation previous;  // zero: the receiver holds `current` already
};
struct ServeConfirmed {
  Generation current;
};
// Reads of such a Primary. Answered in any order, each once.
inline constexpr uint64_t kServedReadBytes = 256 * kKiB;  // the longest
inline constexpr uint32_t kServedReads = 64;              // the most that may be unanswered on a link
struct ReadRequest {
  uint64_t ticket = 0;
  ByteRange range;
};
struct ReadReply {
  uint64_t ticket = 0;
  bool failed = false;  // the receiver's disk could not read it, either
  uint32_t length_bytes = 0;
  // The payload follows on the wire; none of a failed one.
};
// The end of a resync whose target is such a Primary: little is left, writes must stop until that is copied.
struct PauseWrites {
  bool over = false;  // not yet after all: they go on
};
struct WritesPaused {};  // follows the last write; one for each PauseWrites, also for one that is over before

// The sender's disk is so old now, durably: who meets a younger one of the same birth meets an older copy of it.
struct Lived {
  Life life;
};

// Growth, in the order in which it is spoken. C is the node that was told to grow, P each of its peers.
struct ResizePrepare {  // C → P: make room, zeroed, beyond your present size
  uint64_t ticket = 0;
  uint64_t size_bytes = 0;
};
struct ResizePrepared {  // P → C: that is done, durably, or cannot be done
  uint64_t ticket = 0;
  bool ready = false;
};
struct ResizeCommit {  // C → P, when all have room: this is the size from now on
  uint64_t size_bytes = 0;
};
struct ResizeCommitted {  // P → C: it is, durably. C grows last
  uint64_t size_bytes = 0;
};

struct Ping {
  uint64_t stamp_us = 0;
};  // answered by Pong with the same stamp
struct Pong {
  uint64_t stamp_us = 0;
};

// The sender ends the link on purpose.
enum class GoodbyeReason : uint8_t {
  Stopping,       // the daemon stops
  Disconnecting,  // an operator said disconnect
  Dropped,        // the receiver was too slow or broke a rule
  Restarting,     // the sender's state changed during the handshake: connect again
  Refused,        // the handshake's decision: see RefusalReason of the decision on either side
};
struct Goodbye {
  GoodbyeReason reason = GoodbyeReason::Stopping;
  bool continues_alone = false;  // the sender is Primary and goes on: the receiver is Outdated
  bool outdated = false;         // the sender is Outdated, durably: it cannot take the receiver's place
};

using Message =
    std::variant<StateReport, StateChanged, GenerationChanged, Write, WriteZeroes, RangeDigests, RangeCompared,
                 VerifyRequest, VerifyProgress, VerifyEnded, StreamRules, Barrier, Acknowledged, ResyncStart,
                 BitmapRuns, BitmapWanted, ResyncProgress, ResyncPaused, ResyncDone, GenerationStored, PromoteRequest,
                 PromoteAnswer, TakeOver, TakeOverAnswer, SwitchoverRequest, SwitchoverAnswer, InvalidateWanted,
                 InvalidateRequest, InvalidateAnswer, Lived, ResizePrepare, ResizePrepared, ResizeCommit,
                 ResizeCommitted, Ping, Pong, Goodbye, ServeRequest, ServeConfirmed, ReadRequest, ReadReply,
                 PauseWrites, WritesPaused, StableThrough, PeersInSync>;

// Part of the ordered stream: it has a sequence, and stands in an apply slot until it is done.
inline bool is_stream_frame(const Message& message) {
  return std::holds_alternative<Write>(message) || std::holds_alternative<WriteZeroes>(message) ||
         std::holds_alternative<RangeDigests>(message);
}

}  // namespace lockstep::repl
