// The peer of a Primary without data of its own: that Primary's clients see this node's disk. This node takes the new
// generation, counts what the Primary's disk misses, reads for it, and brings its disk up to date when it is there
// again.
#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {

// So little is left of the resync of a Primary's disk that its writes may stop until it is copied.
constexpr uint64_t kCutOverBlocks = 512;

}  // namespace

void Replica::State::serve_request_arrived(PeerIndex index, const ServeRequest& message) {
  Peer& peer = peers[index];
  const bool holds_it = superblock.current == message.current;
  if (peer.role != Role::Primary || role == Role::Primary || message.current.is_zero()) {
    return drop_peer(index, LinkEnd::BrokenRule, "a request to serve a generation that is not here");
  }
  if (peer.resync_done_sent) return;  // it has its own disk again, and does not know it yet
  const bool whole = disk_usable() && disk_state != DiskState::Inconsistent;
  if (!whole || peer.leaves_after != 0) {
    // The Primary may not have heard yet that this node leaves, or gives up its data.
    LOCKSTEP_MARK("asked to serve while it gives up its data");
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  if (!holds_it && superblock.current != message.previous) {
    return drop_peer(index, LinkEnd::BrokenRule, "a request to serve a generation that is not here");
  }
  // Asked again on one link, for another generation, it is where it was with the Primary's disk.
  if (!peer.served_here) peer.cut_over = Peer::CutOver::None;
  peer.served_here = peer.reads_here = true;
  peer.serve_generation = message.current;
  peer.serve_previous = message.previous;
  peer.serve_after = peer.stream_received;
  peer.serve_cycle = peer.save_cycle = 0;
  peer.serve_persist = 0;
  peer.serve_takes = peer.serve_confirm_owed = true;
  note(NoteKind::ServesPeer, index);
  changed();
}

// Of the stream behind a request to serve: nothing of it is written before it is counted durably as missed.
bool Replica::State::awaits_generation(const ApplySlot& apply) const {
  const Peer& peer = peers[apply.peer];
  return peer.serve_takes && apply.incarnation == peer.incarnation && apply.sequence > peer.serve_after;
}

void Replica::State::confirm_serving() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (!peer.serve_confirm_owed || peer.stream_written < peer.serve_after) continue;
    if (peer.serve_cycle == 0) {
      // What was acknowledged may be in our disk's cache, and the Primary's copy of it is given up when we confirm.
      // Until then that copy is the better one: so the generation that makes it old comes after.
      flush_wanted = local_flush_wanted = true;
      peer.serve_cycle = local_cycles_started + 1;
      start_flush_cycle_if_wanted();
    }
    const bool stable = local_cycles_done >= peer.serve_cycle || LOCKSTEP_MUTANT("served-generation-before-stable");
    if (!stable) continue;
    if (peer.serve_takes) take_served_generation(index);
    if (!peer.serve_confirm_owed || !is_durable(peer.serve_persist)) continue;
    peer.serve_confirm_owed = false;
    send(index, ServeConfirmed{superblock.current});
  }
}

