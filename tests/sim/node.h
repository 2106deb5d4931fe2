// A node: the shipped core, and a driver that executes its actions on a simulated disk, metadata and link.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "replicator/core/replica.h"
#include "tests/sim/disk.h"
#include "tests/sim/network.h"

namespace lockstep::sim {

class World;

// What of a node survives its process: the metadata, as values.
struct DurableMetadata {
  repl::SuperblockImage superblock;
  std::vector<uint32_t> activity_log;
  std::vector<std::vector<uint64_t>> bitmap_pages;  // for the one peer
};

class Node {
 public:
  Node(World& world, int id, const repl::ReplicaOptions& options);

  void boot();
  // The process dies in the middle of whatever it does; with the power, the disk's cache goes as well.
  void crash(bool power_lost);
  void freeze(uint64_t until_us) { frozen_until_us_ = until_us; }

  bool alive() const { return replica_ != nullptr; }
  bool is_frozen() const;
  uint64_t frozen_until_us() const { return frozen_until_us_; }
  bool wants_link() const { return alive() && !is_frozen() && wants_link_; }
  bool export_open() const { return alive() && export_open_; }
  const repl::Replica& replica() const { return *replica_; }
  repl::PeerStatus peer() const { return replica_->peer_status(0); }
  Disk& disk() { return disk_; }
  const Disk& disk() const { return disk_; }
  const DurableMetadata& durable() const { return durable_; }
  uint64_t boots() const { return boots_; }
  uint64_t last_power_loss() const { return power_losses_; }

  void feed(repl::EventBody body);
  bool can_receive(const Frame& frame) const;
  void receive(repl::Incarnation incarnation, const Frame& frame);

  // The application on this node; false if no client slot is free.
  bool application_write(const ByteRange& range, repl::ClientOperation operation, bool fua);
  bool application_read(const ByteRange& range);
  bool application_flush();
  uint32_t application_in_flight() const { return application_in_flight_; }

  // An operator's order, answered through World::order_answered.
  void order(repl::OrderGiven order);

  void fail_next_disk_operation() { fail_next_ = true; }

 private:
  struct Request {
    bool used = false;
    repl::ClientOperation operation = repl::ClientOperation::Read;
    uint32_t write = 0;  // number in the ledger
    bool fua = false;
    ByteRange range;
    uint64_t issued = 0;
    std::vector<Value> seen;  // by a read
  };
  struct DiskWrite {
    uint64_t id;
    ByteRange range;
    std::vector<Value> values;
  };

  void execute();
  void perform(const repl::Action& action, std::vector<Value> payload);
  std::vector<Value> payload_of_send(const repl::Action& action) const;
  bool must_wait(const repl::Action& action) const;
  void release_held();
  void submit_write(const repl::SlotRef& slot, const ByteRange& range, std::vector<Value> values, bool fua);
  void submit_read(const repl::SlotRef& slot, const ByteRange& range);
  void submit_flush(const repl::SlotRef& slot);
  std::vector<Value> payload_of(const repl::SlotRef& slot) const;
  void queue_persist(const repl::Action& action);
  void start_persist();
  void finish_persist();
  void write_durably(const repl::Action& persist, bool partly);
  void replied(uint32_t slot, int error_errno);
  uint64_t disk_latency_us();
  int take_slot();
  void schedule_turn_end();

  World& world_;
  int id_;
  repl::ReplicaOptions options_;
  Disk disk_;
  DurableMetadata durable_;

  std::unique_ptr<repl::Replica> replica_;
  repl::Actions actions_;
  uint64_t boots_ = 0;
  uint64_t power_losses_ = 0;
  uint64_t frozen_until_us_ = 0;
  bool wants_link_ = false;
  bool export_open_ = false;
  bool turn_end_scheduled_ = false;
  bool fail_next_ = false;
  struct Held {
    repl::Action action;
    std::vector<Value> payload;  // a Send's, taken when the action came: its slot may be used again before it goes out
  };
  std::deque<Held> held_;
  std::deque<repl::Action> persists_;
  bool persisting_ = false;
  repl::PersistId persisted_ = 0;
  std::vector<Request> requests_;
  std::vector<std::vector<Value>> apply_values_, resync_values_;
  std::vector<bool> apply_used_;
  std::vector<DiskWrite> disk_writes_;  // under way
  uint64_t disk_operations_ = 0;
  uint32_t application_in_flight_ = 0;
};

}  // namespace lockstep::sim
