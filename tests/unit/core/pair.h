// Two replicas of the shipped core, joined by a driver that is as small as can be: the link and the disks are instant
// unless a test holds them back, so that a story can say what happens before what.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "replicator/core/replica.h"

namespace lockstep::repl {

inline constexpr uint64_t kTestDeviceBytes = 128 * kMiB;
inline constexpr uint64_t kTestBlocks = kTestDeviceBytes / kBlockBytes;

ReplicaOptions test_options(uint8_t node_order);
// A promotion for which somebody vouches that the absent peers are no Primaries.
OrderGiven promote_fenced();
constexpr ByteRange blocks(uint64_t first, uint64_t count = 1) {
  return {first * kBlockBytes, count * kBlockBytes};
}

// A frame on its way. Runs and payload are copies: the core's and the slot's are gone by the time it arrives.
struct TestFrame {
  Message message;
  std::vector<BitmapRun> runs;
  std::vector<uint32_t> values;  // one for each block
  std::vector<BlockDigest> digests;
};

// What joins sides: Pair here, Trio in trio.h. Sides are known by their numbers, peers by their place at a side.
class Wires {
 public:
  Wires() = default;
  Wires(const Wires&) = delete;
  Wires& operator=(const Wires&) = delete;
  virtual ~Wires() = default;
  virtual void carry(int from, const Send& send, TestFrame frame) = 0;
  virtual void close(int number, PeerIndex peer, Incarnation incarnation) = 0;
  virtual void side_is_gone(int number) = 0;

  uint64_t now_us = 1'000'000;
  uint64_t starts = 0;  // of sides: makes generations differ
};

class Side {
 public:
  Side(Wires& wires, int number, const ReplicaOptions& options);

  // --- what survives the process
  SuperblockImage superblock;
  std::vector<uint32_t> activity_log;
  bool activity_log_valid = true;
  std::vector<uint64_t> bitmap;         // of peer 0, page after page
  std::vector<uint64_t> second_bitmap;  // of peer 1
  uint64_t size_bytes = kTestDeviceBytes;
  std::vector<uint32_t> disk;         // what reads give: one value for each block
  std::vector<uint32_t> stable_disk;  // what a power cut leaves of it

  // --- what a test holds back
  bool holds_persists = false;
  bool holds_writes = false;
  bool holds_flushes = false;
  bool holds_reads = false;
  bool holds_preparations = false;
  bool writes_through = false;  // each write is stable when it ends, and its end says so
  int next_preparation_errno = 0;
  int next_io_errno = 0;  // of the next local I/O that completes
  int next_flush_errno = 0;
  int next_persist_errno = 0;
  std::set<uint64_t> bad_blocks;  // reads of these fail

  // --- what a test looks at
  std::vector<std::string> seen;    // what was done, in order: "write", "reply 0", "persist activity log", …
  std::map<uint32_t, int> replies;  // errno by client slot
  std::map<uint64_t, OrderAnswered> answers;
  std::vector<Note> notes;
  std::vector<AskArbiter> asked;
  uint64_t preparations_asked = 0;
  std::set<uint32_t> apply_slots_in_use;
  bool export_open = false;
  bool wants_link = false;  // with peer 0
  std::array<bool, 2> wants_links{};
  bool disk_released = false;                             // the replica uses neither disk nor metadata
  std::map<uint32_t, std::vector<uint32_t>> read_values;  // what a client's read gave, by slot

  void start();
  // The disk comes back, with the metadata as it is now.
  void attach();
  void crash(bool power_lost = false);
  int number() const { return number_; }
  bool alive() const { return replica_ != nullptr; }
  const Replica& replica() const { return *replica_; }
  PeerStatus peer(PeerIndex index = 0) const { return replica_->peer_status(index); }
  bool is_up_to_date() const { return replica_->status().disk_state == DiskState::UpToDate; }
  bool is_primary() const { return replica_->status().role == Role::Primary; }
  uint64_t count_seen(const std::string& what) const;
  // The place of the first `what` in `seen`, its size if it is not there.
  size_t place_of(const std::string& what) const;

