#include <algorithm>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

StateReport Replica::State::make_report(PeerIndex index) const {
  const PeerRecord& record = superblock.peers[index];
  StateReport report;
  // A generation that the metadata failed to record is of no answered write.
  report.current = !disk_usable() && generation_void ? generation_before : superblock.current;
  report.bitmap_generation = record.bitmap_generation;
  report.previous_bitmap_generation = record.previous_bitmap_generation;
  report.history = superblock.history;
  report.out_of_sync_blocks = peers[index].bitmap.dirty_blocks();
  report.role = role;
  report.disk_state = disk_state;
  report.known_behind = is_known_behind();
  // A Primary that has lost the last copy has crashed as one, as far as what it answered is concerned.
  report.crashed_primary = record.crashed_primary || (superblock.primary && !disk_usable());
  report.answered_ahead = report.crashed_primary && record.answered_ahead;
  report.ahead_term = record.crashed_primary ? record.ahead_term : superblock.term;
  report.discard_my_data = peers[index].discard_my_data;
  report.prepares_resync =
      options.prepares_resyncs && served.is_zero() && peers[index].preparation != Peer::Preparation::Done;
  report.node_order = options.node_order;
  report.served = served;
  report.served_previous = served_previous;
  report.run = run();
  report.life = durable_life;
  report.remembered = superblock.peer_lives[index];
  report.size_bytes = options.size_bytes;
  report.prepared_size_bytes = superblock.prepared_size_bytes;
  if (superblock.unanswered_since == kHeldByNobody) report.unanswered_since = kHeldByNobody;
  if (has_third_nodes()) {
    report.sees_primary = role != Role::Primary && sees_primary(index);
    report.is_target = is_target_of_another(index);
    report.may_hold = may_hold_nodes();
    report.sync_toward = superblock.sync_toward;
    report.unanswered_since = superblock.unanswered_since;
    report.undone = superblock.undone;
    report.position = held_position();
    report.stable_position = superblock.stable_position;
    report.waited_for = superblock.waited_for;
    report.term = superblock.term;
    if (role == Role::Primary && term_begun && stage == OrderStage::Opening) {
      report.waited_for = before_term.waited_for;
      report.term = before_term.term;
    }
    // What it sent itself is under no bit for it here.
    if ((superblock.sync_sources & mask_of(index)) == 0) report.sync_base = superblock.sync_base;
  }
  return report;
}

// Only when nothing of an earlier link is on its way to the disk: it must not come after what this link brings.
void Replica::State::send_report_when_quiet(PeerIndex index) {
  Peer& peer = peers[index];
  if (peer.incarnation == 0 || peer.report_sent || apply_count > 0 ||
      (local_flush_in_flight && local_flush_for_peers)) {
    return;
  }
  peer.own_report = make_report(index);
  peer.report_sent = true;
  // With several peers it may speak of what was just learnt from another one. What the metadata did not record never
  // will be, and the peer would hear nothing on this link.
  const bool waits = has_third_nodes() && (!persist_failed || LOCKSTEP_MUTANT("report-waits-for-failed-metadata"));
  send(index, peer.own_report, {}, waits ? asked_persist : 0);
  decide_when_ready(index);
}

