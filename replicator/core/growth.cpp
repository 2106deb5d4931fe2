#include <algorithm>
#include <cerrno>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// In two phases. First every node makes room beyond the present size, zeroed, and remembers that durably: from then on
// it can follow whoever grows. Then the peers grow, and last this node, whose clients may write there: so no write
// beyond the old size meets a node that has no place for it. What a crash or a lost link interrupts in the second
// phase, the next handshake completes: the smaller of two nodes follows the larger.
void Replica::State::order_resize() {
  resize_committing = false;
  resize_own_prepared = resize_own_grown = 0;
  if (order.size_bytes == options.size_bytes) return answer(Outcome::AlreadySo);
  if (order.size_bytes < options.size_bytes) return answer(Outcome::SmallerSize);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (role != Role::Primary && is_connected(peer) && (peer.role == Role::Primary || peer.granted)) {
      return answer(Outcome::ResizeOnPrimary, index);
    }
  }
  if (!disk_usable()) return answer(Outcome::NoDisk);
  if (preparing_for_size != 0 || grows_for != kNoPeer) return answer(Outcome::Busy);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (!is_connected(peer) || peer.replication != ReplicationState::Established ||
        peer.disk_state != DiskState::UpToDate) {
      return answer(Outcome::NeedsEveryPeer, index);
    }
  }
  stage = OrderStage::Resizing;
  resize_outstanding = 0;
  ++resize_ticket;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    resize_outstanding |= mask_of(index);
    send(index, ResizePrepare{resize_ticket, order.size_bytes});
  }
  prepare_disk(order.size_bytes, peer_count());
}

// `asked_by`: a peer, or peer_count() for an order of this node.
void Replica::State::prepare_disk(uint64_t size_bytes, PeerIndex asked_by) {
  preparing_for_size = size_bytes;
  preparing_for_peer = asked_by;
  if (asked_by < peer_count()) preparing_incarnation = peers[asked_by].incarnation;
  act(PrepareDisk{size_bytes});
}

void Replica::State::resize_prepare_arrived(PeerIndex index, const ResizePrepare& message) {
  const bool fits = message.size_bytes > options.size_bytes && message.size_bytes % kBlockBytes == 0;
  const bool grows_otherwise = grows_for != kNoPeer && grows_for != index;
  if (!fits || grows_otherwise || preparing_for_size != 0 || stage != OrderStage::None || stopping ||
      disk_state != DiskState::UpToDate) {
    return send(index, ResizePrepared{message.ticket, false});
  }
  preparing_ticket = message.ticket;
  grows_for = index;
  prepare_disk(message.size_bytes, index);
}

void Replica::State::on(const DiskPrepared& event) {
  const PeerIndex asked_by = preparing_for_peer;
  preparing_for_size = 0;
  // What has ended meanwhile must not take the place of what another order has prepared.
  const bool wanted = asked_by < peer_count() ? grows_for == asked_by : stage == OrderStage::Resizing;
  const bool ready = wanted && event.error_errno == 0 && disk_usable() && event.size_bytes > options.size_bytes;
  PersistId id = 0;
  if (ready) {
    superblock.prepared_size_bytes = event.size_bytes;
    id = persist_superblock();
  }
  if (asked_by < peer_count()) {
    if (peers[asked_by].incarnation == preparing_incarnation) {
      send(asked_by, ResizePrepared{preparing_ticket, ready}, {}, id);
    }
    return;
  }
  if (stage != OrderStage::Resizing || order.size_bytes != event.size_bytes) return;
  if (!ready) return answer(Outcome::NoRoom, peer_count());
  resize_own_prepared = id;
}

void Replica::State::resize_prepared_arrived(PeerIndex index, const ResizePrepared& message) {
  if (stage != OrderStage::Resizing || resize_committing || message.ticket != resize_ticket) return;
  if (!message.ready) return answer(Outcome::NoRoom, index);
  resize_outstanding &= static_cast<PeerMask>(~mask_of(index));
}

void Replica::State::resize_committed_arrived(PeerIndex index, const ResizeCommitted& message) {
  if (stage != OrderStage::Resizing || !resize_committing || message.size_bytes != order.size_bytes) return;
  resize_outstanding &= static_cast<PeerMask>(~mask_of(index));
}

