#include <algorithm>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {

void Replica::State::on(const OrderGiven& given) {
  const bool takes_time = given.kind == OrderKind::Promote || given.kind == OrderKind::Demote ||
                          given.kind == OrderKind::Switchover || given.kind == OrderKind::Shutdown ||
                          given.kind == OrderKind::Resize;
  if (given.kind == OrderKind::Shutdown && stage == OrderStage::Resizing && !stopping) {
    // It may wait for zeroes to be written for long; what was begun is completed, or not, at the next handshake.
    answer(Outcome::Stopping);
  }
  if (stopping || (takes_time && (stage != OrderStage::None || switchover_asked))) {
    act(OrderAnswered{given.ticket, stopping ? Outcome::Stopping : Outcome::Busy, given.peer});
    return;
  }
  switch (given.kind) {
    case OrderKind::Connect:
    case OrderKind::Disconnect:
      return order_connection(given);
    case OrderKind::Resync:
      return order_resync(given);
    case OrderKind::PauseResync:
    case OrderKind::ResumeResync:
      return order_pause(given);
    case OrderKind::Invalidate:
      return order_invalidate(given);
    case OrderKind::InvalidatePeer:
      return order_invalidate_peer(given);
    case OrderKind::SetProtocol:
      return order_protocol(given);
    case OrderKind::Suspend:
    case OrderKind::Resume:
    case OrderKind::AbandonHeld:
      return order_suspension(given);
    case OrderKind::Outdate:
      return order_outdate(given);
    case OrderKind::Verify:
      return order_verify(given);
    case OrderKind::Detach:
      return order_detach(given);
    default:
      break;
  }
  order = given;
  order_from = OrderFrom::Operator;
  restoring = false;
  switch (given.kind) {
    case OrderKind::Promote:
      return order_promote();
    case OrderKind::Switchover:
      return order_switchover();
    case OrderKind::Resize:
      return order_resize();
    default:
      return order_demote();
  }
}

// Ends the order under way.
void Replica::State::answer(Outcome outcome, PeerIndex about, PersistId after) {
  if (stage == OrderStage::Resizing) end_resize();
  stage = OrderStage::None;
  grants_outstanding = 0;
  // A grant is for this order alone: what the arbiter keeps may change after it.
  arbiter.promoted_without = 0;
  if (arbiter.question == ArbiterQuestion::Promote) arbiter.ticket = 0;
  const PersistId wait = is_durable(after) ? 0 : after;
  switch (order_from) {
    case OrderFrom::Operator:
      act(OrderAnswered{order.ticket, outcome, about, wait});
      break;
    case OrderFrom::PeerSwitchover:
      // On a link that has not shaken hands yet nobody waits for it any more.
      if (!is_connected(peers[order.peer])) break;
      send(order.peer, SwitchoverAnswer{order.ticket, static_cast<uint8_t>(outcome)}, {}, wait);
      break;
    case OrderFrom::PeerTakeOver:
      if (!is_connected(peers[order.peer])) break;
      send(order.peer, TakeOverAnswer{order.ticket, outcome == Outcome::Done}, {}, wait);
      break;
    case OrderFrom::Nobody:
      break;
  }
}

Outcome Replica::State::promotable(PeerIndex& about, bool peer_fenced) const {
  if (role == Role::Primary) return Outcome::AlreadySo;
  if (stopping) return Outcome::Stopping;
  if (!disk_usable()) return Outcome::NoDisk;
  for (about = 0; about < peer_count(); ++about) {
    if (is_connected(peers[about]) && peers[about].role == Role::Primary) return Outcome::PeerIsPrimary;
  }
  about = 0;
  // What the arbiter counts as in sync holds all that was answered, whatever became of the node since.
  const bool asks_arbiter = options.on_peer_loss == LossPolicy::Arbiter && !peer_fenced && absent_peers() != 0;
  if (disk_state != DiskState::UpToDate && !(asks_arbiter && disk_state == DiskState::Consistent) &&
      !LOCKSTEP_MUTANT("promoted-in-any-state")) {
    return Outcome::NotUpToDate;
  }
  for (about = 0; about < peer_count(); ++about) {
    const Peer& peer = peers[about];
    if (is_connected(peer)) {
      // Found while a Primary was to decide, who is none any more.
      const bool is_behind = peer.decision.rule == Rule::PrimaryDecidesSelfIsBehind &&
                             peer.replication == ReplicationState::Off &&
                             !LOCKSTEP_MUTANT("promoted-behind-a-waiting-peer");
      if (is_behind) return Outcome::NotUpToDate;
      if (peer.granted) return Outcome::PeerSaidNo;
    } else if (!peer_fenced && !asks_arbiter && !LOCKSTEP_MUTANT("promoted-without-peer")) {
      return Outcome::PeerAbsent;
    }
  }
  about = 0;
  return Outcome::Done;
}

