#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::stream_write_arrived(PeerIndex index, const MessageArrived& event, Sequence sequence,
                                          const ByteRange& range, bool resync, bool zeroes, bool may_deallocate) {
  Peer& peer = peers[index];
  const bool target = is_resync_target(peer);
  const char* broken = nullptr;
  if (!peer.decided) {
    broken = "a write before the handshake's decision";
  } else if (resync && !target && !(peer.verify.runs && peer.verify.repair && !peer.verify.is_source)) {
    broken = "a resync write to a node that is not its target";
  } else if (!resync && !target && !peer.served_here && peer.replication != ReplicationState::Established) {
    broken = "a write to a node that does not replicate from the sender";
  } else if (!resync && (role == Role::Primary || peer.role != Role::Primary)) {
    broken = "a write from a node that is not Primary";
  } else if (target && apply_floor == 0) {
    broken = "a write before the start of the resync";
  } else if (sequence <= peer.stream_received) {
    broken = "a sequence that does not grow";
  } else if (range.empty() || !ByteRange::fits(range.offset_bytes, range.length_bytes, options.size_bytes)) {
    broken = "a range outside of the device";
  }
  if (broken != nullptr) {
    act(ReleaseApply{event.apply_slot});
    return drop_peer(index, LinkEnd::BrokenRule, broken);
  }

  peer.stream_received = sequence;
  if (peer.rules_obeyed.prompt) peer.acknowledge = true;
  stream_peer = index;
  if (!resync) note_served_write(index, range);
  ApplySlot apply;
  apply.peer = index;
  apply.incarnation = peer.incarnation;
  apply.sequence = sequence;
  apply.range = range;
  apply.zeroes = zeroes;
  apply.may_deallocate = may_deallocate;
  apply.resync = resync;
  if (superblock.unanswered_since == kHeldByNobody) {
    superblock.unanswered_since = Generation{};  // durably, before there is anything to lose
    apply_floor = std::max(apply_floor, persist_superblock());
  }
  if (has_third_nodes() && !resync && !note_unstable(index, apply)) {
    act(ReleaseApply{event.apply_slot});
    return drop_peer(index, LinkEnd::BrokenRule, "more writes that are not stable than a Primary may have");
  }
  enqueue_apply(event.apply_slot, apply);
}

void Replica::State::enqueue_apply(uint32_t slot, const ApplySlot& apply) {
  LOCKSTEP_CHECK(applies[slot].phase == ApplySlot::Phase::Free && apply_count < apply_order.size());
  applies[slot] = apply;
  applies[slot].phase = ApplySlot::Phase::Waiting;
  applies[slot].behind = applies_hold;
  ++applies_arrived;
  if (!apply.resync && peers[apply.peer].rules_obeyed.ordered) applies_owed = applies_arrived;
  apply_order[(apply_head + apply_count++) % apply_order.size()] = slot;
  if (must_wait(applies[slot], apply_count - 1) || !try_start_logged_apply(slot)) {
    LOCKSTEP_MARK("apply waits for an earlier one");
    ++applies_waiting;
    start_peer_flush_if_wanted();  // the barrier that it waits for may be one of a link that ended before it was done
  }
}

// Overlapping writes reach the disk in the order of the stream, and nothing overtakes a barrier that holds it. What is
// being read to be copied is not changed meanwhile.
bool Replica::State::must_wait(const ApplySlot& apply, uint32_t place) const {
  if (apply.behind > applies_stable && !LOCKSTEP_MUTANT("write-passes-barrier-at-peer")) return true;
  if (awaits_generation(apply)) return true;
  for (uint32_t i = 0; i < place; ++i) {
    const ApplySlot& earlier = applies[apply_order[(apply_head + i) % apply_order.size()]];
    if (LOCKSTEP_MUTANT("overlapping-applies-reordered")) continue;
    if (earlier.phase != ApplySlot::Phase::Done && earlier.range.overlaps(apply.range)) return true;
  }
  return std::any_of(resyncs.begin(), resyncs.end(), [&apply](const ResyncSlot& read) {
    return read.phase == ResyncSlot::Phase::Reading && read.range.overlaps(apply.range);
  });
}

