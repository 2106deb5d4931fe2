#include <algorithm>
#include <cerrno>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::on(const ClientRequestArrived& event) {
  ClientSlot& client = clients[event.slot];
  LOCKSTEP_CHECK(client.phase == ClientSlot::Phase::Free);
  LOCKSTEP_CHECK(ByteRange::fits(event.range.offset_bytes, event.range.length_bytes, options.size_bytes) &&
                 event.range.length_bytes <= kMaximumRequestBytes);
  client = ClientSlot{};
  client.operation = event.operation;
  client.range = event.range;
  client.arrived_us = now_us;
  client.fua = event.fua;
  client.no_hole = event.no_hole;
  ++in_flight;
  start_request(event.slot);
}

// A request that arrived, or that a suspension held back from its start.
void Replica::State::start_request(uint32_t slot) {
  ClientSlot& client = clients[slot];
  client.phase = ClientSlot::Phase::Waiting;
  if (role != Role::Primary || demoting) return reply(slot, ESHUTDOWN);
  if (must_fail_requests()) return reply(slot, EIO);
  if (is_suspended() || (client.range.empty() && client.operation != ClientOperation::Flush)) return reply(slot, 0);

  switch (client.operation) {
    case ClientOperation::Read:
      client.done_bytes = 0;
      if (!served.is_zero()) return queue_remote_read(slot);
      client.phase = ClientSlot::Phase::Reading;
      act(SubmitRead{{SlotKind::Client, slot}, client.range});
      return;
    case ClientOperation::Flush:
      return queue_flush(slot);
    case ClientOperation::Write:
    case ClientOperation::WriteZeroes:
    case ClientOperation::Trim:
      pace.write_began(now_us);
      if (!try_start_write(slot)) waiting.push_back(slot);
      return;
  }
}

void Replica::State::reply(uint32_t slot, int error_errno) {
  if (error_errno == 0 && hold_reply(slot)) return;
  ClientSlot& client = clients[slot];
  const bool may_wait =
      error_errno == 0 && (client.phase == ClientSlot::Phase::Writing || client.phase == ClientSlot::Phase::Flushing ||
                           client.phase == ClientSlot::Phase::Held);
  client.phase = ClientSlot::Phase::Free;
  --in_flight;
  act(Reply{slot, error_errno,
            may_wait && !is_durable(reply_floor) && !LOCKSTEP_MUTANT("answered-before-generation-is-durable")
                ? reply_floor
                : 0});
}

// A write starts when nothing in flight overlaps it, its extents are hot durably, and the transfer log has room.
bool Replica::State::try_start_write(uint32_t slot) {
  ClientSlot& client = clients[slot];
  if (is_suspended()) return false;
  if (transfer_log.size() + options.resync_slots >= transfer_log.capacity()) {  // the rest is for resync reads
    flush_wanted = true;
    return false;
  }
  if (queue_is_full()) return false;
  if (busy_ranges.overlaps(client.range) && !LOCKSTEP_MUTANT("overlapping-writes-at-once")) return false;
  if (!served.is_zero()) {
    if (!may_send_served()) return false;
    // A peer keeps hot what is not stable everywhere, and its log is full as this node's would be: what did not fit
    // there would wait for a flush, and a barrier behind it for that.
    const bool fits =
        peer_extents == 0 || peer_extents + ActivityLog::extents_in(client.range) <= options.activity_log_slots;
    if (has_third_nodes() && !fits && !LOCKSTEP_MUTANT("served-writes-fill-the-log")) {
      flush_wanted = true;
      return false;
    }
  } else if (peer_count() > 0) {
    if (!is_recorded_as_used()) return false;
    if (client.extents_reserved) {
      if (!activity_log.acquire_hot(client.range)) return false;
      activity_log.release(client.range);  // the reservation's own references stand for it from here on
    } else if (!activity_log.acquire_hot(client.range)) {
      return false;
    }
  }
  start_write(slot);
  return true;
}

// In a first generation nothing is written before it is recorded that there is something to lose.
bool Replica::State::is_recorded_as_used() {
  if (superblock.unanswered_since == kHeldByNobody) {
    superblock.unanswered_since = Generation{};
    first_write_persist = persist_superblock();
  }
  return is_durable(first_write_persist);
}

