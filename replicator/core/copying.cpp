// The source's work in a resync and in a verify: ranges are read one after the other while no write is in flight in
// them, and go into the stream as copies, or as digests that ask whether a copy is needed.
#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {
// After so much the target is asked to make it stable, so that bits are cleared and an interruption costs little.
constexpr uint64_t kFlushEveryBytes = 64 * kMiB;
constexpr uint64_t kTellProgressEveryUs = 200'000;
}  // namespace

void Replica::State::pump_resyncs() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (peer.replication == ReplicationState::SyncSource || (peer.verify.runs && peer.verify.is_source)) {
      pump_resync(index);
    }
  }
}

bool Replica::State::is_copying() const {
  return std::any_of(peers.begin(), peers.end(), [](const Peer& peer) {
    return peer.replication == ReplicationState::SyncSource || (peer.verify.runs && peer.verify.is_source);
  });
}

// What comes next in this pass over the device; nothing at its end.
DirtyBitmap::Run Replica::State::next_range(Peer& peer, bool& question) {
  if (peer.verify.comparing) {
    question = true;
    return {peer.cursor_block, std::min(kBlocksPerComparison, peer.bitmap.block_count() - peer.cursor_block)};
  }
  const uint64_t chunk_bytes = pace.chunk_bytes(options.resync_chunk_bytes);
  const DirtyBitmap::Run run = peer.bitmap.next_run(peer.cursor_block, chunk_bytes / kBlockBytes);
  question = run.block_count > 0 && !peer.verify.runs && peer.asking.next_is_a_question(peer.comparisons_in_flight > 0);
  return {run.first_block, question ? std::min(run.block_count, kBlocksPerComparison) : run.block_count};
}

void Replica::State::pump_resync(PeerIndex index) {
  Peer& peer = peers[index];
  const bool stable = local_cycles_done >= peer.resync_gate_cycle || LOCKSTEP_MUTANT("resync-before-source-is-stable");
  if (!is_durable(peer.resync_gate) || !stable || peer.resync_done_sent || !disk_usable()) return;

  for (;;) {
    if (!peer.verify.runs) {
      const bool may_finish = may_finish_resync(index);
      if (peer.bitmap.dirty_blocks() == 0 && peer.reading_slots == 0) {
        // A generation that may still be undone is not handed on: first it is called used, unless nothing may be
        // answered.
        Generation& since = superblock.unanswered_since;
        const bool ends_suspension = has_third_nodes() && is_suspended() && generation_unconfirmed == 0 &&
                                     (awaited_peers_are_targets() || LOCKSTEP_MUTANT("resync-ends-for-another-peer"));
        if (may_finish && has_third_nodes() && since != kHeldByNobody) record_that_generation_is_used();
        if (may_finish && (!is_a_name(since) || ends_suspension)) {
          if (ends_suspension) since = Generation{};  // with the target, which is waited for
          finish_resync(index);
        }
        return;
      }
    }
    if (!peer.verify.runs && LOCKSTEP_MUTANT("resync-ends-when-all-is-sent") &&
        peer.bitmap.next_run(peer.cursor_block, 1).block_count == 0 && peer.reading_slots == 0) {
      peer.bitmap.clear_all();
      return finish_resync(index);
    }
    const uint64_t reading_bytes = peer.reading_slots * options.resync_chunk_bytes;
    if (peer.resync_unwritten_bytes + reading_bytes >= pace.window_bytes() || !pace.has_budget()) return;
    if (transfer_log.size() + options.resync_slots >= transfer_log.capacity()) {
      flush_wanted = true;
      return;
    }
    if (peer.comparisons_in_flight >= kComparisonsInFlight) return;
    const auto free = std::find_if(resyncs.begin(), resyncs.end(),
                                   [](const ResyncSlot& slot) { return slot.phase == ResyncSlot::Phase::Free; });
    if (free == resyncs.end()) return;
    const Asking asking = peer.asking;
    bool question = false;
    const DirtyBitmap::Run run = next_range(peer, question);
    if (run.block_count == 0) {
      if (peer.reading_slots > 0 || peer.comparisons_in_flight > 0 || peer.resync_unwritten_bytes > 0) return;
      if (peer.resync_sent > peer.flushed) {
        flush_wanted = true;
        return;
      }
      if (peer.verify.runs && (!peer.verify.repair || peer.bitmap.dirty_blocks() == 0)) return finish_verify(index);
      LOCKSTEP_MARK("resync goes round again");
      // What is still dirty differs, was skipped, or was not made stable: it is copied, and nobody is asked.
      peer.cursor_block = 0;
      peer.asking.wanted = peer.verify.comparing = false;
      continue;
    }
    // A write in flight here may reach the disk after our read and is before our copy in the stream: the copy would
    // bring the old data back. So the copy waits for it, and a write that comes later waits for the read.
    const ByteRange range{run.first_block * kBlockBytes, run.block_count * kBlockBytes};
    const bool is_written = busy_ranges.overlaps(range) || is_being_applied(range);
    if (is_written && !LOCKSTEP_MUTANT("resync-read-passes-write")) {
      LOCKSTEP_MARK("resync waits for a write in flight");
      peer.asking = asking;
      return;
    }
    const auto slot = static_cast<uint32_t>(free - resyncs.begin());
    *free = ResyncSlot{ResyncSlot::Phase::Reading, index,          peer.incarnation, range, question,
                       peer.verify.runs,           peer.verify.run};
    busy_ranges.insert(options.client_slots + slot, range);
    ++peer.reading_slots;
    if (question) ++peer.comparisons_in_flight;
    peer.cursor_block = run.first_block + run.block_count;
    pace.copied(range.length_bytes);
    act(SubmitRead{{SlotKind::Resync, slot}, range, question});
  }
}

