// A Primary without data of its own: its disk has failed or was detached, or is attached again and not up to date yet.
// What its clients see is a peer's disk. Reads are asked of that peer, writes go into its stream only. The generation
// of that data, `served`, is new, so that this node's disk is known to be behind; nothing is answered before a peer has
// recorded it. When the peer is away, requests wait for it.
#include <algorithm>
#include <cerrno>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {

constexpr uint32_t kTicketSlotBits = 20;

}  // namespace

bool Replica::State::can_serve_us(const Peer& peer) const {
  // Found alike a moment ago, it has not said yet that it is UpToDate now.
  const bool was_found_alike = peer.decision.kind == SyncKind::None && peer.disk_state != DiskState::Inconsistent &&
                               peer.disk_state == peer.peer_report.disk_state &&
                               !LOCKSTEP_MUTANT("peer-found-alike-does-not-serve");
  return is_connected(peer) && (peer.disk_state == DiskState::UpToDate || was_found_alike) &&
         peer.role == Role::Secondary && gets_stream(peer) &&
         (peer.serve_asked || peer.replication == ReplicationState::Established);
}

// By every peer that was asked: of two that hold the same, one could else be left in the generation of this node's
// disk, with what was answered, and be alike to it.
bool Replica::State::is_served() const {
  // One whose disk has failed has said so, and ends the link.
  const auto confirmed = [](const Peer& peer) {
    return peer.serve_confirmed && (is_disk(peer.disk_state) || LOCKSTEP_MUTANT("server-without-disk-serves"));
  };
  const auto owes = [](const Peer& peer) { return peer.serve_asked && !peer.serve_confirmed; };
  return std::any_of(peers.begin(), peers.end(), confirmed) &&
         (std::none_of(peers.begin(), peers.end(), owes) || LOCKSTEP_MUTANT("first-server-is-enough"));
}

bool Replica::State::may_send_served() const {
  return !writes_paused && std::any_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.serve_asked; });
}

bool Replica::State::must_fail_requests() const {
  if (data_lost) return true;  // also when this node's disk is back: a flush would promise what is gone
  if (served.is_zero()) return !disk_usable();
  return fails_held && !is_served();
}

int Replica::State::failure_errno() const {
  return demoting && !data_lost ? ESHUTDOWN : EIO;
}

bool Replica::State::lacks_data() const {
  return role == Role::Primary && !served.is_zero() && !must_fail_requests() &&
         std::none_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.serve_asked; });
}

void Replica::State::enter_served_mode() {
  served = fresh_generation();
  served_previous = superblock.current;
  served_stale = served_leaving = may_hold_served = may_serve = 0;
  fails_held = false;  // what was lost before stays lost until this node is demoted
  writes_paused = writes_paused_told = false;
  may_hold_current = 0;
  // Requests under way were to be answered for less, under the protocols that leave the rest to this node's disk.
  for (ClientSlot& client : clients) {
    if (client.phase != ClientSlot::Phase::Writing) continue;
    const TransferEntry& entry = transfer_log.at(client.sequence);
    client.promise.kept = 0;
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      client.milestones[index] = milestone(peers[index], client.fua);
      const bool kept = client.fua ? peers[index].flushed >= client.sequence : (entry.written_by & mask_of(index)) != 0;
      if (kept) client.promise.kept |= static_cast<PeerMask>(client.promise.asked & mask_of(index));
    }
  }
  if (has_third_nodes() && !LOCKSTEP_MUTANT("held-answer-needs-no-server")) start_held_again();
}

// What is done, but for telling, this node's disk was to vouch for. A peer that is away may come back to serve without
// it: so it is asked of those that serve by then.
void Replica::State::start_held_again() {
  for (ClientSlot& client : clients) {
    if (client.phase != ClientSlot::Phase::Held) continue;
    client.phase = ClientSlot::Phase::Suspended;
    client.promise = Promise{};
    client.extents_reserved = client.local_done = false;
    const bool is_write = client.operation != ClientOperation::Flush;
    if (is_write && transfer_log.contains(client.sequence)) transfer_log.at(client.sequence).sent_again = true;
  }
}

