// Everything that a replica remembers, and the steps it is made of. Private to the core; one file per concern:
//   slots.h            what is remembered of each request, write of the stream, and read that is under way
//   peer_state.h       what is remembered of each peer
//   replica.cpp        construction, dispatch of events, what status shows
//   third_nodes.cpp    what is kept for other nodes than the one at the link, when there are several peers
//   startup.cpp        what a node makes of what it finds on stable storage
//   client_writes.cpp  admission, activity log, sequence, legs and replies of a client's request
//   protocols.cpp      what protocols A, B and C wait for, the bounds of A, and the change from one to another
//   promises.cpp       which peers a request waits for, and whether what they did is enough
//   flushes.cpp        group flushes: local fdatasync and barriers; what is stable everywhere leaves the transfer log
//   applies.cpp        the Secondary's side of the stream: order, barriers, acknowledgements
//   suspension.cpp     losing peers: when nothing may be answered, and what happens to what is held
//   arbitration.cpp    what is asked of the arbiter, and what follows
//   links.cpp          links up and down, heartbeats, time-outs, goodbyes
//   handshake.cpp      state reports, the decision and what follows from it; generations
//   resync.cpp         both sides of a resync: start, bitmaps, end
//   preparing.cpp      a handler that runs before this node becomes a target
//   pausing.cpp        a resync that waits, by the word of either side
//   copying.cpp        what a source reads and sends, and when
//   comparing.cpp      digests in the stream, and what their answers mean
//   verify.cpp         online verify, from its order to its end
//   disk_loss.cpp      errors of the disk and its metadata, detach and attach
//   served.cpp         a Primary without data of its own: its clients are served from a peer's disk
//   serving.cpp        the other side of that: the peer whose disk it is
//   roles.cpp          orders: promote, demote, switchover, connect, disconnect, shutdown
//   rehearsal.cpp      what an order would be answered, on a copy of all this
//   growth.cpp         resize
//   lives.cpp          how old this disk and the peers' are: an older copy of a disk is known as one
//   invalidation.cpp   orders: invalidate this node, or a peer
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "replicator/core/activity_log.h"
#include "replicator/core/flush_allowance.h"
#include "replicator/core/peer_state.h"
#include "replicator/core/range_set.h"
#include "replicator/core/replica.h"
#include "replicator/core/slots.h"
#include "replicator/core/transfer_log.h"

namespace lockstep::repl {
struct Replica::State {
  explicit State(const ReplicaOptions& replica_options);

  // --- dispatch (replica.cpp)
  void on(const Ticked&);
  void on(const TurnEnded&);
  void on(const LocalIoCompleted& event);
  void on(const PersistCompleted& event);
  template <typename A>
  void act(A&& action) {
    actions->add(std::forward<A>(action));
  }
  void send(PeerIndex peer, Message message, SlotRef payload = {}, PersistId after = 0);
  void note(NoteKind kind, PeerIndex peer, uint64_t number = 0, const char* text = "");
  void changed() { ++version; }
  // Writes the pages that differ from disk (or only those that lack bits there); 0 if there are none.
  PersistId persist_bitmap(PeerIndex peer, bool only_lacking_bits);
  PersistId persist_bitmap_page(PeerIndex peer, uint32_t page);
  bool is_durable(PersistId id) const { return id <= persisted; }
  uint8_t peer_count() const { return options.peer_count; }
  bool is_connected(const Peer& peer) const { return peer.incarnation != 0 && peer.decided; }
  bool gets_stream(const Peer& peer) const;
  bool disk_usable() const;
  // Clients see this node's own disk.
  bool serves_locally() const { return disk_usable() && served.is_zero(); }

  // --- startup.cpp
  void start(const DurableState& durable);

