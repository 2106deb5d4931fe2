// What a node must know of the others when it has more than one peer, so that the survivors of a Primary agree. With
// one peer nothing of this happens.
//
// A Secondary keeps the writes that it applies under its own activity log until the Primary says that they are stable
// everywhere. What was not when the Primary is lost is out of sync with every other node: they may lack it. What the
// Primary calls missing at an absent node is marked for that node; so is what a resync brings, for all but its source.
// So whoever meets the absent node first knows what it lacks. docs/decisions/survivors.md has the reasons.
#include <algorithm>
#include <bit>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {

NodeMask node_mask(uint8_t order) {
  return static_cast<NodeMask>(1U << order);
}

// Of two links that mean to copy to one target, the Primary's stays.
bool is_resync(ReplicationState state) {
  return state == ReplicationState::WFBitMapS || state == ReplicationState::WFBitMapT ||
         state == ReplicationState::SyncSource || state == ReplicationState::SyncTarget ||
         state == ReplicationState::PausedSyncS || state == ReplicationState::PausedSyncT;
}

bool is_target(ReplicationState state) {
  return state == ReplicationState::WFBitMapT || state == ReplicationState::SyncTarget ||
         state == ReplicationState::PausedSyncT;
}

}  // namespace

NodeMask Replica::State::node_of(PeerIndex index) const {
  return node_mask(options.peer_orders[index]);
}

bool Replica::State::sees_primary(PeerIndex but) const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index != but && is_connected(peers[index]) && peers[index].role == Role::Primary) return true;
  }
  return false;
}

// A Primary, other than that peer, brings this node everything.
bool Replica::State::follows_another_primary(PeerIndex but) const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    const bool is_primary = index != but && is_connected(peer) && peer.role == Role::Primary;
    if (is_primary && peer.replication != ReplicationState::Off) return true;
  }
  return false;
}

bool Replica::State::is_target_of_another(PeerIndex than) const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index != than && is_target(peers[index].replication)) return true;
  }
  return false;
}

// A linked peer, other than that one, is about to give this node what it lacks, or has no disk and knows that it lacks
// something. A Primary knows better.
bool Replica::State::is_behind_another(PeerIndex than) const {
  if (peers[than].role == Role::Primary) return false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    const bool lacks_lost_data = is_connected(peer) && peer.decision.rule == Rule::PeerDisklessSelfIsBehind &&
                                 !LOCKSTEP_MUTANT("up-to-date-beside-a-lost-disk");
    const bool has_source =
        (prepares(peer) || is_target(peer.replication)) && !LOCKSTEP_MUTANT("up-to-date-beside-its-source");
    if (index != than && (has_source || lacks_lost_data)) return true;
  }
  return false;
}

NodeMask Replica::State::may_hold_nodes() const {
  NodeMask nodes = node_mask(options.node_order);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (may_hold_our_current(superblock.peers[index])) nodes |= node_of(index);
  }
  return nodes;
}

// ---- the Primary's side ----

// The peer holds what this node holds, but for writes that it has in its stream. Entries from before it had the stream
// may still be missing elsewhere, and it would not know which: so they must be gone.
bool Replica::State::is_in_sync(PeerIndex index) const {
  const Peer& peer = peers[index];
  const PeerRecord& record = superblock.peers[index];
  return is_connected(peer) && peer.replication == ReplicationState::Established &&
         peer.disk_state != DiskState::Inconsistent && record.bitmap_generation.is_zero() &&
         record.previous_bitmap_generation.is_zero() && peer.bitmap.dirty_blocks() == 0 && !has_entries_before(peer);
}

NodeMask Replica::State::in_sync_nodes() const {
  NodeMask nodes = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (is_in_sync(index)) nodes |= node_of(index);
  }
  return nodes;
}

void Replica::State::tell_who_is_in_sync() {
  if (!has_third_nodes() || role != Role::Primary) return;
  const NodeMask nodes = in_sync_nodes();
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if ((nodes & node_of(index)) == 0) continue;
    const auto others = static_cast<NodeMask>(nodes & ~node_of(index));
    if (peer.told_in_sync == others) continue;
    peer.told_in_sync = others;
    send(index, PeersInSync{superblock.current, others});
  }
}

