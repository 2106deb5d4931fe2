#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {
// What may be on its way to a target, not yet written there: enough to keep its disk busy, and less while the
// application writes, so that a write does not queue behind a long row of copies.
constexpr uint64_t kIdleWindowBytes = 8 * kMiB;
constexpr uint64_t kBusyWindowBytes = 1 * kMiB;
// After so much the target is asked to make it stable, so that bits are cleared and an interruption costs little.
constexpr uint64_t kFlushEveryBytes = 64 * kMiB;
}  // namespace

void Replica::State::start_as_source(PeerIndex index) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  peer.replication = ReplicationState::WFBitMapS;
  peer.resync_done_sent = false;
  peer.resync_started_us = now_us;
  peer.resync_total_blocks = 0;
  if (disk_state != DiskState::UpToDate && all_peers_known_but(index)) {
    become_up_to_date();
    tell_state();
  }

  // The target gets a generation of its own for the time of the resync, so that an older copy of its disk is never
  // taken for one that lacks only what the bitmap still shows. Until it confirms, it may hold what it held.
  const bool full = peer.decision.extent == SyncExtent::Full;
  remember(record.bitmap_generation);
  remember(record.previous_bitmap_generation);
  record.previous_bitmap_generation = full ? Generation{} : peer.peer_report.current;
  record.bitmap_generation = fresh_generation();
  if (full) {
    peer.bitmap.set_all();
    persist_bitmap(index, false);
  }
  const PersistId id = persist_superblock();
  may_hold_current &= static_cast<PeerMask>(~mask_of(index));
  send(index, ResyncStart{record.bitmap_generation, full}, {}, id);
}

void Replica::State::resync_start_arrived(PeerIndex index, const ResyncStart& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::WFBitMapT || role == Role::Primary) {
    return drop_peer(index, LinkEnd::BrokenRule, "a resync that was not decided");
  }
  superblock.current = message.sync_generation;
  disk_state = superblock.disk_state =
      LOCKSTEP_MUTANT("target-stays-consistent") ? DiskState::Consistent : DiskState::Inconsistent;
  apply_floor = persist_superblock();
  peer.discard_my_data = false;
  peer.bitmap_send_cursor = message.full ? peer.bitmap.block_count() : 0;
  peer.send_floor = std::max(peer.send_floor, apply_floor);
  tell_state();
  send_bitmap_runs(index);
  note(NoteKind::ResyncStarted, index, 0, "target");
  changed();
}

void Replica::State::send_bitmap_runs(PeerIndex index) {
  Peer& peer = peers[index];
  size_t count = 0;
  BitmapRuns message;
  while (count < runs.size()) {
    const DirtyBitmap::Run run = peer.bitmap.next_run(peer.bitmap_send_cursor, peer.bitmap.block_count());
    if (run.block_count == 0) {
      message.last = true;
      break;
    }
    runs[count++] = {run.first_block, run.block_count};
    peer.bitmap_send_cursor = run.first_block + run.block_count;
  }
  message.runs = std::span(runs).first(count);
  send(index, message);
  if (message.last) {
    peer.replication = ReplicationState::SyncTarget;
    changed();
  }
}

void Replica::State::bitmap_runs_arrived(PeerIndex index, const BitmapRuns& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::WFBitMapS) {
    return drop_peer(index, LinkEnd::BrokenRule, "a bitmap that was not asked for");
  }
  for (const BitmapRun& run : message.runs) {
    if (run.block_count == 0 || !ByteRange::fits(run.first_block, run.block_count, peer.bitmap.block_count())) {
      return drop_peer(index, LinkEnd::BrokenRule, "a bitmap of another size");
    }
    if (!LOCKSTEP_MUTANT("target-bits-not-merged")) peer.bitmap.set_blocks(run.first_block, run.block_count);
  }
  if (!message.last) return send(index, BitmapWanted{});

  // The target holds the resync's generation durably: from now on that one alone counts, and bits may be cleared.
  superblock.peers[index].previous_bitmap_generation = Generation{};
  peer.resync_gate = persist_superblock();
  // What the last Primary sent us may still be in our disk's volatile cache, and no bit of ours says so: what we copy
  // must be stable here before its bit goes.
  flush_wanted = local_flush_wanted = true;
  peer.resync_gate_cycle = local_cycles_started + 1;
  peer.replication = ReplicationState::SyncSource;
  peer.resync_total_blocks = peer.bitmap.dirty_blocks();
  peer.cursor_block = 0;
  note(NoteKind::ResyncStarted, index, peer.resync_total_blocks, "source");
  changed();
}

void Replica::State::pump_resyncs() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (peers[index].replication == ReplicationState::SyncSource) pump_resync(index);
  }
}