// Peers that are away now may be asked to serve when they are back: what they were never sent, or may have lost since,
// is on this node's disk alone.
void Replica::State::note_who_lacks_answered() {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (gets_stream(peer) || LOCKSTEP_MUTANT("absent-server-lacks-nothing")) continue;
    const PeerRecord& record = superblock.peers[index];
    // Of an earlier Primary, since when the two were not brought together.
    const bool lacks_earlier = record.crashed_primary && record.answered_ahead &&
                               peer.peer_report.term <= record.ahead_term &&
                               !LOCKSTEP_MUTANT("what-a-crash-left-ahead-is-at-server");
    peer.lost_unreceived = peer.lacks_answered || (has_third_nodes() && lacks_earlier);
    peer.lost_unflushed = peer.bitmap.dirty_blocks() > 0;
    const bool was_sent_something = peer.run != 0 && !LOCKSTEP_MUTANT("cache-lost-before-its-primary");
    if (!was_sent_something) peer.run = peer.peer_report.run;
  }
}

bool Replica::State::lacks_at_server(const TransferEntry& entry) const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const bool lacks_it = peers[index].serve_asked && (entry.sent_to & mask_of(index)) == 0;
    if (lacks_it && !LOCKSTEP_MUTANT("late-server-lacks-writes-in-flight")) return true;
  }
  return false;
}

bool Replica::State::lacks_answered(const Peer& peer) const {
  return peer.lost_unreceived || peer.lost_as_target || (peer.lost_unflushed && peer.run != peer.peer_report.run);
}

// It has what it has from a peer that served and left, and that may have been restarted in between: only its place in
// this node's stream tells.
bool Replica::State::may_lack_handed_on(const Peer& peer) const {
  const StateReport& report = peer.peer_report;
  const bool is_handed_on = peer.handed_on_through != 0 && report.current != superblock.current;
  return is_handed_on && (report.position.stream != run() || report.position.through < peer.handed_on_through) &&
         !LOCKSTEP_MUTANT("restarted-server-hands-on-everything");
}

void Replica::State::ask_to_serve(PeerIndex index, const Generation& previous) {
  Peer& peer = peers[index];
  if (peer.peer_report.current == served) peer.lost_as_target = false;  // another one has given it everything
  if (lacks_answered(peer) || may_lack_handed_on(peer)) {
    const bool others_are_asked = std::any_of(peers.begin(), peers.end(),
                                              [&](const Peer& other) { return &other != &peer && other.serve_asked; });
    const bool others_tell = !lacks_answered(peer) && (may_serve & ~mask_of(index)) != 0;  // when they are back
    if ((others_are_asked || others_tell) && !data_lost && !LOCKSTEP_MUTANT("data-lost-beside-its-server")) {
      // They may have what this one lacks.
      return say_goodbye(index, GoodbyeReason::Refused, LinkEnd::Refused);
    }
    // It was restarted with acknowledged writes in its cache, or never got them. Nobody else has them, and a client's
    // next flush would promise them. It is not asked: it would call this node's disk old, which may have them yet.
    if (!data_lost) note(NoteKind::DataLost, index);
    data_lost = true;
    fail_requests_without_data();
  }
  if (data_lost && !LOCKSTEP_MUTANT("asked-to-serve-what-is-lost")) return;
  peer.serve_asked = true;
  // It may not have got what was done meanwhile, and held.
  if (has_third_nodes() && !LOCKSTEP_MUTANT("held-answer-lacks-at-server")) start_held_again();
  may_serve |= mask_of(index);
  served_leaving &= static_cast<PeerMask>(~mask_of(index));
  // It may have been restarted, with its disk put right.
  for (ClientSlot& client : clients) client.read_failed_at &= static_cast<PeerMask>(~mask_of(index));
  note(NoteKind::ServedByPeer, index);
  send(index, ServeRequest{served, previous});
  waiting_may_start = true;
  changed();
}