// Who holds everything that this Primary answered is ahead of those nodes as well. It may be left alone with one of
// them.
void Replica::State::tell_ahead_of(NodeMask ahead_of) {
  if (!has_third_nodes() || ahead_of == 0 || LOCKSTEP_MUTANT("demoted-ahead-not-told")) return;
  const NodeMask nodes = in_sync_nodes();
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const NodeMask node = node_of(index);
    if ((nodes & node) != 0)
      send(index, PeersInSync{superblock.current, static_cast<NodeMask>(nodes & ~node), ahead_of});
  }
}

// Entries up to `through` have left the transfer log; those of `missing` lack some of them.
void Replica::State::tell_stable(Sequence through, PeerMask missing) {
  if (role != Role::Primary) return;  // what it sent as one was forgotten when it gave up the role
  NodeMask nodes = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if ((missing & mask_of(index)) != 0) nodes |= node_of(index);
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (gets_stream(peers[index])) send(index, StableThrough{through, static_cast<NodeMask>(nodes & ~node_of(index))});
  }
}

PeerMask Replica::State::lacking(const ByteRange& range) const {
  PeerMask peers_mask = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (peers[index].bitmap.is_any_dirty(range)) peers_mask |= mask_of(index);
  }
  return peers_mask;
}

// ---- the Secondary's side ----

void Replica::State::pop_unstable(PeerMask mark) {
  const UnstableWrite& write = unstable[unstable_first % unstable.size()];
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if ((mark & mask_of(index)) != 0) peers[index].bitmap.set(write.range);
  }
  if (write.holds_extents) activity_log.release(write.range);
  ++unstable_first;
}

// The write's extents are referred to until it is stable everywhere. No if there is no room to remember it.
bool Replica::State::note_unstable(PeerIndex from, ApplySlot& apply) {
  if (unstable_from != from) forget_unstable(unstable_from);
  unstable_from = from;
  if (unstable_end - unstable_first == unstable.size()) return false;
  apply.needs_log = true;
  apply.unstable = unstable_end++;
  unstable[apply.unstable % unstable.size()] = {apply.sequence, apply.range, false};
  return true;
}

bool Replica::State::try_start_logged_apply(uint32_t slot) {
  ApplySlot& apply = applies[slot];
  if (apply.needs_log) {
    if (!activity_log.acquire_hot(apply.range)) return false;
    if (apply.extents_reserved) activity_log.release(apply.range);  // the reservation's references stand for these
    apply.extents_reserved = apply.needs_log = false;
    apply.holds_extents = true;
    if (apply.unstable >= unstable_first) {
      LOCKSTEP_CHECK(activity_log.acquire_hot(apply.range));
      unstable[apply.unstable % unstable.size()].holds_extents = true;
    }
  }
  start_apply(slot);
  return true;
}

void Replica::State::reserve_for_applies() {
  for (uint32_t i = 0; i < apply_count; ++i) {
    ApplySlot& apply = applies[apply_order[(apply_head + i) % apply_order.size()]];
    if (apply.phase != ApplySlot::Phase::Waiting || !apply.needs_log || apply.extents_reserved) continue;
    if (!activity_log.reserve(apply.range)) return;  // the oldest comes first; room comes with StableThrough
    apply.extents_reserved = true;
  }
}

void Replica::State::stable_through_arrived(PeerIndex index, const StableThrough& message) {
  if (peers[index].role != Role::Primary) {
    return drop_peer(index, LinkEnd::BrokenRule, "a word of stable writes from a node that is not Primary");
  }
  if (unstable_from != index) return;
  PeerMask mark = 0;
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    if (other != index && (message.missing & node_of(other)) != 0) mark |= mask_of(other);
  }
  while (unstable_first < unstable_end && unstable[unstable_first % unstable.size()].sequence <= message.through) {
    if (unstable[unstable_first % unstable.size()].sequence > peers[index].stream_flushed) {
      return drop_peer(index, LinkEnd::BrokenRule, "a write called stable that is not so here");
    }
    pop_unstable(mark);
  }
}

