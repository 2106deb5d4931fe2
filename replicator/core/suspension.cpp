// Losing peers: when this Primary may answer its clients, and when it must not because it may have been replaced.
//
// Nothing is answered with success while
//   - a peer that was lost may hold our current generation, and neither came back nor was given up (on-peer-loss =
//     suspend: by an operator; arbiter: by the arbiter; continue: at once, but for a node that was frozen);
//   - an operator suspended the resource;
//   - a linked peer that could take over has not proved for peer-timeout that it did not. A node that was stopped for
//     longer (SIGSTOP, a paused machine) finds itself there when it goes on, before it has noticed any loss.
// What was complete by then is held; what arrives starts when the suspension ends.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

bool Replica::State::is_suspended() const {
  return awaited_peers != 0 || suspended_by_operator;
}

// None of them can be promoted with what it held: each is Inconsistent, and gets its data from this node.
bool Replica::State::awaited_peers_are_targets() const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const ReplicationState state = peers[index].replication;
    const bool is_target = state == ReplicationState::SyncSource || state == ReplicationState::PausedSyncS;
    if ((awaited_peers & mask_of(index)) != 0 && !is_target) return false;
  }
  return true;
}

Suspension Replica::State::suspension() const {
  if (role != Role::Primary) return Suspension::No;
  if (lacks_data()) return Suspension::NoData;
  if (awaited_peers != 0) return Suspension::PeerLoss;
  return suspended_by_operator ? Suspension::Operator : Suspension::No;
}

// Stamps are of when this node asked, so an answer proves how things were no earlier than that.
void Replica::State::proved(Peer& peer, uint64_t asked_us) {
  peer.proved_us = std::max(peer.proved_us, asked_us);
}

bool Replica::State::may_answer() const {
  if (is_suspended()) return false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (!gets_stream(peer) || !may_hold_our_current(superblock.peers[index])) continue;
    if (now_us >= peer.proved_us + options.peer_timeout_us) return false;
  }
  return true;
}

// A request's success is due. True: it is not told, now or ever; the slot is held, or was answered with an error.
bool Replica::State::hold_reply(uint32_t slot) {
  if (role != Role::Primary || (may_answer() && !was_replaced)) return false;
  if (demoting || abandons_held) {
    reply(slot, ESHUTDOWN);
    return true;
  }
  // What was read is read again afterwards. A write or a flush is done, but for telling.
  ClientSlot& client = clients[slot];
  const bool starts_again = client.phase == ClientSlot::Phase::Reading || client.phase == ClientSlot::Phase::Waiting ||
                            client.phase == ClientSlot::Phase::RemoteReading;
  client.phase = starts_again ? ClientSlot::Phase::Suspended : ClientSlot::Phase::Held;
  ++held_slots;
  return true;
}

void Replica::State::release_held_slots() {
  // Without any copy nothing that ends the suspension makes an answer good.
  const bool is_hopeless = must_fail_requests() && !LOCKSTEP_MUTANT("held-without-a-copy");
  if (held_slots == 0 || (!may_answer() && !is_hopeless)) return;
  // What this node's disk was to vouch for, only a peer that serves can, now that the disk is gone.
  const bool waits_for_server = !served.is_zero() && !is_served() && !must_fail_requests();
  if (waits_for_server && !LOCKSTEP_MUTANT("held-answer-outlives-its-disk")) return;
  const bool answers = std::any_of(clients.begin(), clients.end(),
                                   [](const ClientSlot& client) { return client.phase == ClientSlot::Phase::Held; });
  if (answers && serves_locally()) {
    record_divergence();  // that may drop a peer, and every peer in the stream must store what it makes
    if (generation_unconfirmed != 0 || !may_answer()) return;
  }
  for (uint32_t slot = 0; slot < clients.size() && held_slots > 0; ++slot) {
    const ClientSlot::Phase phase = clients[slot].phase;
    if (phase == ClientSlot::Phase::Held) {
      --held_slots;
      // While it was held the peer may have gone for good: then it promises what only this node has.
      if (serves_locally()) record_divergence();
      // So may the one that was enough. Whoever is left makes stable what the answer promises.
      if (waits_for_some() && !LOCKSTEP_MUTANT("held-answer-is-promised-by-the-lost")) {
        queue_flush(slot);
        continue;
      }
      reply(slot, must_fail_requests() ? failure_errno() : 0);
    } else if (phase == ClientSlot::Phase::Suspended) {
      --held_slots;
      start_request(slot);
    }
  }
}