  void feed(EventBody body);
  // Client requests; the caller chooses the slot.
  void request(uint32_t slot, ClientOperation operation, const ByteRange& range, uint32_t value = 0, bool fua = false);
  void write(uint32_t slot, const ByteRange& range, uint32_t value, bool fua = false) {
    request(slot, ClientOperation::Write, range, value, fua);
  }
  void flush(uint32_t slot) { request(slot, ClientOperation::Flush, {}); }
  uint64_t order(OrderGiven order);  // the ticket
  uint64_t order(OrderKind kind);
  bool answered(uint64_t ticket, Outcome outcome) const;

  // True if something moved.
  bool complete_one_write();
  void postpone_one_write();  // the next one is the last
  bool complete_one_persist();
  bool turn();
  void receive(Incarnation incarnation, const TestFrame& frame, PeerIndex from = 0);
  size_t writes_under_way() const { return writes_.size(); }
  size_t persists_under_way() const { return persists_.size(); }

 private:
  friend class Pair;
  struct LocalIo {
    SlotRef slot;
    ByteRange range;
    std::vector<uint32_t> values;
    bool fua = false;
    bool digests = false;
  };
  struct Held {
    Action action;
    TestFrame frame;
  };

  void execute();
  bool must_wait(const Action& action) const;
  void perform(const Action& action, TestFrame frame);
  TestFrame frame_of(const Send& send) const;
  DurableState durable_state();
  void persist(const Action& action);
  void release_held();
  void fail(const Action& action);  // what waits for a persist that failed
  bool complete_io();

  Wires& wires_;
  int number_;
  ReplicaOptions options_;
  std::unique_ptr<Replica> replica_;
  Actions actions_;
  uint64_t tickets_ = 0;
  std::deque<Held> held_;
  std::deque<Action> persists_;
  PersistId persisted_ = 0;
  bool persist_failed_ = false;
  std::deque<LocalIo> writes_, reads_;
  uint64_t preparing_ = 0;  // the size that the disk is being prepared for
  bool flush_under_way_ = false;
  std::vector<uint32_t> flush_snapshot_;
  std::map<uint32_t, uint32_t> client_values_;
  std::vector<std::vector<uint32_t>> apply_values_, resync_values_, serve_values_;
  std::vector<uint32_t> arrived_values_;
  bool releases_disk_ = false;
};

class Pair : public Wires {
 public:
  Pair() : Pair(test_options(0), test_options(1)) {}
  Pair(const ReplicaOptions& first, const ReplicaOptions& second);

  Side alpha, beta;
  bool holds_to_alpha = false;  // frames stay on the link
  bool holds_to_beta = false;
  bool alpha_frozen = false;          // its process stands still; what happens to the link it learns afterwards
  uint64_t frames_left = UINT64_MAX;  // then all frames stay on the link
  std::deque<TestFrame> to_alpha, to_beta;

  // Everything that is not held back, until nothing moves any more.
  void run();
  // A link, and another when a handshake had to start again.
  void connect();
  bool linked() const { return incarnation_ != 0; }
  Incarnation incarnation() const { return incarnation_; }
  void lose_link();  // with everything that is on it
  void pass(uint64_t time_us);

  // alpha is Primary, both are UpToDate and Established.
  void make_mirrored();

 private:
  friend class Side;
  Side& other(int number) { return number == 0 ? beta : alpha; }
  bool deliver_one(Side& side);
  int number_of_frozen() const { return alpha_frozen ? 0 : -1; }
  void carry(int from, const Send& send, TestFrame frame) override;
  void close(int number, PeerIndex peer, Incarnation incarnation) override;
  void side_is_gone(int) override { lose_link(); }

  Incarnation incarnations_ = 0;
  Incarnation incarnation_ = 0;
  Incarnation unnoticed_ = 0;  // lost while alpha was frozen
  bool closing_ = false;
};

}  // namespace lockstep::repl