  // --- client_writes.cpp
  void on(const ClientRequestArrived& event);
  void start_request(uint32_t slot);
  void reply(uint32_t slot, int error_errno);
  bool try_start_write(uint32_t slot);
  bool is_recorded_as_used();
  void start_write(uint32_t slot);
  void retry_waiting_writes();
  void build_activity_log_transaction();
  void local_write_completed(uint32_t slot, int error_errno);
  void note_local_progress();
  void mark_unknown(const ByteRange& range);
  void complete_write_if_done(uint32_t slot);
  void record_divergence();
  // The peer may hold our current generation: as a copy that is in sync, or because it was told to leave that
  // generation for a resync and may not have heard.
  bool may_hold_our_current(const PeerRecord& record) const {
    return record.bitmap_generation.is_zero() || record.previous_bitmap_generation == superblock.current;
  }

  // --- protocols.cpp
  Milestone milestone(const Peer& peer, bool fua) const;
  Protocol protocol_of_answers(const Peer& peer) const;
  void tell_stream_rules(PeerIndex peer, bool again = false);
  void sent_to_peer(PeerIndex peer, Sequence sequence, const TransferEntry& entry);
  bool queue_is_full() const;
  void put_barrier_behind(Sequence sequence);
  void note_progress(PeerIndex peer, const Acknowledged& message);
  bool is_stuck(PeerIndex peer) const;
  bool is_waited_for(PeerIndex peer, Sequence sequence) const;
  Sequence oldest_unwritten(PeerIndex peer) const;  // 0: none
  bool has_answered_unreceived(PeerIndex peer) const;
  bool set_answered_ahead(bool primary);
  void order_protocol(const OrderGiven& given);
  void advance_protocol_change();

  // --- promises.cpp
  bool some_are_enough() const;  // as the configuration has it
  bool waits_for_some() const;   // and not for all: a peer in sync may lack what was answered
  bool enough(const Promise& promise) const;
  bool promise_kept(const ClientSlot& client) const;
  void settle_promises();
  void leave_behind(PeerRecord& record, const Generation& old) const;
  void reached(PeerIndex peer, const TransferEntry& entry, Milestone milestone);

  // --- suspension.cpp
  bool is_suspended() const;
  bool awaited_peers_are_targets() const;
  Suspension suspension() const;
  void proved(Peer& peer, uint64_t asked_us);
  bool may_answer() const;
  bool hold_reply(uint32_t slot);
  void release_held_slots();
  void fail_held_slots();
  void notice_gap();
  bool loss_suspends(PeerIndex peer) const;
  void await_peer(PeerIndex peer);
  bool awaits_who_may_hold();
  void peer_is_back(PeerIndex peer);
  void give_up_peers(PeerMask mask);
  void end_suspension_if_over();
  void end_grace();
  void step_down(const char* why);
  void order_suspension(const OrderGiven& given);

  // --- arbitration.cpp
  PeerMask absent_peers() const;
  bool promotion_needs_arbiter() const;
  bool absent_primary_has_stopped() const;
  PeerMask peers_to_include() const;
  PeerMask peers_behind() const;
  void advance_arbitration();
  void ask_arbiter(ArbiterQuestion question, PeerMask mask);
  void on(const ArbiterAnswered& event);
  void peers_fenced(ArbiterVerdict verdict);
  void promotion_judged(ArbiterVerdict verdict);

  // --- flushes.cpp
  void queue_flush(uint32_t slot);
  void start_flush_cycle();
  void start_flush_cycle_if_wanted();
  bool flush_would_cover_more() const;
  void local_flush_completed(int error_errno);
  void finish_flush_cycle_if_done();
  void release_stable_entries();
  void send_barrier(PeerIndex peer, Sequence sequence);
  bool peer_has_unflushed(const Peer& peer) const { return peer.sent > peer.flushed; }

  // --- applies.cpp
  void stream_write_arrived(PeerIndex peer, const MessageArrived& event, Sequence sequence, const ByteRange& range,
                            bool resync, bool zeroes, bool may_deallocate);
  bool must_wait(const ApplySlot& apply, uint32_t place) const;
  bool holds_applies() const;
  bool owes_stable_copy() const;
  void barrier_arrived(PeerIndex peer, const Barrier& message);
  void enqueue_apply(uint32_t slot, const ApplySlot& apply);
  void start_apply(uint32_t slot);
  void start_waiting_applies();
  void apply_completed(uint32_t slot, int error_errno, bool all_stable);
  void applies_are_stable(uint64_t count, Peer& peer, Sequence through);
  void release_done_applies();
  void start_peer_flush_if_wanted();
  void send_acknowledgements();
  void acknowledged(PeerIndex peer, const Acknowledged& message);