void Replica::State::take_served_generation(PeerIndex index) {
  Peer& peer = peers[index];
  PeerRecord& record = superblock.peers[index];
  if (superblock.current != peer.serve_generation) {
    if (superblock.current != peer.serve_previous) {
      return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
    remember(record.previous_bitmap_generation);
    record.previous_bitmap_generation = Generation{};
    if (record.bitmap_generation.is_zero()) record.bitmap_generation = superblock.current;
    // A third node that holds this one, or what its maker undid, lacks what comes now.
    if (!LOCKSTEP_MUTANT("undone-generation-lost-by-server")) remember(superblock.undone);
    remember(superblock.current);
    hold_generation(peer.serve_generation);
    // Nor is any other peer known to be behind: it may have been asked to serve, too.
    for (PeerIndex other = 0; other < peer_count() && !LOCKSTEP_MUTANT("other-servers-known-behind"); ++other) {
      PeerRecord& third = superblock.peers[other];
      if (other == index || third.bitmap_generation.is_zero()) continue;
      remember(third.bitmap_generation);
      if (third.previous_bitmap_generation.is_zero()) third.previous_bitmap_generation = third.bitmap_generation;
      third.bitmap_generation = Generation{};
    }
  }
  if (disk_state != DiskState::UpToDate) {
    become_up_to_date();  // its only writer says that nothing is newer
    tell_state();
  }
  record.bitmap_in_memory = true;
  if (has_third_nodes()) superblock.waited_for = WaitedFor::Yes;  // nobody is asked any more for what it lacks
  peer.serve_persist = persist_superblock();
  // Nothing is written here that a crash would not find counted as missed.
  apply_floor = std::max(apply_floor, peer.serve_persist);
  peer.serve_takes = false;
  for (uint32_t i = 0; i < apply_count; ++i) {
    const ApplySlot& apply = applies[apply_order[(apply_head + i) % apply_order.size()]];
    const bool of_this_link = apply.peer == index && apply.incarnation == peer.incarnation;
    if (of_this_link && apply.sequence > peer.serve_after) note_served_write(index, apply.range);
  }
  start_waiting_applies();
  changed();
}

void Replica::State::read_request_arrived(PeerIndex index, const ReadRequest& message) {
  const auto free = std::find_if(serves.begin(), serves.end(),
                                 [](const ServeSlot& slot) { return slot.phase == ServeSlot::Phase::Free; });
  // Reads of an earlier link may still be under way: these are not the peer's fault.
  const bool of_this_link_only = std::all_of(serves.begin(), serves.end(), [&](const ServeSlot& slot) {
    return slot.phase == ServeSlot::Phase::Free || slot.incarnation == peers[index].incarnation;
  });
  if (free == serves.end() && !of_this_link_only) {
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  const bool reads_here = LOCKSTEP_MUTANT("late-read-refused") ? peers[index].served_here : peers[index].reads_here;
  if (!reads_here || free == serves.end() || message.range.empty() || message.range.length_bytes > kServedReadBytes ||
      !ByteRange::fits(message.range.offset_bytes, message.range.length_bytes, options.size_bytes)) {
    return drop_peer(index, LinkEnd::BrokenRule, "a read from a node that is not served, or of too much");
  }
  *free = ServeSlot{ServeSlot::Phase::Reading, index, peers[index].incarnation, message.ticket,
                    static_cast<uint32_t>(message.range.length_bytes)};
  act(SubmitRead{{SlotKind::Serve, static_cast<uint32_t>(free - serves.begin())}, message.range});
}

void Replica::State::serve_read_completed(uint32_t slot, int error_errno) {
  ServeSlot& serve = serves[slot];
  LOCKSTEP_CHECK(serve.phase == ServeSlot::Phase::Reading);
  serve.phase = ServeSlot::Phase::Free;
  if (peers[serve.peer].incarnation != serve.incarnation) return;
  if (error_errno != 0) {
    note(NoteKind::ErrorPassedOn, serve.peer);
    return send(serve.peer, ReadReply{serve.ticket, true, 0});
  }
  send(serve.peer, ReadReply{serve.ticket, false, serve.length_bytes}, {SlotKind::Serve, slot});
}

// A write that only this disk gets. A copy of the range that is on its way to the peer was read before it.
void Replica::State::note_served_write(PeerIndex index, const ByteRange& range) {
  if (!peers[index].served_here || peers[index].serve_takes) return;
  peers[index].bitmap.set(range);
  for (Sequence sequence = transfer_log.first(); sequence <= transfer_log.last(); ++sequence) {
    TransferEntry& entry = transfer_log.at(sequence);
    if (entry.resync && (entry.sent_to & mask_of(index)) != 0 && entry.range.overlaps(range)) entry.superseded = true;
  }
}

void Replica::State::stop_serving(PeerIndex index) {
  Peer& peer = peers[index];
  peer.served_here = peer.serve_confirm_owed = false;
  peer.cut_over = Peer::CutOver::None;
  if (!peer.serve_takes) return;
  // Nobody was told that it has what came behind the request, and no bit would say that it does.
  for (uint32_t i = 0; i < apply_count; ++i) {
    ApplySlot& apply = applies[apply_order[(apply_head + i) % apply_order.size()]];
    if (apply.peer != index || apply.phase != ApplySlot::Phase::Waiting || !awaits_generation(apply)) continue;
    if (apply.extents_reserved) activity_log.release(apply.range);
    apply.extents_reserved = apply.needs_log = false;
    apply.phase = ApplySlot::Phase::Done;
    --applies_waiting;
  }
  peer.serve_takes = false;
  release_done_applies();
  start_waiting_applies();
  for (PeerIndex other = 0; other < peer_count() && apply_count == 0; ++other) send_report_when_quiet(other);
}

// Nothing more is counted in memory only: a crash need not cost a full resync any more. But a write of the Primary that
// was copied to its disk, and so left no bit, may be in our disk's cache only: power lost, it would be there and not
// here.
void Replica::State::save_bitmaps_kept_in_memory() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    PeerRecord& record = superblock.peers[index];
    Peer& peer = peers[index];
    if (!record.bitmap_in_memory || peer.served_here || !disk_usable() || !has_metadata) continue;
    if (peer.save_cycle == 0) {
      flush_wanted = local_flush_wanted = true;
      peer.save_cycle = local_cycles_started + 1;
      start_flush_cycle_if_wanted();
    }
    if (local_cycles_done < peer.save_cycle && !LOCKSTEP_MUTANT("bits-saved-before-served-writes")) continue;
    persist_bitmap(index, false);
    record.bitmap_in_memory = false;
    persist_superblock();
  }
}

