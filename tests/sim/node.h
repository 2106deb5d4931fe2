// A node: the shipped core, and a driver that executes its actions on a simulated disk, metadata and links.
// node.cpp: life of the process, the core's steps, requests; node_io.cpp: disk and metadata.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "replicator/core/replica.h"
#include "tests/sim/disk.h"
#include "tests/sim/network.h"

namespace lockstep::sim {

class World;

// What a disk does not do any more, once or from now on; a restart of the node puts it right.
enum class DiskFault : uint8_t { None, Read, Write, Flush, Persist, CopyRead };

// What of a node survives its process: the metadata, as values.
struct DurableMetadata {
  uint64_t size_bytes = 0;  // of the device
  repl::SuperblockImage superblock;
  std::vector<uint32_t> activity_log;
  std::vector<std::vector<std::vector<uint64_t>>> bitmaps;  // words, by peer and page
};

class Node {
 public:
  Node(World& world, int id, const repl::ReplicaOptions& options);

  void boot();
  // The process dies in the middle of whatever it does; with the power, the disk's cache goes as well.
  void crash(bool power_lost);
  void freeze(uint64_t until_us) { frozen_until_us_ = until_us; }
  void break_disk(DiskFault fault, bool once);
  // Unless a flush failed: what the disk shows since is not to be seen.
  void mend_disk() {
    if (!flush_failed_) disk_fault_ = DiskFault::None;
  }
  void slow_down(uint64_t until_us) { slow_until_us_ = until_us; }
  // The clock of this node jumps forward.
  void jump_clock(uint64_t by_us) { clock_ahead_us_ += by_us; }
  // While it is down, or has given its disk up: an empty disk and metadata as create leaves them.
  void replace_disk();
  // The disk that was given up, or the one that replaces it, is put right and used again.
  bool may_attach() const {
    return alive() && replica_->may_attach() == repl::Outcome::Done && durable_.size_bytes == replica_->size_bytes();
  }
  void attach_disk();
  // A copy of disk and metadata as they are on stable storage, and what an earlier copy brings back.
  void take_snapshot();
  bool has_snapshot() const { return snapshot_ != nullptr; }
  const repl::Generation& generation_of_snapshot() const { return snapshot_->metadata.superblock.current; }
  void roll_back();

  int id() const { return id_; }
  int peer_count() const { return options_.peer_count; }
  // The core knows its peers by place: all other nodes, in order of their numbers.
  repl::PeerIndex peer_index(int other) const { return static_cast<repl::PeerIndex>(other < id_ ? other : other - 1); }
  std::array<std::optional<repl::Protocol>, repl::kMaximumPeers> peer_protocols() const;  // as the file says now
  int peer_id(repl::PeerIndex peer) const { return peer < id_ ? peer : peer + 1; }

  bool alive() const { return replica_ != nullptr; }
  bool is_frozen() const;
  bool responds() const { return alive() && !is_frozen(); }
  uint64_t frozen_until_us() const { return frozen_until_us_; }
  uint64_t handlers_end_us() const { return handlers_end_us_; }  // of the last one that was started
  bool wants_link(int other) const { return responds() && wants_link_[peer_index(other)]; }
  bool export_open() const { return alive() && export_open_; }
  bool lacks_disk() const { return alive() && !repl::is_disk(status().disk_state); }
  // A Primary whose clients see a peer's disk.
  bool is_served() const { return alive() && status().served_by_peer; }
  bool metadata_failed() const { return persist_failed_; }
  // On stable storage is a generation of which the node was told that it could not be written.
  bool holds_unannounced() const { return !unannounced_.is_zero() && durable_.superblock.current == unannounced_; }
  // … and the program that was told so has ended.
  bool forgot_unannounced() const { return holds_unannounced() && boots_ != unannounced_in_boot_; }
  // Its metadata named this generation once, as its own or as one before: of three nodes and more.
  bool once_knew(const repl::Generation& generation) const { return once_known_.count(generation) != 0; }
  bool met_disk_fault() const { return met_disk_fault_; }  // since it started last; also of one that is down
  const repl::Replica& replica() const { return *replica_; }
  repl::ReplicaStatus status() const { return replica_->status(); }
  repl::PeerStatus peer(int other) const { return replica_->peer_status(peer_index(other)); }
  Disk& disk() { return disk_; }
  const Disk& disk() const { return disk_; }
  const DurableMetadata& durable() const { return durable_; }
  uint64_t boots() const { return boots_; }

  void feed(repl::EventBody body);
  bool can_receive(const Frame& frame) const;
  void receive(int from, repl::Incarnation incarnation, const Frame& frame);