// The Primary is gone, or another one is there: any other node may lack what was not stable everywhere.
void Replica::State::forget_unstable(PeerIndex primary) {
  while (unstable_first < unstable_end) pop_unstable(static_cast<PeerMask>(~mask_of(primary)));
}

// A resync's copies change this disk, and nodes other than the source may hold neither the old nor the new. By whole
// extents, so that a long row of copies costs one metadata write for each.
void Replica::State::mark_copied(PeerIndex source, const ByteRange& range) {
  const uint64_t first = range.offset_bytes / kExtentBytes * kExtentBytes;
  const uint64_t end = std::min(divide_up(range.end_bytes(), kExtentBytes) * kExtentBytes, options.size_bytes);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index == source) continue;
    DirtyBitmap& bitmap = peers[index].bitmap;
    bitmap.set({first, end - first});
    const auto first_page = static_cast<uint32_t>(first / kBlockBytes / kBlocksPerBitmapPage);
    const auto last_page = static_cast<uint32_t>((end / kBlockBytes - 1) / kBlocksPerBitmapPage);
    for (uint32_t page = first_page; page <= last_page; ++page) {
      if (bitmap.lacks_bits_on_disk(page)) apply_floor = std::max(apply_floor, persist_bitmap_page(index, page));
    }
  }
}

// Of a disk that gets everything others may believe what was true of another one in its place, or of what it held
// before: also where it is like the source, and nothing is copied.
void Replica::State::mark_all_but(PeerIndex source) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index == source) continue;
    peers[index].bitmap.set_all();
    persist_bitmap(index, false);
  }
}

void Replica::State::peers_in_sync_arrived(PeerIndex index, const PeersInSync& message) {
  if (peers[index].role != Role::Primary || role == Role::Primary) {
    return drop_peer(index, LinkEnd::BrokenRule, "a word of who is in sync from a node that is not Primary");
  }
  if (message.current != superblock.current || peers[index].replication != ReplicationState::Established) return;
  bool superblock_changed = false;
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    if (other == index) continue;
    set_in_sync_by_primary(other, (message.nodes & node_of(other)) != 0);
    if (!peers[other].in_sync_by_primary) continue;
    superblock_changed = forget_differences(other) || superblock_changed;
  }
  for (PeerIndex other = 0; other < peer_count(); ++other) {
    if (other == index || (message.ahead_of & node_of(other)) == 0) continue;
    superblock.peers[other].crashed_primary = superblock.peers[other].answered_ahead = true;
    superblock.peers[other].ahead_term = superblock.term;
    superblock_changed = true;
  }
  if (superblock_changed) persist_superblock();
}

// That it is waited for need not be durable: a node that has just been told, and loses its power, counts as any that
// was restarted. That it is not must be, before the Primary hears more from here and answers what this node lacks.
void Replica::State::note_stream_rules(PeerIndex index, const StreamRules& rules) {
  const bool gets_all_else =
      peers[index].role == Role::Primary && peers[index].replication == ReplicationState::Established;
  if (!has_third_nodes() || role == Role::Primary || !gets_all_else) return;  // the end of a resync knows
  const StreamPosition start{peers[index].peer_report.run, 0, rules.term};
  if (rules.term != 0 && !position.is_same_stream(start)) position = start;
  const WaitedFor now = rules.waited_for ? WaitedFor::Yes : WaitedFor::No;
  if (superblock.waited_for == now && superblock.term >= rules.term) return;
  const bool was_waited_for = superblock.waited_for == WaitedFor::Yes;
  superblock.waited_for = now;
  superblock.term = std::max(superblock.term, rules.term);
  const PersistId persist = persist_superblock();
  if (was_waited_for) peers[index].send_floor = persist;
}

