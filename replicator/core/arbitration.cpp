// on-peer-loss = arbiter: what is asked of the arbiter, and what follows from its answers.
//
// The arbiter keeps, for the resource, the set of nodes that hold everything that was answered. Only a node that is in
// the set may take others out of it, and whoever takes the other out first has won:
//   FencePeers   a Primary has lost peers. It answers nothing before they are out of the set
//   Promote      a Secondary wants to be Primary while peers are absent. It becomes so only when they are out
//   PeersInSync  two nodes are in sync again. The peer is put back, unless the set has changed hands meanwhile:
//                each of the other two questions names a new generation, which this one must know
// An answer that is not clear is no answer: the node stays as it is, and asks again.
#include <algorithm>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {
constexpr uint64_t kFirstPauseUs = 1'000'000;
constexpr uint64_t kLongestPauseUs = 30'000'000;
}  // namespace

PeerMask Replica::State::absent_peers() const {
  PeerMask absent = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!is_connected(peers[index])) absent |= mask_of(index);
  }
  return absent;
}

bool Replica::State::promotion_needs_arbiter() const {
  return options.on_peer_loss == LossPolicy::Arbiter && !order.peer_fenced && !order.give_generation &&
         (absent_peers() & ~arbiter.promoted_without) != 0;
}

// A Primary that cannot reach us any more answers its clients until peer-timeout after the last question that we
// answered, at the most. Clocks may run a little apart.
bool Replica::State::absent_primary_has_stopped() const {
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (!is_connected(peer) && now_us < peer.absent_since_us + options.peer_timeout_us + options.peer_timeout_us / 4) {
      return false;
    }
  }
  return true;
}

// Peers that hold everything, and that the arbiter is not known to count.
PeerMask Replica::State::peers_to_include() const {
  PeerMask mask = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const Peer& peer = peers[index];
    if (peer.replication == ReplicationState::Established && peer.disk_state == DiskState::UpToDate &&
        disk_state == DiskState::UpToDate) {
      mask |= mask_of(index);
    }
  }
  return static_cast<PeerMask>(mask & ~arbiter.included);
}

// Peers that do not get what is written from here on. One that left in good order the arbiter may still count, or one
// that is brought up to date. Whoever is taken out, and has not heard of it, would bring those to where it is itself.
PeerMask Replica::State::peers_behind() const {
  PeerMask mask = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (peers[index].replication != ReplicationState::Established) mask |= mask_of(index);
  }
  return mask;
}

void Replica::State::advance_arbitration() {
  if (options.on_peer_loss != LossPolicy::Arbiter || stopping || !disk_usable() || persist_failed) return;
  if (stage == OrderStage::WaitForArbiter && !promotion_needs_arbiter() && !somebody_came_back()) {
    stage = OrderStage::WaitForApplies;
    return advance_order();
  }
  const bool busy = arbiter.ticket != 0;
  if (role == Role::Primary && !demoting && awaited_peers != 0) {
    // What else was asked is not waited for: clients are.
    if (busy && arbiter.question == ArbiterQuestion::FencePeers) return;
    if (!busy && now_us < arbiter.next_us) return;
    if (const PeerMask mask = peers_to_include(); arbiter.refused_unsure && mask != 0) {
      if (!busy) ask_arbiter(ArbiterQuestion::PeersInSync, mask);
      return;
    }
    return ask_arbiter(ArbiterQuestion::FencePeers, awaited_peers);
  }
  if (stage == OrderStage::WaitForArbiter) {
    if ((busy && arbiter.question == ArbiterQuestion::Promote) || !absent_primary_has_stopped()) return;
    return ask_arbiter(ArbiterQuestion::Promote, absent_peers());
  }
  // Either side, since only one of them may know the generation of the arbiter's record.
  if (busy || demoting || now_us < arbiter.next_us) return;
  if (const PeerMask mask = peers_to_include(); mask != 0) ask_arbiter(ArbiterQuestion::PeersInSync, mask);
}

void Replica::State::ask_arbiter(ArbiterQuestion question, PeerMask mask) {
  AskArbiter ask;
  ask.ticket = arbiter.ticket = ++arbiter.tickets;
  ask.question = arbiter.question = question;
  ask.peers = arbiter.asked = mask;
  if (question != ArbiterQuestion::PeersInSync) {
    const PeerMask others = LOCKSTEP_MUTANT("peer-that-left-stays-in-the-set") ? PeerMask{0} : peers_behind();
    ask.behind = arbiter.asked_behind = static_cast<PeerMask>(others & ~mask);
    // Stored before anybody can know it: else, after a crash, the node would not recognise the record that it made.
    ask.generation = superblock.reserved = arbiter.asked_name = fresh_generation();
    persist_superblock();
    arbiter.included = 0;
  } else {
    // Who was taken out knows this node's present generation: while the next is not in use yet, the record keeps it.
    const bool goes_on_in_next = role == Role::Primary || stage != OrderStage::None;
    const bool uses_next = goes_on_in_next && !superblock.reserved.is_zero();
    const bool keeps_next = uses_next && !LOCKSTEP_MUTANT("record-bears-a-name-that-others-know");
    ask.generation = keeps_next ? superblock.reserved : superblock.current;
  }
  ask.after_persist = is_durable(asked_persist) ? 0 : asked_persist;
  act(ask);
}

