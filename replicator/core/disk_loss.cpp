// What ends the use of the local disk (its errors, those of its metadata, an order), and its return.
#include <algorithm>
#include <utility>

#include "replicator/core/probes.h"
#include "replicator/core/replica_state.h"

namespace lockstep::repl {
namespace {

const char* words_of(bool metadata, bool flush) {
  if (metadata) return "(its metadata could not be written)";
  return flush ? "(a flush failed, and is not tried again)" : "(an I/O error)";
}

}  // namespace

bool Replica::State::another_up_to_date() const {
  return std::any_of(peers.begin(), peers.end(),
                     [this](const Peer& peer) { return is_connected(peer) && peer.disk_state == DiskState::UpToDate; });
}

// A single sector that cannot be read is no reason to throw away the last copy of all the others. A flush that failed
// is: the kernel may have dropped what it was to write, and would call the next one a success. So is metadata that
// cannot be written, because nothing that is promised could be recorded.
bool Replica::State::disk_failed(DiskFault fault) {
  if (!disk_usable()) return true;
  const bool one_request = fault == DiskFault::Read || fault == DiskFault::Write;
  const bool last_copy =
      role == Role::Primary && served.is_zero() &&
      std::none_of(peers.begin(), peers.end(), [this](const Peer& peer) { return can_serve_us(peer); });
  if (one_request && last_copy) {
    note(NoteKind::ErrorPassedOn, 0);
    return false;
  }
  lose_disk(DiskState::Failed, words_of(fault == DiskFault::Metadata, fault == DiskFault::Flush),
            fault == DiskFault::Flush);
  return true;
}

void Replica::State::lose_disk(DiskState to, const char* why, bool flush_failed) {
  if (stage == OrderStage::Opening && !LOCKSTEP_MUTANT("export-opened-on-failed-disk")) promotion_undone();
  const bool served_locally = role == Role::Primary && served.is_zero();
  const bool goes_on = served_locally &&
                       std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) { return can_serve_us(peer); });
  disk_state = to;
  // To a Primary that it serves this disk is then another, as after a restart: what was acknowledged and not flushed,
  // or received and not written, is not on it when it comes back.
  const bool drops_received = std::any_of(applies.begin(), applies.end(), [this](const ApplySlot& apply) {
    const bool waits = apply.phase != ApplySlot::Phase::Free && apply.phase != ApplySlot::Phase::Done;
    return waits && !apply.resync && peers[apply.peer].rules_obeyed.prompt;
  });
  if (role == Role::Secondary && (flush_failed || drops_received) && !LOCKSTEP_MUTANT("failed-cache-comes-back")) {
    ++caches_lost;
  }
  const bool others_go_on = role == Role::Secondary && another_up_to_date();
  const bool is_left = role == Role::Secondary && (flush_failed || drops_received || others_go_on);
  if (is_left && has_third_nodes() && !LOCKSTEP_MUTANT("lost-disk-was-waited-for")) {
    superblock.waited_for = WaitedFor::No;  // what was answered without it, or is not on it any more
  }
  if (goes_on) note_who_lacks_answered();
  note(to == DiskState::Failed ? NoteKind::DiskFailed : NoteKind::DiskDetached, 0, 0, why);

  // What may be missing here and not there, or, where a peer has not made it stable yet, there and not here: the log
  // knows all of it, since its references keep extents hot.
  for (Sequence sequence = transfer_log.first(); sequence <= transfer_log.last(); ++sequence) {
    TransferEntry& entry = transfer_log.at(sequence);
    if (!entry.resync && !entry.remote_only) {
      for (Peer& peer : peers) peer.bitmap.set(entry.range);
    }
    entry.holds_extents = false;
    entry.remote_only = true;
    if (has_third_nodes() && !entry.resync && entry.peer_extents == 0) {
      entry.peer_extents = ActivityLog::extents_in(entry.range);
      peer_extents += entry.peer_extents;
    }
  }
  for (const uint32_t slot : waiting) clients[slot].extents_reserved = false;
  for (ApplySlot& apply : applies) apply.needs_log = apply.extents_reserved = apply.holds_extents = false;
  for (UnstableWrite& write : unstable) write.holds_extents = false;
  if (unstable_from != kNoPeer) forget_unstable(unstable_from);
  activity_log.reset();
  activity_log_persist = 0;
  position_persist = 0;

  if (goes_on || others_go_on) {
    old_when_attached = true;
    // What a failed flush leaves is no state that the disk ever was in, and must never be taken for the better copy.
    const bool whole = !flush_failed || LOCKSTEP_MUTANT("failed-flush-leaves-a-copy");
    if (superblock.disk_state != DiskState::Inconsistent) {
      superblock.disk_state = whole ? DiskState::Outdated : DiskState::Inconsistent;
    }
  }
  const bool is_lossy = flush_failed && !goes_on && role == Role::Primary && has_third_nodes();
  if (is_lossy && !LOCKSTEP_MUTANT("failed-flush-leaves-its-disk-ahead")) {
    // A peer that lives may have what this disk's cache has lost. So it is ahead of nobody when it is back.
    superblock.waited_for = WaitedFor::No;
    for (PeerRecord& record : superblock.peers) record.answered_ahead = false;
  }
  if (persist_failed) {
    // Sends that waited for a persist are lost, and those behind them.
    generation_void = !is_durable(generation_persist);
    if (stage == OrderStage::WaitForDemotion && !is_durable(demotion_persist)) {
      superblock.primary = true;  // as the disk says still, and as peers are told
      set_answered_ahead(true);
    }
    reply_floor = apply_floor = first_write_persist = 0;
  } else {
    for (PeerIndex index = 0; index < peer_count(); ++index) persist_bitmap(index, false);
    if (goes_on) {
      act(PersistActivityLogEmpty{++asked_persist});
      superblock.primary = false;
      // Until the peer that serves has taken the new generation, this is the copy of a Primary that ended, and may have
      // answered what the peer has not made stable.
      for (PeerIndex index = 0; index < peer_count() && !flush_failed; ++index) {
        superblock.peers[index].crashed_primary = true;
        superblock.peers[index].ahead_term = superblock.term;
      }
    }
    persist_superblock();
  }
  has_metadata = false;
  disk_released = false;
  act(ReleaseDisk{});

  start_waiting_applies();  // none is written any more

  const Generation previous = superblock.current;
  if (goes_on) enter_served_mode();
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    Peer& peer = peers[index];
    const bool lost_sends = persist_failed && !is_durable(peer.send_floor);
    // Not where it would come in front of what waited for the metadata.
    if (is_connected(peer) && !lost_sends) send(index, StateChanged{role, disk_state, false});
    if (goes_on && can_serve_us(peer) && !lost_sends) {
      ask_to_serve(index, previous);
    } else {
      say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
    }
    peer.send_floor = persist_failed ? 0 : peer.send_floor;
  }
  waiting_may_start = true;
  for (uint32_t slot = 0; slot < clients.size(); ++slot) complete_write_if_done(slot);
  release_stable_entries();
  changed();
}

