#include <algorithm>
#include <bit>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
// By this node as a Secondary: a write of the stream waits, or is on its way to the disk.
bool Replica::State::is_being_applied(const ByteRange& range) const {
  for (uint32_t i = 0; i < apply_count; ++i) {
    const ApplySlot& apply = applies[apply_order[(apply_head + i) % apply_order.size()]];
    if (apply.phase != ApplySlot::Phase::Done && apply.range.overlaps(range)) return true;
  }
  return false;
}

void Replica::State::start_as_source(PeerIndex index) {
  Peer& peer = peers[index];
  peer.resync_read_failed = false;
  PeerRecord& record = superblock.peers[index];
  peer.replication = ReplicationState::WFBitMapS;
  peer.stream_from = transfer_log.last() + 1;
  peer.told_in_sync = kNothingTold;
  peer.resync_done_sent = false;
  peer.resync_started_us = now_us;
  peer.resync_total_blocks = 0;
  const bool as_good_as_peer = peer.decision.rule == Rule::EqualPeerMayLack &&
                               peer.peer_report.disk_state == DiskState::UpToDate && !is_behind_another(index);
  if (disk_state != DiskState::UpToDate && (as_good_as_peer || all_peers_known_but(index))) {
    become_up_to_date();
    tell_state();
  }

  // The target gets a generation of its own for the time of the resync, so that an older copy of its disk is never
  // taken for one that lacks only what the bitmap still shows. Until it confirms, it may hold what it held.
  const bool full = peer.decision.extent == SyncExtent::Full;
  take_over_who_target_may_have_brought_up(index);
  if (has_third_nodes() && peer.peer_report.current == superblock.current) take_over_undone(peer.peer_report.undone);
  remember(record.bitmap_generation);
  remember(record.previous_bitmap_generation);
  record.previous_bitmap_generation = full ? Generation{} : peer.peer_report.current;
  record.bitmap_generation = name_for_resync(fresh_generation());
  if (full) {
    peer.bitmap.set_all();
    persist_bitmap(index, false);
  }
  const PersistId id = persist_superblock();
  // Until it confirms, it may be left with our current generation, if it holds that, and a third node with that, too:
  // of two equals any may be source, so what is answered now needs another.
  const bool stays_equal =
      peer.peer_report.current == superblock.current && !LOCKSTEP_MUTANT("begun-target-left-equal");
  if (!has_third_nodes() && !stays_equal) may_hold_current &= static_cast<PeerMask>(~mask_of(index));
  // A generation that may still be undone is no aim: nobody could complete the target's copy once it is gone.
  const Generation& since = superblock.unanswered_since;
  const bool unused = since == kHeldByNobody || (has_third_nodes() && superblock.current.is_zero());
  const Generation toward = since.is_zero() || unused ? superblock.current : since;
  send(index, ResyncStart{record.bitmap_generation, toward, full, unused}, {}, id);
}

void Replica::State::resync_start_arrived(PeerIndex index, const ResyncStart& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::WFBitMapT || peer.start_waits ||
      (role == Role::Primary && served.is_zero())) {
    return drop_peer(index, LinkEnd::BrokenRule, "a resync that was not decided");
  }
  const bool may_be_a_ring = has_third_nodes() && role != Role::Primary && peer.role != Role::Primary;
  if (!may_be_a_ring || LOCKSTEP_MUTANT("target-does-not-ask-its-source")) return begin_as_target(index, message);
  // Three nodes, each about to be the source of the next, would give up all copies. So each leaves those it was source
  // of, and only then asks its own source whether that is one still.
  restart_other_resyncs(index);
  const bool is_behind = peer.decision.rule == Rule::SelfIsBehind || peer.decision.rule == Rule::SelfIsFarBehind;
  if (is_behind && !LOCKSTEP_MUTANT("behind-until-its-source-answers")) {
    become_outdated();  // whatever becomes of the link
    tell_state();
  }
  peer.start_waits = message;
  send_ping(index);
  peer.start_asked = peer.pings;
}