// Whoever waited is told that it will not be: the role is given up.
void Replica::State::fail_held_slots() {
  for (uint32_t slot = 0; slot < clients.size() && held_slots > 0; ++slot) {
    const ClientSlot::Phase phase = clients[slot].phase;
    if (phase != ClientSlot::Phase::Held && phase != ClientSlot::Phase::Suspended) continue;
    --held_slots;
    reply(slot, ESHUTDOWN);
  }
  waiting_may_start = true;
}

// The loop was stopped: whoever saw us silent for so long may have gone on without us. Or the clock jumped: then an
// absent Primary may still answer, and its time is counted anew.
void Replica::State::notice_gap() {
  const bool leaps = last_event_us != 0 && now_us >= last_event_us + options.peer_timeout_us / 2;
  for (PeerIndex index = 0; leaps && index < peer_count() && !LOCKSTEP_MUTANT("clock-that-jumps-is-trusted"); ++index) {
    if (!is_connected(peers[index])) peers[index].absent_since_us = now_us;
  }
  if (role == Role::Primary && last_event_us != 0 && now_us >= last_event_us + options.peer_timeout_us) {
    thawed_until_us = now_us + options.peer_timeout_us;
    note(NoteKind::Thawed, 0, (now_us - last_event_us) / 1000);
  }
  last_event_us = now_us;
}

// Of a peer that is lost and may hold our current generation: whether its return, or leave to go on, is waited for.
bool Replica::State::loss_suspends(PeerIndex index) const {
  if (role != Role::Primary || (given_up_peers & mask_of(index)) != 0) return false;
  return options.on_peer_loss != LossPolicy::Continue || now_us < thawed_until_us;
}

void Replica::State::await_peer(PeerIndex index) {
  if (awaited_peers == 0) {
    abandons_held = false;
    arbiter.next_us = arbiter.pause_us = 0;
    arbiter.refused_unsure = false;
    note(NoteKind::Suspended, index);
  }
  awaited_peers |= mask_of(index);
  changed();
}

// One that was a target when it was lost may have got everything since from another that was away, too; and those two
// may have told the arbiter so. It is asked about that one as about a copy.
bool Replica::State::awaits_who_may_hold() {
  if (options.on_peer_loss != LossPolicy::Arbiter || !has_third_nodes() ||
      LOCKSTEP_MUTANT("completed-behind-our-back")) {
    return false;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if ((may_hold_current & ~given_up_peers & mask_of(index)) != 0 && !is_connected(peers[index])) await_peer(index);
  }
  return is_suspended();
}

void Replica::State::peer_is_back(PeerIndex index) {
  const PeerMask mask = mask_of(index);
  peers[index].lacks_answered = false;
  given_up_peers &= static_cast<PeerMask>(~mask);
  arbiter.promoted_without &= static_cast<PeerMask>(~mask);
  if ((awaited_peers & mask) == 0) return;
  awaited_peers &= static_cast<PeerMask>(~mask);
  end_suspension_if_over();
}

// Somebody vouched that these peers are not, and will not be, Primary with what they hold.
void Replica::State::give_up_peers(PeerMask mask) {
  given_up_peers |= mask;
  awaited_peers &= static_cast<PeerMask>(~mask);
  // At once: what they hold is old from here on, whether or not anything is written.
  const bool has_copy = serves_locally() || LOCKSTEP_MUTANT("generation-without-a-disk");
  if ((may_hold_current & mask) != 0 && has_copy) make_new_generation();
  if (!served.is_zero() && is_served()) leave_served_generation(may_hold_served);
  end_suspension_if_over();
}

