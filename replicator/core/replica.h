// A replica of one resource as a pure state machine: events in, actions out. It does no I/O, reads no clock, makes
// no randomness and allocates nothing after construction; the same events give the same actions. See action.h for
// the one rule that its driver enforces.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "replicator/core/action.h"
#include "replicator/core/event.h"
#include "replicator/core/generation_rules.h"
#include "replicator/core/pace.h"
#include "replicator/core/types.h"
#include "replicator/core/verify.h"

namespace lockstep::repl {

struct ReplicaOptions {
  uint64_t size_bytes = 0;  // of the device, a multiple of kBlockBytes
  uint8_t peer_count = 0;
  uint8_t node_order = 0;                            // place of this node's name among the resource's sorted names
  std::array<uint8_t, kMaximumPeers> peer_orders{};  // the same of each peer; not looked at with one peer
  Protocol protocol = Protocol::C;
  std::array<std::optional<Protocol>, kMaximumPeers> peer_protocols{};  // towards each peer, if it is another one
  SyncSet sync;
  std::array<PeerIndex, kMaximumPeers> sync_order{0, 1, 2, 3, 4, 5, 6};  // peers, the preferred one first
  LossPolicy on_peer_loss = LossPolicy::Continue;
  uint64_t peer_timeout_us = 3'000'000;
  uint32_t client_slots = 512;
  uint32_t apply_slots = 512;
  uint32_t resync_slots = 16;
  uint32_t bitmap_runs_per_message = kRunsPerMessage;
  uint64_t resync_chunk_bytes = 256 * kKiB;  // of one resync slot
  uint32_t transfer_log_entries = 65536;     // writes not yet stable everywhere
  uint32_t activity_log_slots = 1237;
  // Protocol A: payload that a peer has not confirmed to have received. From there on writes wait.
  uint64_t queue_limit_bytes = 16 * kMiB;
  uint64_t life_interval_us = 5'000'000;  // an older copy of the disk is known as one if it is older than this
  PaceOptions resync_pace;
  bool prepares_resyncs = false;  // see PrepareResync
  // How long what was written stays unflushed where no client flushes: once no more is written, and while it is.
  uint64_t flush_interval_us = 1'000'000;
  uint64_t busy_flush_interval_us = 5'000'000;
  uint64_t flush_wanted_us = 500'000;  // how long a flush by itself may take: see FlushAllowance
};

// What was on stable storage when the node started.
struct DurableState {
  SuperblockImage superblock;
  std::span<const uint32_t> activity_log;  // extent of each slot, kNoExtent where empty
  bool activity_log_valid = true;          // false: a record is damaged: every extent counts as hot
};

struct PeerStatus {
  ConnectionState connection = ConnectionState::StandAlone;
  ReplicationState replication = ReplicationState::Off;
  Role role = Role::Unknown;
  DiskState disk_state = DiskState::DUnknown;
  Protocol protocol = Protocol::C;  // the least of what this node's answers rest on: see Peer::protocol_kept
  uint64_t out_of_sync_blocks = 0;
  Sequence sent = 0;
  Sequence received = 0;
  Sequence written = 0;
  Sequence flushed = 0;
  uint64_t lag_bytes = 0;
  uint64_t lag_us = 0;
  uint64_t round_trip_us = 0;
  uint64_t resync_total_blocks = 0;  // of the resync that runs; 0: none
  uint64_t resync_left_blocks = 0;
  uint64_t resync_started_us = 0;
  uint64_t blocks_per_second = 0;  // of a resync or a verify, over the last seconds
  struct {
    bool runs = false;
    bool is_source = false;
    uint64_t blocks_total = 0;
    uint64_t blocks_left = 0;
    uint64_t ended = 0;               // verifies with this peer that ended since the start
    bool complete = false;            // the last one reached its end
    uint64_t differing_blocks = 0;    // found by the one that runs, or by the last one
    uint64_t left_blocks = 0;         // of the last one: what is still out of sync
    std::span<const BlockRun> found;  // the first runs that differ; valid until the next step
  } verify;
  bool resync_paused_here = false;  // by an operator's order
  bool resync_paused_there = false;
  bool resync_prepares = false;     // this node would be target, and its operator's handler runs first
  bool resync_held = false;         // … and has failed
  bool resync_read_failed = false;  // this node is the source, and stopped because it could not read
  uint64_t absent_since_us = 0;     // 0 while connected
  bool awaited = false;             // its return, or leave to go on without it, is what a suspension waits for
  bool decided = false;             // `decision` is that of the last handshake with this peer
  Decision decision;
  StateReport own_report;  // what the decision was made from
  StateReport peer_report;
};

struct ReplicaStatus {
  Role role = Role::Secondary;
  DiskState disk_state = DiskState::Attaching;
  Generation generation;
  Suspension suspension = Suspension::No;
  bool data_lost = false;              // Primary whose requests fail: what its clients saw is gone
  bool served_by_peer = false;         // Primary whose clients see a peer's disk
  bool degraded = false;               // Primary, and a peer does not get the writes, or this node has no disk
  Outcome promotable = Outcome::Done;  // what promote without options would answer
  PeerIndex promotable_peer = 0;       // whom that is about
  uint64_t reads = 0, writes = 0, flushes = 0, read_bytes = 0, written_bytes = 0;
  uint64_t activity_log_transactions = 0;
  uint32_t in_flight = 0;
};

class Replica {
 public:
  explicit Replica(const ReplicaOptions& options);
  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // Loads a peer's bitmap page before start(); words as in bitmap_words(). A page that is damaged on disk is given
  // as all ones: everything in it is out of sync.
  void load_bitmap_page(PeerIndex peer, uint32_t page, std::span<const uint64_t> words);