bool Replica::State::is_shaking_hands() const {
  return std::any_of(peers.begin(), peers.end(),
                     [](const Peer& peer) { return peer.incarnation != 0 && !peer.decided; });
}

bool Replica::State::somebody_came_back() const {
  return (~absent_peers() & ~asked_for_grant & ((1U << peer_count()) - 1)) != 0;
}

void Replica::State::order_promote() {
  PeerIndex about = 0;
  if (order.give_generation && role != Role::Primary) {
    if (!disk_usable()) return answer(Outcome::NoDisk);
    if (order.generation != superblock.current) return answer(Outcome::WrongGeneration);
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      if (peers[index].incarnation == 0) continue;
      return answer(peers[index].role == Role::Primary ? Outcome::PeerIsPrimary : Outcome::ConnectedPeer, index);
    }
    stage = OrderStage::WaitForApplies;
    return advance_order();
  }
  if (role != Role::Primary && is_shaking_hands()) {
    LOCKSTEP_MARK("promotion waits for a handshake");
    // Who that is, and whether there is anybody at all, is known when the handshake ends: within peer-timeout.
    stage = OrderStage::WaitForHandshakes;
    return;
  }
  const Outcome outcome = promotable(about, order.peer_fenced);
  if (outcome != Outcome::Done) {
    // Asked again, since a peer came back: the others have granted it.
    const bool was_granted = asked_for_grant != 0 && !LOCKSTEP_MUTANT("second-attempt-keeps-grants");
    return was_granted ? promote_failed(outcome, about) : answer(outcome, about);
  }
  first_generation = superblock.current.is_zero() ? fresh_generation() : Generation{};
  if (!first_generation.is_zero() &&
      std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) { return is_connected(peer); })) {
    if (offered_generation.is_zero()) offered_generation = first_generation;
    first_generation = offered_generation;
  }
  grants_outstanding = 0;
  ++promote_ticket;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!is_connected(peers[index])) continue;
    grants_outstanding |= mask_of(index);
    // A peer that was never written to may not have heard of the generation that a third one offered us. Once that is
    // in use it lacks what was written, and the name would hide it.
    const bool is_unused =
        superblock.unanswered_since == kHeldByNobody || LOCKSTEP_MUTANT("used-generation-given-to-empty-disk");
    const bool may_lack =
        has_third_nodes() && is_unused && first_generation.is_zero() && peers[index].peer_report.current.is_zero();
    send(index, PromoteRequest{promote_ticket, may_lack ? superblock.current : first_generation});
  }
  asked_for_grant = grants_outstanding;
  stage = grants_outstanding != 0     ? OrderStage::WaitForGrants
          : promotion_needs_arbiter() ? OrderStage::WaitForArbiter
                                      : OrderStage::WaitForApplies;
  advance_order();
}

