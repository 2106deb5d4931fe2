// A resync is paused by the operator of either side, and goes on when both want it to. The wish outlives the link: the
// resync that goes on after a reconnect is the same one.
#include <algorithm>

#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::order_pause(const OrderGiven& given) {
  const bool pause = given.kind == OrderKind::PauseResync;
  Outcome outcome = Outcome::NotSyncing;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (!given.every_peer && given.peer != index) continue;
    if (!pause && retry_preparation(index)) {
      outcome = Outcome::Done;
      continue;
    }
    if ((!is_resync_source(peer) && !is_resync_target(peer)) || peer.resync_done_sent) continue;
    outcome = Outcome::Done;
    peer.paused_here = pause;
    if (!pause) peer.resync_read_failed = false;
    tell_pause(index);
    show_pause(index);
  }
  act(OrderAnswered{given.ticket, outcome, given.peer});
}

void Replica::State::tell_pause(PeerIndex index) {
  send(index, ResyncPaused{peers[index].paused_here});
}

void Replica::State::pause_told(PeerIndex index, const ResyncPaused& message) {
  peers[index].paused_there = message.paused;
  show_pause(index);
}

// Where a resync runs or is about to: its state, with the pause or without it.
void Replica::State::show_pause(PeerIndex index) {
  Peer& peer = peers[index];
  const bool paused = peer.paused_here || peer.paused_there || peer.resync_read_failed;
  switch (peer.replication) {
    case ReplicationState::SyncSource:
    case ReplicationState::PausedSyncS:
      peer.replication = paused ? ReplicationState::PausedSyncS : ReplicationState::SyncSource;
      if (paused) withdraw_cut_over(index);
      break;
    case ReplicationState::SyncTarget:
    case ReplicationState::PausedSyncT:
      peer.replication = paused ? ReplicationState::PausedSyncT : ReplicationState::SyncTarget;
      break;
    default:
      return;
  }
  changed();
}

}  // namespace lockstep::repl