  // Once, first. `seed` makes the generations that this run will need: 128 random bits from the system.
  void start(const DurableState& durable, Generation seed, uint64_t now_us, Actions& actions);

  // A disk and metadata are there again, after DiskReleased and load_bitmap_page() of every page. The metadata must
  // have the same peers in the same places and as many activity-log slots as the options say. Returns the persist that
  // counts as durable now: those that the former metadata did not get are not waited for.
  PersistId attach(const DurableState& durable, uint64_t now_us, Actions& actions);
  Outcome may_attach() const;  // Done: detached, and released

  // One event in; appends what it leads to.
  void step(const Event& event, Actions& actions);

  // What the order would be answered now; nothing if that takes other nodes, the disk or time, so that no rule of this
  // node refuses it. Nothing changes. `export_clients`: as if there were so many. Allocates a copy of everything: for
  // operators, not for the hot path. `order.ticket` is one that no order under way has.
  std::optional<OrderAnswered> rehearse(const OrderGiven& order, uint64_t now_us, uint32_t export_clients) const;

  // What the handshake with an absent peer would come to if it returned as it was when it was lost, and UpToDate then.
  // Nothing where that is not known. For operators: it decides nothing.
  std::optional<Decision> expected_decision(PeerIndex peer) const;

  // Grows with each change that an operator sees in a state (not with counters).
  uint64_t state_version() const;
  ReplicaStatus status() const;
  PeerStatus peer_status(PeerIndex peer) const;

  // For the metadata store: the words of one bitmap page now, and every slot's extent.
  std::span<const uint64_t> bitmap_words(PeerIndex peer, uint32_t page) const;
  std::span<const uint32_t> activity_log_slots() const;
  uint32_t bitmap_pages() const;  // for each peer

  // Of the device: as it was last asked to be recorded, and to which it can grow at once (0: to none).
  uint64_t size_bytes() const;
  uint64_t prepared_size_bytes() const;

  // For checkers: what recovery would find dirty, and what is in the superblock that was last asked to be written.
  bool is_out_of_sync(PeerIndex peer, uint64_t block) const;
  const SuperblockImage& superblock() const;

  // The most actions that one step can make.
  static size_t actions_capacity(const ReplicaOptions& options);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep::repl