// Of two nodes that ask at the same time, the one whose name sorts first wins; so at most one is granted.
void Replica::State::promote_request_arrived(PeerIndex index, const PromoteRequest& message) {
  Peer& peer = peers[index];
  const bool certain = stage == OrderStage::WaitForArbiter || stage == OrderStage::WaitForApplies;
  const bool asking = stage == OrderStage::WaitForGrants || certain;
  const bool granted_other =
      std::any_of(peers.begin(), peers.end(), [&peer](const Peer& other) { return &other != &peer && other.granted; });
  const bool first_fits = message.first_generation.is_zero() || superblock.current.is_zero() ||
                          message.first_generation == superblock.current;
  // Its clients would write where this node, which grows last by its own order, has nothing yet.
  const bool grows = stage == OrderStage::Resizing && !LOCKSTEP_MUTANT("promoted-while-growing");
  if (role == Role::Primary || granted_other || sees_primary(index) || !first_fits || stopping || grows ||
      (asking && !LOCKSTEP_MUTANT("two-promotions-granted") &&
       (certain || options.node_order < peer.peer_report.node_order))) {
    LOCKSTEP_MARK("promotion refused by a peer");
    send(index, PromoteAnswer{message.ticket, false});
    // It does not know what a third node offered us; the handshake tells.
    if (has_third_nodes() && !first_fits) say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    return;
  }
  if (asking && !LOCKSTEP_MUTANT("two-promotions-granted")) promote_failed(Outcome::PeerSaidNo, index);
  interrupt_verifies();
  const bool again = std::exchange(peer.granted, true);  // asked once more, since a third one has come back
  PersistId after = 0;
  if (!message.first_generation.is_zero() && message.first_generation != superblock.current && disk_usable()) {
    // With several peers two may ask at once, and each be granted by another: neither generation is used then. Nor is
    // one whose asker had crashed when it was granted.
    const bool is_first = superblock.current.is_zero();
    superblock.unanswered_since = is_first ? kHeldByNobody : Generation{};
    hold_generation(message.first_generation);
    after = persist_superblock();
    changed();
  }
  if (!again || LOCKSTEP_MUTANT("second-grant-forgets-waited-for")) peer.waited_for_before = superblock.waited_for;
  // That it was not stays true: the asker may lack as much.
  const bool forgets = superblock.waited_for == WaitedFor::Yes ||
                       (superblock.waited_for == WaitedFor::No && LOCKSTEP_MUTANT("granted-promotion-forgets-lack"));
  if (forgets && disk_usable() && !LOCKSTEP_MUTANT("waited-for-by-the-one-before")) {
    superblock.waited_for = WaitedFor::Unknown;  // the new Primary says what it waits for
    after = persist_superblock();
  }
  send(index, PromoteAnswer{message.ticket, true}, {}, after);
}

// It is not Primary: what was waited for is as it was.
void Replica::State::grant_taken_back(Peer& peer) {
  const WaitedFor before = std::exchange(peer.waited_for_before, WaitedFor::Unknown);
  const bool was_forgotten = superblock.waited_for == WaitedFor::Unknown && before != WaitedFor::Unknown;
  if (!was_forgotten || !disk_usable() || LOCKSTEP_MUTANT("failed-promotion-forgets-waited-for")) return;
  superblock.waited_for = before;
  persist_superblock();
}

void Replica::State::promote_answer_arrived(PeerIndex index, const PromoteAnswer& message) {
  if (stage != OrderStage::WaitForGrants || message.ticket != promote_ticket) return;
  if (!message.granted) return promote_failed(Outcome::PeerSaidNo, index);
  grants_outstanding &= static_cast<PeerMask>(~mask_of(index));
  if (grants_outstanding == 0) {
    stage = promotion_needs_arbiter() ? OrderStage::WaitForArbiter : OrderStage::WaitForApplies;
    advance_order();
  }
}

void Replica::State::promote_failed(Outcome outcome, PeerIndex about) {
  tell_state();  // takes back what others granted; before the answer, which may make one of them ask itself
  asked_for_grant = 0;
  answer(outcome, about);
}

