#include <algorithm>
#include <optional>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::on(const LinkEstablished& event) {
  Peer& peer = peers[event.peer];
  if (peer.incarnation != 0) LOCKSTEP_MARK("new link before the old one is lost");
  if (peer.incarnation != 0) peer_lost(event.peer);  // a new link is proof that the old one is gone
  if (stopping || peer.connection == ConnectionState::StandAlone) {
    act(CloseLink{event.peer, event.incarnation, LinkEnd::Ordered});
    return;
  }
  peer.incarnation = event.incarnation;
  peer.report_sent = peer.report_arrived = peer.decided = false;
  peer.proved_us = 0;
  peer.reads_here = false;
  peer.leaves_after = 0;
  peer.last_received_us = peer.last_ping_us = now_us;
  peer.resync_sent = 0;
  peer.paused_there = false;
  peer.sent = peer.received = peer.written = peer.flushed = peer.barrier_sent = peer.barrier_due = 0;
  peer.stream_received = peer.stream_written = peer.stream_flushed = peer.stream_stable = peer.barrier_wanted = 0;
  peer.acknowledge = false;
  peer.rules_told = peer.rules_obeyed = StreamRules{};
  peer.pings = peer.pongs = peer.unaware_until = peer.records_after = 0;
  if (stream_peer == event.peer) written_besides.clear();
  send_report_when_quiet(event.peer);
}

void Replica::State::on(const LinkLost& event) {
  if (peers[event.peer].incarnation != event.incarnation) return;
  note(NoteKind::PeerDropped, event.peer, 0, "the link was lost");
  peer_lost(event.peer);
}