void Replica::State::decide_when_ready(PeerIndex index) {
  Peer& peer = peers[index];
  if (!peer.report_sent || !peer.report_arrived || peer.decided) return;
  if (!sizes_agree(index)) return;
  peer.decision = decide(peer.own_report, peer.peer_report);

  // The peer decides from what it was sent. If that is not true any more, both start again.
  const StateReport now = make_report(index);
  const StateReport& sent = peer.own_report;
  if (now.current != sent.current || now.role != sent.role || now.disk_state != sent.disk_state ||
      now.served != sent.served || now.served_previous != sent.served_previous ||
      now.bitmap_generation != sent.bitmap_generation ||
      now.previous_bitmap_generation != sent.previous_bitmap_generation ||
      decide(now, peer.peer_report) != peer.decision) {
    LOCKSTEP_MARK("handshake begun again, own state changed");
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  peer.decided = peer.ever_decided = true;
  peer.decided_us = now_us;
  // It may be about to leave, as soon as it is recorded that it is Outdated: then it is to be told to connect again.
  const bool leaves = peer.connection == ConnectionState::StandAlone;
  if (!leaves || LOCKSTEP_MUTANT("leaving-peer-is-connected")) peer.connection = ConnectionState::Connected;
  peer.role = peer.peer_report.role;
  peer.disk_state = peer.peer_report.disk_state;
  peer.known_behind = peer.peer_report.known_behind;
  note(NoteKind::HandshakeDecided, index, peer.bitmap.dirty_blocks(), to_string(peer.decision.rule).data());
  if (has_third_nodes() && role != Role::Primary && peer.role == Role::Primary) restart_other_resyncs(index);
  carry_out_decision(index);
  if (peer.incarnation != 0) {  // the round trip that a Primary's first answers wait for
    send_ping(index);
  }
  changed();
}

bool Replica::State::all_peers_known_but(PeerIndex index) const {
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    if (other == index) continue;
    if (prepares(peers[other]) || is_resync_target(peers[other])) return false;  // it is ahead of this node
    if (is_connected(peers[other]) && is_disk(peers[other].disk_state)) continue;
    if (superblock.peers[other].bitmap_generation.is_zero()) return false;
    if ((peers[index].peer_report.may_hold & node_of(other)) != 0) return false;
  }
  return true;
}

void Replica::State::become_up_to_date() {
  disk_state = superblock.disk_state = DiskState::UpToDate;
}

void Replica::State::tell_state() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (is_connected(peers[index])) send(index, StateChanged{role, disk_state, is_known_behind()});
  }
}