  // --- third_nodes.cpp
  bool has_third_nodes() const { return peer_count() > 1; }
  NodeMask node_of(PeerIndex peer) const;
  bool sees_primary(PeerIndex but) const;
  bool follows_another_primary(PeerIndex but) const;
  bool is_target_of_another(PeerIndex than) const;
  bool is_behind_another(PeerIndex than) const;
  NodeMask may_hold_nodes() const;
  bool has_entries_before(const Peer& peer) const {  // of writes, from before it had our stream
    return application_entries > 0 && transfer_log.first() < peer.stream_from;
  }
  bool is_in_sync(PeerIndex peer) const;
  NodeMask in_sync_nodes() const;
  void tell_who_is_in_sync();
  void tell_ahead_of(NodeMask ahead_of);
  void tell_stable(Sequence through, PeerMask missing);
  PeerMask lacking(const ByteRange& range) const;
  void pop_unstable(PeerMask mark);
  bool note_unstable(PeerIndex from, ApplySlot& apply);
  bool try_start_logged_apply(uint32_t slot);
  void reserve_for_applies();
  void stable_through_arrived(PeerIndex peer, const StableThrough& message);
  void forget_unstable(PeerIndex primary);
  void mark_copied(PeerIndex source, const ByteRange& range);
  void mark_all_but(PeerIndex source);
  void note_stream_rules(PeerIndex index, const StreamRules& rules);
  WaitedFor waited_for_by(const Peer& primary) const;
  void note_alike_waited_for(const Peer& peer);
  void peers_in_sync_arrived(PeerIndex peer, const PeersInSync& message);
  void third_node_copies(PeerIndex index);
  void note_position_in_sync(const Peer& peer);
  StreamPosition held_position() const;
  void record_position(Peer& peer);
  void position_recorded();
  void note_stable_position(const Peer& source);
  PeerMask unrecorded_peers() const;
  void set_in_sync_by_primary(PeerIndex peer, bool in_sync);
  bool forget_differences(PeerIndex peer);
  void take_over_view(PeerIndex from, const Generation& old, NodeMask may_hold);
  void take_over_who_may_hold(PeerIndex from);
  void take_over_who_target_may_have_brought_up(PeerIndex target);
  void may_have_been_brought_up(PeerIndex index);
  void take_over_undone(const Generation& generation);
  void keep_undone(const StateReport& before);
  void take_over_view_at_end(PeerIndex source, const ResyncDone& message);
  void restart_secondary_links(PeerIndex but);
  void restart_other_resyncs(PeerIndex but);
  void leave_other_primaries(PeerIndex but);
  void primary_lost(PeerIndex peer);
  void primary_appeared(PeerIndex peer);
  void restart_undecided_links();
  void check_secondary_links();

  // --- links.cpp
  void on(const LinkEstablished& event);
  void on(const LinkLost& event);
  void on(const MessageArrived& event);
  void check_peers();
  void send_ping(PeerIndex peer);
  void drop_peer(PeerIndex peer, LinkEnd reason, const char* why);
  void say_goodbye(PeerIndex peer, GoodbyeReason reason, LinkEnd end);
  void leave(PeerIndex peer, GoodbyeReason reason);
  void leave_when_recorded();
  void peer_lost(PeerIndex peer);
  void goodbye_arrived(PeerIndex peer, const Goodbye& message);
  void become_outdated();

  // --- disk_loss.cpp
  enum class DiskFault : uint8_t { Read, Write, Flush, Metadata };
  // False: it is the last copy, and stays; whoever asked is told of the error.
  bool disk_failed(DiskFault fault);
  bool is_known_behind() const;
  void metadata_lost_late();
  void lose_disk(DiskState to, const char* why, bool flush_failed);
  bool another_up_to_date() const;
  void on(const DiskReleased&);
  void order_detach(const OrderGiven& given);
  PersistId attach(const DurableState& durable);
  void recover(const DurableState& durable);  // startup.cpp