void Replica::State::pump_resync(PeerIndex index) {
  Peer& peer = peers[index];
  const bool stable = local_cycles_done >= peer.resync_gate_cycle || LOCKSTEP_MUTANT("resync-before-source-is-stable");
  if (!is_durable(peer.resync_gate) || !stable || peer.resync_done_sent || !disk_usable()) return;
  const uint64_t window_bytes = in_flight > 0 ? kBusyWindowBytes : kIdleWindowBytes;
  const uint64_t chunk_blocks = options.resync_chunk_bytes / kBlockBytes;

  for (;;) {
    if (peer.bitmap.dirty_blocks() == 0 && peer.reading_slots == 0) return finish_resync(index);
    if (LOCKSTEP_MUTANT("resync-ends-when-all-is-sent") &&
        peer.bitmap.next_run(peer.cursor_block, 1).block_count == 0 && peer.reading_slots == 0) {
      peer.bitmap.clear_all();
      return finish_resync(index);
    }
    const uint64_t reading_bytes = peer.reading_slots * options.resync_chunk_bytes;
    if (peer.resync_unwritten_bytes + reading_bytes >= window_bytes) return;
    if (transfer_log.size() + options.resync_slots >= transfer_log.capacity()) {
      flush_wanted = true;
      return;
    }
    const DirtyBitmap::Run run = peer.bitmap.next_run(peer.cursor_block, chunk_blocks);
    if (run.block_count == 0) {
      if (peer.reading_slots > 0 || peer.resync_unwritten_bytes > 0) return;
      if (peer_has_unflushed(peer)) {
        flush_wanted = true;
        return;
      }
      peer.cursor_block = 0;  // what is still dirty was skipped or not made stable: once more
      continue;
    }
    // A write in flight here may reach the disk after our read and is before our copy in the stream: the copy would
    // bring the old data back. So the copy waits for it, and a write that comes later waits for the read.
    const ByteRange range{run.first_block * kBlockBytes, run.block_count * kBlockBytes};
    if (busy_ranges.overlaps(range) && !LOCKSTEP_MUTANT("resync-read-passes-write")) return;
    const auto free = std::find_if(resyncs.begin(), resyncs.end(),
                                   [](const ResyncSlot& slot) { return slot.phase == ResyncSlot::Phase::Free; });
    if (free == resyncs.end()) return;
    const auto slot = static_cast<uint32_t>(free - resyncs.begin());
    *free = ResyncSlot{ResyncSlot::Phase::Reading, index, peer.incarnation, range};
    busy_ranges.insert(options.client_slots + slot, range);
    ++peer.reading_slots;
    peer.cursor_block = run.first_block + run.block_count;
    act(SubmitRead{{SlotKind::Resync, slot}, range});
  }
}

void Replica::State::resync_read_completed(uint32_t slot, int error_errno, bool all_zeroes) {
  ResyncSlot& resync = resyncs[slot];
  LOCKSTEP_CHECK(resync.phase == ResyncSlot::Phase::Reading);
  resync.phase = ResyncSlot::Phase::Free;
  busy_ranges.erase(options.client_slots + slot);
  waiting_may_start = !waiting.empty();
  Peer& peer = peers[resync.peer];
  if (peer.incarnation != resync.incarnation) return;
  --peer.reading_slots;
  if (error_errno != 0 && LOCKSTEP_MUTANT("unreadable-copied-as-zeroes")) {
    all_zeroes = true;
  } else if (error_errno != 0)
    return disk_failed();  // never copied: what could not be read is not zeroes

  TransferEntry entry;
  entry.range = resync.range;
  entry.sent_us = now_us;
  entry.client_slot = TransferEntry::kNoClient;
  entry.sent_to = mask_of(resync.peer);
  entry.resync = true;
  entry.local_done = true;
  sent_to_peer(resync.peer, transfer_log.append(entry), entry);
  peer.resync_unwritten_bytes += resync.range.length_bytes;
  peer.resync_unflushed_bytes += resync.range.length_bytes;
  if (peer.resync_unflushed_bytes >= kFlushEveryBytes) flush_wanted = true;
  if (all_zeroes) {
    send(resync.peer, WriteZeroes{peer.sent, resync.range, true, true});
  } else {
    send(resync.peer, Write{peer.sent, resync.range, true}, {SlotKind::Resync, slot});
  }
}

// Nothing is dirty, so every copy is on the target's stable storage. From here on the target may hold our current
// generation, and until it confirms, the resync's.
void Replica::State::finish_resync(PeerIndex index) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  persist_bitmap(index, false);
  record.previous_bitmap_generation = record.bitmap_generation;
  record.bitmap_generation = Generation{};
  record.crashed_primary = false;
  set_answered_ahead(role == Role::Primary);
  const PersistId id = persist_superblock();
  peer.resync_done_sent = true;
  send(index, ResyncDone{superblock.current, superblock.history}, {}, id);
}

void Replica::State::resync_done_arrived(PeerIndex index, const ResyncDone& message) {
  Peer& peer = peers[index];
  if (peer.replication != ReplicationState::SyncTarget) {
    return drop_peer(index, LinkEnd::BrokenRule, "the end of a resync that does not run");
  }
  peer.bitmap.clear_all();
  persist_bitmap(index, false);
  superblock.current = LOCKSTEP_MUTANT("target-keeps-its-generation") ? superblock.current : message.current;
  superblock.history = message.history;
  superblock.peers[index] = PeerRecord{};
  become_up_to_date();
  const PersistId id = persist_superblock();
  peer.replication = ReplicationState::Established;
  send(index, GenerationStored{message.current}, {}, id);
  tell_state();
  note(NoteKind::ResyncFinished, index, peer.resync_total_blocks, "target");
  changed();
}

void Replica::State::tell_resync_progress() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (peer.replication != ReplicationState::SyncSource || peer.resync_done_sent) continue;
    send(index, ResyncProgress{peer.bitmap.dirty_blocks(), peer.resync_total_blocks});
  }
}

}  // namespace lockstep::repl
