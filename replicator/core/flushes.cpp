#include <algorithm>
#include <cerrno>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::queue_flush(uint32_t slot) {
  clients[slot].phase = ClientSlot::Phase::FlushWaiting;
  ++flush_waiting;
  start_flush_cycle_if_wanted();
}

void Replica::State::send_barrier(PeerIndex index, Sequence sequence) {
  Peer& peer = peers[index];
  if (peer.barrier_sent <= peer.flushed) peer.barrier_sent_us = now_us;
  peer.barrier_sent = std::max(peer.barrier_sent, sequence);
  if (sequence >= peer.sent) peer.resync_unflushed_bytes = 0;
  tell_stream_rules(index);
  send(index, Barrier{sequence});
}

void Replica::State::start_flush_cycle_if_wanted() {
  if (cycle_running || local_flush_in_flight || (flush_waiting == 0 && !flush_wanted)) return;
  if (flush_waiting == 0 && !flush_would_cover_more()) {
    flush_wanted = false;  // a peer that lags has its barrier: another would change nothing
    if (!LOCKSTEP_MUTANT("answered-late-stays-in-log")) release_stable_entries();  // what was answered since
    return;
  }
  if (!served.is_zero() && !is_served()) return;
  start_flush_cycle();
}

bool Replica::State::flush_would_cover_more() const {
  return local_flush_wanted || local_written_through > local_flushed_through ||
         std::any_of(peers.begin(), peers.end(),
                     [this](const Peer& peer) { return gets_stream(peer) && peer.barrier_sent < peer.sent; });
}

// One fdatasync and one barrier for each peer, for all flushes that wait. The writes that a flush must cover were
// answered, so they are complete here; those in flight are covered as far as they are. A peer under protocol A is not
// waited for: its barrier follows when the local disk is done (finish_flush_cycle_if_done).
void Replica::State::start_flush_cycle() {
  flush_wanted = false;
  last_flush_us = now_us;
  cycle_sequence = transfer_log.last();
  cycle_promise = Promise{};
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (!gets_stream(peer)) continue;
    if (!peer_has_unflushed(peer)) {
      if (waits_for_some()) {  // one of those that are enough
        cycle_promise.asked |= mask_of(index);
        cycle_promise.kept |= mask_of(index);
      }
      continue;
    }
    if (role == Role::Primary && served.is_zero() && protocol_of_answers(peer) == Protocol::A) continue;
    if (!LOCKSTEP_MUTANT("flush-not-waited-for-at-peer")) cycle_promise.asked |= mask_of(index);
    send_barrier(index, peer.sent);
  }
  cycle_local_pending = ((role == Role::Primary && served.is_zero()) || local_flush_wanted) && disk_usable();
  if (LOCKSTEP_MUTANT("flush-skipped-locally")) cycle_local_pending = false;
  local_flush_wanted = false;
  if (!cycle_local_pending && (cycle_promise.asked & ~cycle_promise.kept) == 0 && flush_waiting == 0) return;
  cycle_running = true;
  ++cycles;
  flush_allowance.flush_began(now_us);
  for (ClientSlot& client : clients) {
    if (flush_waiting == 0) break;
    if (client.phase != ClientSlot::Phase::FlushWaiting) continue;
    client.phase = ClientSlot::Phase::Flushing;
    --flush_waiting;
  }
  if (cycle_local_pending) {
    local_flush_in_flight = true;
    local_flush_for_peers = false;
    ++local_cycles_started;
    local_flush_covers = LOCKSTEP_MUTANT("flush-covers-later-writes") ? transfer_log.last() : local_written_through;
    act(SubmitFlush{{SlotKind::Flush, 0}});
  } else {
    finish_flush_cycle_if_done();
  }
}