  // --- served.cpp
  bool can_serve_us(const Peer& peer) const;
  bool is_served() const;        // by a peer that has confirmed
  bool may_send_served() const;  // writes may go out; they are answered once it is
  bool must_fail_requests() const;
  int failure_errno() const;  // of those
  void enter_served_mode();
  void start_held_again();
  void ask_to_serve(PeerIndex peer, const Generation& previous);
  void serve_confirmed(PeerIndex peer, const ServeConfirmed& message);
  void server_lost(PeerIndex peer);
  bool is_overtaken(PeerIndex peer) const;
  bool leave_served_generation(PeerMask stale);
  bool awaits_left_servers(PeerMask left);
  void queue_remote_read(uint32_t slot);
  void pump_remote_reads();
  void read_reply_arrived(PeerIndex peer, const ReadReply& message);
  void note_who_lacks_answered();
  bool lacks_answered(const Peer& peer) const;
  bool may_lack_handed_on(const Peer& peer) const;
  bool lacks_at_server(const TransferEntry& entry) const;
  void requeue_write(uint32_t slot);
  void fail_requests_without_data();
  bool lacks_data() const;  // requests wait for a peer that can serve
  void pause_writes_arrived(PeerIndex peer, const PauseWrites& message);
  void tell_writes_paused();
  void leave_served_mode();

  // --- serving.cpp
  void serve_request_arrived(PeerIndex peer, const ServeRequest& message);
  void confirm_serving();
  void take_served_generation(PeerIndex peer);
  bool awaits_generation(const ApplySlot& apply) const;
  void read_request_arrived(PeerIndex peer, const ReadRequest& message);
  void serve_read_completed(uint32_t slot, int error_errno);
  void note_served_write(PeerIndex peer, const ByteRange& range);
  void stop_serving(PeerIndex peer);
  void save_bitmaps_kept_in_memory();
  void writes_paused_arrived(PeerIndex peer);
  bool may_finish_resync(PeerIndex peer);
  void withdraw_cut_over(PeerIndex peer);

  // --- handshake.cpp
  StateReport make_report(PeerIndex peer) const;
  uint64_t run() const { return seed.high + 0x9E3779B97F4A7C15 * seed.low + caches_lost; }
  void send_report_when_quiet(PeerIndex peer);
  void decide_when_ready(PeerIndex peer);
  void carry_out_decision(PeerIndex peer);
  bool all_peers_known_but(PeerIndex peer) const;
  void become_up_to_date();
  void tell_state();
  Generation fresh_generation();
  void hold_generation(const Generation& generation);
  void remember(const Generation& generation);
  void remember_what_peer_remembers(const Peer& peer);
  void remember_what_peers_hold();
  void make_new_generation();
  void have_generation_stored(PersistId after);
  void generation_changed(PeerIndex peer, const GenerationChanged& message);
  void record_that_generation_is_used();
  void generation_confirmed(PeerIndex peer);
  void generation_stored(PeerIndex peer, const GenerationStored& message);

  // --- resync.cpp
  void start_as_source(PeerIndex peer);
  void resync_start_arrived(PeerIndex peer, const ResyncStart& message);
  void begin_as_target(PeerIndex peer, const ResyncStart& message);
  void send_bitmap_runs(PeerIndex peer);
  void bitmap_runs_arrived(PeerIndex peer, const BitmapRuns& message);
  bool is_being_applied(const ByteRange& range) const;
  void finish_resync(PeerIndex peer);
  void resync_done_arrived(PeerIndex peer, const ResyncDone& message);
  static bool is_resync_source(const Peer& peer) {
    return peer.replication == ReplicationState::WFBitMapS || peer.replication == ReplicationState::SyncSource ||
           peer.replication == ReplicationState::PausedSyncS;
  }
  static bool is_resync_target(const Peer& peer) {
    return peer.replication == ReplicationState::WFBitMapT || peer.replication == ReplicationState::SyncTarget ||
           peer.replication == ReplicationState::PausedSyncT;
  }