void Replica::State::advance_order() {
  const bool about_to_be = stage == OrderStage::WaitForArbiter || stage == OrderStage::WaitForApplies;
  // It may hold more than this node does, and a resync from it may be on its way: asked for its grant, it says so
  // first.
  if (about_to_be && !order.give_generation && somebody_came_back()) return order_promote();
  switch (stage) {
    case OrderStage::WaitForApplies:
      // What the last Primary sent is on its way to the disk: reads must not overtake it.
      if (!order.give_generation && is_shaking_hands()) {
        stage = OrderStage::WaitForHandshakes;
      } else if (promotion_needs_arbiter()) {
        stage = OrderStage::WaitForArbiter;  // another peer was lost meanwhile
      } else if ((apply_count == 0 && !local_flush_in_flight) ||
                 LOCKSTEP_MUTANT("promoted-before-writes-are-applied")) {
        if (owes_stable_copy()) {
          LOCKSTEP_MARK("promotion waits for the disk's cache");
          return start_peer_flush_if_wanted();
        }
        become_primary();
      }
      return;
    case OrderStage::WaitForArbiter:
      if (is_shaking_hands()) stage = OrderStage::WaitForHandshakes;
      return;
    case OrderStage::WaitForHandshakes:
      if (!is_shaking_hands()) order_promote();
      return;
    case OrderStage::Opening:
      if (!is_durable(opening_persist) || local_cycles_done < opening_cycle) return;
      // Not before: one that crashes now has answered nothing, and gives way to a Primary that has.
      if (set_answered_ahead(true) || (has_third_nodes() && !term_begun)) {
        if (has_third_nodes()) begin_term();
        reply_floor = opening_persist = persist_superblock();
        return;
      }
      open_export();
      for (PeerIndex index = 0; index < peer_count() && has_third_nodes(); ++index) {
        if (gets_stream(peers[index]))
          tell_stream_rules(index, true);  // none that was waited for knows since it granted this promotion
      }
      return;
    case OrderStage::Draining:
    case OrderStage::WaitForDemotion:
      return advance_demotion();
    case OrderStage::Resizing:
      return advance_resize();
    default:
      return;
  }
}

// What is here counts from here on.
void Replica::State::begin_term() {
  if (std::exchange(term_begun, true)) return;
  before_term = {superblock.term, superblock.waited_for, position};
  superblock.waited_for = WaitedFor::Yes;
  for (const Peer& peer : peers) superblock.term = std::max(superblock.term, peer.peer_report.term);
  ++superblock.term;
  position = StreamPosition{};  // what was made stable of the last Primary's stream is so still
}