void Replica::State::begin_as_target(PeerIndex index, const ResyncStart& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::WFBitMapT || (role == Role::Primary && served.is_zero())) {
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);  // not any more
  }
  if (std::any_of(peers.begin(), peers.end(),
                  [&peer](const Peer& other) { return &other != &peer && other.granted; })) {
    // It becomes Primary, and counts this node as in sync with it.
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  bool stays_unused = false;
  if (has_third_nodes()) {
    restart_other_resyncs(index);  // what this node was source of
    // A Primary that is served decides for itself: another peer that serves it goes on getting its writes.
    const bool told_by_primary = role != Role::Primary || LOCKSTEP_MUTANT("target-stops-stream-to-server");
    for (PeerIndex other = 0; other < peer_count() && told_by_primary; ++other) {
      if (other != index) set_in_sync_by_primary(other, false);
    }
    if (superblock.sync_toward.is_zero()) superblock.sync_base = superblock.current;
    if (peer.decision.rule == Rule::SelfRolledBack) superblock.sync_base = Generation{};  // no bits tell what it holds
    superblock.sync_toward = message.toward;
    // Zeroes are copied over zeroes, whatever the name.
    stays_unused = message.unused && (superblock.current.is_zero() || superblock.unanswered_since == kHeldByNobody);
    superblock.sync_sources |= mask_of(index);
    if (message.full && !LOCKSTEP_MUTANT("filled-disk-differs-where-copied")) mark_all_but(index);
  }
  persist_bitmap(index, true);  // what it says here must outlive us: the source may know it from us alone
  position = StreamPosition{};
  hold_generation(message.sync_generation);
  // Of a resync of our own that did not come to its start: from here on our bitmap counts from nothing of ours. Left
  // there, an interruption would look as if each tracked changes since the other's generation: a split brain.
  superblock.peers[index].bitmap_generation = superblock.peers[index].previous_bitmap_generation = Generation{};
  // Nothing stays of what it was. So it is older than anybody has known it, and an older copy for nobody, whoever the
  // source is; and of the same birth, so that it will be an older copy if it is restored again.
  if (message.full && !LOCKSTEP_MUTANT("copied-disk-stays-an-older-copy")) {
    superblock.life.age = std::max(superblock.life.age, peer.peer_report.remembered.age) + kAgesOfFullResync;
  }
  superblock.unanswered_since = stays_unused ? kHeldByNobody : Generation{};
  disk_state = superblock.disk_state =
      LOCKSTEP_MUTANT("target-stays-consistent") ? DiskState::Consistent : DiskState::Inconsistent;
  apply_floor = persist_superblock();
  peer.discard_my_data = false;
  peer.bitmap_send_cursor = message.full ? peer.bitmap.block_count() : 0;
  peer.send_floor = std::max(peer.send_floor, apply_floor);
  tell_state();
  send_bitmap_runs(index);
  note(NoteKind::ResyncStarted, index, 0, "target");
  changed();
}

void Replica::State::send_bitmap_runs(PeerIndex index) {
  Peer& peer = peers[index];
  size_t count = 0;
  BitmapRuns message;
  const size_t most = std::min<size_t>(options.bitmap_runs_per_message, runs.size());
  while (count < most) {
    const DirtyBitmap::Run run = peer.bitmap.next_run(peer.bitmap_send_cursor, peer.bitmap.block_count());
    if (run.block_count == 0) {
      message.last = true;
      break;
    }
    runs[count++] = {run.first_block, run.block_count};
    peer.bitmap_send_cursor = run.first_block + run.block_count;
  }
  message.runs = std::span(runs).first(count);
  send(index, message);
  if (message.last) {
    peer.replication = ReplicationState::SyncTarget;
    if (peer.paused_here) tell_pause(index);
    show_pause(index);
    changed();
  }
}

void Replica::State::bitmap_runs_arrived(PeerIndex index, const BitmapRuns& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::WFBitMapS) {
    return drop_peer(index, LinkEnd::BrokenRule, "a bitmap that was not asked for");
  }
  for (const BitmapRun& run : message.runs) {
    if (run.block_count == 0 || !ByteRange::fits(run.first_block, run.block_count, peer.bitmap.block_count())) {
      return drop_peer(index, LinkEnd::BrokenRule, "a bitmap of another size");
    }
    if (!LOCKSTEP_MUTANT("target-bits-not-merged")) peer.bitmap.set_blocks(run.first_block, run.block_count);
  }
  if (!message.last) {
    LOCKSTEP_MARK("bitmap in several messages");
    return send(index, BitmapWanted{});
  }

  // The target holds the resync's generation durably: from now on that one alone counts, and bits may be cleared.
  superblock.peers[index].previous_bitmap_generation = Generation{};
  may_hold_current &= static_cast<PeerMask>(~mask_of(index));
  persist_bitmap(index, true);  // bits that an earlier handshake brought may be known here alone
  peer.resync_gate = persist_superblock();
  // What the last Primary sent us may still be in our disk's volatile cache, and no bit of ours says so: what we copy
  // must be stable here before its bit goes.
  flush_wanted = local_flush_wanted = true;
  peer.resync_gate_cycle = local_cycles_started + 1;
  peer.replication = ReplicationState::SyncSource;
  if (peer.paused_here) tell_pause(index);
  show_pause(index);
  peer.resync_total_blocks = peer.bitmap.dirty_blocks();
  peer.cursor_block = 0;
  // Known writes differ; where everything is copied, or whole extents after a crash, most of it may be equal.
  if (peer.decision.extent == SyncExtent::Full || peer.own_report.crashed_primary || peer.peer_report.crashed_primary ||
      peer.resync_total_blocks >= peer.bitmap.block_count() / 2) {
    peer.asking.wanted = true;
  }
  peer.progress.restart(now_us, peer.resync_total_blocks);
  note(NoteKind::ResyncStarted, index, peer.resync_total_blocks, "source");
  changed();
}