void Replica::State::local_flush_completed(int error_errno) {
  LOCKSTEP_CHECK(local_flush_in_flight);
  local_flush_in_flight = false;
  // A failed fdatasync is never tried again: the kernel may have dropped the pages and would call the next a success.
  if (error_errno != 0 && LOCKSTEP_MUTANT("failed-flush-is-a-success")) error_errno = 0;
  if (error_errno != 0) disk_failed(DiskFault::Flush);
  if (local_flush_for_peers) {
    Peer& peer = peers[local_flush_peer];
    if (error_errno == 0) {
      // Not on a link that is newer than what was flushed: there is nothing to tell of it.
      const bool same_link = peer.incarnation != 0 && peer.incarnation == local_flush_incarnation;
      applies_are_stable(applies_flushing, peer, same_link ? local_flush_covers : 0);
    }
    start_waiting_applies();
    start_peer_flush_if_wanted();
    start_flush_cycle_if_wanted();
    for (PeerIndex index = 0; index < peer_count(); ++index) send_report_when_quiet(index);
    return;
  }
  if (error_errno == 0) local_flushed_through = std::max(local_flushed_through, local_flush_covers);
  cycle_local_pending = false;
  if (error_errno == 0) local_cycles_done = local_cycles_started;
  finish_flush_cycle_if_done();
}

void Replica::State::finish_flush_cycle_if_done() {
  if (!cycle_running || cycle_local_pending || !enough(cycle_promise)) return;
  const bool answers = std::any_of(clients.begin(), clients.end(), [](const ClientSlot& client) {
    return client.phase == ClientSlot::Phase::Flushing;
  });
  // A flush may promise what only this node has: an earlier Primary's writes that its own disk had not made stable.
  if (answers && serves_locally() && !LOCKSTEP_MUTANT("flush-alone-in-old-generation")) {
    const uint64_t cycle = cycles;
    record_divergence();  // that may drop a peer, which may end this cycle
    if (!cycle_running || cycle != cycles || generation_unconfirmed != 0) return;
  }
  cycle_running = false;
  flush_allowance.flush_ended(now_us);
  put_barrier_behind(cycle_sequence);
  // Without a disk the flush is a peer's: one that has everything, on its stable storage.
  const bool waits_for_server = !served.is_zero() && !is_served() && !must_fail_requests();
  for (uint32_t slot = 0; slot < clients.size(); ++slot) {
    if (clients[slot].phase != ClientSlot::Phase::Flushing) continue;
    if (waits_for_server) {
      clients[slot].phase = ClientSlot::Phase::FlushWaiting;
      ++flush_waiting;
      continue;
    }
    if (clients[slot].operation == ClientOperation::Flush) ++flushes;
    reply(slot, must_fail_requests() ? failure_errno() : 0);
  }
  release_stable_entries();
  start_flush_cycle_if_wanted();
  start_peer_flush_if_wanted();
}

// Takes from the log's old end what is on stable storage here and on every peer that it was sent to.
void Replica::State::release_stable_entries() {
  Sequence through = 0;
  PeerMask missing = 0;
  while (!transfer_log.empty()) {
    const Sequence sequence = transfer_log.first();
    const TransferEntry& entry = transfer_log.at(sequence);
    if (entry.client_slot != TransferEntry::kNoClient) break;
    if (!entry.resync && !entry.remote_only && sequence > local_flushed_through) break;
    bool stable = true;
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      if ((entry.sent_to & mask_of(index)) != 0 && peers[index].flushed < sequence)
        stable = LOCKSTEP_MUTANT("extent-released-before-peer-flushed");
    }
    if (!stable) break;
    if (has_third_nodes() && !entry.resync) {
      through = sequence;
      missing |= lacking(entry.range);
      // Without a disk this node keeps no bits for those that do not get what it sends.
      const auto all = static_cast<PeerMask>((1U << peer_count()) - 1);
      if (entry.remote_only && !LOCKSTEP_MUTANT("served-write-missing-nowhere")) missing |= all & ~entry.sent_to;
    }
    if (entry.holds_extents) activity_log.release(entry.range);
    if (!entry.resync) --application_entries;
    peer_extents -= entry.peer_extents;
    transfer_log.drop_first();
    waiting_may_start = !waiting.empty();
  }
  if (through != 0) tell_stable(through, missing);
  if (local_written_through + 1 < transfer_log.first()) local_written_through = transfer_log.first() - 1;
}

}  // namespace lockstep::repl