void Replica::State::end_suspension_if_over() {
  changed();
  if (is_suspended()) return;
  // A peer that was not missed may have crashed all the same, and have been given the data of another one that lacks
  // what is held: its word is older than that. Who says now that it has the generation is there still.
  const bool stays_in_generation =
      role == Role::Primary && !demoting && generation_unconfirmed == 0 && serves_locally() && has_third_nodes();
  if (stays_in_generation && !LOCKSTEP_MUTANT("held-on-the-word-of-the-unmissed")) have_generation_stored(reply_floor);
  record_that_generation_is_used();
  abandons_held = false;
  waiting_may_start = true;
  note(NoteKind::Resumed, 0);
}

// Under `continue` a node that was frozen waits for its peers no longer than this.
void Replica::State::end_grace() {
  if (options.on_peer_loss != LossPolicy::Continue || awaited_peers == 0 || now_us < thawed_until_us) return;
  awaited_peers = 0;
  end_suspension_if_over();
}

// Another node is Primary, or was, with what was written after this one stopped being asked: everything that is not
// answered fails, the export closes, and this node is a Secondary, whose data is called old.
void Replica::State::step_down(const char* why) {
  if (role != Role::Primary) return;
  note(NoteKind::Replaced, 0, 0, why);
  was_replaced = true;
  if (demoting) return fail_held_slots();
  if (stage == OrderStage::Opening) answer(Outcome::PeerIsPrimary);
  order = OrderGiven{};
  order.kind = OrderKind::Demote;
  order_from = OrderFrom::Nobody;
  begin_demotion();
}

void Replica::State::order_suspension(const OrderGiven& given) {
  const auto done = [this, &given](Outcome outcome, PersistId after = 0) {
    act(OrderAnswered{given.ticket, outcome, given.peer, is_durable(after) ? 0 : after});
  };
  if (role != Role::Primary) return done(given.kind == OrderKind::AbandonHeld ? Outcome::Done : Outcome::NotPrimary);
  switch (given.kind) {
    case OrderKind::Suspend:
      if (std::exchange(suspended_by_operator, true)) return done(Outcome::AlreadySo);
      note(NoteKind::Suspended, 0);
      changed();
      return done(Outcome::Done);
    case OrderKind::AbandonHeld:
      abandons_held = is_suspended();
      if (!served.is_zero()) {
        fails_held = true;
        fail_requests_without_data();
      }
      if (!may_answer()) fail_held_slots();
      return done(Outcome::Done);
    default:
      break;
  }
  if (!is_suspended()) return done(Outcome::NotSuspended);
  suspended_by_operator = false;
  if (given.alone && awaited_peers != 0) {
    give_up_peers(awaited_peers);
    return done(Outcome::Done, reply_floor);
  }
  end_suspension_if_over();
  done(awaited_peers != 0 ? Outcome::ResumeAlone : Outcome::Done);
}

// The word of somebody who knows: this node's peers may go on without it, for instance because a Primary that cannot
// reach it over the link has said so by another way.
void Replica::State::order_outdate(const OrderGiven& given) {
  const auto done = [this, &given](Outcome outcome, PersistId after = 0) {
    act(OrderAnswered{given.ticket, outcome, given.peer, is_durable(after) ? 0 : after});
  };
  if (role == Role::Primary || stage == OrderStage::WaitForApplies) return done(Outcome::IsPrimary);
  if (!disk_usable()) return done(Outcome::NoDisk);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    // The stream goes on arriving: it would not be old.
    if (is_connected(peers[index]) && peers[index].replication != ReplicationState::Off) {
      return act(OrderAnswered{given.ticket, Outcome::ConnectedPeer, index});
    }
  }
  if (disk_state == DiskState::Inconsistent) return done(Outcome::AlreadySo);
  if (disk_state == DiskState::Outdated) return done(Outcome::AlreadySo, outdated_persist);
  become_outdated();
  done(Outcome::Done, outdated_persist);
}

}  // namespace lockstep::repl