void Replica::State::resize_commit_arrived(PeerIndex index, const ResizeCommit& message) {
  if (grows_for == index) grows_for = kNoPeer;
  if (message.size_bytes == options.size_bytes) return send(index, ResizeCommitted{message.size_bytes});
  if (!disk_usable()) return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  if (message.size_bytes < options.size_bytes || message.size_bytes != superblock.prepared_size_bytes) {
    return drop_peer(index, LinkEnd::BrokenRule, "a size that this node has not prepared");
  }
  send(index, ResizeCommitted{message.size_bytes}, {}, grow(message.size_bytes));
  // A third node may never be told: it follows by a handshake with this one, before it gets anything.
  if (has_third_nodes()) restart_secondary_links(index);
}

// A peer is lost. Those that have grown are larger than this node, which follows them by a handshake.
void Replica::State::break_off_resize(PeerIndex lost) {
  if (stage != OrderStage::Resizing) return;
  answer(Outcome::PeerLost, lost);
  for (PeerIndex index = 0; index < peer_count() && resize_committing && has_third_nodes(); ++index) {
    if (index == lost || LOCKSTEP_MUTANT("resize-broken-off-unnoticed")) continue;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

void Replica::State::advance_resize() {
  if (!disk_usable()) return answer(Outcome::NoDisk);
  if (!resize_committing) {
    const bool peers_have_room = resize_outstanding == 0 || LOCKSTEP_MUTANT("resize-committed-before-prepared");
    if (!peers_have_room || resize_own_prepared == 0 || !is_durable(resize_own_prepared)) return;
    resize_committing = true;
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      resize_outstanding |= mask_of(index);
      send(index, ResizeCommit{order.size_bytes});
    }
  }
  if (resize_outstanding != 0) return;
  if (resize_own_grown == 0) resize_own_grown = grow(order.size_bytes);
  if (is_durable(resize_own_grown)) answer(Outcome::Done);
}

// Broken off before anybody has grown: those that have room need not wait for this order any more.
void Replica::State::end_resize() {
  for (PeerIndex index = 0; index < peer_count() && !resize_committing; ++index) {
    if (is_connected(peers[index])) send(index, ResizeCommit{options.size_bytes});
  }
}

// The one place that allocates after construction.
PersistId Replica::State::grow(uint64_t size_bytes) {
  for (Peer& peer : peers) peer.bitmap.grow(size_bytes);
  options.size_bytes = size_bytes;
  superblock.prepared_size_bytes = 0;
  ++superblock.life.age;
  act(PersistSize{++asked_persist, size_bytes, superblock});
  life_persist = asked_persist;
  note(NoteKind::Resized, 0, size_bytes);
  changed();
  return asked_persist;
}

// Before a handshake's decision. False: the sizes differ, and one of both follows the other first.
bool Replica::State::sizes_agree(PeerIndex index) {
  Peer& peer = peers[index];
  const StateReport& theirs = peer.peer_report;
  if (peer.restart_after != 0) return false;
  if (peer.own_report.size_bytes != options.size_bytes && !LOCKSTEP_MUTANT("handshake-with-former-size")) {
    // It followed a third node since it said so, and the peer decides by what it was told.
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    return false;
  }
  if (theirs.size_bytes == options.size_bytes) return true;
  // Without a disk a node keeps its size until it has one: it may be Primary, with clients who wait for a peer's.
  const auto keeps_its_size = [](uint64_t size_bytes, DiskState disk, uint64_t prepared_bytes, uint64_t larger_bytes) {
    return !is_disk(disk) && size_bytes < larger_bytes && prepared_bytes == larger_bytes;
  };
  if (keeps_its_size(options.size_bytes, disk_state, superblock.prepared_size_bytes, theirs.size_bytes) ||
      keeps_its_size(theirs.size_bytes, theirs.disk_state, theirs.prepared_size_bytes, options.size_bytes)) {
    return true;
  }
  if (theirs.size_bytes > options.size_bytes && theirs.size_bytes == superblock.prepared_size_bytes && disk_usable()) {
    peer.restart_after = grow(theirs.size_bytes);
    // Whoever is linked has the former size, and is to follow before it gets a write beyond.
    for (PeerIndex other = 0; other < peer_count() && !LOCKSTEP_MUTANT("follower-keeps-smaller-peers"); ++other) {
      if (other != index) say_goodbye(other, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
  } else if (theirs.size_bytes > options.size_bytes || theirs.prepared_size_bytes != options.size_bytes) {
    say_goodbye(index, GoodbyeReason::Refused, LinkEnd::Refused);
  }
  return false;  // the other side grows, and says goodbye when it has
}

}  // namespace lockstep::repl