void Replica::State::carry_out_decision(PeerIndex index) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  if (peer.decision.kind == SyncKind::None || peer.decision.kind == SyncKind::Source) {
    given_up_peers &= static_cast<PeerMask>(~mask_of(index));
  }
  if (peer.preparation == Peer::Preparation::Done && peer.decision.kind != SyncKind::Target) {
    peer.preparation = Peer::Preparation::None;  // it was for a resync that is not needed any more
  }
  const bool was_split_brain = peer.split_brain;
  peer.split_brain = false;
  if (!served.is_zero() && (served_stale & mask_of(index)) != 0) {
    // By its reports it may look as good as those that went on without it. It waits until this node has a disk again.
    return say_goodbye(index, GoodbyeReason::Refused, LinkEnd::Refused);
  }
  // One that was rolled back is remembered as it was before, until it is older than that: see resync_start_arrived.
  if (peer.decision.kind == SyncKind::None || peer.decision.kind == SyncKind::Source ||
      peer.decision.kind == SyncKind::Target) {
    if (peer.decision.rule != Rule::PeerRolledBack) remember_life(index, peer.peer_report.life);
  } else if (peer.decision.kind == SyncKind::Wait && !LOCKSTEP_MUTANT("life-of-follower-not-remembered")) {
    lived_arrived(index, Lived{peer.peer_report.life});
  }

  switch (peer.decision.kind) {
    case SyncKind::None: {
      const SuperblockImage before = superblock;
      if (has_third_nodes()) {
        remember_what_peer_remembers(peer);
        if (peer.peer_report.current == superblock.current) take_over_undone(peer.peer_report.undone);
        take_over_who_may_hold(index);
      }
      remember(record.bitmap_generation);
      record = PeerRecord{};
      peer.lacks_answered = false;
      peer.run = peer.peer_report.run;  // it has all that it was sent before
      set_answered_ahead(role == Role::Primary);
      note_alike_waited_for(peer);
      superblock.term = std::max(superblock.term, peer.peer_report.term);
      if (disk_state != DiskState::UpToDate &&
          ((peer.peer_report.disk_state == DiskState::UpToDate && !is_behind_another(index)) ||
           all_peers_known_but(index))) {
        become_up_to_date();
        tell_state();
      }
      if (superblock != before) persist_superblock();
      peer.replication = ReplicationState::Established;
      note_position_in_sync(peer);
      peer.stream_from = transfer_log.last() + 1;
      peer.told_in_sync = kNothingTold;
      may_hold_current &= static_cast<PeerMask>(~mask_of(index));
      peer_is_back(index);
      if (has_third_nodes() && role == Role::Primary) tell_stream_rules(index);
      return;
    }
    case SyncKind::Source:
      if (std::any_of(peers.begin(), peers.end(), [](const Peer& other) { return other.start_waits.has_value(); })) {
        return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);  // a target in a moment
      }
      if (has_third_nodes()) remember_what_peer_remembers(peer);
      take_over_who_may_hold(index);
      return start_as_source(index);
    case SyncKind::Target:
      if (is_target_of_another(index)) {
        // Both meant to be its source, neither knew of the other. The next handshake tells.
        return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
      }
      peer.replication = ReplicationState::WFBitMapT;
      peer.resync_started_us = now_us;
      if (!served.is_zero()) ask_to_serve(index, served_previous);
      return;
    case SyncKind::Serve:
      peer.replication = ReplicationState::Established;
      if (!served.is_zero()) ask_to_serve(index, served_previous);
      return;
    case SyncKind::Prepare:
      if (peer.decision.rule == Rule::SelfPrepares) prepare_resync(index);
      return;
    case SyncKind::NoDisk:
      // Who has no disk says so, and meets the other again when it has one.
      if (!disk_usable() && peer.role == Role::Primary) old_when_attached = true;
      if (peer.decision.rule == Rule::PeerDisklessSelfIsBehind && !follows_another_primary(index)) {
        become_outdated();
        tell_state();
      }
      return;
    case SyncKind::SplitBrain:
    case SyncKind::Unrelated:
      // Both sides find the same and say so. The link is tried again now and then: an operator on the other side may
      // have settled it.
      peer.split_brain = true;
      if (!was_split_brain) note(NoteKind::SplitBrain, index, 0, to_string(peer.decision.rule).data());
      return say_goodbye(index, GoodbyeReason::Refused, LinkEnd::Refused);
    case SyncKind::Refuse: {
      const bool rolled_back = peer.decision.rule == Rule::SelfRolledBack || peer.decision.rule == Rule::BothRolledBack;
      if (rolled_back && !sees_primary(index)) become_outdated();  // a Primary knows what this disk holds
      // Nothing was answered since this peer was lost; it took our place meanwhile, or has served and gone on.
      const bool replaced = (awaited_peers & mask_of(index)) != 0 && (peer.peer_report.role == Role::Primary ||
                                                                      peer.decision.rule == Rule::PrimaryWouldBeTarget);
      // It follows another Primary, which may be one that was replaced: until that is known it may serve still.
      const bool may_come_back =
          peer.decision.rule == Rule::PeerFollowsAnother && !LOCKSTEP_MUTANT("server-beside-another-is-lost");
      const bool overtaken =
          !served.is_zero() && !may_send_served() && !data_lost && !may_come_back && is_overtaken(index);
      const bool by_a_primary = peer.peer_report.role == Role::Primary;
      if (!may_come_back) may_serve &= static_cast<PeerMask>(~mask_of(index));
      say_goodbye(index, GoodbyeReason::Refused, LinkEnd::Refused);
      if (overtaken) {
        // What our clients saw is gone, or was gone on with: they must not see anything else.
        note(NoteKind::DataLost, index);
        data_lost = true;
        fail_requests_without_data();
      }
      if (replaced || (data_lost && by_a_primary)) step_down("the peer was promoted in this node's place");
      return;
    }
    case SyncKind::Wait:
      if (peer.decision.rule == Rule::PrimaryDecidesSelfIsBehind && !sees_primary(index)) become_outdated();
      // What the Primary said last is of a generation that one of the two does not hold any more.
      peer.replication = peer.in_sync_by_primary && peer.decision.rule == Rule::PrimaryDecides
                             ? ReplicationState::Established
                             : ReplicationState::Off;
      return;
  }
}

Generation Replica::State::fresh_generation() {
  // Two rounds of SplitMix64 (Steele, Lea, Flood 2014) over the seed and a counter.
  const auto mix = [](uint64_t value) {
    value += 0x9E3779B97F4A7C15;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
  };
  const uint64_t count = ++generations_made;
  return name_for_writes({mix(seed.high ^ mix(count)), mix(seed.low + mix(~count))});
}

void Replica::State::hold_generation(const Generation& generation) {
  superblock.current = generation;
  superblock.undone = Generation{};  // it stood beside the one before
}

