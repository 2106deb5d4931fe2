// Protocols A, B and C, each peer with its own: what a write waits for, what the peer is told about its duties, how far
// A may run ahead, when a peer that lags is stuck, and the change from one protocol to another while writes flow.
#include <algorithm>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

// What the peer must have done with a write before the client is told of it.
Milestone Replica::State::milestone(const Peer& peer, bool fua) const {
  // Without a disk here the peer's is the only one: no protocol promises less.
  if (!served.is_zero()) return fua ? Milestone::Flushed : Milestone::Written;
  switch (protocol_of_answers(peer)) {
    case Protocol::A:
      return Milestone::Sent;
    case Protocol::B:
      return fua ? Milestone::Flushed : Milestone::Received;
    case Protocol::C:
      break;
  }
  return fua && !LOCKSTEP_MUTANT("fua-is-an-ordinary-write") ? Milestone::Flushed : Milestone::Written;
}

// A peer that still calls itself waited for would be a survivor's source, whatever it lacks. So nothing is answered
// under A before it has heard otherwise.
Protocol Replica::State::protocol_of_answers(const Peer& peer) const {
  const bool is_unaware = peer.pongs < peer.unaware_until && !LOCKSTEP_MUTANT("unaware-peer-is-not-waited-for");
  return is_unaware ? std::max(peer.protocol, Protocol::B) : peer.protocol;
}

// In front of what they are meant for, so that they hold from that place in the stream on. They stay until nothing that
// an earlier, weaker protocol answered is outstanding.
void Replica::State::tell_stream_rules(PeerIndex index, bool again) {
  Peer& peer = peers[index];
  const bool wanted = role == Role::Primary && (peer.protocol_kept != Protocol::C || waits_for_some());
  // Before it opens it has answered nothing, and does not say how it will.
  const bool is_open = role == Role::Primary && stage != OrderStage::Opening;
  const bool waits = has_third_nodes() && is_open && !superblock.peers[index].answered_ahead;
  const bool records = has_third_nodes() && waits_for_some();
  const StreamRules rules{wanted, wanted, waits, records, has_third_nodes() && is_open ? superblock.term : 0};
  if (rules == peer.rules_told && !again) return;
  if (records && !peer.rules_told.recorded) peer.records_after = peer.sent;
  peer.rules_told = rules;
  send(index, rules);
  peer.unaware_until = 0;
  if (has_third_nodes() && is_open && !waits) {
    send_ping(index);
    peer.unaware_until = peer.pings;
  }
}

void Replica::State::sent_to_peer(PeerIndex index, Sequence sequence, const TransferEntry& entry) {
  Peer& peer = peers[index];
  if (peer.sent == peer.received) peer.receiving_since_us = now_us;
  peer.sent = sequence;
  peer.run = peer.peer_report.run;
  peer.unwritten_bytes += entry.range.length_bytes;
  peer.unreceived_payload_bytes += entry.payload_bytes;
}

// Nothing but the memory that it takes bounds how far A, or a write that other peers have, runs ahead of a peer that is
// slow and not stuck.
bool Replica::State::queue_is_full() const {
  return std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) {
    return (peer.protocol == Protocol::A || waits_for_some()) &&
           peer.unreceived_payload_bytes >= options.queue_limit_bytes;
  });
}

// A flush or FUA write is about to be answered. Where the peer has not made stable what that covers, a barrier follows
// in the stream, before anything that the client writes because of the answer.
void Replica::State::put_barrier_behind(Sequence sequence) {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    const Sequence covers = std::min(sequence, peer.sent);
    if (gets_stream(peer) && peer.flushed < covers && peer.barrier_sent < covers) send_barrier(index, peer.sent);
  }
}

void Replica::State::note_progress(PeerIndex index, const Acknowledged& message) {
  Peer& peer = peers[index];
  if (message.received_through > peer.received) {
    peer.receiving_since_us = now_us;
    if (peer.received == peer.written) peer.writing_since_us = now_us;
  }
  if (message.written_through > peer.written) peer.writing_since_us = now_us;
}

Sequence Replica::State::oldest_unwritten(PeerIndex index) const {
  const Peer& peer = peers[index];
  // Older entries may be of a time without the peer, and some behind may be written out of order.
  for (Sequence sequence = std::max(peer.written + 1, transfer_log.first()); sequence <= peer.sent; ++sequence) {
    const TransferEntry& entry = transfer_log.at(sequence);
    if ((entry.sent_to & ~entry.written_by & mask_of(index)) != 0) return sequence;
  }
  return 0;
}

// A client waits for this write, and might go on if this peer had it.
bool Replica::State::is_waited_for(PeerIndex index, Sequence sequence) const {
  const uint32_t slot = transfer_log.at(sequence).client_slot;
  if (slot == TransferEntry::kNoClient) return false;
  const ClientSlot& client = clients[slot];
  return client.local_done && !enough(client.promise) && (client.promise.kept & mask_of(index)) == 0;
}