void Replica::State::become_primary() {
  PeerIndex about = 0;
  if (!order.give_generation) {
    // While applies ran out the world may have changed: a peer that was absent may have come back.
    const Outcome outcome = promotable(about, order.peer_fenced);
    if (outcome != Outcome::Done) return promote_failed(outcome, about);
  } else if (!disk_usable()) {
    return promote_failed(Outcome::NoDisk, 0);
  } else if (std::any_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.incarnation != 0; })) {
    return promote_failed(Outcome::ConnectedPeer, 0);
  }
  interrupt_verifies();
  forget_preparations();
  const PeerMask absent = absent_peers();
  if (has_third_nodes()) restart_undecided_links();
  const auto restarting = static_cast<PeerMask>(absent_peers() & ~absent);
  role = Role::Primary;
  superblock.primary = !LOCKSTEP_MUTANT("primary-not-recorded");
  awaited_peers = given_up_peers = 0;
  suspended_by_operator = abandons_held = was_replaced = false;
  for (Peer& peer : peers) peer.in_sync_by_primary = false;  // another one's word
  given_up_peers = LOCKSTEP_MUTANT("restarted-peer-is-given-up") ? absent_peers() : absent;
  const bool takes_generation = order.give_generation || !first_generation.is_zero();
  if (takes_generation) {
    // An absent peer may have taken the first generation that it was offered when it could still be asked.
    const Generation old = superblock.current.is_zero() ? offered_generation : superblock.current;
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      PeerRecord& record = superblock.peers[index];
      const bool took_it = is_connected(peers[index]) && is_disk(peers[index].disk_state);
      if (!took_it) leave_behind(record, old);
    }
    // A peer may hold what this node held, and no slot have room for it beside what it held before.
    if (has_third_nodes() && !LOCKSTEP_MUTANT("forced-promotion-forgets-its-past")) {
      remember(superblock.undone);
      remember(old);
    }
    generation_before = superblock.current;
    hold_generation(order.give_generation ? fresh_generation() : first_generation);
    const bool is_unused = !order.give_generation && !LOCKSTEP_MUTANT("first-generation-used-when-promoted");
    superblock.unanswered_since = is_unused ? kHeldByNobody : Generation{};
  }
  if (disk_state == DiskState::Consistent) become_up_to_date();  // the arbiter knows it to be
  if (order.give_generation) {
    superblock.forced = true;
    become_up_to_date();
  }
  set_answered_ahead(LOCKSTEP_MUTANT("promoted-ahead-before-it-opens"));
  may_hold_current = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    // Also one that is known to be behind: it may be Primary, without a disk, in the generation in which this node
    // served it; or, of several peers, have got it from another one.
    const bool is_left_out =
        !gets_stream(peers[index]) || (has_third_nodes() && peers[index].replication == ReplicationState::WFBitMapS);
    if (is_left_out) may_hold_current |= mask_of(index);
  }
  // A peer without a disk is no use as a copy, and may restart with it: what it may do then the arbiter must know
  // first. Also one that this node has served: that its disk is behind may be recorded here alone.
  for (PeerIndex index = 0; index < peer_count() && options.on_peer_loss == LossPolicy::Arbiter; ++index) {
    const bool lacks_disk = is_connected(peers[index]) && !is_disk(peers[index].disk_state);
    if (lacks_disk && !peers[index].known_behind && !LOCKSTEP_MUTANT("diskless-peer-not-fenced")) await_peer(index);
  }
  // Nobody vouched for those whose links start again, nor was the arbiter asked about them. One that is behind takes
  // nobody's place, and is not waited for until it has caught up.
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const bool may_hold = (restarting & mask_of(index)) != 0 && may_hold_our_current(superblock.peers[index]);
    if (may_hold && loss_suspends(index)) await_peer(index);
  }
  reply_floor = opening_persist = persist_superblock();
  if (takes_generation) generation_persist = reply_floor;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (is_connected(peers[index])) send(index, StateChanged{role, disk_state, false}, {}, reply_floor);
  }
  stage = OrderStage::Opening;
  term_begun = false;
  opening_cycle = 0;
  if (has_third_nodes() && !LOCKSTEP_MUTANT("promoted-before-it-is-stable")) {
    // What the last Primary called flushed others may have kept stable, and not this node. A write that is durable by
    // itself must not be, in this one's name, while those are in a cache.
    flush_wanted = local_flush_wanted = true;
    opening_cycle = local_cycles_started + 1;
    start_flush_cycle_if_wanted();
  }
  changed();
  advance_order();
}

void Replica::State::open_export() {
  act(OpenExport{opening_persist});
  note(NoteKind::Promoted, 0);
  answer(restoring ? Outcome::Restored : Outcome::Done, order.peer);
  restoring = false;
  changed();
}

// The disk is lost before the export has opened: there is nothing to be Primary with, and no client has seen it.
void Replica::State::promotion_undone() {
  role = Role::Secondary;
  superblock.primary = false;
  if (std::exchange(term_begun, false) && !LOCKSTEP_MUTANT("undone-promotion-keeps-its-term")) {
    superblock.term = before_term.term;
    superblock.waited_for = before_term.waited_for;
    position = before_term.position;
  }
  may_hold_current = 0;
  restoring = false;
  promote_failed(Outcome::NoDisk, 0);
  changed();
}

void Replica::State::order_demote() {
  if (role != Role::Primary) {
    if (order.kind == OrderKind::Shutdown) return finish_shutdown();
    return answer(Outcome::AlreadySo);
  }
  if (export_clients > 0) return answer(Outcome::ClientsAttached);
  begin_demotion();
}

void Replica::State::begin_demotion() {
  demoting = true;
  demotion_persist = 0;
  act(CloseExport{});
  stage = OrderStage::Draining;
  // What waits for a peer that may never come back would keep the role for ever. It is not known to be anywhere else,
  // so it fails.
  if (was_replaced || !may_answer()) fail_held_slots();
  if (lacks_data()) {
    fails_held = true;
    fail_requests_without_data();
  }
  advance_demotion();
}

