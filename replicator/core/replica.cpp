#include "replicator/core/replica.h"

#include <algorithm>
#include <cerrno>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

Replica::State::State(const ReplicaOptions& replica_options)
    : options(replica_options),
      clients(options.client_slots),
      busy_ranges(options.client_slots + options.resync_slots),
      activity_log(options.activity_log_slots),
      transfer_log(options.transfer_log_entries),
      flush_allowance(transfer_log.capacity() / 4 * 3, std::min(options.flush_wanted_us, options.peer_timeout_us / 6)),
      applies(options.apply_slots),
      apply_order(options.apply_slots),
      unstable(options.peer_count > 1 ? options.transfer_log_entries + options.apply_slots : 0),
      resyncs(options.resync_slots),
      pace(options.resync_pace),
      comparisons(size_t{kComparisonsInFlight} * options.peer_count) {
  waiting_reads.reserve(options.client_slots);
  serves.resize(kServedReads);
  LOCKSTEP_CHECK(options.peer_count <= kMaximumPeers && options.size_bytes % kBlockBytes == 0);
  // Fewer would leave no room for one request next to another's (a request touches at most nine extents).
  LOCKSTEP_CHECK(options.activity_log_slots >= 2 * (kMaximumRequestBytes / kExtentBytes + 1));
  waiting.reserve(options.client_slots);
  written_besides.reserve(options.apply_slots);
  peers.reserve(options.peer_count);
  for (uint8_t peer = 0; peer < options.peer_count; ++peer) {
    peers.emplace_back(options.size_bytes);
    peers.back().protocol = options.peer_protocols[peer].value_or(options.protocol);
    peers.back().protocol_kept = peers.back().protocol;
  }
}

void Replica::State::send(PeerIndex index, Message message, SlotRef payload, PersistId after) {
  Peer& peer = peers[index];
  if (peer.incarnation == 0) return;
  peer.send_floor = std::max(peer.send_floor, after);
  act(Send{index, peer.incarnation, std::move(message), payload,
           is_durable(peer.send_floor) || LOCKSTEP_MUTANT("sent-before-it-is-durable") ? 0 : peer.send_floor});
}

void Replica::State::note(NoteKind kind, PeerIndex peer, uint64_t number, const char* text) {
  act(Note{kind, peer, number, text});
}

PersistId Replica::State::persist_bitmap_page(PeerIndex peer, uint32_t page) {
  if (!has_metadata) return 0;
  peers[peer].bitmap.mark_saved(page);
  act(PersistBitmapPages{++asked_persist, peer, page, 1});
  return asked_persist;
}

PersistId Replica::State::persist_bitmap(PeerIndex index, bool only_lacking_bits) {
  if (!has_metadata) return 0;
  DirtyBitmap& bitmap = peers[index].bitmap;
  const auto wanted = [&](uint32_t page) {
    return only_lacking_bits ? bitmap.lacks_bits_on_disk(page) : bitmap.differs_from_disk(page);
  };
  // One persist from the first to the last page that needs it: what lies between is as good on disk afterwards.
  uint32_t first = 0;
  while (first < bitmap.page_count() && !wanted(first)) ++first;
  if (first == bitmap.page_count()) return 0;
  uint32_t last = bitmap.page_count() - 1;
  while (!wanted(last)) --last;
  for (uint32_t page = first; page <= last; ++page) bitmap.mark_saved(page);
  act(PersistBitmapPages{++asked_persist, index, first, last - first + 1});
  return asked_persist;
}

bool Replica::State::gets_stream(const Peer& peer) const {
  if (peer.incarnation == 0 || !is_disk(peer.disk_state)) return false;
  switch (peer.replication) {
    case ReplicationState::Established:
    case ReplicationState::WFBitMapS:
    case ReplicationState::SyncSource:
    case ReplicationState::PausedSyncS:
      return true;
    case ReplicationState::WFBitMapT:
    case ReplicationState::SyncTarget:
    case ReplicationState::PausedSyncT:
      return peer.serve_asked;  // it brings our disk up to date, and serves our clients meanwhile
    default:
      return false;
  }
}

bool Replica::State::disk_usable() const {
  return is_disk(disk_state);
}

void Replica::State::on(const Ticked&) {
  check_peers();
  end_grace();
  if (role == Role::Primary && transfer_log.size() > 0) {
    const bool is_quiet = now_us - std::max(last_flush_us, last_write_us) >= options.flush_interval_us;
    if (is_quiet || now_us - last_flush_us >= options.busy_flush_interval_us) flush_wanted = true;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (peer.incarnation != 0 && peer.resync_unflushed_bytes > 0 &&
        now_us - last_flush_us >= options.flush_interval_us) {
      flush_wanted = true;
    }
  }
  pace.ticked(now_us, is_copying());
  tell_progress();
  persist_what_verify_found();
  grow_older();
  keep_lives();
  check_secondary_links();
  waiting_may_start = true;
}