// Nothing is dirty, so every copy is on the target's stable storage. From here on the target may hold our current
// generation, and until it confirms, the resync's.
void Replica::State::finish_resync(PeerIndex index) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  persist_bitmap(index, false);
  record.previous_bitmap_generation = record.bitmap_generation;
  record.bitmap_generation = Generation{};
  record.crashed_primary = false;
  peer.lacks_answered = false;
  set_answered_ahead(role == Role::Primary);
  record.bitmap_in_memory = false;
  if (peer.served_here && has_third_nodes()) superblock.waited_for = waited_for_by(peer);  // as it was before
  stop_serving(index);
  const PersistId id = persist_superblock();
  peer.resync_done_sent = true;
  peer.brought_up_us = now_us;
  peer.asking = Asking{};
  peer.paused_here = peer.paused_there = false;
  ResyncDone done{superblock.current, superblock.history, may_hold_nodes(),
                  has_entries_before(peer) ? NodeMask{0} : in_sync_nodes()};
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    const PeerRecord& of_other = superblock.peers[other];
    if (of_other.crashed_primary) done.crashed |= node_of(other);
    if (of_other.crashed_primary && of_other.answered_ahead) done.answered_ahead |= node_of(other);
    done.ahead_terms[static_cast<size_t>(std::countr_zero(node_of(other)))] = of_other.ahead_term;
  }
  done.term = superblock.term;
  done.position = held_position();
  if (has_third_nodes()) done.undone = superblock.undone;
  send(index, done, {}, id);
}

void Replica::State::resync_done_arrived(PeerIndex index, const ResyncDone& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::SyncTarget && peer.replication != ReplicationState::PausedSyncT) {
    return drop_peer(index, LinkEnd::BrokenRule, "the end of a resync that does not run");
  }
  peer.bitmap.clear_all();
  for (PeerIndex other = 0; other < peer_count(); ++other) persist_bitmap(other, false);
  hold_generation(LOCKSTEP_MUTANT("target-keeps-its-generation") ? superblock.current : message.current);
  superblock.history = message.history;
  if (superblock.current.is_zero()) superblock.unanswered_since = Generation{};  // as create left it
  if (has_third_nodes()) {
    keep_undone(peer.own_report);
    take_over_undone(message.undone);
    take_over_view_at_end(index, message);
  }
  // Not as it was at the handshake: the source may have been promoted since, or have given up the role.
  position = LOCKSTEP_MUTANT("source-is-where-it-was") ? peer.peer_report.position : message.position;
  const StreamPosition start{peer.peer_report.run, 0, peer.rules_obeyed.term};
  if (position.is_same_stream(start)) position.through = std::max(position.through, peer.stream_received);
  superblock.peers[index] = PeerRecord{};
  if (has_third_nodes()) {
    note_stable_position(peer);
    superblock.waited_for = peer.role == Role::Primary ? waited_for_by(peer) : peer.peer_report.waited_for;
  }
  become_up_to_date();
  peer.preparation = Peer::Preparation::None;
  // A generation that another peer has taken already, and nothing was answered in.
  if (served != superblock.current && !LOCKSTEP_MUTANT("served-name-forgotten")) {
    remember(served);
    // That one has our generation in its history, too: only the slot tells who comes first while we make no other.
    for (PeerIndex other = 0; other < peer_count() && !LOCKSTEP_MUTANT("served-name-in-no-slot"); ++other) {
      if (other == index || served.is_zero() || (may_serve & mask_of(other)) == 0) continue;
      remember(superblock.peers[other].previous_bitmap_generation);
      superblock.peers[other].previous_bitmap_generation = served;
    }
  }
  leave_served_mode();
  if (has_third_nodes() && peer.disk_state != DiskState::UpToDate) {
    // The source cannot vouch for it: a node that it has not met may have gone on.
    disk_state = superblock.disk_state =
        peer.disk_state == DiskState::Outdated ? DiskState::Outdated : DiskState::Consistent;
  }
  const PersistId id = persist_superblock();
  peer.replication = ReplicationState::Established;
  peer.progress.stop();
  peer.paused_here = peer.paused_there = false;
  send(index, GenerationStored{message.current}, {}, id);
  tell_state();
  note(NoteKind::ResyncFinished, index, peer.resync_total_blocks, "target");
  changed();
  if (has_third_nodes() && peer.role != Role::Primary) restart_secondary_links(index);
}

}  // namespace lockstep::repl