void Replica::State::on(const MessageArrived& event) {
  Peer& peer = peers[event.peer];
  const PeerIndex index = event.peer;
  const bool carries_slot = is_stream_frame(event.message);
  if (event.incarnation == 0 || peer.incarnation != event.incarnation) {
    if (carries_slot) act(ReleaseApply{event.apply_slot});
    return;
  }
  peer.last_received_us = now_us;

  if (const auto* write = std::get_if<Write>(&event.message)) {
    return stream_write_arrived(index, event, write->sequence, write->range, write->resync, false, false);
  }
  if (const auto* zeroes = std::get_if<WriteZeroes>(&event.message)) {
    return stream_write_arrived(index, event, zeroes->sequence, zeroes->range, zeroes->resync, true,
                                zeroes->may_deallocate);
  }
  if (const auto* digests = std::get_if<RangeDigests>(&event.message)) {
    return range_digests_arrived(index, event, *digests);
  }
  if (const auto* message = std::get_if<Goodbye>(&event.message)) return goodbye_arrived(index, *message);
  if (const auto* message = std::get_if<Ping>(&event.message)) return send(index, Pong{message->stamp_us});
  if (const auto* message = std::get_if<Pong>(&event.message)) {
    if (message->stamp_us <= now_us) {
      peer.round_trip_us = now_us - message->stamp_us;
      proved(peer, message->stamp_us);
      if (++peer.pongs >= peer.start_asked && peer.start_waits) {
        const ResyncStart start = *std::exchange(peer.start_waits, std::nullopt);
        begin_as_target(index, start);
      }
    }
    return;
  }
  if (const auto* message = std::get_if<StateReport>(&event.message)) {
    if (peer.report_arrived) return drop_peer(index, LinkEnd::BrokenRule, "a second state report");
    peer.peer_report = *message;
    peer.report_arrived = true;
    return decide_when_ready(index);
  }
  if (!peer.decided) return drop_peer(index, LinkEnd::BrokenRule, "a message before the state report");

  if (const auto* message = std::get_if<Acknowledged>(&event.message)) return acknowledged(index, *message);
  if (const auto* message = std::get_if<Barrier>(&event.message)) {
    return barrier_arrived(index, *message);
  }
  if (const auto* message = std::get_if<StreamRules>(&event.message)) {
    peer.rules_obeyed = *message;
    if (message->ordered) applies_owed = applies_arrived;
    note_stream_rules(index, *message);
    return;
  }
  if (const auto* message = std::get_if<StateChanged>(&event.message)) {
    const bool was_primary = peer.role == Role::Primary;
    peer.role = message->role;
    peer.disk_state = message->disk_state;
    peer.known_behind = message->known_behind;
    if (std::exchange(peer.granted, false) && peer.role != Role::Primary) grant_taken_back(peer);
    if (role != Role::Primary && peer.role == Role::Primary) interrupt_verifies();
    if (peer.served_here && peer.role != Role::Primary) {
      if (peer.serve_takes) return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
      stop_serving(index);
      if (!is_disk(peer.disk_state)) peer.replication = ReplicationState::Off;
    }
    changed();
    if (!has_third_nodes()) return;
    third_node_copies(index);
    if ((disk_state == DiskState::Consistent || disk_state == DiskState::Outdated) && is_in_sync(index) &&
        peer.disk_state == DiskState::UpToDate && !is_behind_another(index)) {
      become_up_to_date();
      persist_superblock();
      tell_state();
    }
    if (role == Role::Primary) return settle_promises();  // one that was waited for may not count any more
    if (!was_primary && peer.role == Role::Primary) return primary_appeared(index);
    // Demoted without having made everything stable: its disk failed.
    if (was_primary && peer.role != Role::Primary && unstable_first < unstable_end) primary_lost(index);
    return;
  }
  if (const auto* message = std::get_if<GenerationChanged>(&event.message)) return generation_changed(index, *message);
  if (const auto* message = std::get_if<GenerationStored>(&event.message)) return generation_stored(index, *message);
  if (const auto* message = std::get_if<ResyncStart>(&event.message)) return resync_start_arrived(index, *message);
  if (const auto* message = std::get_if<BitmapRuns>(&event.message)) return bitmap_runs_arrived(index, *message);
  if (std::holds_alternative<BitmapWanted>(event.message)) {
    if (peer.replication != ReplicationState::WFBitMapT) {
      return drop_peer(index, LinkEnd::BrokenRule, "bitmap wanted from a node that is not a target");
    }
    return send_bitmap_runs(index);
  }
  if (const auto* message = std::get_if<ResyncProgress>(&event.message)) {
    peer.resync_left_blocks = message->blocks_left;
    peer.resync_total_blocks = message->blocks_total;
    return;
  }
  if (const auto* message = std::get_if<RangeCompared>(&event.message)) return range_compared(index, *message);
  if (const auto* message = std::get_if<VerifyRequest>(&event.message)) return verify_request_arrived(index, *message);
  if (const auto* message = std::get_if<VerifyProgress>(&event.message)) {
    return verify_progress_arrived(index, *message);
  }
  if (const auto* message = std::get_if<VerifyEnded>(&event.message)) return verify_ended_arrived(index, *message);
  if (const auto* message = std::get_if<ResyncPaused>(&event.message)) return pause_told(index, *message);
  if (const auto* message = std::get_if<ResyncDone>(&event.message)) return resync_done_arrived(index, *message);
  if (const auto* message = std::get_if<ServeRequest>(&event.message)) return serve_request_arrived(index, *message);
  if (const auto* message = std::get_if<ServeConfirmed>(&event.message)) return serve_confirmed(index, *message);
  if (const auto* message = std::get_if<ReadRequest>(&event.message)) return read_request_arrived(index, *message);
  if (const auto* message = std::get_if<ReadReply>(&event.message)) return read_reply_arrived(index, *message);
  if (const auto* message = std::get_if<PauseWrites>(&event.message)) return pause_writes_arrived(index, *message);
  if (std::holds_alternative<WritesPaused>(event.message)) return writes_paused_arrived(index);
  if (const auto* message = std::get_if<StableThrough>(&event.message)) return stable_through_arrived(index, *message);
  if (const auto* message = std::get_if<PeersInSync>(&event.message)) return peers_in_sync_arrived(index, *message);
  if (const auto* message = std::get_if<PromoteRequest>(&event.message))
    return promote_request_arrived(index, *message);
  if (const auto* message = std::get_if<PromoteAnswer>(&event.message)) return promote_answer_arrived(index, *message);
  if (const auto* message = std::get_if<TakeOver>(&event.message)) return take_over_arrived(index, *message);
  if (const auto* message = std::get_if<TakeOverAnswer>(&event.message)) return take_over_answered(index, *message);
  if (const auto* message = std::get_if<SwitchoverRequest>(&event.message)) {
    return switchover_request_arrived(index, *message);
  }
  if (const auto* message = std::get_if<SwitchoverAnswer>(&event.message)) return switchover_answered(index, *message);
  if (const auto* message = std::get_if<ResizePrepare>(&event.message)) return resize_prepare_arrived(index, *message);
  if (const auto* message = std::get_if<ResizePrepared>(&event.message)) {
    return resize_prepared_arrived(index, *message);
  }
  if (const auto* message = std::get_if<ResizeCommit>(&event.message)) return resize_commit_arrived(index, *message);
  if (const auto* message = std::get_if<ResizeCommitted>(&event.message)) {
    return resize_committed_arrived(index, *message);
  }
  if (const auto* message = std::get_if<Lived>(&event.message)) return lived_arrived(index, *message);
  if (const auto* message = std::get_if<InvalidateWanted>(&event.message)) {
    return invalidate_wanted_arrived(index, *message);
  }
  if (const auto* message = std::get_if<InvalidateRequest>(&event.message)) {
    return invalidate_request_arrived(index, *message);
  }
  if (const auto* message = std::get_if<InvalidateAnswer>(&event.message)) return invalidate_answered(index, *message);
}