void Replica::State::writes_paused_arrived(PeerIndex index) {
  Peer& peer = peers[index];
  if (peer.cut_over == Peer::CutOver::Withdrawn) {
    peer.cut_over = Peer::CutOver::None;
    return;
  }
  if (peer.cut_over != Peer::CutOver::Asked) {
    return drop_peer(index, LinkEnd::BrokenRule, "a pause of writes that was not asked for");
  }
  peer.cut_over = Peer::CutOver::Paused;
  peer.serve_after = peer.stream_received;
  peer.serve_cycle = 0;
}

// The resync stops before its end: the clients do not wait for that.
void Replica::State::withdraw_cut_over(PeerIndex index) {
  Peer& peer = peers[index];
  if (LOCKSTEP_MUTANT("stopped-resync-keeps-writes-paused")) return;
  if (peer.resync_done_sent || (peer.cut_over != Peer::CutOver::Asked && peer.cut_over != Peer::CutOver::Paused))
    return;
  peer.cut_over = peer.cut_over == Peer::CutOver::Asked ? Peer::CutOver::Withdrawn : Peer::CutOver::None;
  send(index, PauseWrites{true});
}

// The target of this resync may be a Primary whose clients write through this node: they make blocks out of sync again
// as long as they may write.
bool Replica::State::may_finish_resync(PeerIndex index) {
  Peer& peer = peers[index];
  if (!peer.served_here) return true;
  if (peer.cut_over == Peer::CutOver::Paused) {
    // No extent is hot for the writes that only this disk got: a loss of power must not take one that was copied.
    if (peer.stream_written < peer.serve_after) return false;
    if (peer.serve_cycle == 0) {
      flush_wanted = local_flush_wanted = true;
      peer.serve_cycle = local_cycles_started + 1;
      start_flush_cycle_if_wanted();
    }
    return local_cycles_done >= peer.serve_cycle;
  }
  if (peer.cut_over == Peer::CutOver::None && peer.bitmap.dirty_blocks() <= kCutOverBlocks &&
      !peer.serve_confirm_owed) {
    peer.cut_over = Peer::CutOver::Asked;
    send(index, PauseWrites{});
  }
  return false;
}

}  // namespace lockstep::repl
