// Runs a replica: gives it what happens as events and carries out its actions. On the loop's thread.
//
// One rule is enforced here for every action: what waits for a persist is not done before that persist is durable,
// and no Send overtakes an earlier one to the same peer. A turn of the loop: each completion and message steps the
// core at once; at the turn's end the core is told so, and everything that was gathered leaves in one go.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/block_backend.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"
#include "io/timer.h"
#include "replicator/arbiter.h"
#include "replicator/buffered_reads.h"
#include "replicator/core/replica.h"
#include "replicator/latency.h"
#include "replicator/local_disk.h"
#include "replicator/metadata_store.h"
#include "replicator/peer_link.h"

namespace lockstep::repl {

struct DriverOptions {
  LinkIdentity identity;
  struct PeerAddress {
    std::string name;
    io::Address address;
    std::optional<Protocol> protocol;  // towards it, if it is another than `protocol`
  };
  std::vector<PeerAddress> peers;  // the preferred one of `sync` first; the same names as in the metadata
  Protocol protocol = Protocol::C;
  SyncSet sync;
  LossPolicy on_peer_loss = LossPolicy::Continue;
  uint64_t peer_timeout_ms = 3000;
  PaceOptions resync_pace;
  bool prepares_resyncs = false;
  uint32_t client_slots = 512;
  uint32_t apply_slots = 512;
  uint32_t resync_slots = 16;
  LinkOptions link;
  Arbiter* arbiter = nullptr;  // on-peer-loss = arbiter; outlives the driver
};

class DriverOwner {
 public:
  virtual ~DriverOwner() = default;
  // The replica became Primary, or is about to become Secondary: whether NBD clients are served.
  virtual void export_opened() = 0;
  virtual void export_closed() = 0;
  // Something that status() or peer_status() tells in words may have changed.
  virtual void state_changed() = 0;
  // Before this node becomes target of a resync from that peer: `ready` is called once, from the loop, when it may, or
  // with false when it is to wait for an operator. Only where DriverOptions::prepares_resyncs is set.
  virtual void prepare_resync(PeerIndex, std::function<void(bool)> ready) { ready(true); }
  // What the log was told as well; from the run queue.
  virtual void noted(const Note&) {}
  // A link came up; and a frame for the audit log that it brought.
  virtual void link_came_up(PeerIndex) {}
  virtual void audit_frame_arrived(PeerIndex, const AuditFrame&) {}
  // How many NBD clients are in the transmission phase now: demote and switchover are refused while there are any.
  virtual uint32_t export_clients() const = 0;
};

struct OrderAnswer {
  Outcome outcome = Outcome::Done;
  PeerIndex peer = 0;  // whom it is about, where it is about one
};

class Driver final : public io::BlockBackend,
                     private io::TurnObserver,
                     private LinkOwner,
                     private MetadataOwner,
                     private LocalDiskOwner {
 public:
  // `loop` and `owner` outlive the driver; the driver outlives the loop's run().
  Driver(io::Loop& loop, DriverOptions options, std::unique_ptr<io::File> disk, std::unique_ptr<MetadataStore> metadata,
         DriverOwner& owner);
  ~Driver() override;

  // Loads the bitmaps (blocking) and starts the replica; the links come up once the loop runs.
  Status start();

  // Peers by index, as in the metadata.
  const std::vector<std::unique_ptr<PeerLink>>& links() const { return links_; }
  const LinkIdentity& identity() const { return options_.identity; }
  const LinkOptions& link_options() const { return options_.link; }

  ReplicaStatus status() const { return replica_.status(); }
  PeerStatus peer_status(PeerIndex peer) const { return replica_.peer_status(peer); }
  // Since the start.
  const DriverLatencies& latencies() const { return latencies_; }
  // Metadata persists have failed: nothing can be recorded any more.
  bool metadata_failed() const { return metadata_failed_; }

  // `order.ticket` is chosen here. `answered` is called once, from the loop, never from inside this call.
  void give_order(OrderGiven order, std::function<void(OrderAnswer)> answered);
  // What the order would be answered now: see Replica::rehearse(). `clients_end`: the clients' sessions are ended
  // first.
  std::optional<OrderAnswer> rehearse(OrderGiven order, bool clients_end) const;
  std::optional<Decision> expected_decision(PeerIndex peer) const { return replica_.expected_decision(peer); }
  // For the audit log of a peer; dropped where there is no link.
  void send_audit_frame(PeerIndex peer, const AuditFrame& frame);
  // Whether attach() would take a disk now: Done, or why not.
  Outcome may_attach() const { return replica_.may_attach(); }
  // A disk for a node that has none, while may_attach() says Done. Reads the bitmaps (blocking). Refused, with nothing
  // changed, when the metadata was made for other peers or another activity log than the node started with.
  Status attach(std::unique_ptr<io::File> disk, std::unique_ptr<MetadataStore> metadata);
  // After the Shutdown order was answered: waits until links, disk and metadata are quiet. The loop goes on.
  io::Task<void> quiet();

  // ---- io::BlockBackend: requests of NBD clients ----
  io::BlockGeometry geometry() const override;
  bool submit(io::BlockRequest& request) override;
  io::Signal& admission() override { return admission_; }
  bool has_map(io::BlockMap map) const override;
  size_t extents(io::BlockMap map, uint64_t offset_bytes, uint64_t length_bytes,
                 std::span<io::BlockExtent> into) override;

 private:
  struct ClientSlot {
    io::BlockRequest* request = nullptr;
    io::BufferRef payload;  // of a Write
    uint32_t payload_checksum = 0;
    bool checksum_known = false;  // worked out with the first Send
    uint64_t done_bytes = 0;      // of a long TRIM or WRITE_ZEROES, which the core gets in pieces
    uint64_t piece_bytes = 0;
    uint64_t began_us = 0;
    uint64_t disk_began_us = 0;  // of a Write
  };
  struct ApplySlot {
    io::BufferRef payload;  // of a Write; of a comparison, what was read
    bool ended = false;     // its I/O completed, or the core refused it
    bool compares = false;  // it is read, not written
  };
  struct HeldAction {
    Action action;
    io::BufferRef payload;
    uint32_t payload_checksum = 0;
    std::vector<BitmapRun> runs;       // of BitmapRuns, whose own are good only during the step
    std::vector<BlockDigest> digests;  // of RangeDigests, the same
  };
  struct Finished {  // a client's request that is to be answered
    uint32_t slot = 0;
    int error_errno = 0;
  };
  struct FailedIo {
    SlotRef slot;
  };
  struct Answered {
    uint64_t ticket = 0;
    OrderAnswer answer;
  };
  using Notice = std::variant<Finished, FailedIo, Answered, OpenExport, CloseExport, PrepareResync, Note>;
  class NoticeRun;

  // ---- events in ----
  void step(EventBody body);
  void tell_export_clients();
  void turn_ended() noexcept override;
  void link_established(PeerIndex peer, Incarnation incarnation) noexcept override;
  void link_lost(PeerIndex peer, Incarnation incarnation) noexcept override;
  void message_arrived(PeerIndex peer, Incarnation incarnation, const Message& message,
                       io::BufferRef payload) noexcept override;
  void audit_frame_arrived(PeerIndex peer, const AuditFrame& frame) noexcept override {
    owner_.audit_frame_arrived(peer, frame);
  }
  io::BufferPool& read_reply_buffers() override { return serve_reads_.pool(); }
  bool can_take_write() const override { return apply_count_ < options_.apply_slots; }
  io::Signal& write_admission() override { return write_admission_; }
  void persisted(PersistId id, int error_errno) noexcept override;
  std::span<const uint64_t> bitmap_words(PeerIndex peer, uint32_t page) override;
  void local_io_ended(SlotRef slot, int error_errno, bool all_stable) noexcept override;

  // ---- actions out ----
  void carry_out(const Action& action);
  // What an action waits for; 0: nothing.
  static PersistId awaited_persist(const Action& action);
  void hold(const Action& action);
  void release_held();
  void fail_held();
  struct Payload {
    const io::BufferRef& buffer;
    uint32_t checksum;
  };
  Payload payload_of(const Send& send);
  void execute(const SubmitRead& action);
  void execute(const SubmitWrite& action);
  void execute(const SubmitZeroes& action);
  void execute(const SubmitFlush& action);
  void execute(const ReleaseDisk& action);
  void execute(const StoreRead& action);
  void release_disk_when_quiet();
  void execute(const Send& action);
  void execute(const PersistSuperblock& action) { metadata().persist(action); }
  void execute(const PersistActivityLog& action) { metadata().persist(action); }
  void execute(const PersistBitmapPages& action) { metadata().persist(action); }
  void execute(const PersistActivityLogEmpty& action) { metadata().persist(action); }
  void execute(const PersistSize& action) { metadata().persist(action); }
  void execute(const PrepareDisk& action) { loop_.spawn(prepare_disk(action.size_bytes)); }
  io::Task<void> prepare_disk(uint64_t size_bytes);
  void follow_size();
  void execute(const ReleaseApply& action) { end_apply(action.slot); }
  void execute(const Reply& action) { notify(Finished{action.slot, action.error_errno}); }
  void execute(const CloseLink& action);
  void execute(const Connect& action) { links_[action.peer]->connect(); }
  void execute(const StopConnecting& action) { links_[action.peer]->stop_connecting(); }
  void execute(const OpenExport& action) { notify(action); }
  void execute(const CloseExport& action) { notify(action); }
  void execute(const PrepareResync& action) { notify(action); }
  void execute(const OrderAnswered& action) { notify(Answered{action.ticket, {action.outcome, action.peer}}); }
  void execute(const AskArbiter& action);
  void execute(const Note& note);
  // Whether a handshake came to what the one before with that peer came to.
  bool is_repeated(const Note& note);

  // What others are told is told from the run queue: they may call back.
  void notify(Notice notice);
  void deliver_notices() noexcept;
  void deliver(const Finished& finished);
  void deliver(const FailedIo& failed);
  void deliver(const Answered& answered);
  void deliver(const OpenExport&) { owner_.export_opened(); }
  void deliver(const CloseExport&) { owner_.export_closed(); }
  void deliver(const PrepareResync& action) {
    owner_.prepare_resync(action.peer, [this, peer = action.peer](bool ready) { step(ResyncPrepared{peer, ready}); });
  }
  void deliver(const Note& note) { owner_.noted(note); }

  size_t dirty_extents(uint64_t offset_bytes, uint64_t length_bytes, std::span<io::BlockExtent> into) const;
  void give_piece(uint32_t slot);
  void end_apply(uint32_t slot);
  void time_local_io(const SlotRef& slot);
  void start_resync_read(const SubmitRead& action, const io::BufferRef& into);
  std::span<const BlockDigest> digests_of(std::span<const uint8_t> bytes);
  BufferedReads& reads_of(SlotKind kind) { return kind == SlotKind::Serve ? serve_reads_ : resync_reads_; }
  // The core asks nothing of them between ReleaseDisk and attach().
  LocalDisk& disk() {
    LOCKSTEP_CHECK(disk_ != nullptr);
    return *disk_;
  }
  MetadataStore& metadata() {
    LOCKSTEP_CHECK(metadata_ != nullptr);
    return *metadata_;
  }
  LocalDisk::Slots disk_slots() const {
    return {options_.client_slots, options_.apply_slots, options_.resync_slots, kServedReads};
  }
  DurableState durable_state();

  io::Loop& loop_;
  DriverOptions options_;  // its identity's sizes grow
  DriverOwner& owner_;
  const std::vector<std::string> peer_names_;  // as in the metadata that the node started with
  const uint32_t activity_log_slots_;
  const uint32_t block_bytes_;  // what clients were told
  const std::string disk_path_;
  std::unique_ptr<MetadataStore> metadata_;  // none while the disk is away
  std::unique_ptr<LocalDisk> disk_;
  bool releasing_disk_ = false;
  Replica replica_;
  Actions actions_;
  BufferedReads resync_reads_;
  BufferedReads serve_reads_;
  std::vector<std::unique_ptr<PeerLink>> links_;
  io::Timer ticker_;

  DriverLatencies latencies_;
  uint64_t flush_began_us_ = 0;

  std::vector<ClientSlot> clients_;
  std::vector<uint32_t> free_clients_;
  io::Signal admission_;

  // Slots in order of arrival: a ring. The core frees them in that order.
  std::vector<ApplySlot> applies_;
  uint32_t apply_first_ = 0;
  uint32_t apply_count_ = 0;
  io::Signal write_admission_;

  struct ResyncRead {  // under way
    io::BufferRef into;
    bool digests = false;
  };
  std::vector<ResyncRead> resync_in_;
  std::vector<io::BufferRef> serve_in_;
  std::array<BlockDigest, kBlocksPerComparison> digests_{};  // of the step under way
  io::BufferRef finished_read_;  // of the step under way: what was read for a peer, or by a peer for us

  PersistId durable_ = 0;
  bool metadata_failed_ = false;
  std::vector<HeldAction> held_;
  std::array<uint32_t, kMaximumPeers> held_sends_{};

  std::unique_ptr<NoticeRun> notice_run_;
  std::vector<Notice> notices_;
  std::vector<Notice> delivering_;

  struct LastHandshake {
    std::string rule;
    uint64_t blocks = 0;
  };
  std::array<LastHandshake, kMaximumPeers> last_handshakes_;
  std::map<uint64_t, std::function<void(OrderAnswer)>> orders_;
  uint64_t next_ticket_ = 1;
  uint64_t told_version_ = 0;
  uint32_t told_export_clients_ = 0;
  bool stepping_ = false;
  bool stepped_since_turn_end_ = false;
};

}  // namespace lockstep::repl