void Replica::State::serve_confirmed(PeerIndex index, const ServeConfirmed& message) {
  Peer& peer = peers[index];
  if (!peer.serve_asked || message.current != served) return;
  const bool had_no_name = !served_previous.is_zero() && peer.peer_report.current != served;
  peer.serve_confirmed = true;
  // One that was asked and has not taken it may be lost, and come back with what it holds now: that is as good until
  // something is answered.
  if (is_served() || LOCKSTEP_MUTANT("first-confirmation-ends-previous")) {
    served_previous = Generation{};
    served_stale |= std::exchange(served_leaving, PeerMask{0});
    may_serve &= static_cast<PeerMask>(~served_stale);
    for (Peer& each : peers) each.handed_on_through = 0;  // stable where it is asked for
  }
  superblock.peers[index].crashed_primary = false;  // the peer's copy is the newest now
  peer.lost_unflushed = false;
  fails_held = false;
  changed();
  // It follows this node, so it has not taken its place: also if it was waited for when the disk was lost.
  if (!LOCKSTEP_MUTANT("awaited-server-is-not-back")) peer_is_back(index);
  // The handshake of this link could not compare our disk with a generation that the peer did not have yet. Nothing is
  // answered on it.
  if (had_no_name && disk_usable() && peer.replication == ReplicationState::Established) {
    return say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  if (is_served() && leave_served_generation(may_hold_served)) return;
  for (uint32_t slot = 0; slot < clients.size(); ++slot) complete_write_if_done(slot);
  waiting_may_start = true;
  start_flush_cycle_if_wanted();
}

// The peer, which was refused, has gone on from what our clients saw; or it has that no more, and nobody else may have
// it. Not one that this Primary has replaced, and that does not know it yet: whoever is promoted counts one term up.
bool Replica::State::is_overtaken(PeerIndex index) const {
  const StateReport& report = peers[index].peer_report;
  const auto went_on_from = [&report](const Generation& generation) {
    return !generation.is_zero() && report.current != generation &&
           (report.bitmap_generation == generation || report.previous_bitmap_generation == generation ||
            std::find(report.history.begin(), report.history.end(), generation) != report.history.end());
  };
  const bool is_no_newer =
      has_third_nodes() && report.term <= superblock.term && !LOCKSTEP_MUTANT("replaced-primary-overtakes");
  return (may_serve & ~mask_of(index)) == 0 || (report.role == Role::Primary && !is_no_newer) || went_on_from(served) ||
         went_on_from(served_previous);
}

// The peers that serve take another generation, by which those that may hold this one without them, and get nothing of
// what follows, are known to lack it. False if there are none.
bool Replica::State::leave_served_generation(PeerMask stale) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (peers[index].serve_asked) stale &= static_cast<PeerMask>(~mask_of(index));
  }
  if (stale == 0 || LOCKSTEP_MUTANT("served-generation-kept")) return false;
  if (awaits_left_servers(stale)) return false;
  served_leaving |= stale;
  may_hold_served = 0;
  served_previous = std::exchange(served, fresh_generation());
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!peers[index].serve_asked) continue;
    peers[index].serve_confirmed = false;
    ask_to_serve(index, served_previous);
  }
  return true;
}

// The arbiter counts them still, and without a disk nothing can be recorded by which this node would know its answer.
// So nothing is answered until they serve again, or the disk is back, or an operator gives them up. True: until then
// they hold the generation as well as the others do, who were not enough to answer what they lack.
bool Replica::State::awaits_left_servers(PeerMask left) {
  if (options.on_peer_loss != LossPolicy::Arbiter || LOCKSTEP_MUTANT("left-server-counts-still")) return false;
  bool awaits = false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if ((left & ~given_up_peers & mask_of(index)) == 0) continue;
    await_peer(index);
    awaits = true;
  }
  if (!awaits || waits_for_some()) return false;
  may_hold_served |= left;
  return true;
}