// What the Primary has said on this link, if it has said anything.
WaitedFor Replica::State::waited_for_by(const Peer& primary) const {
  if (primary.rules_obeyed.waited_for) return WaitedFor::Yes;
  return primary.rules_obeyed == StreamRules{} ? WaitedFor::Unknown : WaitedFor::No;
}

// The two hold the same: what one of them has, both have. A Primary will say it.
void Replica::State::note_alike_waited_for(const Peer& peer) {
  if (!has_third_nodes()) return;
  const WaitedFor theirs = peer.peer_report.waited_for;
  if (peer.role == Role::Primary) {
    superblock.waited_for = waited_for_by(peer);
  } else if (theirs == WaitedFor::Yes || superblock.waited_for == WaitedFor::Yes) {
    superblock.waited_for = WaitedFor::Yes;
  } else if (theirs != superblock.waited_for) {
    superblock.waited_for = WaitedFor::Unknown;
  }
}

// While a third node copies to it, and afterwards, the peer does not hold what it held when we two were found alike;
// unless the Primary says so, whose word may have come first.
void Replica::State::third_node_copies(PeerIndex index) {
  Peer& peer = peers[index];
  if (role == Role::Primary || peer.role == Role::Primary) return;
  if (peer.disk_state == DiskState::Inconsistent && peer.replication == ReplicationState::Established) {
    peer.replication = ReplicationState::Off;
  } else if (peer.disk_state != DiskState::Inconsistent && peer.in_sync_by_primary &&
             peer.replication == ReplicationState::Off) {
    peer.replication = ReplicationState::Established;
  }
}

// This disk holds what the peer's does.
void Replica::State::note_position_in_sync(const Peer& peer) {
  const StreamPosition& there = peer.peer_report.position;
  if (role == Role::Primary) return;
  if (peer.role == Role::Primary || position.stream == 0) {
    position = there;
  } else if (position.is_same_stream(there)) {
    position.through = std::max(position.through, there.through);
  } else if (there.stream != 0) {
    position = position.term == there.term ? StreamPosition{} : position.term > there.term ? position : there;
  }
}

void Replica::State::set_in_sync_by_primary(PeerIndex index, bool in_sync) {
  Peer& peer = peers[index];
  peer.in_sync_by_primary = in_sync;
  if (!is_connected(peer) || is_resync(peer.replication)) return;
  const ReplicationState state = in_sync ? ReplicationState::Established : ReplicationState::Off;
  if (peer.replication == state) return;
  peer.replication = state;
  changed();
}

bool Replica::State::forget_differences(PeerIndex index) {
  peers[index].bitmap.clear_all();
  persist_bitmap(index, false);
  PeerRecord& record = superblock.peers[index];
  if (record == PeerRecord{}) return false;
  remember(record.bitmap_generation);
  remember(record.previous_bitmap_generation);
  record = PeerRecord{};
  return true;
}

// The Primary's new generation, taken over here: whoever does not hold it lacks what changes from here on.
void Replica::State::take_over_view(PeerIndex from, const Generation& old, NodeMask may_hold) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index == from) continue;
    PeerRecord& record = superblock.peers[index];
    if ((may_hold & node_of(index)) != 0) {
      if (record.bitmap_generation.is_zero() && record.previous_bitmap_generation.is_zero()) {
        record.previous_bitmap_generation = old;  // it may not have heard of the new one
      }
      continue;
    }
    if (record.bitmap_generation.is_zero()) record.bitmap_generation = old.is_zero() ? kHeldByNobody : old;
    // That this node had more of the old one says nothing of the new one, which it may get from another node.
    record.crashed_primary = record.answered_ahead = false;
    set_in_sync_by_primary(index, false);
  }
}

// It holds what this node holds, and may have brought one there that this node knows to be behind.
void Replica::State::take_over_who_may_hold(PeerIndex from) {
  const StateReport& report = peers[from].peer_report;
  if (!has_third_nodes() || report.current != superblock.current ||
      LOCKSTEP_MUTANT("brought-up-by-a-third-is-behind")) {
    return;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index != from && (report.may_hold & node_of(index)) != 0) may_have_been_brought_up(index);
  }
}