void Replica::State::barrier_arrived(PeerIndex index, const Barrier& message) {
  Peer& peer = peers[index];
  if (message.sequence > peer.stream_received) {
    return drop_peer(index, LinkEnd::BrokenRule, "a barrier ahead of its stream");
  }
  peer.barrier_wanted = std::max(peer.barrier_wanted, message.sequence);
  if (peer.rules_obeyed.ordered && message.sequence > peer.stream_stable) applies_hold = applies_arrived;
  stream_peer = index;
  start_peer_flush_if_wanted();
}

void Replica::State::start_apply(uint32_t slot) {
  ApplySlot& apply = applies[slot];
  apply.phase = ApplySlot::Phase::Writing;
  if (has_third_nodes() && apply.resync) mark_copied(apply.peer, apply.range);
  ++applies_writing;
  wrote_since_life = true;
  const PersistId after = is_durable(apply_floor) ? 0 : apply_floor;
  if (apply.comparison != ApplySlot::kNoComparison) {
    act(SubmitRead{{SlotKind::Apply, slot}, apply.range, true, after});
  } else if (apply.zeroes) {
    act(SubmitZeroes{{SlotKind::Apply, slot}, apply.range, false, apply.may_deallocate, after});
  } else {
    act(SubmitWrite{{SlotKind::Apply, slot}, apply.range, false, after});
  }
}

void Replica::State::start_waiting_applies() {
  for (uint32_t i = 0; i < apply_count && applies_waiting > 0; ++i) {
    const uint32_t candidate = apply_order[(apply_head + i) % apply_order.size()];
    ApplySlot& apply = applies[candidate];
    if (apply.phase != ApplySlot::Phase::Waiting) continue;
    if (!disk_usable()) {
      // Its barrier may never be done: nothing behind it is written any more.
      if (apply.extents_reserved) activity_log.release(apply.range);
      apply.extents_reserved = false;
      apply.phase = ApplySlot::Phase::Done;
      --applies_waiting;
    } else if (!must_wait(apply, i) && try_start_logged_apply(candidate)) {
      --applies_waiting;
    }
  }
  release_done_applies();
}

void Replica::State::apply_completed(uint32_t slot, int error_errno, bool all_stable) {
  ApplySlot& done = applies[slot];
  LOCKSTEP_CHECK(done.phase == ApplySlot::Phase::Writing);
  if (error_errno != 0) disk_failed(DiskFault::Write);  // which counts it as not written
  done.phase = ApplySlot::Phase::Done;
  --applies_writing;
  if (done.holds_extents) activity_log.release(done.range);
  done.holds_extents = false;

  Peer& peer = peers[done.peer];
  const bool same_link = peer.incarnation == done.incarnation;
  if (same_link && error_errno == 0) {
    peer.acknowledge = true;
    const uint32_t oldest = apply_order[apply_head];
    if (slot != oldest && written_besides.size() < written_besides.capacity()) written_besides.push_back(done.sequence);
  }
  release_done_applies();
  if ((all_stable || LOCKSTEP_MUTANT("every-write-at-peer-is-stable")) && error_errno == 0 && disk_usable()) {
    LOCKSTEP_MARK("a write at a Secondary needs no flush");
    applies_are_stable(applies_done, peer, same_link ? peer.stream_written : 0);
  }
  start_waiting_applies();
  start_peer_flush_if_wanted();
  if (apply_count == 0) {
    for (PeerIndex index = 0; index < peer_count(); ++index) send_report_when_quiet(index);
  }
}