// Before the link's state is forgotten.
void Replica::State::server_lost(PeerIndex index) {
  Peer& peer = peers[index];
  Sequence unflushed_through = 0;
  // One that has got the stream since before the disk was lost, and is asked when it comes back, has as much to lose.
  const bool got_stream =
      gets_stream(peer) && peer.own_report.served != served && !LOCKSTEP_MUTANT("cut-off-server-lacks-nothing");
  if (!served.is_zero() && (peer.serve_asked || got_stream)) {
    for (Sequence sequence = std::max(transfer_log.first(), peer.flushed + 1); sequence <= transfer_log.last();
         ++sequence) {
      const TransferEntry& entry = transfer_log.at(sequence);
      if ((entry.sent_to & mask_of(index)) == 0 || entry.resync) continue;
      if (entry.client_slot != TransferEntry::kNoClient || entry.sent_again) continue;
      peer.lost_unflushed = true;
      unflushed_through = sequence;
    }
    peer.lost_unreceived = peer.lost_unreceived || has_answered_unreceived(index);
    peer.lost_as_target = peer.lost_as_target || (is_resync_source(peer) && !peer.resync_done_sent);
    if (paused_for == index || LOCKSTEP_MUTANT("any-lost-server-ends-pause")) {
      writes_paused = writes_paused_told = false;
    }
  }
  const bool served_us = peer.serve_asked;
  peer.serve_asked = peer.serve_confirmed = false;
  peer.reads_out = 0;
  for (uint32_t slot = 0; slot < clients.size(); ++slot) {
    if (clients[slot].phase != ClientSlot::Phase::RemoteReading || clients[slot].asked_of != index) continue;
    queue_remote_read(slot);
  }
  if (lacks_data()) note(NoteKind::DataUnreachable, index);
  const bool others_go_on =
      std::any_of(peers.begin(), peers.end(), [](const Peer& other) { return other.serve_asked; });
  if (served.is_zero() || !served_us) return;
  // From here on it lacks what the others get, and must not pass for one of them. Without others it may have handed the
  // generation on by the time that one of them serves.
  if (!others_go_on) {
    // What nobody else was sent, nobody else can bring.
    const bool lost = peer.lost_unreceived && !LOCKSTEP_MUTANT("third-node-brings-what-nobody-got");
    for (Peer& other : peers) other.lost_unreceived = other.lost_unreceived || lost;
    for (PeerIndex other = 0; other < peer_count(); ++other) {
      if ((may_serve & mask_of(other)) != 0) continue;  // it was asked itself
      peers[other].handed_on_through = std::max(peers[other].handed_on_through, unflushed_through);
    }
    may_hold_served = static_cast<PeerMask>((1U << peer_count()) - 1);
  } else if (is_served() || LOCKSTEP_MUTANT("next-generation-before-the-first-is-taken")) {
    leave_served_generation(mask_of(index));
  } else {
    may_hold_served |= mask_of(index);  // once the others have taken this one: serve_confirmed
  }
}

void Replica::State::queue_remote_read(uint32_t slot) {
  clients[slot].phase = ClientSlot::Phase::ReadWaiting;
  waiting_reads.push_back(slot);
}

void Replica::State::pump_remote_reads() {
  if (waiting_reads.empty()) return;
  size_t kept = 0;
  for (const uint32_t slot : waiting_reads) {
    ClientSlot& client = clients[slot];
    PeerIndex chosen = kNoPeer;
    for (PeerIndex index = 0; index < peer_count() && chosen == kNoPeer; ++index) {
      if (peers[index].serve_confirmed && (client.read_failed_at & mask_of(index)) == 0) chosen = index;
    }
    if (role != Role::Primary || must_fail_requests()) {
      reply(slot, failure_errno());
    } else if (served.is_zero()) {  // the disk is there again
      client.phase = ClientSlot::Phase::Reading;
      client.done_bytes = 0;
      act(SubmitRead{{SlotKind::Client, slot}, client.range});
    } else if (chosen == kNoPeer && client.read_failed_at != 0 && is_served()) {
      reply(slot, EIO);  // none of those that serve could read it
    } else if (chosen == kNoPeer || peers[chosen].reads_out == kServedReads) {
      waiting_reads[kept++] = slot;
    } else {
      client.phase = ClientSlot::Phase::RemoteReading;
      client.ticket = (++read_tickets << kTicketSlotBits) | slot;
      if (client.read_failed_at != 0) LOCKSTEP_MARK("read asked of another peer");
      client.asked_of = chosen;
      client.asked_us = now_us;
      ++peers[chosen].reads_out;
      const uint64_t length = std::min(client.range.length_bytes - client.done_bytes, kServedReadBytes);
      send(chosen, ReadRequest{client.ticket, {client.range.offset_bytes + client.done_bytes, length}});
    }
  }
  waiting_reads.resize(kept);
}