// While one that is to be this node's target held what this node holds, it may have brought absent ones there.
void Replica::State::take_over_who_target_may_have_brought_up(PeerIndex target) {
  const PeerRecord& record = superblock.peers[target];
  const Generation& since = superblock.unanswered_since;  // what a restart would go back to
  const bool holds_before = is_a_name(since) && record.previous_bitmap_generation == since &&
                            !LOCKSTEP_MUTANT("brought-up-to-what-is-undone-is-behind");
  if (!has_third_nodes() || !(may_hold_our_current(record) || holds_before) ||
      LOCKSTEP_MUTANT("brought-up-by-a-target-is-behind")) {
    return;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index != target) may_have_been_brought_up(index);
  }
}

// One that is linked says itself what it holds.
void Replica::State::may_have_been_brought_up(PeerIndex index) {
  PeerRecord& record = superblock.peers[index];
  if (is_connected(peers[index]) || record.bitmap_generation.is_zero()) return;
  const Generation before = std::exchange(record.bitmap_generation, Generation{});
  if (record.previous_bitmap_generation.is_zero()) {
    record.previous_bitmap_generation = before;
  } else {
    remember(before);
  }
}

// A generation that this node undid, and that a third one may hold, is as good still as the one that it went back to:
// which is here again, or has been gone on from.
void Replica::State::keep_undone(const StateReport& before) {
  if (before.undone.is_zero() || LOCKSTEP_MUTANT("undone-generation-lost-by-target")) return;
  const auto& history = superblock.history;
  if (superblock.current == before.current) {
    superblock.undone = before.undone;
  } else if (std::find(history.begin(), history.end(), before.current) != history.end()) {
    remember(before.undone);
  }
}

// The peer holds what this node holds, and knows who may have stored a generation after that in which nothing was
// answered. By the history alone each of those two would be behind the other.
void Replica::State::take_over_undone(const Generation& generation) {
  if (!superblock.undone.is_zero() || generation == superblock.current) return;
  if (!LOCKSTEP_MUTANT("undone-known-to-its-maker-alone")) superblock.undone = generation;
}

// The end of a resync: this node holds what the source holds, and knows of the others what the source knows. The bits
// here still count from what this node held before.
void Replica::State::take_over_view_at_end(PeerIndex source, const ResyncDone& message) {
  const PeerRecord& of_source = superblock.peers[source];
  const bool source_has_answered = of_source.crashed_primary && !of_source.answered_ahead &&
                                   superblock.sync_base == message.current &&
                                   !LOCKSTEP_MUTANT("ahead-forgotten-by-target");
  // A source that has lost the third node, and has not noticed yet, may call it in sync though it has become the target
  // of this one since: what is copied here is lacking there.
  const auto may_be_past = [&](PeerIndex third) {
    const uint64_t since_us = peers[third].brought_up_us;
    return peers[source].role != Role::Primary && since_us != 0 && now_us < since_us + 2 * options.peer_timeout_us &&
           !LOCKSTEP_MUTANT("source-says-what-is-past");
  };
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index == source) continue;
    if ((message.in_sync & node_of(index)) != 0 && !may_be_past(index)) {
      forget_differences(index);
      continue;
    }
    PeerRecord& record = superblock.peers[index];
    Generation since = record.bitmap_generation;
    if (!is_a_name(since)) since = record.previous_bitmap_generation;
    if (since.is_zero()) since = superblock.sync_base;
    if (since == message.current) since = Generation{};
    remember(record.bitmap_generation);
    remember(record.previous_bitmap_generation);
    if ((message.may_hold & node_of(index)) != 0) {
      record.bitmap_generation = Generation{};
      record.previous_bitmap_generation = since;
    } else {
      record.bitmap_generation = since.is_zero() ? kHeldByNobody : since;
      record.previous_bitmap_generation = Generation{};
    }
    // What the source's cache may have lost when it crashed is lost here, too: who lived on comes first. What this
    // node's own lost it has back. And whoever lacks what the source has answered lacks what is here.
    // So does whoever lacks what this node answered as Primary, if the source has all of that.
    const bool still_ahead = source_has_answered && record.crashed_primary && record.answered_ahead;
    record.crashed_primary = still_ahead || (message.crashed & node_of(index)) != 0;
    record.answered_ahead = still_ahead || (message.answered_ahead & node_of(index)) != 0;
    const auto place = static_cast<size_t>(std::countr_zero(node_of(index)));
    if (!still_ahead) record.ahead_term = message.ahead_terms[place];
  }
  superblock.term = role == Role::Primary ? std::max(superblock.term, message.term) : message.term;
  superblock.sync_base = superblock.sync_toward = Generation{};
  superblock.sync_sources = 0;
}