void Replica::State::on(const TurnEnded&) {
  if (waiting_may_start) retry_waiting_writes();
  if (has_third_nodes() && applies_waiting > 0) start_waiting_applies();
  build_activity_log_transaction();
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (gets_stream(peer) && peer.barrier_due > peer.barrier_sent) send_barrier(index, peer.sent);
  }
  pump_remote_reads();
  tell_writes_paused();
  pump_resyncs();
  start_flush_cycle_if_wanted();
  confirm_serving();
  send_acknowledgements();
  tell_who_is_in_sync();
  release_held_slots();
  save_bitmaps_kept_in_memory();
  advance_order();
  advance_arbitration();
  advance_protocol_change();
}

void Replica::State::on(const LocalIoCompleted& event) {
  switch (event.slot.kind) {
    case SlotKind::Client:
      if (clients[event.slot.slot].phase == ClientSlot::Phase::Reading) {
        // A failed flush may have lost what the read came to only then.
        const bool given_up = !disk_usable() && !LOCKSTEP_MUTANT("read-of-given-up-disk-answered");
        const int error_errno = event.error_errno == 0 && given_up ? EIO : event.error_errno;
        if (error_errno == 0) {
          ++reads;
          read_bytes += clients[event.slot.slot].range.length_bytes;
        } else if ((!disk_usable() || disk_failed(DiskFault::Read)) && !served.is_zero()) {
          return queue_remote_read(event.slot.slot);
        }
        reply(event.slot.slot, error_errno);
      } else {
        local_write_completed(event.slot.slot, event.error_errno);
      }
      return;
    case SlotKind::Apply:
      if (applies[event.slot.slot].comparison != ApplySlot::kNoComparison) comparison_read(event.slot.slot, event);
      return apply_completed(event.slot.slot, event.error_errno, event.all_stable);
    case SlotKind::Resync:
      return resync_read_completed(event.slot.slot, event);
    case SlotKind::Flush:
      return local_flush_completed(event.error_errno);
    case SlotKind::Serve:
      return serve_read_completed(event.slot.slot, event.error_errno);
  }
}

void Replica::State::on(const PersistCompleted& event) {
  if (event.error_errno != 0) {
    const bool given_up = !disk_usable();
    persist_failed = true;
    if (given_up) return metadata_lost_late();
    disk_failed(DiskFault::Metadata);
    return;
  }
  if (persist_failed) return;
  LOCKSTEP_CHECK(event.id == persisted + 1);
  persisted = event.id;
  leave_when_recorded();
  if (activity_log_persist != 0 && is_durable(activity_log_persist)) {
    activity_log_persist = 0;
    activity_log.commit_transaction();
    ++activity_log_transactions;
    waiting_may_start = true;
  }
  if (event.id == first_write_persist) waiting_may_start = true;
  restart_links_when_durable();
  tell_life_when_durable();
  position_recorded();
}

Replica::Replica(const ReplicaOptions& options) : state_(std::make_unique<State>(options)) {}
Replica::~Replica() = default;

void Replica::load_bitmap_page(PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
  state_->peers[peer].bitmap.load_page(page, words);
}

void Replica::start(const DurableState& durable, Generation seed, uint64_t now_us, Actions& actions) {
  state_->actions = &actions;
  state_->now_us = now_us;
  state_->seed = seed;
  state_->start(durable);
}

PersistId Replica::attach(const DurableState& durable, uint64_t now_us, Actions& actions) {
  state_->actions = &actions;
  state_->now_us = now_us;
  return state_->attach(durable);
}

Outcome Replica::may_attach() const {
  const State& state = *state_;
  if (state.stopping) return Outcome::Stopping;
  if (state.disk_usable()) return Outcome::AlreadySo;
  // Clients had errors, and may have been promised nothing since: they must begin anew.
  if (state.role == Role::Primary && state.served.is_zero()) return Outcome::IsPrimary;
  if (state.stage != State::OrderStage::None) return Outcome::Busy;
  return state.disk_released ? Outcome::Done : Outcome::DiskBusy;
}

void Replica::step(const Event& event, Actions& actions) {
  state_->actions = &actions;
  state_->now_us = event.now_us;
  state_->notice_gap();
  std::visit([this](const auto& body) { state_->on(body); }, event.body);
}

uint64_t Replica::state_version() const {
  return state_->version;
}