  // The application on this node; nothing happens if no client slot is free.
  void application_write(const ByteRange& range, repl::ClientOperation operation, bool fua);
  void application_read(const ByteRange& range);
  void application_flush();
  uint32_t application_in_flight() const { return application_in_flight_; }

  // An operator's order, answered through Operator::answered.
  void order(const repl::OrderGiven& order) { feed(order); }

 private:
  struct Request {
    bool used = false;
    repl::ClientOperation operation = repl::ClientOperation::Read;
    uint32_t write = 0;  // number in the ledger
    bool fua = false;
    ByteRange range;
    uint64_t issued = 0;
    std::vector<Value> seen;  // by a read
    // Its answer waits for a persist, and these peers were Established when it was decided.
    bool is_decided = false;
    bool was_served = false;  // when it was decided
    uint8_t kept_by = 0;
  };
  struct DiskWrite {
    uint64_t id;
    ByteRange range;
    std::vector<Value> values;
    bool is_copy = false;  // of a resync
  };
  struct ReadDone {
    repl::SlotRef slot;
    int error_errno = 0;
    bool all_zeroes = false;
    std::vector<Value> values;
    std::vector<repl::BlockDigest> digests;  // where they were wanted
  };
  struct ApplyPayload {
    bool used = false;
    bool is_copy = false;
    std::vector<Value> values;
  };

  repl::DurableState load_durable();
  void step(repl::EventBody body);
  void execute();
  void perform(const repl::Action& action, Frame* held);  // held: the frame of a Send that had to wait, else null
  Frame frame_of_send(const repl::Action& action) const;
  std::vector<Value> payload_of(const repl::SlotRef& slot) const;
  bool must_wait(const repl::Action& action) const;
  void store_read(const repl::StoreRead& action);
  void release_held();
  void fail(const repl::Action& action);
  void run_handler(repl::PeerIndex peer);
  void schedule_turn_end();
  int take_slot();
  void replied(uint32_t slot, int error_errno);
  uint8_t established_peers() const;

  // node_io.cpp
  void submit_write(const repl::SlotRef& slot, const ByteRange& range, std::vector<Value> values, bool fua);
  void submit_read(const repl::SlotRef& slot, const ByteRange& range, bool digests);
  void read_done(ReadDone done);
  void submit_flush(const repl::SlotRef& slot);
  void disk_write_done(uint64_t write_id, const repl::SlotRef& slot, bool durable);
  void begin_io();
  void end_io(repl::LocalIoCompleted completed);
  void release_disk_when_quiet();
  void prepare_disk(uint64_t size_bytes);
  void queue_persist(const repl::Action& action);
  void start_persist();
  void finish_persist();
  void write_durably(const repl::Action& persist, bool partly);
  bool disk_fails(DiskFault fault);
  uint64_t disk_latency_us();

  World& world_;
  int id_;
  repl::ReplicaOptions options_;
  Disk disk_;
  DurableMetadata durable_;
  struct Snapshot {
    std::vector<Value> content;
    DurableMetadata metadata;
  };
  std::unique_ptr<Snapshot> snapshot_;

  std::unique_ptr<repl::Replica> replica_;
  repl::Actions actions_;
  bool executing_ = false;
  uint64_t boots_ = 0;
  uint64_t frozen_until_us_ = 0, slow_until_us_ = 0, clock_ahead_us_ = 0;
  uint64_t handlers_end_us_ = 0;
  DiskFault disk_fault_ = DiskFault::None;
  bool flush_failed_ = false;
  bool disk_fault_once_ = false, met_disk_fault_ = false;
  std::vector<bool> wants_link_;  // by peer
  bool export_open_ = false;
  bool turn_end_scheduled_ = false;
  struct Held {
    repl::Action action;
    Frame frame;  // a Send's, taken when the action came: its slot may be used again before it goes out
  };
  std::deque<Held> held_;
  std::deque<repl::Action> persists_;
  bool persisting_ = false;
  bool persist_failed_ = false;
  std::set<repl::Generation> once_known_;
  repl::Generation unannounced_;
  uint64_t unannounced_in_boot_ = 0;
  repl::PersistId persisted_ = 0;
  std::vector<Request> requests_;
  std::vector<ApplyPayload> applies_;
  std::vector<std::vector<Value>> resync_values_, serve_values_;
  const std::vector<Value>* arrived_values_ = nullptr;  // the payload of the message of this step
  std::vector<DiskWrite> disk_writes_;                  // under way
  uint64_t disk_operations_ = 0;
  uint64_t io_in_flight_ = 0;  // asked of the disk and not told to the core
  bool releasing_disk_ = false, disk_released_ = false;
  uint64_t disks_replaced_ = 0;
  uint32_t application_in_flight_ = 0;
};

}  // namespace lockstep::sim
