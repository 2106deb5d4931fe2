// Before this node becomes target of a resync, its operator's handler runs to its end: a snapshot of what is about to
// be overwritten, for instance. The handshake says that it is not ready, so that the source copies nothing and sends no
// writes meanwhile: they would make of this disk what the source never was. Once it has run, both start again.
#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

bool Replica::State::prepares(const Peer& peer) {
  return peer.incarnation != 0 && peer.decided && peer.decision.rule == Rule::SelfPrepares;
}

void Replica::State::prepare_resync(PeerIndex index) {
  Peer& peer = peers[index];
  LOCKSTEP_MARK("resync waits for its handler");
  // What the source writes from now on is not sent here: it must not be taken for the newest when that is lost.
  if (!LOCKSTEP_MUTANT("preparing-target-stays-up-to-date")) {
    become_outdated();
    tell_state();
  }
  if (peer.preparation == Peer::Preparation::Runs) return;  // begun on an earlier link
  peer.preparation = Peer::Preparation::Runs;
  act(PrepareResync{index});
}

void Replica::State::on(const ResyncPrepared& event) {
  Peer& peer = peers[event.peer];
  if (peer.preparation != Peer::Preparation::Runs) return;
  changed();
  if (!event.ready) {
    LOCKSTEP_MARK("resync is held by its handler");
    peer.preparation = Peer::Preparation::Held;
    return;
  }
  const bool not_needed = peer.decided && !prepares(peer);
  peer.preparation = role == Role::Primary || not_needed ? Peer::Preparation::None : Peer::Preparation::Done;
  if (prepares(peer)) say_goodbye(event.peer, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
}

// True if the handler had failed: it runs again.
bool Replica::State::retry_preparation(PeerIndex index) {
  Peer& peer = peers[index];
  if (!prepares(peer) || peer.preparation != Peer::Preparation::Held) return false;
  peer.preparation = Peer::Preparation::Runs;
  act(PrepareResync{index});
  changed();
  return true;
}

// This node's data becomes another: what was prepared for is gone.
void Replica::State::forget_preparations() {
  for (Peer& peer : peers) {
    if (peer.preparation != Peer::Preparation::Runs) peer.preparation = Peer::Preparation::None;
  }
}

}  // namespace lockstep::repl