// Everything flushed here and there; what a peer lacks under bits on disk; the log empty; then Secondary, durably.
void Replica::State::advance_demotion() {
  if (stage == OrderStage::Draining) {
    // Held once more: the peer that was to store a new generation before they are answered is lost, too.
    const bool waits_for_ever = held_slots > 0 && (was_replaced || !may_answer());
    if (waits_for_ever && !LOCKSTEP_MUTANT("demotion-waits-for-held-writes")) fail_held_slots();
    if (in_flight > 0) return;
    if (serves_locally() || is_served()) {
      if (application_entries > 0 && !LOCKSTEP_MUTANT("demoted-before-all-is-flushed")) {
        flush_wanted = true;
        return start_flush_cycle_if_wanted();
      }
      if (activity_log_persist != 0 || cycle_running) return;
    }
    if (serves_locally()) {
      for (PeerIndex index = 0; index < peer_count(); ++index) persist_bitmap(index, true);
      activity_log.clear();
      act(PersistActivityLogEmpty{++asked_persist});
      superblock.primary = false;
      // No new generation says so, since nothing more was answered: the flags do, as if this node had crashed.
      NodeMask ahead_of = 0;
      // One that lacks some of it may bring others, that were left behind, to where it is itself.
      const bool some_lack =
          std::any_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.lacks_answered; }) &&
          !LOCKSTEP_MUTANT("demoted-ahead-of-left-out-forgotten");
      for (PeerIndex index = 0; index < peer_count() && !LOCKSTEP_MUTANT("demoted-ahead-forgotten"); ++index) {
        PeerRecord& record = superblock.peers[index];
        // Of several peers one that is away has bits of its own, by which it would pass for as good.
        const Generation& since = superblock.unanswered_since;  // what a restart would go back to
        const bool may_be_alike =
            some_lack || may_hold_our_current(record) || (is_a_name(since) && record.bitmap_generation == since);
        const bool may_lack = has_third_nodes() && record.answered_ahead && !gets_stream(peers[index]) &&
                              may_be_alike && !LOCKSTEP_MUTANT("demoted-ahead-of-third-forgotten");
        if (std::exchange(peers[index].lacks_answered, false) || may_lack) {
          record.crashed_primary = record.answered_ahead = true;
          record.ahead_term = superblock.term;
          ahead_of |= node_of(index);
        }
      }
      tell_ahead_of(ahead_of);
      set_answered_ahead(false);
      // As at a restart: whoever was lost may be promoted, and a resync would call used what it is to go on from. But
      // who is to take the role over must not be lost over it.
      const bool is_given_up = order.kind != OrderKind::Switchover || LOCKSTEP_MUTANT("switchover-undoes-generation");
      undone_at_demotion = has_third_nodes() && is_given_up && !LOCKSTEP_MUTANT("demoted-in-unanswered-generation") &&
                           undo_unanswered(superblock);
      demotion_persist = persist_superblock();
    }
    stage = OrderStage::WaitForDemotion;
  }
  if (disk_usable() && !is_durable(demotion_persist)) return;
  become_secondary();
}

void Replica::State::become_secondary() {
  interrupt_verifies();
  const bool was_served = !served.is_zero();
  role = Role::Secondary;
  demoting = false;
  if (disk_usable() && !was_served && term_begun && !LOCKSTEP_MUTANT("demoted-primary-knows-nothing")) {
    position = {run(), transfer_log.last(), superblock.term};  // nobody holds more of its stream
  }
  may_hold_current = 0;
  left_nodes = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!is_connected(peers[index]) && (awaited_peers & mask_of(index)) == 0) left_nodes |= node_of(index);
  }
  awaited_peers = given_up_peers = 0;
  suspended_by_operator = abandons_held = data_lost = false;
  // Not when all peers have come back meanwhile and take what this node has.
  const bool has_targets =
      std::all_of(peers.begin(), peers.end(), [this](const Peer& peer) { return gets_stream(peer); });
  if (std::exchange(was_replaced, false) && !has_targets) become_outdated();
  PeerMask not_asked = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!peers[index].serve_asked) not_asked |= mask_of(index);
  }
  if (was_served) {
    old_when_attached = old_when_attached || !disk_usable();
    served = served_previous = Generation{};
    fails_held = writes_paused = writes_paused_told = false;
    for (Peer& peer : peers) {
      if (peer.serve_asked && !disk_usable()) peer.replication = ReplicationState::Off;
      peer.serve_asked = peer.serve_confirmed = false;
      peer.lost_unflushed = peer.lost_unreceived = peer.lost_as_target = false;
      peer.handed_on_through = 0;
    }
  }
  note(NoteKind::Demoted, 0);
  tell_state();
  if (std::exchange(undone_at_demotion, false)) {
    generation_unconfirmed = 0;
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      if (is_connected(peers[index])) say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
  }
  // A peer that was not asked to serve, because data was lost: who of both has what is left, the handshake tells.
  for (PeerIndex index = 0; index < peer_count() && was_served; ++index) {
    const Peer& peer = peers[index];
    if (!is_connected(peer) || peer.decision.kind != SyncKind::Serve || (not_asked & mask_of(index)) == 0) continue;
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  changed();
  switch (order.kind) {
    case OrderKind::Shutdown:
      return finish_shutdown();
    case OrderKind::Switchover:
      if (!is_connected(peers[order.peer])) return answer(Outcome::PeerLost, order.peer);
      stage = OrderStage::WaitForTakeOver;
      return send(order.peer, TakeOver{order.ticket, left_nodes});
    default:
      return answer(disk_usable() || was_served ? Outcome::Done : Outcome::NoDisk);
  }
}