void Replica::State::release_done_applies() {
  while (apply_count > 0) {
    const uint32_t oldest = apply_order[apply_head];
    ApplySlot& apply = applies[oldest];
    if (apply.phase != ApplySlot::Phase::Done) break;
    if (peers[apply.peer].incarnation == apply.incarnation && disk_usable()) {
      peers[apply.peer].stream_written = apply.sequence;
    }
    // In the order of the stream, whatever happened to its link.
    if (disk_usable() && !apply.resync && position.stream != 0 &&
        position.stream == peers[apply.peer].peer_report.run) {
      position.through = std::max(position.through, apply.sequence);
    }
    if (apply.comparison != ApplySlot::kNoComparison) comparisons[apply.comparison].used = false;
    apply.phase = ApplySlot::Phase::Free;
    act(ReleaseApply{oldest});
    apply_head = static_cast<uint32_t>((apply_head + 1) % apply_order.size());
    --apply_count;
    ++applies_done;
  }
}

// So many are on stable storage, of the peer's present stream those up to `through`: what a barrier there would ask
// for.
void Replica::State::applies_are_stable(uint64_t count, Peer& peer, Sequence through) {
  applies_stable = std::max(applies_stable, count);
  if (through <= peer.stream_stable) return;
  peer.stream_stable = through;
  // A target's position is told at the end of its resync.
  if (peer.rules_obeyed.recorded && !is_resync_target(peer) && !LOCKSTEP_MUTANT("stable-position-not-recorded")) {
    return record_position(peer);
  }
  peer.stream_flushed = through;
  peer.acknowledge = true;
}

// Answers a barrier: everything up to it is on the disk, so one fdatasync makes it stable. Writes that wait behind a
// barrier need one also when the link that brought it is gone.
void Replica::State::start_peer_flush_if_wanted() {
  if (local_flush_in_flight || peers.empty() || !disk_usable()) return;
  Peer& peer = peers[stream_peer];
  const bool written = peer.stream_written >= peer.barrier_wanted || LOCKSTEP_MUTANT("barrier-answered-before-writes");
  const bool answers = peer.incarnation != 0 && peer.barrier_wanted > peer.stream_stable && written;
  if (!answers && !holds_applies() && !owes_stable_copy()) return;
  if (LOCKSTEP_MUTANT("barrier-answered-without-flush")) {
    peer.stream_flushed = peer.stream_stable = peer.stream_written;
    peer.acknowledge = true;
  }
  local_flush_in_flight = true;
  local_flush_for_peers = true;
  local_flush_peer = stream_peer;
  local_flush_incarnation = peer.incarnation;
  local_flush_covers = LOCKSTEP_MUTANT("barrier-answered-before-writes") ? peer.barrier_wanted : peer.stream_written;
  applies_flushing = applies_done;
  act(SubmitFlush{{SlotKind::Flush, 0}});
}

// The first barrier that something waits behind could be done now.
bool Replica::State::holds_applies() const {
  for (uint32_t i = 0; i < apply_count && applies_waiting > 0; ++i) {
    const ApplySlot& apply = applies[apply_order[(apply_head + i) % apply_order.size()]];
    if (apply.behind > applies_stable) return applies_done >= apply.behind;
  }
  return false;
}

// About to be promoted: flushes that the last Primary answered alone covered what may be in this disk's cache only, and
// the other disk may be gone, or be overwritten by what is left here.
bool Replica::State::owes_stable_copy() const {
  return stage == OrderStage::WaitForApplies && apply_count == 0 && applies_owed > applies_stable && disk_usable() &&
         !LOCKSTEP_MUTANT("promoted-before-it-is-stable");
}

void Replica::State::send_acknowledgements() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (!peer.acknowledge || peer.incarnation == 0 || !disk_usable()) continue;
    peer.acknowledge = false;
    Acknowledged message;
    message.received_through = peer.stream_received;
    message.written_through =
        LOCKSTEP_MUTANT("received-acknowledged-as-written") ? peer.stream_received : peer.stream_written;
    message.flushed_through = peer.stream_flushed;
    if (index == stream_peer) {
      for (const Sequence sequence : written_besides) {
        if (sequence <= peer.stream_written) continue;
        if (message.besides_count == kAcknowledgedBesides) {
          send(index, message);
          message.besides_count = 0;
        }
        message.besides[message.besides_count++] = sequence;
      }
      written_besides.clear();
    }
    send(index, message);
  }
}