  // --- preparing.cpp
  static bool prepares(const Peer& peer);  // linked, and nothing is copied before this node is ready
  void prepare_resync(PeerIndex peer);
  void on(const ResyncPrepared& event);
  bool retry_preparation(PeerIndex peer);
  void forget_preparations();

  // --- pausing.cpp
  void order_pause(const OrderGiven& given);
  void tell_pause(PeerIndex peer);
  void pause_told(PeerIndex peer, const ResyncPaused& message);
  void show_pause(PeerIndex peer);

  // --- copying.cpp
  bool is_copying() const;
  void pump_resyncs();
  void pump_resync(PeerIndex peer);
  DirtyBitmap::Run next_range(Peer& peer, bool& question);
  void resync_read_completed(uint32_t slot, const LocalIoCompleted& event);
  void range_not_read(PeerIndex peer, const ByteRange& range, bool verify);
  void tell_progress();

  // --- comparing.cpp
  // On one link, so that both sides can have room for them before they start.
  static constexpr uint32_t kComparisonsInFlight = 16;
  void range_digests_arrived(PeerIndex peer, const MessageArrived& event, const RangeDigests& message);
  void comparison_read(uint32_t slot, const LocalIoCompleted& event);
  void range_compared(PeerIndex peer, const RangeCompared& message);
  void clear_what_is_stable(Peer& peer, const TransferEntry& entry);

  // --- verify.cpp
  Outcome may_verify(PeerIndex peer, bool repair) const;
  void order_verify(const OrderGiven& given);
  void start_verify(PeerIndex peer, bool repair, bool compare);
  uint64_t verify_left_blocks(const Peer& peer) const;
  void verify_request_arrived(PeerIndex peer, const VerifyRequest& message);
  void verify_progress_arrived(PeerIndex peer, const VerifyProgress& message);
  void verify_ended_arrived(PeerIndex peer, const VerifyEnded& message);
  void found_differences(PeerIndex peer, uint64_t first_block, uint64_t differing);
  void persist_what_verify_found();
  void finish_verify(PeerIndex peer);
  void end_verify(PeerIndex peer, bool complete, uint64_t left_blocks);
  void interrupt_verifies();

  // --- roles.cpp
  void on(const ExportClientsChanged& event) { export_clients = event.count; }
  void on(const OrderGiven& order);
  void answer(Outcome outcome, PeerIndex peer = 0, PersistId after = 0);
  Outcome promotable(PeerIndex& about, bool peer_fenced) const;
  bool is_shaking_hands() const;    // a link is up, and what it leads to is not decided yet
  bool somebody_came_back() const;  // a peer that the promotion under way has not asked is connected
  void order_promote();
  void promote_request_arrived(PeerIndex peer, const PromoteRequest& message);
  void grant_taken_back(Peer& peer);
  void promote_answer_arrived(PeerIndex peer, const PromoteAnswer& message);
  void advance_order();  // whatever the order under way waits for may have happened
  void become_primary();
  void begin_term();
  void open_export();
  void promotion_undone();
  void promote_failed(Outcome outcome, PeerIndex about);
  void order_demote();
  void begin_demotion();
  void advance_demotion();
  void become_secondary();
  void finish_shutdown();
  void order_switchover();
  void take_over_arrived(PeerIndex peer, const TakeOver& message);
  bool was_left_before(NodeMask left) const;
  void take_over_answered(PeerIndex peer, const TakeOverAnswer& message);
  void switchover_request_arrived(PeerIndex peer, const SwitchoverRequest& message);
  void switchover_answered(PeerIndex peer, const SwitchoverAnswer& message);
  void order_connection(const OrderGiven& given);
  void order_resync(const OrderGiven& given);