void Replica::State::check_peers() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (peer.incarnation == 0) continue;
    const auto is_late = [this](uint64_t since_us) {
      return now_us > since_us && now_us - since_us >= options.peer_timeout_us;
    };
    if (is_late(peer.last_received_us)) {
      drop_peer(index, LinkEnd::Timeout, "nothing was received within peer-timeout");
      continue;
    }
    // A peer that still answers pings while a write or a barrier is stuck stalls the clients all the same.
    const bool read_is_stuck =
        peer.reads_out > 0 && std::any_of(clients.begin(), clients.end(), [&](const ClientSlot& client) {
          return client.phase == ClientSlot::Phase::RemoteReading && client.asked_of == index &&
                 is_late(client.asked_us);
        });
    const bool stores_late = (generation_unconfirmed & mask_of(index)) != 0 && is_late(peer.generation_sent_us);
    if (is_stuck(index) || stores_late || read_is_stuck) {
      drop_peer(index, LinkEnd::Timeout, "a write or a flush was not acknowledged within peer-timeout");
      continue;
    }
    if (now_us - peer.last_ping_us >= options.peer_timeout_us / 5) send_ping(index);
  }
}

void Replica::State::send_ping(PeerIndex index) {
  Peer& peer = peers[index];
  peer.last_ping_us = now_us;
  ++peer.pings;
  send(index, Ping{now_us});
}

void Replica::State::drop_peer(PeerIndex index, LinkEnd reason, const char* why) {
  note(reason == LinkEnd::BrokenRule ? NoteKind::RuleBroken : NoteKind::PeerDropped, index, 0, why);
  say_goodbye(index, GoodbyeReason::Dropped, reason);
}

void Replica::State::say_goodbye(PeerIndex index, GoodbyeReason reason, LinkEnd end) {
  Peer& peer = peers[index];
  if (peer.incarnation == 0) return;
  // Who waits for a peer does not go on without it, and must not make it old.
  const bool continues_alone = role == Role::Primary && serves_locally() && !demoting && !is_suspended() &&
                               !(may_hold_our_current(superblock.peers[index]) && loss_suspends(index));
  const bool outdated = disk_state == DiskState::Outdated && is_durable(outdated_persist);
  send(index, Goodbye{reason, continues_alone, outdated});
  act(CloseLink{index, peer.incarnation, end});
  peer_lost(index);
}

// Says goodbye when it is durable that this node is Outdated, if it is: the Primary may rely on it.
void Replica::State::leave(PeerIndex index, GoodbyeReason reason) {
  Peer& peer = peers[index];
  if (peer.incarnation == 0) return;
  if (disk_state != DiskState::Outdated || is_durable(outdated_persist) || persist_failed) {
    return say_goodbye(index, reason, LinkEnd::Ordered);
  }
  peer.leaves_after = outdated_persist;
  peer.leaves_because = reason;
}

void Replica::State::leave_when_recorded() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (peer.leaves_after == 0 || !is_durable(peer.leaves_after)) continue;
    peer.leaves_after = 0;
    say_goodbye(index, peer.leaves_because, LinkEnd::Ordered);
  }
}