ReplicaStatus Replica::status() const {
  const State& state = *state_;
  ReplicaStatus status;
  status.role = state.role;
  status.disk_state = state.disk_state;
  status.generation = state.served.is_zero() ? state.superblock.current : state.served;
  status.suspension = state.suspension();
  status.data_lost = state.data_lost;
  status.served_by_peer = !state.served.is_zero();
  status.degraded =
      state.role == Role::Primary &&
      (!state.serves_locally() || std::any_of(state.peers.begin(), state.peers.end(), [](const Peer& peer) {
        return peer.replication != ReplicationState::Established;
      }));
  status.promotable = state.promotable(status.promotable_peer, false);
  status.reads = state.reads;
  status.writes = state.writes;
  status.flushes = state.flushes;
  status.read_bytes = state.read_bytes;
  status.written_bytes = state.written_bytes;
  status.activity_log_transactions = state.activity_log_transactions;
  status.in_flight = state.in_flight;
  return status;
}

PeerStatus Replica::peer_status(PeerIndex index) const {
  const Peer& peer = state_->peers[index];
  PeerStatus status;
  status.connection = peer.split_brain && peer.connection == ConnectionState::Connecting ? ConnectionState::StandAlone
                                                                                         : peer.connection;
  status.replication = peer.replication;
  status.role = peer.role;
  status.disk_state = peer.disk_state;
  status.protocol = peer.protocol_kept;
  status.out_of_sync_blocks = peer.bitmap.dirty_blocks();
  status.sent = peer.sent;
  status.received = peer.received;
  status.written = peer.written;
  status.flushed = peer.flushed;
  status.lag_bytes = peer.unwritten_bytes;
  if (const Sequence oldest = state_->oldest_unwritten(index); oldest != 0) {
    status.lag_us = state_->now_us - state_->transfer_log.at(oldest).sent_us;
  }
  status.round_trip_us = peer.round_trip_us;
  if (peer.replication == ReplicationState::SyncSource || peer.replication == ReplicationState::PausedSyncS ||
      peer.replication == ReplicationState::SyncTarget || peer.replication == ReplicationState::PausedSyncT) {
    status.resync_total_blocks = peer.resync_total_blocks;
    status.resync_left_blocks = State::is_resync_target(peer) ? peer.resync_left_blocks : peer.bitmap.dirty_blocks();
    status.blocks_per_second = peer.progress.per_second(state_->now_us, status.resync_left_blocks);
    status.resync_started_us = peer.resync_started_us;
  }
  status.verify.runs = peer.verify.runs;
  status.verify.is_source = peer.verify.is_source;
  status.verify.blocks_total = peer.verify.blocks_total;
  if (peer.verify.runs) {
    status.verify.blocks_left = state_->verify_left_blocks(peer);
    status.blocks_per_second = peer.progress.per_second(state_->now_us, status.verify.blocks_left);
  }
  status.verify.ended = peer.verify.ended;
  status.verify.complete = peer.verify.complete;
  status.verify.differing_blocks = peer.verify.found.blocks;
  status.verify.left_blocks = peer.verify.left_blocks;
  status.verify.found = std::span(peer.verify.found.runs).first(peer.verify.found.run_count);
  const bool resyncs = State::is_resync_source(peer) || State::is_resync_target(peer);
  status.resync_paused_here = resyncs && peer.paused_here;
  status.resync_paused_there = resyncs && peer.paused_there;
  const bool prepares = State::prepares(peer);
  status.resync_prepares = prepares && peer.preparation != Peer::Preparation::Held;
  status.resync_held = prepares && peer.preparation == Peer::Preparation::Held;
  status.resync_read_failed = peer.resync_read_failed;
  status.absent_since_us = peer.absent_since_us;
  status.awaited = (state_->awaited_peers & mask_of(index)) != 0;
  status.decided = peer.ever_decided;
  status.decision = peer.decision;
  status.own_report = peer.own_report;
  status.peer_report = peer.peer_report;
  return status;
}

std::span<const uint64_t> Replica::bitmap_words(PeerIndex peer, uint32_t page) const {
  return state_->peers[peer].bitmap.page_words(page);
}

std::span<const uint32_t> Replica::activity_log_slots() const {
  return state_->activity_log.slots();
}

uint32_t Replica::bitmap_pages() const {
  return static_cast<uint32_t>(
      std::max<uint64_t>(1, divide_up(divide_up(state_->options.size_bytes, kBlockBytes), kBlocksPerBitmapPage)));
}

uint64_t Replica::size_bytes() const {
  return state_->options.size_bytes;
}

uint64_t Replica::prepared_size_bytes() const {
  return state_->superblock.prepared_size_bytes;
}

bool Replica::is_out_of_sync(PeerIndex peer, uint64_t block) const {
  return state_->peers[peer].bitmap.is_dirty(block);
}

const SuperblockImage& Replica::superblock() const {
  return state_->superblock;
}

size_t Replica::actions_capacity(const ReplicaOptions& options) {
  // The longest steps: a turn's end that starts every waiting write (its I/O, and for each peer the write and a
  // barrier), and a link's loss that answers every client.
  return size_t{options.client_slots} * (2 + 2 * options.peer_count) + 2 * options.apply_slots +
         2 * options.resync_slots + 1024;
}

}  // namespace lockstep::repl