  // --- growth.cpp
  void order_resize();
  void prepare_disk(uint64_t size_bytes, PeerIndex asked_by);
  void resize_prepare_arrived(PeerIndex peer, const ResizePrepare& message);
  void on(const DiskPrepared& event);
  void resize_prepared_arrived(PeerIndex peer, const ResizePrepared& message);
  void resize_committed_arrived(PeerIndex peer, const ResizeCommitted& message);
  void end_resize();
  void resize_commit_arrived(PeerIndex peer, const ResizeCommit& message);
  void break_off_resize(PeerIndex lost);
  void advance_resize();
  PersistId grow(uint64_t size_bytes);
  bool sizes_agree(PeerIndex peer);

  // --- lives.cpp
  PersistId persist_superblock();
  void grow_older();
  void tell_life_when_durable();
  void lived_arrived(PeerIndex peer, const Lived& message);
  void remember_life(PeerIndex peer, const Life& life);
  void keep_lives();

  // --- invalidation.cpp
  Outcome can_invalidate(PeerIndex source) const;
  PersistId invalidate_towards(PeerIndex source);
  void restart_links_when_durable();
  void order_invalidate(const OrderGiven& given);
  void order_invalidate_peer(const OrderGiven& given);
  Outcome can_be_source_for(PeerIndex target) const;
  void ask_to_invalidate(PeerIndex peer, uint64_t ticket, bool ordered_here);
  void invalidate_wanted_arrived(PeerIndex peer, const InvalidateWanted& message);
  void invalidate_request_arrived(PeerIndex peer, const InvalidateRequest& message);
  void invalidate_answered(PeerIndex peer, const InvalidateAnswer& message);
  void invalidation_ended(PeerIndex peer, Outcome outcome);
  void order_outdate(const OrderGiven& given);

  ReplicaOptions options;
  Actions* actions = nullptr;  // of the step under way
  uint64_t now_us = 0;
  uint64_t version = 1;

  Role role = Role::Secondary;
  DiskState disk_state = DiskState::Attaching;
  SuperblockImage superblock;
  Generation seed;
  uint64_t generations_made = 0;
  PersistId asked_persist = 0;  // the last that was asked for
  PersistId persisted = 0;      // the last that is durable
  bool persist_failed = false;
  PersistId reply_floor = 0;          // no write is answered before: the generation that records our divergence
  PersistId generation_persist = 0;   // what records the generation that this node made last
  bool generation_void = false;       // the metadata failed before that
  Generation generation_before;       // … and this is what was held until then
  bool old_when_attached = false;     // others went on while there was no disk, whatever its metadata was told
  Generation divergence;              // the last that this node made to answer without a peer
  PersistId apply_floor = 0;          // no stream write reaches the disk before: Inconsistent is durable
  PersistId first_write_persist = 0;  // … and no write of a client: that the first generation is used
  bool stopping = false;
  Life durable_life;           // what peers may be told
  PersistId life_persist = 0;  // of the last superblock that was asked for
  uint64_t life_persist_us = 0;
  bool wrote_since_life = false;  // data, here
  bool lives_to_keep = false;     // what a peer told is not asked to be recorded yet

  // The metadata can be written: from the start, and from attach, until the disk is given up.
  bool has_metadata = true;
  bool disk_released = false;  // after that, and the files are closed
  // Not zero: this node is Primary, and what its clients see is this generation, on a peer's disk. Also while a disk is
  // attached again and not brought up to date yet.
  Generation served;
  Generation served_previous;   // until a peer has taken `served`: what it may still call the same data
  PeerMask served_stale = 0;    // peers that were lost while another served on
  PeerMask served_leaving = 0;  // … as soon as those have taken the generation that makes them so
  PeerMask may_hold_served =
      0;                       // absent peers that may hold `served`: others must leave it before anything is answered
  PeerMask may_serve = 0;      // peers that were asked, and have not come back without the data since
  uint64_t caches_lost = 0;    // by this node's disk, as Secondary, while the daemon ran
  bool data_lost = false;      // what was served cannot be reached any more: requests fail until this node demotes
  bool fails_held = false;     // the operator's order, until a peer serves again
  bool was_suspended = false;  // noted
  bool writes_paused = false;  // for the end of the resync of this node's disk
  bool writes_paused_told = false;
  PeerIndex paused_for = 0;
  std::vector<uint32_t> waiting_reads;  // slots in ReadWaiting
  uint64_t read_tickets = 0;
  std::vector<ServeSlot> serves;

