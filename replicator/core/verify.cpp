// Online verify: every block of both copies is compared while the device is in use; what differs is out of sync, and
// with repair is copied from the Primary, whose copy counts. Both stay UpToDate and Established, and the peer gets
// every write meanwhile: an interruption loses nothing but the rest of the comparison.
#include <algorithm>

#include "replicator/core/replica_state.h"

namespace lockstep::repl {

Outcome Replica::State::may_verify(PeerIndex index, bool repair) const {
  const Peer& peer = peers[index];
  if (!is_connected(peer)) return Outcome::NotConnected;
  if (peer.replication != ReplicationState::Established || disk_state != DiskState::UpToDate ||
      peer.disk_state != DiskState::UpToDate) {
    return Outcome::NotEstablished;
  }
  if (peer.verify.runs || peer.comparisons_in_flight > 0) return Outcome::VerifyRuns;
  if (role == Role::Primary || peer.role == Role::Primary) return Outcome::Done;
  // A third node's writes reach the two of us at different times: only their sender knows where they are in both.
  if (std::any_of(peers.begin(), peers.end(),
                  [this](const Peer& other) { return is_connected(other) && other.role == Role::Primary; })) {
    return Outcome::RunOnPrimary;
  }
  return repair ? Outcome::NoSource : Outcome::Done;
}

void Replica::State::order_verify(const OrderGiven& given) {
  const auto chosen = [&given](PeerIndex index) { return given.every_peer || given.peer == index; };
  Outcome outcome = peer_count() == 0 ? Outcome::NotConnected : Outcome::Done;
  PeerIndex about = given.peer;
  for (PeerIndex index = 0; index < peer_count() && outcome == Outcome::Done; ++index) {
    if (!chosen(index)) continue;
    about = index;
    outcome = may_verify(index, given.repair);
  }
  for (PeerIndex index = 0; index < peer_count() && outcome == Outcome::Done; ++index) {
    if (!chosen(index)) continue;
    if (role != Role::Primary && peers[index].role == Role::Primary) {
      send(index, VerifyRequest{given.repair});
    } else {
      start_verify(index, given.repair, true);
    }
  }
  act(OrderAnswered{given.ticket, outcome, about});
}

void Replica::State::verify_request_arrived(PeerIndex index, const VerifyRequest& message) {
  if (role == Role::Primary && may_verify(index, message.repair) == Outcome::Done) {
    return start_verify(index, message.repair, true);
  }
  if (!peers[index].verify.runs) send(index, VerifyEnded{});
}

// `compare`: else only what is known to differ is repaired.
void Replica::State::start_verify(PeerIndex index, bool repair, bool compare) {
  Peer& peer = peers[index];
  peer.verify.start(true, repair);
  peer.verify.comparing = compare;
  peer.verify.blocks_total = compare ? peer.bitmap.block_count() : peer.bitmap.dirty_blocks();
  peer.cursor_block = 0;
  peer.resync_gate = 0;
  // As for a resync: what is copied must be stable here before its bit goes.
  flush_wanted = local_flush_wanted = true;
  peer.resync_gate_cycle = local_cycles_started + 1;
  peer.progress.restart(now_us, verify_left_blocks(peer));
  note(NoteKind::VerifyStarted, index, peer.verify.blocks_total, repair ? "repair" : "");
  send(index, VerifyProgress{repair, verify_left_blocks(peer), peer.verify.blocks_total, 0});
  changed();
}

uint64_t Replica::State::verify_left_blocks(const Peer& peer) const {
  if (!peer.verify.is_source) return peer.verify.blocks_left;
  return (peer.verify.comparing ? peer.bitmap.block_count() - peer.cursor_block : 0) +
         (peer.verify.repair ? peer.bitmap.dirty_blocks() : 0);
}

void Replica::State::verify_progress_arrived(PeerIndex index, const VerifyProgress& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::Established || (peer.verify.runs && peer.verify.is_source)) return;
  if (!peer.verify.runs) {
    peer.verify.start(false, message.repair);
    peer.progress.restart(now_us, message.blocks_left);
    note(NoteKind::VerifyStarted, index, message.blocks_total, message.repair ? "repair" : "");
    changed();
  }
  peer.verify.blocks_left = message.blocks_left;
  peer.verify.blocks_total = message.blocks_total;
}

void Replica::State::found_differences(PeerIndex index, uint64_t first_block, uint64_t differing) {
  Verify& verify = peers[index].verify;
  for (uint64_t i = 0; i < kBlocksPerComparison; ++i) {
    if ((differing >> i & 1) != 0) verify.found.add(first_block + i);
  }
  act(Note{NoteKind::VerifyDiffers, index, first_block, "", differing});
}

// What was found gets durable now and then, and before the end is told.
void Replica::State::persist_what_verify_found() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Verify& verify = peers[index].verify;
    if (!verify.marked || !is_durable(verify.persist)) continue;
    verify.marked = false;
    if (const PersistId id = persist_bitmap(index, true); id != 0) verify.persist = id;
  }
}

void Replica::State::finish_verify(PeerIndex index) {
  Peer& peer = peers[index];
  persist_what_verify_found();
  if (peer.verify.marked || !is_durable(peer.verify.persist)) return;  // the turn after its persist comes here again
  end_verify(index, true, peer.bitmap.dirty_blocks());
}

void Replica::State::end_verify(PeerIndex index, bool complete, uint64_t left_blocks) {
  Peer& peer = peers[index];
  if (!peer.verify.runs) return;
  if (peer.verify.is_source) send(index, VerifyEnded{complete, peer.verify.found.blocks, left_blocks});
  if (peer.verify.repair) peer.told_in_sync = kNothingTold;  // what was copied counts as missing elsewhere, there
  peer.verify.end(complete, left_blocks);
  note(NoteKind::VerifyEnded, index, peer.verify.found.blocks, complete ? "complete" : "interrupted");
  changed();
}

void Replica::State::verify_ended_arrived(PeerIndex index, const VerifyEnded& message) {
  Peer& peer = peers[index];
  if (peer.verify.runs && peer.verify.is_source) return;
  if (!peer.verify.runs) peer.verify.start(false, false);  // a request that was refused
  end_verify(index, message.complete, message.left_blocks);
}

// Whose copy counts, and who sends the writes, changes: what is compared from here on might be two moments.
void Replica::State::interrupt_verifies() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (peers[index].verify.is_source) end_verify(index, false, peers[index].bitmap.dirty_blocks());
  }
}

}  // namespace lockstep::repl