void Replica::State::finish_shutdown() {
  const bool primary_goes_on = std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) {
    return is_connected(peer) && peer.role == Role::Primary && !peer.served_here;
  });
  if (primary_goes_on) become_outdated();
  if (unstable_from != kNoPeer) forget_unstable(unstable_from);
  if (disk_usable()) {
    for (PeerIndex index = 0; index < peer_count(); ++index) persist_bitmap(index, false);
    // What a Secondary's log holds is in the bitmaps now. Writes on their way to the disk keep it as it is.
    if (!activity_log.is_empty() && activity_log.referenced_slots() == 0 && activity_log_persist == 0) {
      activity_log.clear();
      act(PersistActivityLogEmpty{++asked_persist});
    }
  }
  answer(Outcome::Done, 0, disk_usable() ? asked_persist : 0);
  stopping = true;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    peers[index].connection = ConnectionState::StandAlone;
    act(StopConnecting{index});
    leave(index, GoodbyeReason::Stopping);
  }
}

void Replica::State::order_switchover() {
  if (order.to_self) {
    if (role == Role::Primary) return answer(Outcome::AlreadySo);
    for (PeerIndex index = 0; index < peer_count(); ++index) {
      if (!is_connected(peers[index]) || peers[index].role != Role::Primary) continue;
      switchover_asked = true;
      switchover_ticket = order.ticket;
      switchover_peer = index;
      return send(index, SwitchoverRequest{order.ticket});
    }
    return answer(Outcome::NotConnected);
  }
  const Peer& peer = peers[order.peer];
  if (role != Role::Primary) {
    return answer(is_connected(peer) && peer.role == Role::Primary ? Outcome::AlreadySo : Outcome::NotPrimary,
                  order.peer);
  }
  if (!is_connected(peer)) return answer(Outcome::NotConnected, order.peer);
  if (!peer.serve_confirmed &&
      (peer.replication != ReplicationState::Established || peer.disk_state != DiskState::UpToDate)) {
    return answer(Outcome::NotUpToDate, order.peer);
  }
  for (PeerIndex index = 0; index < peer_count() && has_third_nodes(); ++index) {
    if ((awaited_peers & mask_of(index)) != 0) return answer(Outcome::PeerAbsent, index);  // nobody vouched for it
  }
  order_demote();
}

void Replica::State::switchover_request_arrived(PeerIndex index, const SwitchoverRequest& message) {
  if (stage != OrderStage::None || stopping) {
    return send(index, SwitchoverAnswer{message.ticket, static_cast<uint8_t>(Outcome::Busy)});
  }
  order = OrderGiven{};
  order.kind = OrderKind::Switchover;
  order.ticket = message.ticket;
  order.peer = index;
  order_from = OrderFrom::PeerSwitchover;
  restoring = false;
  order_switchover();
}