// ---- links between Secondaries ----

// What the two decided from is not true any more: they start again.
void Replica::State::restart_secondary_links(PeerIndex but) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (index == but || !is_connected(peers[index]) || peers[index].role == Role::Primary) continue;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

void Replica::State::restart_other_resyncs(PeerIndex but) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (index == but || !is_connected(peer) || !(is_resync(peer.replication) || peer.verify.runs)) continue;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

// One that the arbiter has replaced may be back without knowing it. It learns on a new link whom this node follows.
void Replica::State::leave_other_primaries(PeerIndex but) {
  if (LOCKSTEP_MUTANT("replaced-primary-breaks-a-rule")) return;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (index == but || !is_connected(peer) || peer.role != Role::Primary) continue;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

void Replica::State::primary_lost(PeerIndex index) {
  // One that has been replaced, and does not know it yet: nothing of what this node holds came from it.
  if (unstable_from != index && follows_another_primary(index)) return;
  forget_unstable(index);
  for (Peer& peer : peers) peer.in_sync_by_primary = false;
  restart_secondary_links(index);
}

// A peer is Primary from now on. It decides for all of its peers; resyncs between Secondaries end.
void Replica::State::primary_appeared(PeerIndex index) {
  restart_other_resyncs(index);
  leave_other_primaries(index);
  const Peer& peer = peers[index];
  // Bits that this node alone keeps, of what an earlier Primary called missing there, end with a resync.
  const bool keeps_bits = has_third_nodes() && peer.bitmap.dirty_blocks() > 0 && !is_resync(peer.replication) &&
                          !LOCKSTEP_MUTANT("bits-against-the-primary-stay");
  if (is_connected(peer) && (peer.replication == ReplicationState::Off || keeps_bits)) {
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

// This node is Primary from now on: whom the last Primary did not call in sync must shake hands again first.
void Replica::State::restart_undecided_links() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    peer.stream_from = transfer_log.last() + 1;
    peer.told_in_sync = kNothingTold;
    if (!is_connected(peer) || is_resync(peer.replication)) continue;
    const PeerRecord& record = superblock.peers[index];
    const bool clean = peer.replication == ReplicationState::Established &&
                       peer.disk_state != DiskState::Inconsistent && record.bitmap_generation.is_zero() &&
                       record.previous_bitmap_generation.is_zero() && peer.bitmap.dirty_blocks() == 0;
    if (!clean) say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

// Two Secondaries left a Primary to decide, and it is none any more.
void Replica::State::check_secondary_links() {
  if (!has_third_nodes() || role == Role::Primary || sees_primary(kNoPeer)) return;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (!is_connected(peer) || peer.decision.kind != SyncKind::Wait || peer.replication != ReplicationState::Off ||
        now_us - peer.decided_us < options.peer_timeout_us / 3) {
      continue;
    }
    const bool other_waits = peer.peer_report.sees_primary || peer.peer_report.is_target;
    const bool self_waited = peer.own_report.sees_primary || peer.own_report.is_target;
    if (self_waited ? !is_target_of_another(index) : !other_waits) {
      say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
  }
}

}  // namespace lockstep::repl