  std::vector<Peer> peers;
  PeerMask generation_unconfirmed = 0;  // peers that were sent the current generation and have not stored it
  PeerMask may_hold_current = 0;        // absent peers that may hold our current generation: a write needs a new one

  // Losing peers.
  PeerMask awaited_peers = 0;   // lost while they may hold our current generation, and not given up
  PeerMask given_up_peers = 0;  // absent; somebody vouched that they are not, and will not be, Primary meanwhile
  struct Arbitration {
    uint64_t tickets = 0;
    uint64_t ticket = 0;  // of the question that is not answered; 0: none
    ArbiterQuestion question = ArbiterQuestion::FencePeers;
    PeerMask asked = 0;
    PeerMask asked_behind = 0;
    Generation asked_name;          // that the record bears if the answer is yes
    PeerMask included = 0;          // linked peers that it counts as in sync, as far as this node can bring it about
    PeerMask promoted_without = 0;  // absent ones that it took out for the promotion under way
    // A FencePeers was refused, and this node may never have been put into the set: it asks for that first.
    bool refused_unsure = false;
    uint64_t next_us = 0, pause_us = 0;
  } arbiter;
  bool suspended_by_operator = false;
  bool abandons_held = false;  // what would be held fails
  bool was_replaced = false;   // and gives up the role
  uint32_t held_slots = 0;     // client slots in Held and Suspended
  uint64_t last_event_us = 0;
  uint64_t thawed_until_us = 0;    // until then, a loss is waited out under `continue`, too
  PersistId outdated_persist = 0;  // what says that this node is Outdated

  // Client requests.
  std::vector<ClientSlot> clients;
  std::vector<uint32_t> waiting;  // slots of writes that cannot start yet, oldest first
  RangeSet busy_ranges;           // writes in flight and resync reads (those as client_slots + slot)
  uint32_t in_flight = 0;
  bool waiting_may_start = false;

  ActivityLog activity_log;
  PersistId activity_log_persist = 0;  // of the transaction under way; 0: none
  uint64_t activity_log_transactions = 0;

  TransferLog transfer_log;
  uint64_t application_entries = 0;  // of the log: the others are copies of a resync
  uint64_t peer_extents = 0;         // the sum of the log's
  Sequence local_written_through = 0;
  Sequence local_flushed_through = 0;

  // The local flush, and the cycle of the Primary that it belongs to.
  bool local_flush_in_flight = false;
  bool local_flush_for_peers = false;  // it is the answer to barriers of the peer's stream
  PeerIndex local_flush_peer = 0;
  Incarnation local_flush_incarnation = 0;  // … of this link
  Sequence local_flush_covers = 0;
  bool cycle_running = false;
  uint64_t cycles = 0;
  bool cycle_local_pending = false;
  uint64_t local_cycles_started = 0, local_cycles_done = 0;  // cycles that flush the local disk
  bool local_flush_wanted = false;                           // also as Secondary
  Promise cycle_promise;
  Sequence cycle_sequence = 0;
  bool flush_wanted = false;
  uint64_t last_flush_us = 0;  // began
  uint64_t last_write_us = 0;  // an application's, began
  FlushAllowance flush_allowance;
  uint32_t flush_waiting = 0;  // client slots in FlushWaiting

  // The stream that this node applies.
  std::vector<ApplySlot> applies;
  std::vector<uint32_t> apply_order;  // ring of slots in order of arrival
  uint32_t apply_head = 0, apply_count = 0;
  uint32_t applies_waiting = 0, applies_writing = 0;
  // Counts of applies since the start of the node, over all links: arrived, done without a gap, known to be stable, and
  // what a flush under way will make stable. What arrived on a link that is gone keeps its order, too.
  uint64_t applies_arrived = 0, applies_done = 0, applies_stable = 0, applies_flushing = 0;
  uint64_t applies_owed = 0;              // so many a Primary may have called stable without this node: protocol A
  uint64_t applies_hold = 0;              // what arrives now waits until so many are stable
  std::vector<Sequence> written_besides;  // completed since the last acknowledgement, ahead of others
  PeerIndex stream_peer = 0;