void Replica::State::start_write(uint32_t slot) {
  ClientSlot& client = clients[slot];
  client.phase = ClientSlot::Phase::Writing;
  busy_ranges.insert(slot, client.range);
  wrote_since_life = true;

  TransferEntry entry;
  entry.range = client.range;
  entry.sent_us = now_us;
  entry.client_slot = slot;
  entry.fua = client.fua;
  entry.payload_bytes = client.operation == ClientOperation::Write ? client.range.length_bytes : 0;
  entry.remote_only = entry.local_done = client.local_done = !served.is_zero();
  entry.holds_extents = peer_count() > 0 && !entry.remote_only;
  if (has_third_nodes() && entry.remote_only) {
    entry.peer_extents = ActivityLog::extents_in(client.range);
    peer_extents += entry.peer_extents;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (gets_stream(peer)) {
      entry.sent_to |= mask_of(index);
    } else if (!entry.remote_only && !LOCKSTEP_MUTANT("absent-peer-gets-no-bits")) {
      peer.bitmap.set(client.range);
    }
  }
  client.promise.asked = entry.sent_to;
  client.sequence = transfer_log.append(entry);
  ++application_entries;
  last_write_us = now_us;
  flush_allowance.wrote(entry.payload_bytes);
  if (flush_allowance.is_used_up()) flush_wanted = true;

  const SlotRef payload{SlotKind::Client, slot};
  const bool zeroes = client.operation != ClientOperation::Write;
  const bool may_deallocate = client.operation == ClientOperation::Trim || !client.no_hole;
  if (entry.remote_only) {
    note_local_progress();
  } else if (zeroes) {
    act(SubmitZeroes{payload, client.range, client.fua, may_deallocate});
  } else {
    act(SubmitWrite{payload, client.range, client.fua});
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if ((entry.sent_to & mask_of(index)) == 0) continue;
    tell_stream_rules(index);
    client.milestones[index] = milestone(peers[index], client.fua);
    if (client.milestones[index] == Milestone::Sent) client.promise.kept |= mask_of(index);
    sent_to_peer(index, client.sequence, entry);
    if (zeroes) {
      send(index, WriteZeroes{client.sequence, client.range, false, may_deallocate});
    } else {
      send(index, Write{client.sequence, client.range, false}, payload);
    }
    if (client.milestones[index] == Milestone::Flushed) peers[index].barrier_due = client.sequence;
  }
}

void Replica::State::retry_waiting_writes() {
  waiting_may_start = false;
  size_t kept = 0;
  for (const uint32_t slot : waiting) {
    if (must_fail_requests() || role != Role::Primary || was_replaced ||
        (is_suspended() && (demoting || abandons_held))) {
      if (clients[slot].extents_reserved) activity_log.release(clients[slot].range);
      reply(slot, must_fail_requests() ? failure_errno() : ESHUTDOWN);
    } else if (!try_start_write(slot)) {
      waiting[kept++] = slot;
    }
  }
  waiting.resize(kept);
}

// One transaction for as many extents as are waited for. The bitmap pages of the extents that it evicts come first:
// from then on their bits alone say what may differ there.
void Replica::State::build_activity_log_transaction() {
  if (peer_count() == 0 || activity_log_persist != 0 || (waiting.empty() && applies_waiting == 0) || !has_metadata ||
      !served.is_zero()) {
    return;
  }
  activity_log.begin_transaction();
  for (const uint32_t slot : waiting) {
    ClientSlot& client = clients[slot];
    if (client.extents_reserved) continue;
    if (!activity_log.reserve(client.range)) {
      LOCKSTEP_MARK("every slot of the activity log is held");
      flush_wanted = true;  // references go when what holds them is stable everywhere
      break;                // the oldest comes first, or it might never find all its slots at once
    }
    client.extents_reserved = true;
  }
  if (has_third_nodes()) reserve_for_applies();
  if (!activity_log.evicted().empty()) LOCKSTEP_MARK("extents evicted");
  if (activity_log.updates().empty()) {
    waiting_may_start = true;  // everything reserved was hot already
    activity_log.commit_transaction();
    if (has_third_nodes()) start_waiting_applies();
    return;
  }
  for (const uint32_t extent : activity_log.evicted()) {
    const uint32_t page = DirtyBitmap::page_of_extent(extent);
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      if (peers[index].bitmap.lacks_bits_on_disk(page) && !LOCKSTEP_MUTANT("evicted-extent-leaves-no-bits")) {
        persist_bitmap_page(index, page);
      }
    }
  }
  PersistActivityLog persist;
  persist.id = ++asked_persist;
  const auto updates = activity_log.updates();
  persist.update_count = static_cast<uint16_t>(updates.size());
  std::copy(updates.begin(), updates.end(), persist.updates.begin());
  activity_log_persist = persist.id;
  act(persist);
  if (LOCKSTEP_MUTANT("write-before-log-record")) {
    activity_log_persist = 0;
    activity_log.commit_transaction();
    waiting_may_start = true;
  }
}