void Replica::State::resync_read_completed(uint32_t slot, const LocalIoCompleted& event) {
  ResyncSlot& resync = resyncs[slot];
  LOCKSTEP_CHECK(resync.phase == ResyncSlot::Phase::Reading);
  resync.phase = ResyncSlot::Phase::Free;
  busy_ranges.erase(options.client_slots + slot);
  waiting_may_start = !waiting.empty();
  Peer& peer = peers[resync.peer];
  const bool superseded = is_being_applied(resync.range);
  start_waiting_applies();
  if (peer.incarnation != resync.incarnation) {
    LOCKSTEP_MARK("resync read of a lost link");
    return;
  }
  --peer.reading_slots;
  const bool unread = event.error_errno != 0;
  if (unread && !LOCKSTEP_MUTANT("unreadable-copied-as-zeroes")) {
    if (resync.question) --peer.comparisons_in_flight;
    return range_not_read(resync.peer, resync.range, resync.verify);
  }
  if (resync.verify && (!peer.verify.runs || peer.verify.run != resync.verify_run)) {  // it was interrupted
    if (resync.question) --peer.comparisons_in_flight;
    return;
  }

  TransferEntry entry;
  entry.range = resync.range;
  entry.sent_us = now_us;
  entry.client_slot = TransferEntry::kNoClient;
  entry.sent_to = mask_of(resync.peer);
  entry.resync = true;
  entry.comparison = resync.question;
  entry.verify = resync.verify;
  entry.local_done = true;
  entry.superseded = superseded;
  sent_to_peer(resync.peer, transfer_log.append(entry), entry);
  peer.resync_sent = peer.sent;
  peer.resync_unwritten_bytes += resync.range.length_bytes;
  peer.resync_unflushed_bytes += resync.range.length_bytes;
  if (peer.resync_unflushed_bytes >= kFlushEveryBytes) flush_wanted = true;
  if (resync.question) {
    send(resync.peer, RangeDigests{peer.sent, resync.range, !resync.verify, event.digests});
  } else if (event.all_zeroes || unread) {
    send(resync.peer, WriteZeroes{peer.sent, resync.range, true, true});
  } else {
    send(resync.peer, Write{peer.sent, resync.range, true}, {SlotKind::Resync, slot});
  }
}

// Never copied: what could not be read is not zeroes. A resync stops, and its target stays Inconsistent; a disk that is
// verified has a peer that is as good.
void Replica::State::range_not_read(PeerIndex index, const ByteRange& range, bool verify) {
  Peer& peer = peers[index];
  note(NoteKind::ResyncStopped, index, range.offset_bytes);
  if (verify) {
    if (!disk_failed(DiskFault::Read)) end_verify(index, false, peer.bitmap.dirty_blocks());
    return;
  }
  if (peer.replication == ReplicationState::SyncSource) peer.replication = ReplicationState::PausedSyncS;
  peer.resync_read_failed = true;
  withdraw_cut_over(index);
  changed();
}

void Replica::State::tell_progress() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (peer.verify.runs) {
      peer.progress.sample(now_us, verify_left_blocks(peer));
    } else if (is_resync_source(peer)) {
      peer.progress.sample(now_us, peer.bitmap.dirty_blocks());
    } else if (is_resync_target(peer)) {
      peer.progress.sample(now_us, peer.resync_left_blocks);
    }
    if (now_us - peer.progress_told_us < kTellProgressEveryUs) continue;
    peer.progress_told_us = now_us;
    if (peer.verify.runs && peer.verify.is_source) {
      send(index, VerifyProgress{peer.verify.repair, verify_left_blocks(peer), peer.verify.blocks_total,
                                 peer.verify.found.blocks});
    } else if (is_resync_source(peer) && peer.replication != ReplicationState::WFBitMapS && !peer.resync_done_sent) {
      send(index, ResyncProgress{peer.bitmap.dirty_blocks(), peer.resync_total_blocks});
    }
  }
}

}  // namespace lockstep::repl