// The Primary's (or resync source's) side.
void Replica::State::acknowledged(PeerIndex index, const Acknowledged& message) {
  Peer& peer = peers[index];
  if (message.received_through > peer.sent || message.written_through > message.received_through ||
      message.flushed_through > message.written_through || message.written_through < peer.written ||
      message.flushed_through < peer.flushed || message.besides_count > kAcknowledgedBesides) {
    return drop_peer(index, LinkEnd::BrokenRule, "an acknowledgement of what was not sent, or that goes back");
  }
  const PeerMask mask = mask_of(index);
  const auto written = [&](Sequence sequence) {
    if (!transfer_log.contains(sequence)) return;
    TransferEntry& entry = transfer_log.at(sequence);
    if ((entry.sent_to & mask) == 0 || (entry.written_by & mask) != 0) return;
    entry.written_by |= mask;
    proved(peer, entry.sent_us);
    peer.unwritten_bytes -= entry.range.length_bytes;
    if (entry.resync) peer.resync_unwritten_bytes -= entry.range.length_bytes;
    if (entry.resync && LOCKSTEP_MUTANT("bit-cleared-when-written")) peer.bitmap.clear(entry.range);
    reached(index, entry, Milestone::Written);
  };
  note_progress(index, message);
  const bool queue_was_full = queue_is_full();
  for (Sequence sequence = std::max(peer.received + 1, transfer_log.first()); sequence <= message.received_through;
       ++sequence) {
    TransferEntry& entry = transfer_log.at(sequence);
    if ((entry.sent_to & mask) == 0) continue;
    peer.unreceived_payload_bytes -= entry.payload_bytes;
    reached(index, entry, Milestone::Received);
  }
  peer.received = std::max(peer.received, message.received_through);
  waiting_may_start = waiting_may_start || queue_was_full;
  for (Sequence sequence = std::max(peer.written + 1, transfer_log.first()); sequence <= message.written_through;
       ++sequence) {
    written(sequence);
  }
  peer.written = message.written_through;
  for (uint8_t i = 0; i < message.besides_count; ++i) {
    if (message.besides[i] <= peer.sent) written(message.besides[i]);
  }

  if (message.flushed_through == peer.flushed) return;
  const Sequence flushed_before = peer.flushed;
  peer.flushed = message.flushed_through;
  if (peer.barrier_sent > peer.flushed) peer.barrier_sent_us = now_us;
  for (Sequence sequence = std::max(flushed_before + 1, transfer_log.first()); sequence <= peer.flushed; ++sequence) {
    if (!transfer_log.contains(sequence)) continue;
    TransferEntry& entry = transfer_log.at(sequence);
    if ((entry.sent_to & mask) == 0) continue;
    // The one place where bits are cleared while a resync runs: the peer has this copy on stable storage. A newer
    // write to the block is in this log and sets the bit again if the peer is lost before it is stable, too.
    if (entry.resync && !entry.superseded) clear_what_is_stable(peer, entry);
    if (LOCKSTEP_MUTANT("part-of-block-clears-bit")) {
      peer.bitmap.clear({round_down(entry.range.offset_bytes, kBlockBytes), kBlockBytes});
    }
    reached(index, entry, Milestone::Flushed);
  }
  if (cycle_running && (cycle_promise.asked & ~cycle_promise.kept & mask) != 0 &&
      peer.flushed >= std::min(cycle_sequence, peer.barrier_sent)) {
    cycle_promise.kept |= mask;
    finish_flush_cycle_if_done();
  }
  release_stable_entries();
}

}  // namespace lockstep::repl