void Replica::State::on(const ArbiterAnswered& event) {
  if (event.ticket == 0 || event.ticket != arbiter.ticket) return;  // of a question that is not asked any more
  arbiter.ticket = 0;
  switch (arbiter.question) {
    case ArbiterQuestion::FencePeers:
      peers_fenced(event.verdict);
      break;
    case ArbiterQuestion::Promote:
      promotion_judged(event.verdict);
      break;
    case ArbiterQuestion::PeersInSync:
      // Denied, too: asked again, it would not know better. The peer may.
      if (event.verdict != ArbiterVerdict::Unclear) arbiter.included |= arbiter.asked;
      break;
  }
  // Denied while the peers are brought up to date: the answer will be the same until they are.
  const bool still_awaits = arbiter.question == ArbiterQuestion::FencePeers &&
                            event.verdict == ArbiterVerdict::Denied && awaited_peers != 0 && !demoting &&
                            !arbiter.refused_unsure;
  if (event.verdict != ArbiterVerdict::Unclear && !still_awaits) {
    arbiter.pause_us = kFirstPauseUs;
    arbiter.next_us = 0;
  } else {
    arbiter.pause_us = std::clamp(arbiter.pause_us, kFirstPauseUs, kLongestPauseUs);
    arbiter.next_us = now_us + arbiter.pause_us;
    arbiter.pause_us = std::min(2 * arbiter.pause_us, kLongestPauseUs);
  }
  changed();
}

// Of a peer that came back before the answer nothing is wanted any more: it is put back into the set.
void Replica::State::peers_fenced(ArbiterVerdict verdict) {
  const auto mask = static_cast<PeerMask>(arbiter.asked & awaited_peers);
  const bool was_unsure = std::exchange(arbiter.refused_unsure, false);
  if (role != Role::Primary || demoting || mask == 0) return;
  switch (verdict) {
    case ArbiterVerdict::Granted:
      if ((peers_behind() & ~(arbiter.asked | arbiter.asked_behind)) != 0 &&
          !LOCKSTEP_MUTANT("peer-that-left-stays-in-the-set")) {
        return;  // another one left in good order meanwhile: asked again
      }
      // A peer was back meanwhile, and this node has gone on in the name that the record bears now. Who holds it as
      // well may be promoted: asked again, with another name.
      if (superblock.reserved != arbiter.asked_name && !LOCKSTEP_MUTANT("record-bears-a-name-in-use")) return;
      return give_up_peers(mask);
    case ArbiterVerdict::Denied:
      // A peer is in sync with this node, and the arbiter may not have heard of it: a node that was brought up to date
      // and promoted at once is not in the set, and nobody is Primary in its place. If one is, it will not be put in.
      if (!was_unsure && peers_to_include() != 0 && !LOCKSTEP_MUTANT("refused-before-it-was-put-in")) {
        arbiter.refused_unsure = true;
        return;
      }
      // Peers that are being brought up to date by this node are Primary nowhere, whatever the record says.
      if (std::all_of(peers.begin(), peers.end(), [this](const Peer& peer) { return gets_stream(peer); })) return;
      if (LOCKSTEP_MUTANT("denied-while-one-follows") &&
          std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) { return gets_stream(peer); })) {
        return;
      }
      return step_down("the arbiter has another node as Primary");
    case ArbiterVerdict::Unclear:
      return note(NoteKind::ArbiterUnclear, 0);
  }
}

void Replica::State::promotion_judged(ArbiterVerdict verdict) {
  if (verdict == ArbiterVerdict::Granted) arbiter.promoted_without |= arbiter.asked;
  if (stage != OrderStage::WaitForArbiter) return;  // a peer shakes hands meanwhile: what it is comes first
  switch (verdict) {
    case ArbiterVerdict::Granted:
      return advance_arbitration();
    case ArbiterVerdict::Denied:
      return promote_failed(Outcome::ArbiterDenied, 0);
    case ArbiterVerdict::Unclear:
      return promote_failed(Outcome::ArbiterUnclear, 0);
  }
}

}  // namespace lockstep::repl