void Replica::State::read_reply_arrived(PeerIndex index, const ReadReply& message) {
  const uint64_t slot = message.ticket & ((uint64_t{1} << kTicketSlotBits) - 1);
  const bool awaited = slot < clients.size() && clients[slot].phase == ClientSlot::Phase::RemoteReading &&
                       clients[slot].ticket == message.ticket && clients[slot].asked_of == index;
  if (!awaited) return drop_peer(index, LinkEnd::BrokenRule, "an answer to a read that was not asked for");
  ClientSlot& client = clients[slot];
  const uint64_t wanted = std::min(client.range.length_bytes - client.done_bytes, kServedReadBytes);
  if (!message.failed && message.length_bytes != wanted) {
    return drop_peer(index, LinkEnd::BrokenRule, "an answer to a read that has another length");
  }
  --peers[index].reads_out;
  if (message.failed) {
    client.read_failed_at |= mask_of(index);
    return queue_remote_read(static_cast<uint32_t>(slot));
  }
  act(StoreRead{static_cast<uint32_t>(slot), client.done_bytes, message.length_bytes});
  client.done_bytes += message.length_bytes;
  if (client.done_bytes < client.range.length_bytes) return queue_remote_read(static_cast<uint32_t>(slot));
  ++reads;
  read_bytes += client.range.length_bytes;
  reply(static_cast<uint32_t>(slot), 0);
}

// The write was sent to peers that are gone, and is not answered: it starts again when one is there. Before those that
// came after it, so that it is not overtaken for ever.
void Replica::State::requeue_write(uint32_t slot) {
  ClientSlot& client = clients[slot];
  TransferEntry& entry = transfer_log.at(client.sequence);
  entry.client_slot = TransferEntry::kNoClient;
  entry.sent_again = true;
  busy_ranges.erase(slot);
  client.phase = ClientSlot::Phase::Waiting;
  client.promise = Promise{};
  client.extents_reserved = client.local_done = false;
  waiting.insert(waiting.begin(), slot);
  waiting_may_start = true;
}

void Replica::State::fail_requests_without_data() {
  pump_remote_reads();
  for (uint32_t slot = 0; slot < clients.size() && flush_waiting > 0; ++slot) {
    if (clients[slot].phase != ClientSlot::Phase::FlushWaiting) continue;
    --flush_waiting;
    reply(slot, failure_errno());
  }
  retry_waiting_writes();
  changed();
}

void Replica::State::pause_writes_arrived(PeerIndex index, const PauseWrites& message) {
  if (served.is_zero() || !peers[index].serve_asked || !is_resync_target(peers[index]) ||
      message.over != writes_paused) {
    // A role that was given up meanwhile is no fault of the source.
    if (role != Role::Primary) return;
    return drop_peer(index, LinkEnd::BrokenRule, "a pause of writes that nobody needs");
  }
  if (message.over) {
    if (!writes_paused_told) send(index, WritesPaused{});
    writes_paused = writes_paused_told = false;
    waiting_may_start = true;
    return;
  }
  writes_paused = true;
  writes_paused_told = false;
  paused_for = index;
}

// Once no write is on its way any more.
void Replica::State::tell_writes_paused() {
  if (!writes_paused || writes_paused_told) return;
  if (std::any_of(clients.begin(), clients.end(),
                  [](const ClientSlot& client) { return client.phase == ClientSlot::Phase::Writing; })) {
    return;
  }
  writes_paused_told = true;
  send(paused_for, WritesPaused{});
}

// This node's disk holds everything again. The caller persists that; a client's write comes after it, since it needs a
// record of the activity log first.
void Replica::State::leave_served_mode() {
  if (served.is_zero()) return;
  served = served_previous = Generation{};
  fails_held = writes_paused = writes_paused_told = false;
  if (LOCKSTEP_MUTANT("lost-data-forgotten")) data_lost = false;
  superblock.primary = true;
  set_answered_ahead(true);
  may_hold_current = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    peer.serve_asked = peer.serve_confirmed = false;
    peer.lost_unflushed = peer.lost_unreceived = peer.lost_as_target = false;
    peer.handed_on_through = 0;
    // Of several peers one may have got it from another since this node heard of it last.
    const bool is_left_out = has_third_nodes() ? !gets_stream(peer) : peer.incarnation == 0;
    if (is_left_out && (has_third_nodes() || may_hold_our_current(superblock.peers[index]))) {
      may_hold_current |= mask_of(index);
    }
  }
  waiting_may_start = true;
}

}  // namespace lockstep::repl