  // With several peers: a ring of the writes that are not stable everywhere, in the order of their sequence.
  std::vector<UnstableWrite> unstable;
  uint64_t unstable_first = 0, unstable_end = 0;
  PeerIndex unstable_from = kNoPeer;  // whose stream that is
  StreamPosition position;            // what this disk holds of a Primary's stream
  // What it has made stable of it, on its way to the metadata.
  PersistId position_persist = 0;
  PeerIndex position_peer = 0;
  Incarnation position_incarnation = 0;
  Sequence position_through = 0;

  std::vector<ResyncSlot> resyncs;
  Pace pace;
  std::vector<Comparison> comparisons;

  // The change of protocol that an operator waits for.
  bool protocol_ordered = false;
  uint64_t protocol_ticket = 0;
  PersistId protocol_persist = 0;

  // The order under way; one at a time.
  enum class OrderStage : uint8_t {
    None,
    WaitForHandshakes,
    WaitForGrants,
    WaitForArbiter,
    WaitForApplies,
    Opening,  // Primary, and that is not durable yet
    Draining,
    WaitForDemotion,
    WaitForTakeOver,
    Resizing
  };
  OrderGiven order;
  OrderStage stage = OrderStage::None;
  PeerMask grants_outstanding = 0;
  PeerMask asked_for_grant = 0;  // on the present link
  Generation first_generation;
  Generation offered_generation;  // the first one, as peers were asked to take it: they may have it durably
  PersistId opening_persist = 0;
  bool term_begun = false;
  struct Standing {
    uint32_t term = 0;
    WaitedFor waited_for = WaitedFor::Unknown;
    StreamPosition position;
  };
  Standing before_term;        // what is true still, and told, as long as the export has not opened
  uint64_t opening_cycle = 0;  // of flushes, after which the export opens
  PersistId demotion_persist = 0;
  NodeMask left_nodes = 0;          // that this node had gone on without when it gave up the role
  bool undone_at_demotion = false;  // a generation that was not answered in: whoever is connected must hear of it
  bool demoting = false;
  // On whose behalf: an operator's of this node, a peer's that wants to be switched over to, a peer's that has
  // demoted itself and asks us to take over, or this node's own that it has to step down.
  enum class OrderFrom : uint8_t { Operator, PeerSwitchover, PeerTakeOver, Nobody };
  OrderFrom order_from = OrderFrom::Operator;
  bool restoring = false;  // the promotion under way undoes a switchover that failed
  uint64_t promote_ticket = 0;
  bool switchover_asked = false;  // of the Primary, by an operator of this node
  uint64_t switchover_ticket = 0;
  PeerIndex switchover_peer = 0;
  // Growth: what every peer is still to do, in the phase that `resize_committing` tells.
  PeerMask resize_outstanding = 0;
  uint64_t resize_ticket = 0;
  bool resize_committing = false;
  PeerIndex grows_for = kNoPeer;  // by whose order this node has prepared itself, until that grows or ends
  PersistId resize_own_prepared = 0, resize_own_grown = 0;
  uint64_t preparing_for_size = 0;  // the disk is being prepared; 0: it is not
  PeerIndex preparing_for_peer = 0;
  uint64_t preparing_ticket = 0;
  Incarnation preparing_incarnation = 0;
  bool invalidation_wanted = false;  // of this node, by its operator: the peer was asked to be the source
  bool invalidation_asked = false;   // of the peer, by an operator of this node or of the peer
  bool invalidation_ordered_here = false;
  uint64_t invalidation_ticket = 0;
  PeerIndex invalidation_peer = 0;
  uint32_t export_clients = 0;

  uint64_t reads = 0, writes = 0, flushes = 0, read_bytes = 0, written_bytes = 0;
  std::array<BitmapRun, kRunsPerMessage> runs{};
};

}  // namespace lockstep::repl