void Replica::State::remember(const Generation& generation) {
  auto& history = superblock.history;
  if (!is_a_name(generation)) return;
  if (const auto found = std::find(history.begin(), history.end(), generation); found != history.end()) {
    if (has_third_nodes()) std::rotate(history.begin(), found, found + 1);  // it is of use still: others go first
    return;
  }
  // A link that flaps begins a resync each time. What an absent node may hold must outlast those.
  const auto slots = 2 * static_cast<std::ptrdiff_t>(peer_count());
  auto last = history.end() - 1;
  if (has_third_nodes() && !last->is_zero() && !LOCKSTEP_MUTANT("resyncs-push-lineages-out")) {
    const auto oldest = std::find_if(history.rbegin(), history.rend() - slots, is_for_resync);
    if (oldest != history.rend() - slots) last = oldest.base() - 1;
  }
  std::copy_backward(history.begin(), last, last + 1);
  history.front() = generation;
}

// The peer's data is where this node's comes from, so it has all that the peer's names stand for: those by which the
// peer knows an absent third node first of all.
void Replica::State::remember_what_peer_remembers(const Peer& peer) {
  switch (peer.decision.rule) {
    case Rule::PeerRolledBack:  // these are of a lineage that ends here
    case Rule::PeerIsUnanswered:
    case Rule::SplitBrainPeerGivesWay:
    case Rule::PeerIsPartial:
      return;
    default:
      break;
  }
  const auto& history = peer.peer_report.history;
  for (size_t i = std::min<size_t>(size_t{2} * peer_count(), history.size()); i > 0; --i) remember(history[i - 1]);
  remember_what_peers_hold();
}

// By these names this node knows an absent one: whoever takes the history over has no slot of ours, and a link that
// flaps must not push them out.
void Replica::State::remember_what_peers_hold() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    remember(superblock.peers[index].bitmap_generation);
    remember(superblock.peers[index].previous_bitmap_generation);
  }
}

// The peer gets nothing of what follows `old`.
void Replica::State::leave_behind(PeerRecord& record, const Generation& old) const {
  if (record.bitmap_generation.is_zero()) {
    record.bitmap_generation = old.is_zero() ? kHeldByNobody : old;
  } else if (has_third_nodes() && record.previous_bitmap_generation.is_zero() && record.bitmap_generation != old) {
    record.previous_bitmap_generation = old;  // it may have got that from another node since
  }
  // Or hold what this node undid at its start, which is as good as `old`.
  const bool may_hold_undone = has_third_nodes() && record.previous_bitmap_generation.is_zero();
  if (may_hold_undone && !LOCKSTEP_MUTANT("undone-generation-left-behind")) {
    record.previous_bitmap_generation = superblock.undone;
  }
  if (has_third_nodes()) record.crashed_primary = record.answered_ahead = false;  // of a generation that is past
}

// From here on this node's writes are a lineage of their own. Linked peers, who get every write, take it over, but
// only when it is durable here: else a crash would leave them with a generation that nobody knows.
void Replica::State::make_new_generation() {
  const Generation old = superblock.current;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const PeerRecord& record = superblock.peers[index];
    if (gets_stream(peers[index]) && record.bitmap_generation.is_zero() &&
        !record.previous_bitmap_generation.is_zero()) {
      LOCKSTEP_MARK("third generation before the second is confirmed");
      // It has not confirmed the last change yet; a third name for what it may hold has no place.
      say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
  }
  if (superblock.current != old) return;  // losing that link answered a write, which made one
  // Or it suspended this node: nothing is answered, and whoever is promoted instead must not find a generation here
  // that passes for used.
  if (is_suspended() && !LOCKSTEP_MUTANT("generation-made-while-suspended")) return;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    PeerRecord& record = superblock.peers[index];
    if (!gets_stream(peers[index])) {
      peers[index].lacks_answered = false;  // by its generation that is known from here on
      leave_behind(record, old);
    } else if (record.bitmap_generation.is_zero()) {
      record.previous_bitmap_generation = old;
    }
  }
  if (has_third_nodes()) set_answered_ahead(true);
  if (has_third_nodes()) {
    // Where it has no place in a slot the history tells that this node has all of it.
    if (!LOCKSTEP_MUTANT("undone-generation-not-remembered")) remember(superblock.undone);
    remember(old);
    remember_what_peers_hold();
  }
  // One that the arbiter was told is used once: then it is current, or in the history.
  generation_before = old;
  hold_generation(superblock.reserved.is_zero() ? fresh_generation() : superblock.reserved);
  divergence = superblock.current;
  superblock.reserved = Generation{};
  superblock.unanswered_since = Generation{};
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (gets_stream(peers[index]) && superblock.peers[index].bitmap_generation.is_zero()) {
      superblock.unanswered_since = old;
    }
  }
  may_hold_current = 0;
  if (LOCKSTEP_MUTANT("bitmap-generation-not-kept")) {
    for (PeerIndex index = 0; index < peer_count(); ++index) superblock.peers[index].bitmap_generation = Generation{};
  }
  for (Peer& peer : peers) peer.told_in_sync = kNothingTold;
  reply_floor = generation_persist = persist_superblock();
  note(NoteKind::GenerationMade, 0);
  have_generation_stored(reply_floor);
  changed();
}