// The link is gone: what the peer is not known to have on stable storage is out of sync from now on.
void Replica::State::peer_lost(PeerIndex index) {
  Peer& peer = peers[index];
  const PeerMask mask = mask_of(index);
  const auto without = [mask](PeerMask peers_mask) { return static_cast<PeerMask>(peers_mask & ~mask); };

  const bool answered_unreceived = has_answered_unreceived(index);

  server_lost(index);
  for (Sequence sequence = transfer_log.first(); sequence <= transfer_log.last(); ++sequence) {
    TransferEntry& entry = transfer_log.at(sequence);
    if ((entry.sent_to & mask) == 0) continue;
    entry.sent_to = without(entry.sent_to);
    const Sequence stable = LOCKSTEP_MUTANT("written-at-peer-is-stable") ? peer.written : peer.flushed;
    if (sequence > stable && !entry.resync && !LOCKSTEP_MUTANT("lost-peer-gets-no-bits")) peer.bitmap.set(entry.range);
    if (entry.client_slot != TransferEntry::kNoClient) {
      Promise& promise = clients[entry.client_slot].promise;
      promise.asked = without(promise.asked);
      promise.kept = without(promise.kept);
    }
  }

  end_verify(index, false, peer.bitmap.dirty_blocks());
  stop_serving(index);
  // Where nothing was replicated no Primary had proof that its place was its own: the peer was absent before, too.
  if (peer.replication != ReplicationState::Off) peer.absent_since_us = now_us;
  const bool was_primary = peer.role == Role::Primary;
  const bool was_source = peer.replication == ReplicationState::WFBitMapT ||
                          peer.replication == ReplicationState::SyncTarget ||
                          peer.replication == ReplicationState::PausedSyncT;
  if (!LOCKSTEP_MUTANT("lost-source-still-waited-for")) peer.start_waits.reset();
  if (grows_for == index) grows_for = kNoPeer;
  arbiter.included &= static_cast<PeerMask>(~mask);
  asked_for_grant &= static_cast<PeerMask>(~mask);
  peer.incarnation = 0;
  peer.report_sent = peer.report_arrived = peer.decided = false;
  peer.replication = ReplicationState::Off;
  if (peer.connection != ConnectionState::StandAlone) peer.connection = ConnectionState::Connecting;
  peer.role = Role::Unknown;
  peer.disk_state = DiskState::DUnknown;
  peer.known_behind = false;
  peer.unreceived_payload_bytes = 0;
  peer.unwritten_bytes = peer.resync_unwritten_bytes = peer.resync_unflushed_bytes = 0;
  peer.acknowledge = false;
  peer.granted = false;
  peer.resync_done_sent = false;
  peer.reading_slots = peer.comparisons_in_flight = 0;
  if (role == Role::Primary && served.is_zero() && !LOCKSTEP_MUTANT("lost-peer-keeps-generation")) {
    // Also one that did not hold our current generation: a third node that was away from us may have handed it on
    // before we noticed that this one was away, too.
    if (has_third_nodes()) may_hold_current |= mask;
    if (may_hold_our_current(superblock.peers[index])) {
      may_hold_current |= mask;
      // It may bring a third node up to date behind our back, one that is our own target for all we know, too.
      for (PeerIndex other = 0; other < peer_count(); ++other) {
        if (peers[other].replication == ReplicationState::Established) continue;
        may_hold_current |= mask_of(other);
        // Whoever vouched for that one did so while it was behind.
        if (other != index && !LOCKSTEP_MUTANT("behind-stays-given-up")) {
          given_up_peers &= static_cast<PeerMask>(~mask_of(other));
        }
      }
      if (loss_suspends(index)) await_peer(index);
    }
  }

  // Protocol A: the peer may lack what was answered already, and must not pass for equal.
  if (answered_unreceived && role == Role::Primary && serves_locally()) {
    peer.lacks_answered = true;
    record_divergence();
  }

  cycle_promise.asked = without(cycle_promise.asked);
  cycle_promise.kept = without(cycle_promise.kept);
  generation_confirmed(index);
  settle_promises();
  release_stable_entries();
  waiting_may_start = true;

  if (stage == OrderStage::WaitForGrants && (grants_outstanding & mask) != 0) promote_failed(Outcome::PeerLost, index);
  break_off_resize(index);
  if (stage == OrderStage::WaitForTakeOver && order.peer == index) answer(Outcome::PeerLost, index);
  invalidation_ended(index, Outcome::PeerLost);
  peer.restart_after = 0;
  if (switchover_asked && switchover_peer == index) {
    switchover_asked = false;
    act(OrderAnswered{switchover_ticket, Outcome::PeerLost, index});
  }
  if (has_third_nodes() && role == Role::Primary && was_source && !served.is_zero()) {
    restart_secondary_links(index);  // another one that serves may go on with it
  }
  if (has_third_nodes() && role != Role::Primary) {
    if (was_primary || (unstable_from == index && unstable_first < unstable_end)) {
      primary_lost(index);
    } else if (was_source && !stopping) {
      restart_secondary_links(index);
    }
  }
  changed();
}

void Replica::State::goodbye_arrived(PeerIndex index, const Goodbye& message) {
  note(NoteKind::PeerDropped, index, 0, "the peer said goodbye");
  if (message.continues_alone) LOCKSTEP_MARK("goodbye from a Primary that goes on");
  if (message.continues_alone) become_outdated();
  // In good order: whoever ended it wants this node to go on.
  if (message.outdated && role == Role::Primary) given_up_peers |= mask_of(index);
  act(CloseLink{index, peers[index].incarnation,
                message.reason == GoodbyeReason::Refused ? LinkEnd::Refused : LinkEnd::PeerLeft});
  peer_lost(index);
}

// The Primary goes on without this node, which knows it: its data must not be taken for the newest any more.
void Replica::State::become_outdated() {
  if (role == Role::Primary || (disk_state != DiskState::UpToDate && disk_state != DiskState::Consistent)) return;
  LOCKSTEP_MARK("outdated");
  disk_state = superblock.disk_state = DiskState::Outdated;
  outdated_persist = persist_superblock();
  note(NoteKind::Outdated, 0);
  changed();
}

}  // namespace lockstep::repl