void Replica::State::local_write_completed(uint32_t slot, int error_errno) {
  ClientSlot& client = clients[slot];
  LOCKSTEP_CHECK(client.phase == ClientSlot::Phase::Writing && !client.local_done);
  if (LOCKSTEP_MUTANT("write-error-hidden")) error_errno = 0;
  // Where peers serve from now on, their legs alone count. Else an error is never overwritten by another leg's success.
  if (error_errno != 0 && disk_usable() && !disk_failed(DiskFault::Write)) {
    client.error_errno = error_errno;
    mark_unknown(client.range);
  }
  client.local_done = true;
  transfer_log.at(client.sequence).local_done = true;
  note_local_progress();
  complete_write_if_done(slot);
}

void Replica::State::note_local_progress() {
  while (local_written_through < transfer_log.last()) {
    const Sequence next = local_written_through + 1;
    if (transfer_log.contains(next) && !transfer_log.at(next).local_done) break;
    local_written_through = next;
  }
}

// A write has failed on the last copy that is up to date, so nobody knows what is there now. Who has got the write, or
// an older copy of the range, differs from it without a bit: links start again, and the range is copied.
void Replica::State::mark_unknown(const ByteRange& range) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (gets_stream(peers[index])) say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    peers[index].bitmap.set(range);
  }
}

void Replica::State::complete_write_if_done(uint32_t slot) {
  ClientSlot& client = clients[slot];
  if (client.phase != ClientSlot::Phase::Writing || !promise_kept(client)) return;
  if (!served.is_zero()) {
    if (data_lost) {
      client.error_errno = EIO;
    } else if (transfer_log.at(client.sequence).sent_to == 0) {
      return requeue_write(slot);  // whoever had it is gone
    } else if (lacks_at_server(transfer_log.at(client.sequence))) {
      return requeue_write(slot);  // it was sent before that one was asked to serve, too
    } else if (!is_served()) {
      return;  // the peer that has it must have recorded first that it alone does
    }
  } else if (!disk_usable()) {
    // The disk failed while the write was on its way: the peers' legs may have ended only because their links did.
    if (client.error_errno == 0) client.error_errno = EIO;
  } else if (client.error_errno == 0) {
    record_divergence();
    // That may have dropped a peer, and so answered this very write. Until every peer that gets our writes holds the
    // new generation durably, our loss would leave it alike to one that lacks this write.
    if (client.phase != ClientSlot::Phase::Writing || !promise_kept(client) || generation_unconfirmed != 0) return;
  }
  transfer_log.at(client.sequence).client_slot = TransferEntry::kNoClient;
  busy_ranges.erase(slot);
  if (client.error_errno == 0) {
    if (client.fua) put_barrier_behind(client.sequence);
    ++writes;
    written_bytes += client.range.length_bytes;
    if (!client.fua) pace.write_ended(now_us - client.arrived_us);
  }
  reply(slot, client.error_errno);
  waiting_may_start = !waiting.empty();
}

// Before a write or a flush is answered whose promise an absent peer does not keep, a new generation is made if that
// peer may hold the current one; else the current one is used from here on, and no restart undoes it. reply() waits
// until either is durable.
void Replica::State::record_divergence() {
  if (is_suspended() || LOCKSTEP_MUTANT("no-new-generation")) return;
  if (may_hold_current == 0) {
    if (has_third_nodes() && superblock.unanswered_since != kHeldByNobody) record_that_generation_is_used();
    return;
  }
  if (awaits_who_may_hold()) return;
  make_new_generation();
}

}  // namespace lockstep::repl