// The disk is given up for another reason, and what was still on its way to the metadata is lost: so is what waited for
// it, and a link that lacks that begins anew.
void Replica::State::metadata_lost_late() {
  generation_void = !is_durable(generation_persist);
  reply_floor = apply_floor = first_write_persist = 0;
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    const PersistId floor = std::exchange(peers[index].send_floor, 0);
    if (!is_durable(floor)) say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
}

bool Replica::State::is_known_behind() const {
  const bool says_so = superblock.disk_state == DiskState::Outdated || superblock.disk_state == DiskState::Inconsistent;
  return !disk_usable() && disk_released && !persist_failed && says_so;
}

void Replica::State::on(const DiskReleased&) {
  disk_released = true;
  if (is_known_behind()) tell_state();
  changed();
}

void Replica::State::order_detach(const OrderGiven& given) {
  const auto done = [this, &given](Outcome outcome, PersistId after = 0) {
    act(OrderAnswered{given.ticket, outcome, given.peer, is_durable(after) ? 0 : after});
  };
  if (stage != OrderStage::None) return done(Outcome::Busy);
  if (!disk_usable()) {
    const Outcome outcome = disk_state == DiskState::Diskless ? Outcome::AlreadySo : Outcome::Done;
    disk_state = DiskState::Diskless;
    tell_state();
    changed();
    return done(outcome);
  }
  const bool is_served_elsewhere = role == Role::Primary && !served.is_zero();
  const bool has_server =
      std::any_of(peers.begin(), peers.end(), [this](const Peer& peer) { return can_serve_us(peer); });
  const bool serves_others = std::any_of(peers.begin(), peers.end(), [](const Peer& peer) { return peer.served_here; });
  const bool whole = disk_state != DiskState::Inconsistent && disk_state != DiskState::Outdated;
  if (serves_others || (role == Role::Primary && !is_served_elsewhere && !has_server) ||
      (role == Role::Secondary && whole && !another_up_to_date())) {
    return done(Outcome::LastUpToDate);
  }
  lose_disk(DiskState::Diskless, "", false);
  done(Outcome::Done, asked_persist);
}

PersistId Replica::State::attach(const DurableState& durable) {
  LOCKSTEP_CHECK(!disk_usable() && disk_released);
  DurableState found = durable;
  const bool is_void = generation_void && divergence == found.superblock.current;
  if (is_void && !LOCKSTEP_MUTANT("void-generation-counts")) {
    // Nothing was answered in it, and the peers never heard of it: they went on in the one before.
    found.superblock.unanswered_since = generation_before;
  }
  persisted = asked_persist;
  persist_failed = generation_void = false;
  generation_persist = 0;
  has_metadata = true;
  disk_released = false;
  const PersistId durable_now = persisted;
  reply_floor = apply_floor = first_write_persist = 0;
  for (Peer& peer : peers) peer.send_floor = 0;
  const bool keeps_term = role == Role::Primary && !LOCKSTEP_MUTANT("attached-disk-takes-term-back");
  const uint32_t own_term = keeps_term ? superblock.term : 0;
  recover(found);
  superblock.term = std::max(superblock.term, own_term);
  // Whoever has served has the newest copy. This one is ahead still of those that never got what it answered.
  for (PeerIndex index = 0; index < peer_count() && !served.is_zero() && served_previous.is_zero(); ++index) {
    const bool has_served = (may_serve & mask_of(index)) != 0;
    if (has_third_nodes() && !has_served && !LOCKSTEP_MUTANT("served-disk-ahead-of-nobody")) continue;
    superblock.peers[index].crashed_primary = false;
  }
  const bool is_old = std::exchange(old_when_attached, false) && !LOCKSTEP_MUTANT("attached-as-its-metadata-says");
  if ((!served.is_zero() || is_old) && disk_state != DiskState::Inconsistent) {
    // Others went on, whatever this metadata was last told.
    disk_state = superblock.disk_state = DiskState::Outdated;
    persist_superblock();
  }
  note(NoteKind::DiskAttached, 0);
  for (PeerIndex index = 0; index < peer_count(); ++index) {
    say_goodbye(index, GoodbyeReason::Restarting, LinkEnd::HandshakeRestart);
  }
  changed();
  return durable_now;
}

}  // namespace lockstep::repl