void Replica::State::switchover_answered(PeerIndex index, const SwitchoverAnswer& message) {
  if (!switchover_asked || switchover_peer != index || message.ticket != switchover_ticket) return;
  switchover_asked = false;
  const bool known = message.outcome <= static_cast<uint8_t>(Outcome::Restored);
  act(OrderAnswered{switchover_ticket, known ? static_cast<Outcome>(message.outcome) : Outcome::PeerLost, index});
}

void Replica::State::take_over_arrived(PeerIndex index, const TakeOver& message) {
  if (stage != OrderStage::None || stopping) return send(index, TakeOverAnswer{message.ticket, false});
  order = OrderGiven{};
  order.kind = OrderKind::Promote;
  order.ticket = message.ticket;
  order.peer = index;
  order_from = OrderFrom::PeerTakeOver;
  restoring = false;
  order.peer_fenced = was_left_before(message.left);
  order_promote();
}

void Replica::State::take_over_answered(PeerIndex index, const TakeOverAnswer& message) {
  if (stage != OrderStage::WaitForTakeOver || order.peer != index || message.ticket != order.ticket) return;
  if (message.promoted) return answer(Outcome::Done, index);
  LOCKSTEP_MARK("switchover undone");
  stage = OrderStage::None;
  restoring = true;
  order.peer_fenced = was_left_before(left_nodes);
  order_promote();
}

// With several peers one that is away would keep the role from whoever takes it over, and from who had it: but the last
// Primary had gone on without it. The arbiter is asked in any case.
bool Replica::State::was_left_before(NodeMask left) const {
  if (!has_third_nodes() || options.on_peer_loss == LossPolicy::Arbiter ||
      LOCKSTEP_MUTANT("absent-node-ends-switchover")) {
    return false;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!is_connected(peers[index]) && (left & node_of(index)) == 0) return false;
  }
  return true;
}

void Replica::State::order_connection(const OrderGiven& given) {
  for (PeerIndex index = 0; index < peer_count() && given.kind == OrderKind::Disconnect; ++index) {
    if (!given.every_peer && given.peer != index) continue;
    if (!peers[index].served_here && !peers[index].serve_asked) continue;
    act(OrderAnswered{given.ticket, Outcome::LastUpToDate, index});  // the clients' data would be out of reach
    return;
  }
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    if (!given.every_peer && given.peer != index) continue;
    Peer& peer = peers[index];
    if (given.kind == OrderKind::Connect) {
      if (peer.connection != ConnectionState::StandAlone) continue;
      peer.connection = ConnectionState::Connecting;
      peer.split_brain = false;
      act(Connect{index});
    } else {
      // The peer goes on writing without us: from now on we are known to be behind.
      if (is_connected(peer) && peer.role == Role::Primary) become_outdated();
      peer.connection = ConnectionState::StandAlone;
      act(StopConnecting{index});
      leave(index, GoodbyeReason::Disconnecting);
    }
  }
  act(OrderAnswered{given.ticket, Outcome::Done, given.peer});
  changed();
}

void Replica::State::order_resync(const OrderGiven& given) {
  Peer& peer = peers[given.peer];
  const auto done = [this, &given](Outcome outcome) { act(OrderAnswered{given.ticket, outcome, given.peer}); };
  if (given.give_generation) {
    if (role == Role::Primary) return done(Outcome::IsPrimary);
    if (given.generation != superblock.current) return done(Outcome::WrongGeneration);
    if (!peer.split_brain) return done(Outcome::NotSplitBrain);
    peer.discard_my_data = true;
    if (peer.incarnation != 0) say_goodbye(given.peer, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  } else if (peer.replication == ReplicationState::Established && peer.bitmap.dirty_blocks() > 0) {
    // What a verify found. From a Primary it is copied beside its writes; with a peer that is Primary the handshake
    // finds the direction.
    const Outcome outcome = may_verify(given.peer, true);
    if (outcome != Outcome::Done) return done(outcome);
    if (role == Role::Primary) {
      start_verify(given.peer, true, false);
    } else {
      say_goodbye(given.peer, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
  }
  if (peer.connection == ConnectionState::StandAlone) {
    peer.connection = ConnectionState::Connecting;
    act(Connect{given.peer});
  }
  done(Outcome::Done);
  changed();
}

}  // namespace lockstep::repl
