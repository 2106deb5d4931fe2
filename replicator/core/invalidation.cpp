#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

Outcome Replica::State::can_invalidate(PeerIndex source) const {
  const Peer& peer = peers[source];
  if (role == Role::Primary) return Outcome::IsPrimary;
  if (!is_connected(peer)) return Outcome::NotConnected;
  if (peer.replication != ReplicationState::Established) return Outcome::ResyncRuns;
  if (peer.disk_state != DiskState::UpToDate) return Outcome::LastUpToDate;
  if (!disk_usable()) return Outcome::NoDisk;
  // The clients of a Primary without a disk see this one. What the source has of that is not known here: what it was
  // called in sync for was before.
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    const bool serves_third = other != source && peers[other].served_here;
    if (serves_third && !LOCKSTEP_MUTANT("server-invalidated")) return Outcome::LastUpToDate;
  }
  return Outcome::Done;
}

// Everything here is called out of sync, durably, before the disk is called Inconsistent: a crash in between leaves
// a copy that is good and will be copied over all the same. The link ends when both are durable: the handshake that
// follows finds the disk Inconsistent, and starts the resync.
PersistId Replica::State::invalidate_towards(PeerIndex source) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {  // no other peer may take it for a copy either
    peers[index].bitmap.set_all();
    persist_bitmap(index, false);
  }
  disk_state = superblock.disk_state = DiskState::Inconsistent;
  const PersistId id = persist_superblock();
  for (Peer& peer : peers) {
    if (is_connected(peer)) peer.restart_after = id;
  }
  note(NoteKind::Invalidated, source);
  tell_state();
  changed();
  return id;
}

void Replica::State::restart_links_when_durable() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (peer.restart_after == 0 || !is_durable(peer.restart_after)) continue;
    peer.restart_after = 0;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

// Asks the source, rather than going ahead: of two nodes that are told at the same time to forget their data in favour
// of each other, one copy must be left.
void Replica::State::order_invalidate(const OrderGiven& given) {
  PeerIndex source = given.peer;
  if (given.every_peer) {
    // The Primary's copy is the one that grows no older; else any that is good.
    const auto find = [this](bool primary) {
      PeerIndex index = 0;
      while (index < peer_count() &&
             (can_invalidate(index) != Outcome::Done || (primary && peers[index].role != Role::Primary))) {
        ++index;
      }
      return index;
    };
    source = find(true);
    if (source == peer_count()) source = find(false);
    if (source == peer_count()) source = 0;
  }
  const auto refuse = [this, &given, source](Outcome outcome) { act(OrderAnswered{given.ticket, outcome, source}); };
  if (peer_count() == 0) return refuse(Outcome::LastUpToDate);
  if (invalidation_wanted || invalidation_asked) return refuse(Outcome::Busy);
  if (const Outcome outcome = can_invalidate(source); outcome != Outcome::Done) return refuse(outcome);
  invalidation_wanted = true;
  invalidation_ticket = given.ticket;
  invalidation_peer = source;
  send(source, InvalidateWanted{given.ticket});
}

Outcome Replica::State::can_be_source_for(PeerIndex index) const {
  const Peer& peer = peers[index];
  if (!is_connected(peer)) return Outcome::NotConnected;
  if (!disk_usable()) return Outcome::NoDisk;
  if (disk_state != DiskState::UpToDate) return Outcome::PeerIsLastUpToDate;
  if (peer.role == Role::Primary) return Outcome::PeerIsPrimary;
  if (peer.replication != ReplicationState::Established) return Outcome::ResyncRuns;
  if (invalidation_wanted || invalidation_asked || stopping) return Outcome::Busy;
  return Outcome::Done;
}

void Replica::State::order_invalidate_peer(const OrderGiven& given) {
  if (const Outcome outcome = can_be_source_for(given.peer); outcome != Outcome::Done) {
    return act(OrderAnswered{given.ticket, outcome, given.peer});
  }
  ask_to_invalidate(given.peer, given.ticket, true);
}

void Replica::State::ask_to_invalidate(PeerIndex index, uint64_t ticket, bool ordered_here) {
  invalidation_asked = true;
  invalidation_ordered_here = ordered_here;
  invalidation_ticket = ticket;
  invalidation_peer = index;
  send(index, InvalidateRequest{ticket, !ordered_here});
}

void Replica::State::invalidate_wanted_arrived(PeerIndex index, const InvalidateWanted& message) {
  const Outcome outcome = can_be_source_for(index);
  if (outcome == Outcome::Done) return ask_to_invalidate(index, message.ticket, false);
  send(index, InvalidateAnswer{message.ticket, static_cast<uint8_t>(outcome), true});
}

void Replica::State::invalidate_request_arrived(PeerIndex index, const InvalidateRequest& message) {
  const bool own_order =
      message.was_wanted && invalidation_wanted && invalidation_peer == index && invalidation_ticket == message.ticket;
  Outcome outcome = can_invalidate(index);
  if (stopping || stage != OrderStage::None || invalidation_asked || (invalidation_wanted && !own_order) ||
      (message.was_wanted && !own_order)) {
    outcome = Outcome::Busy;
  }
  const PersistId after = outcome == Outcome::Done ? invalidate_towards(index) : 0;
  send(index, InvalidateAnswer{message.ticket, static_cast<uint8_t>(outcome), false}, {}, after);
  if (own_order) {
    invalidation_wanted = false;
    act(OrderAnswered{message.ticket, outcome, index, after});
  }
}

void Replica::State::invalidate_answered(PeerIndex index, const InvalidateAnswer& message) {
  if (invalidation_peer != index || message.ticket != invalidation_ticket) return;
  const auto said = static_cast<Outcome>(message.outcome);
  if (message.was_wanted) {  // the peer will not be the source for this node
    if (invalidation_wanted) invalidation_ended(index, said == Outcome::Busy ? said : Outcome::LastUpToDate);
    return;
  }
  if (!invalidation_asked) return;
  switch (said) {
    case Outcome::Done:
    case Outcome::ResyncRuns:
    case Outcome::Busy:
      return invalidation_ended(index, said);
    case Outcome::IsPrimary:
      return invalidation_ended(index, Outcome::PeerIsPrimary);
    case Outcome::LastUpToDate:
      return invalidation_ended(index, Outcome::PeerIsLastUpToDate);
    default:
      return invalidation_ended(index, Outcome::PeerLost);
  }
}

// Also when the peer is lost.
void Replica::State::invalidation_ended(PeerIndex index, Outcome outcome) {
  if ((!invalidation_asked && !invalidation_wanted) || invalidation_peer != index) return;
  const bool ordered_here = invalidation_wanted || invalidation_ordered_here;
  invalidation_asked = invalidation_wanted = invalidation_ordered_here = false;
  if (ordered_here) act(OrderAnswered{invalidation_ticket, outcome, index});
}

}  // namespace lockstep::repl
