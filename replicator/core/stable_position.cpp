// How much of a Primary's stream this disk has made stable, durably: where a Primary waits for some of its peers only,
// nothing else tells two that were restarted which of them has what was flushed. docs/decisions/survivors.md.
#include <algorithm>

#include "replicator/core/generation_rules.h"
#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// ---- the Secondary's side ----

// Up to where this disk holds the stream of a Primary: all of it, if that is this node and its export has opened.
StreamPosition Replica::State::held_position() const {
  if (role != Role::Primary || !term_begun) return position;
  if (stage == OrderStage::Opening) return before_term.position;
  return {run(), transfer_log.last(), superblock.term};
}

// So much of the peer's stream is stable here. It is acknowledged when that is in the metadata; what comes meanwhile is
// recorded together.
void Replica::State::record_position(Peer& peer) {
  if (position_persist != 0) return;
  position_peer = static_cast<PeerIndex>(&peer - peers.data());
  position_incarnation = peer.incarnation;
  position_through = peer.stream_stable;
  superblock.stable_position = {peer.peer_report.run, peer.stream_stable, peer.rules_obeyed.term};
  position_persist = persist_superblock();
}

void Replica::State::position_recorded() {
  if (position_persist == 0 || !is_durable(position_persist)) return;
  position_persist = 0;
  Peer& peer = peers[position_peer];
  if (peer.incarnation != 0 && peer.incarnation == position_incarnation) {
    peer.stream_flushed = std::max(peer.stream_flushed, position_through);
    peer.acknowledge = true;
  }
  for (Peer& each : peers) {  // another Primary's stream may have begun meanwhile
    if (each.incarnation != 0 && each.stream_stable > each.stream_flushed) return record_position(each);
  }
}

// The end of a resync: this disk holds what the source holds. All of it is stable if anything was made so on this link.
// Else what was known stays true, unless the source is of another stream.
void Replica::State::note_stable_position(const Peer& source) {
  StreamPosition there = holds_at_least(source.peer_report);
  if (position.stream == source.peer_report.run) {
    if (!there.is_same_stream(position)) there = {position.stream, 0, position.term};  // promoted since
    there.through = std::max(there.through, source.stream_flushed);
  }
  StreamPosition& here = superblock.stable_position;
  if (source.stream_flushed > 0) {
    here = there;
  } else if (!here.is_same_stream(there) || here.through > there.through) {
    here = StreamPosition{};
  }
}

// ---- the Primary's side ----

// Those of which it is not known yet that they record what they make stable of this stream: what others have flushed
// might look like less than what they hold of an earlier one.
PeerMask Replica::State::unrecorded_peers() const {
  PeerMask unrecorded = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (peer.replication != ReplicationState::Established) continue;  // a target does so when it is none any more
    if (peer.rules_told.recorded && peer.flushed <= peer.records_after) unrecorded |= mask_of(index);
  }
  return LOCKSTEP_MUTANT("unrecorded-peer-is-not-waited-for") ? 0 : unrecorded;
}

}  // namespace lockstep::repl