// A peer that still answers pings while something is stuck stalls the clients all the same. Where clients wait for the
// peer, nothing may take longer than peer-timeout; where they do not, the peer may be far behind as long as it goes on.
bool Replica::State::is_stuck(PeerIndex index) const {
  const Peer& peer = peers[index];
  const auto is_late = [this](uint64_t since_us) {
    return now_us > since_us && now_us - since_us >= options.peer_timeout_us;
  };
  const bool barrier_outstanding = peer.barrier_sent > peer.flushed;
  if (waits_for_some()) {
    const bool flush_waits = cycle_running && (cycle_promise.asked & ~cycle_promise.kept & mask_of(index)) != 0 &&
                             barrier_outstanding && is_late(peer.barrier_sent_us);
    const Sequence oldest = oldest_unwritten(index);
    if (flush_waits || (oldest != 0 && is_waited_for(index, oldest) && is_late(transfer_log.at(oldest).sent_us))) {
      return true;
    }
  } else if (peer.protocol_kept == Protocol::C) {
    const Sequence oldest = oldest_unwritten(index);
    return (barrier_outstanding && is_late(peer.barrier_sent_us)) ||
           (oldest != 0 && is_late(transfer_log.at(oldest).sent_us));
  }
  if (peer.received > peer.written && is_late(peer.writing_since_us)) return true;
  if (peer.protocol_kept == Protocol::A || waits_for_some()) {
    return (peer.sent > peer.received && is_late(peer.receiving_since_us)) ||
           (barrier_outstanding && peer.written >= peer.barrier_sent &&
            is_late(std::max(peer.barrier_sent_us, peer.writing_since_us)));
  }
  Sequence unreceived = std::max(peer.received + 1, transfer_log.first());
  while (unreceived <= peer.sent && (transfer_log.at(unreceived).sent_to & mask_of(index)) == 0) ++unreceived;
  return (barrier_outstanding && is_late(peer.barrier_sent_us)) ||
         (unreceived <= peer.sent && is_late(transfer_log.at(unreceived).sent_us));
}

// Writes that were answered and may never have reached the peer, or its disk, where only some are waited for: without
// it, this node's data is a lineage of its own.
bool Replica::State::has_answered_unreceived(PeerIndex index) const {
  const Peer& peer = peers[index];
  const bool looks_at_disk = waits_for_some() && peer.protocol_kept == Protocol::C;
  const Sequence has = looks_at_disk ? peer.written : peer.received;
  for (Sequence sequence = std::max(has + 1, transfer_log.first()); sequence <= peer.sent; ++sequence) {
    const TransferEntry& entry = transfer_log.at(sequence);
    if (looks_at_disk && (entry.written_by & mask_of(index)) != 0) continue;
    if ((entry.sent_to & mask_of(index)) != 0 && !entry.resync && entry.client_slot == TransferEntry::kNoClient &&
        !entry.sent_again) {
      return true;
    }
  }
  return false;
}

// Durable before the first such answer: after a crash the other side must not take its copy for as good as this one.
// True if the superblock is to be written.
bool Replica::State::set_answered_ahead(bool primary) {
  bool differs = false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    PeerRecord& record = superblock.peers[index];
    const Peer& peer = peers[index];
    // A Primary that lost its disk with the metadata has crashed as one.
    const bool is_gone = superblock.primary && !primary && !disk_usable();
    const bool lost = !served.is_zero() && peer.lost_unreceived;
    const bool forgets = LOCKSTEP_MUTANT("lost-disk-was-not-ahead");
    const bool from_crash = (record.crashed_primary || (is_gone && !forgets)) && record.answered_ahead;
    const bool may_lack =
        peer.protocol_kept == Protocol::A || some_are_enough() || peer.lacks_answered || (lost && !forgets);
    const bool wanted = from_crash || (primary && may_lack);
    differs = differs || record.answered_ahead != wanted;
    record.answered_ahead = wanted;
  }
  return differs;
}

// New writes follow the new protocol at once. What an earlier and weaker one has answered is not forgotten: the change
// is over when the peer has all of that on stable storage, or is gone and its blocks are marked.
void Replica::State::order_protocol(const OrderGiven& given) {
  if (protocol_ordered) {
    act(OrderAnswered{given.ticket, Outcome::Busy, given.peer});
    return;
  }
  protocol_ordered = true;
  protocol_ticket = given.ticket;
  protocol_persist = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!given.every_peer && given.peer != index) continue;
    Peer& peer = peers[index];
    peer.protocol = given.peer_protocols[index].value_or(given.protocol);
    peer.protocol_kept = std::min(peer.protocol_kept, peer.protocol);
    peer.protocol_drains_through = transfer_log.last();
  }
  if (set_answered_ahead(role == Role::Primary)) reply_floor = protocol_persist = persist_superblock();
  waiting_may_start = true;
  advance_protocol_change();
  changed();
}

void Replica::State::advance_protocol_change() {
  bool drained = true;
  bool strengthened = false;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    if (peer.protocol_kept == peer.protocol) continue;
    if (role == Role::Primary && gets_stream(peer) &&
        peer.flushed < std::min(peer.protocol_drains_through, peer.sent)) {
      drained = false;
      flush_wanted = true;
      continue;
    }
    peer.protocol_kept = peer.protocol;
    strengthened = true;
  }
  if (strengthened) {
    if (set_answered_ahead(role == Role::Primary)) protocol_persist = persist_superblock();
    for (PeerIndex index = 0; index < peer_count() && has_third_nodes(); ++index) {
      if (gets_stream(peers[index])) tell_stream_rules(index);
    }
    changed();
  }
  if (!protocol_ordered || !drained) return;
  protocol_ordered = false;
  act(OrderAnswered{protocol_ticket, Outcome::Done, 0, is_durable(protocol_persist) ? 0 : protocol_persist});
}

}  // namespace lockstep::repl