// By every peer that gets the stream: until they have, nothing is answered.
void Replica::State::have_generation_stored(PersistId after) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (gets_stream(peers[index]) && superblock.peers[index].bitmap_generation.is_zero()) {
      generation_unconfirmed |= mask_of(index);
      peers[index].generation_sent_us = now_us;
      send(index, GenerationChanged{superblock.current, superblock.history, may_hold_nodes()}, {}, after);
    }
  }
}

void Replica::State::generation_changed(PeerIndex index, const GenerationChanged& message) {
  Peer& peer = peers[index];
  if (peer.role != Role::Primary || peer.replication != ReplicationState::Established || role == Role::Primary) {
    return drop_peer(index, LinkEnd::BrokenRule, "a generation from a node that may not give one");
  }
  if (message.current == superblock.current) return send(index, GenerationStored{message.current}, {}, asked_persist);
  const Generation old = superblock.current;
  hold_generation(message.current);
  superblock.unanswered_since = Generation{};
  superblock.history = message.history;
  if (has_third_nodes()) take_over_view(index, old, message.may_hold);
  const PersistId id = persist_superblock();
  send(index, GenerationStored{message.current}, {}, id);
  changed();
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    // So that it learns that it is behind.
    if (other == index || !is_connected(peers[other]) || (message.may_hold & node_of(other)) != 0) continue;
    say_goodbye(other, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

// The peer has our new generation, or is gone.
void Replica::State::generation_confirmed(PeerIndex index) {
  if ((generation_unconfirmed & mask_of(index)) == 0) return;
  generation_unconfirmed &= static_cast<PeerMask>(~mask_of(index));
  // Else what is answered next makes another one, and a restart in between undoes this one.
  const bool another_follows =
      has_third_nodes() && may_hold_current != 0 && !LOCKSTEP_MUTANT("generation-used-before-the-next");
  if (!another_follows) record_that_generation_is_used();
  settle_promises();
}

// Nobody has to store it any more: what follows is answered in it. Not while nothing is answered, since whoever was
// lost may be promoted meanwhile, and a restart undoes it.
void Replica::State::record_that_generation_is_used() {
  if (generation_unconfirmed != 0 || superblock.unanswered_since.is_zero()) return;
  const bool nothing_follows = has_third_nodes() && role == Role::Primary && is_suspended();
  if (nothing_follows && !LOCKSTEP_MUTANT("suspended-generation-is-used")) return;
  superblock.unanswered_since = Generation{};
  reply_floor = persist_superblock();
}

void Replica::State::generation_stored(PeerIndex index, const GenerationStored& message) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  if (message.current != superblock.current || !record.bitmap_generation.is_zero()) return;
  if (!record.previous_bitmap_generation.is_zero()) {
    record.previous_bitmap_generation = Generation{};
    persist_superblock();
  }
  const bool was_target = std::exchange(peer.resync_done_sent, false);
  if (LOCKSTEP_MUTANT("answered-before-the-target-counts")) generation_confirmed(index);
  if (was_target) {
    LOCKSTEP_MARK("source hears that the target is done");
    peer.run = peer.peer_report.run;
    peer.replication = ReplicationState::Established;
    peer.disk_state = has_third_nodes() ? disk_state : DiskState::UpToDate;
  }
  generation_confirmed(index);  // what is answered now waits for this one, too, if it is among the first
  if (!was_target) return;
  peer_is_back(index);
  if (has_third_nodes() && role == Role::Primary) tell_stream_rules(index);
  note(NoteKind::ResyncFinished, index, peer.resync_total_blocks, "source");
  changed();
}

}  // namespace lockstep::repl
