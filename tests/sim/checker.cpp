#include "tests/sim/checker.h"

#include <algorithm>
#include <utility>

#include "tests/sim/probes.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

void Checker::prepare() {
  nodes_.resize(static_cast<size_t>(world_.node_count()));
  stream_order.prepare();
  for (Knowledge& each : nodes_) each.wrong.assign(world_.layout.unit_count(), 0);
  for (int a = 0; a < world_.node_count(); ++a) {
    for (int b = a + 1; b < world_.node_count(); ++b) {
      differences_.push_back({a, b, std::vector<uint8_t>(world_.layout.unit_count(), 0), {}});
    }
  }
}

void Checker::start() {
  world_.every(10'000, [this] {
    if (!looks_away_) check_stable_storage();
    return !looks_away_;
  });
}

void Checker::before_crash() {
  check_stable_storage();
  for (int id = 0; id < world_.node_count(); ++id) {
    note_complete(id);
    const Node& node = world_.node(id);
    const bool was_lost = node.lacks_disk() || known(id).metadata_gone;  // it may have been attached just now
    if (was_lost && node.durable().superblock.disk_state == DiskState::UpToDate) known(id).unrecorded = true;
  }
}

// It was behind once, under protocol A, and has got everything since.
void Checker::note_complete(int id) {
  if (!known(id).may_lack) return;
  look_at_changes();
  if (known(id).wrong_count != 0 || !keeps(id, Promise::Acknowledged)) return;
  known(id).may_lack = false;
  if (std::exchange(known(id).left_lacking, false)) known(id).behind = false;  // and nothing was answered since
}

void Checker::node_crashed(int id, bool power_lost) {
  ++crashes;
  known(id).steady = known(id).opened_suspended = false;
  // What was received and not written is gone with the process, though B has answered it.
  const bool was_peer = !world_.node(id).durable().superblock.primary;
  if (power_lost || (was_peer && world_.uses_weak_protocols())) known(id).has_acknowledged = false;
  stream_order.check(id);
  stream_order.forget(id);
}

// Invariant 7: whoever was away while others wrote does not take its data for the newest.
void Checker::node_started(int id) {
  // An older copy of a disk cannot tell that it is one before it meets a peer.
  if (known(id).behind && !known(id).replaced && world_.node(id).status().disk_state == DiskState::UpToDate) {
    world_.fail("node " + std::to_string(id) + " started as UpToDate and lacks acknowledged writes");
  }
}

// That disk is no copy any more. What protocol A had not brought to another one may be lost with it.
void Checker::cache_lost(int id) {
  known(id).has_acknowledged = false;
  known(id).gone = true;
}

Checker::Held Checker::held_by(int id) const {
  const Knowledge& node = nodes_[static_cast<size_t>(id)];
  return {node.has_acknowledged, node.behind, node.may_lack, node.from_crashed};
}

Generation Checker::promised_in() const {
  return served_generation_.is_zero() ? world_.node(last_primary_).durable().superblock.current : served_generation_;
}

void Checker::disk_replaced(int id) {
  known(id).before_replacement = held_by(id);
  known(id).mixed = known(id).given_up = false;
  known(id).gone = false;
  known(id).has_acknowledged = false;
  known(id).behind = known(id).replaced = true;
  known(id).left_lacking = false;
  disk_was_replaced_ = true;
  last_primary_replaced_ = last_primary_replaced_ || id == last_primary_;
}

// Invariant 7: from the first copy on the disk is a mixture, and says so.
void Checker::copy_written(int id) {
  if (lied_) return;
  bool is_target = false;  // else a verify repairs a block of a copy that is in sync
  for (int other = 0; other < world_.node_count(); ++other) {
    is_target = is_target || (other != id && world_.node(id).peer(other).replication == ReplicationState::SyncTarget);
  }
  if (!is_target) return;
  if (world_.node(id).durable().superblock.disk_state == DiskState::Inconsistent) return;
  world_.fail("a copy of a resync reached the disk of node " + std::to_string(id) + ", which is not Inconsistent");
}

bool Checker::keeps(int id, Promise promise) const {
  const Disk& disk = world_.node(id).disk();
  for (size_t unit = 0; unit < world_.layout.unit_count(); ++unit) {
    if (!world_.ledger.allows(unit, disk.read(unit), promise)) return false;
  }
  return true;
}

bool Checker::has_all_flushed(int id) {
  look_at_changes();
  return !known(id).behind && known(id).wrong_count == 0;
}

bool Checker::suffices_alone(int id) {
  look_at_changes();
  const Node& node = world_.node(id);
  return node.alive() && !node.met_disk_fault() && node.status().disk_state == DiskState::UpToDate &&
         node.durable().superblock.disk_state == DiskState::UpToDate && !known(id).behind && known(id).wrong_count == 0;
}

bool Checker::is_opening(int id) const {
  const Node& node = world_.node(id);
  return node.alive() && node.status().role == Role::Primary && !node.export_open();
}

// Invariant 3, where first or any K are waited for: of what a survivor holds nothing is overwritten by one that lacks
// it.
void Checker::check_source_has_more(int source, int target) {
  const Knowledge& lost = known(target);
  const DiskState state = world_.node(target).peer(source).own_report.disk_state;
  if (!world_.node(source).alive() && known(source).replaced) return;  // its last word, of before
  if (lost.behind || lost.gone || lost.replaced || state == DiskState::Inconsistent) return;
  if (known(source).may_lack && is_opening(source)) return;
  // One that was restarted may have lost what nobody flushed. If it lacks other things as well, no copy is whole here.
  // Under protocol A a write that is durable by itself waits for no peer, and who has it does not know.
  if (!lost.steady && (world_.may_answer_under_a() || !keeps(target, Promise::Flushed))) return;
  const bool lived_on = lost.steady && known(source).steady && !known(source).from_crashed &&
                        !world_.node(target).peer(source).peer_report.crashed_primary;
  const Promise promise = lived_on ? Promise::Acknowledged : Promise::Flushed;
  // Of one stream the source got more. Zeroes of a write that neither has got the target may hold from before all.
  const StreamPosition& of_target = world_.node(target).peer(source).own_report.position;
  const StreamPosition of_source = holds_at_least(world_.node(target).peer(source).peer_report);
  const bool got_less =
      of_target.stream != 0 && of_target.stream == of_source.stream && of_target.through < of_source.through;
  const std::optional<size_t> unit = held_by_one(target, source, promise, got_less);
  if (!unit) return;
  world_.fail("node " + std::to_string(target) + " is target of node " + std::to_string(source) + ", on which " +
              world_.ledger.objection(*unit, world_.node(source).disk().read(*unit), promise));
}

// The first unit that keeps the promise on the one's disk and not on the other's.
std::optional<size_t> Checker::held_by_one(int id, int other, Promise promise, bool but_zeroes) const {
  for (size_t unit = 0; unit < world_.layout.unit_count(); ++unit) {
    if (but_zeroes && world_.node(id).disk().read(unit) == 0) continue;
    if (!world_.ledger.allows(unit, world_.node(other).disk().read(unit), promise) &&
        world_.ledger.allows(unit, world_.node(id).disk().read(unit), promise)) {
      return unit;
    }
  }
  return std::nullopt;
}

// Not one that has crashed since, which the other has not noticed.
void Checker::caught_up(int id, int with) {
  if (!world_.node(id).alive() || world_.node(id).peer(with).replication != ReplicationState::Established) return;
  known(id).may_lack = known(with).may_lack;
  known(id).has_acknowledged = known(with).has_acknowledged;
}

void Checker::protocol_changed(int id) {
  if (!world_.node(id).alive() || world_.node(id).status().role != Role::Primary) return;
  if (world_.node(id).status().data_lost) return;  // nothing was waited for: there is nothing to be had
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id || world_.node(id).peer(other).replication != ReplicationState::Established) continue;
    // Where A stays nothing was waited for, also if the peer was asked to serve meanwhile.
    if (world_.promised(world_.node(id).peer(other).protocol) == Protocol::A) continue;
    if (!answers_ahead(id, other)) caught_up(other, id);
  }
}

bool Checker::has_answered(int id) const {
  const Knowledge& node = nodes_[static_cast<size_t>(id)];
  return world_.node(id).alive() && !node.may_lack && !node.gone && !node.replaced &&
         !(world_.waits_for_some() && !node.steady) &&  // one that was restarted does not know how far it was
         !(world_.node_count() > 2 && node.behind);     // one that is behind lacks more
}

bool Checker::another_has_answered(int than) const {
  for (int id = 0; id < world_.node_count(); ++id) {
    if (id != than && has_answered(id)) return true;
  }
  return false;
}

// What it holds is what it held when it was last in sync, or what counts because it is Primary. Of several nodes one
// may have its data from one that was restarted, and knows no more than that one how far it was.
bool Checker::is_steady_source(int id) const {
  const Node& node = world_.node(id);
  return world_.node_count() == 2 || nodes_[static_cast<size_t>(id)].steady ||
         (node.alive() && node.status().role == Role::Primary);
}

// Protocol A, and the Primary is gone with what it was ahead. It may still come back and be the source, as long as
// nobody has written since.
void Checker::give_up_what_is_lost(int id) {
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id || !has_answered(other)) continue;
    const bool is_mixture = world_.node(other).durable().superblock.disk_state == DiskState::Inconsistent;
    if (world_.node_count() > 2 && (known(other).mixed || is_mixture)) continue;  // no whole copy
    // One that was restarted does not know how far it was, unless it was the Primary, or waited for.
    const bool waited_for = world_.node(other).durable().superblock.waited_for == WaitedFor::Yes;
    if (world_.node_count() > 2 && !known(other).steady && other != last_primary_ && !waited_for) continue;
    if (world_.node_count() > 2 && !held_by_one(other, id, Promise::Acknowledged)) continue;  // it lost the same
    const PeerStatus peer = world_.node(id).peer(other);
    if (peer.own_report.role == Role::Primary) continue;  // met when the promotion was decided, and not yet open
    if (peer.connection == ConnectionState::Connected) {
      return world_.fail("node " + std::to_string(id) + " lacks what was answered and was promoted next to node " +
                         std::to_string(other));
    }
  }
  if (world_.ledger.lose(world_.node(id).disk())) ++losses;
  for (Knowledge& each : nodes_) each.has_acknowledged = false;
  known(id).may_lack = false;
  if (std::exchange(known(id).left_lacking, false)) known(id).behind = false;
}

// The generation in which it was to serve a Primary without a disk is on its own, and nothing was answered in it: the
// Primary was replaced and does not know it yet, or is gone.
bool Checker::serves_for_nothing(int id) const {
  const Generation& held = world_.node(id).durable().superblock.current;
  const auto is_among = [&held](const std::vector<Generation>& generations) {
    return std::find(generations.begin(), generations.end(), held) != generations.end();
  };
  return is_among(to_serve_in_) && !is_among(answered_in_);
}

// A third node made the generation that this one has stored, lost its power before anything was answered in it, and
// undoes it when it is back: docs/states.md.
bool Checker::holds_unanswered(int id) const {
  const Generation& held = world_.node(id).durable().superblock.current;
  for (int maker = 0; maker < world_.node_count(); ++maker) {
    if (maker == id || world_.node_count() < 3) continue;
    SuperblockImage made = world_.node(maker).durable().superblock;
    if (made.current == held && undo_unanswered(made)) return true;
  }
  return false;
}

// Invariants 2, 3 and 7.
void Checker::export_opened(int id) {
  if (lied_) return stream_order.forget(id);
  known(id).opened_suspended = false;
  if (world_.policy == LossPolicy::Arbiter && known(id).behind &&
      world_.node(id).status().suspension == Suspension::PeerLoss) {
    known(id).opened_suspended = true;  // it answers nothing before the arbiter has taken the other out
    return;
  }
  ++promotions;
  last_primary_ = id;
  last_primary_replaced_ = false;
  served_generation_ = Generation{};
  Node& promoted = world_.node(id);
  for (int other = 0; other < world_.node_count(); ++other) {
    // One that the arbiter has taken out keeps its export until it finds out. What it answers meanwhile is checked.
    if (world_.policy == LossPolicy::Arbiter) break;
    if (other != id && world_.node(other).export_open()) return world_.fail("two exports are open");
  }
  if (promoted.status().disk_state != DiskState::UpToDate) {
    return world_.fail("a disk that is not UpToDate was promoted");
  }
  // Its disk failed and its metadata with it, the peer that went on is away, and the disk is there again:
  // docs/arbiter.md.
  if (known(id).behind && known(id).unrecorded && world_.policy == LossPolicy::Arbiter) return world_.give_up();
  // An older copy of a disk that lacks nothing, and whoever has its data from there.
  if (known(id).behind && disk_was_replaced_ && keeps(id, Promise::Acknowledged)) known(id).behind = false;
  // A Primary went on without the source of its data, under protocol A, and has not answered anything since.
  if (world_.node_count() > 2 && std::exchange(known(id).left_lacking, false)) known(id).behind = false;
  if (known(id).behind) {
    return world_.fail("node " + std::to_string(id) + " was promoted and lacks acknowledged writes");
  }
  if (world_.waits_for_some()) look_at_changes();
  note_complete(id);
  const bool lacks = known(id).may_lack;
  if (lacks) give_up_what_is_lost(id);
  stream_order.forget(id);
  const std::span<const Value> content = promoted.disk().content();
  const auto keeps = [&](Promise promise) {
    for (size_t unit = 0; unit < content.size(); ++unit) {
      if (world_.ledger.allows(unit, content[unit], promise)) continue;
      if (promise == Promise::Flushed || known(id).has_acknowledged) {
        world_.fail("node " + std::to_string(id) + " was promoted, and " +
                    world_.ledger.objection(unit, content[unit], promise));
      }
      return false;
    }
    return true;
  };
  if (keeps(Promise::Acknowledged)) {
    known(id).has_acknowledged = true;
    return;
  }
  if (known(id).has_acknowledged || !keeps(Promise::Flushed)) return;
  world_.ledger.accept(content, !lacks);
  // A peer that is in sync holds the same, and gets every write from here on; the others may hold anything that was
  // not flushed.
  for (int other = 0; other < world_.node_count(); ++other) {
    known(other).has_acknowledged = other == id || promoted.peer(other).replication == ReplicationState::Established;
  }
}

void Checker::noted(int id, const Note& note) {
  if (lied_) {
    if (note.kind == NoteKind::HandshakeDecided) {
      reach_mark(mark_of_rule(note.text));
      stream_order.forget(id);
      stream_order.forget(world_.node(id).peer_id(note.peer));
    }
    if (note.kind == NoteKind::SplitBrain) world_.lie.split_brain_noted(id);
    if (note.kind == NoteKind::RuleBroken) world_.fail(std::string("a rule was broken: ") + note.text);
    return;
  }
  const std::string text = note.text;
  const int other = world_.node(id).peer_id(note.peer);
  if (note.kind == NoteKind::Demoted) known(id).opened_suspended = false;
  if (note.kind == NoteKind::Demoted && known(id).data_lost) {
    for (int each = 0; each < world_.node_count() && world_.node_count() > 2; ++each) {
      if (each != id && world_.node(id).peer(each).connection != ConnectionState::Connected) {
        known(each).abandoned = true;
      }
    }
  }
  if (note.kind == NoteKind::Invalidated) known(id).given_up = true;
  if (note.kind == NoteKind::Suspended) known(id).joined = 0;
  if (note.kind == NoteKind::Resumed) {
    known(id).held_write = static_cast<uint32_t>(world_.ledger.write_count());
    known(id).held_moment = world_.ledger.moment();
  }
  if (note.kind == NoteKind::ResyncFinished && text == "source" &&
      world_.node(id).status().suspension != Suspension::No) {
    known(id).joined |= 1U << other;
  }
  if (note.kind == NoteKind::Promoted) {
    for (Knowledge& each : nodes_) each.from_crashed = false;  // what is there counts from here on
    known(id).given_up = false;
  }
  if (note.kind == NoteKind::HandshakeDecided) {
    reach_mark(mark_of_rule(note.text));
    const bool forgot_unannounced = world_.node(id).forgot_unannounced() || world_.node(other).forgot_unannounced();
    if (text == "primary-would-be-target" && forgot_unannounced) return world_.give_up();  // docs/states.md
    trace_report(world_.node(id).peer(other).own_report);
    stream_order.forget(id);
    stream_order.forget(other);
  }
  if (note.kind == NoteKind::ResyncStarted && text == "target") {
    // Invariant 3: who lived on with everything that was acknowledged is not overwritten by one that lost some of it.
    Knowledge& target = known(id);
    stream_order.resync_started(id, other);
    const bool was_whole = world_.node(id).peer(other).own_report.disk_state != DiskState::Inconsistent;
    if (was_whole) target.mixed = !known(other).may_lack;
    // What only a disk had that is no copy any more is overwritten from here on: protocol A.
    // Of several nodes a third one may have it, or the source, which has not made it stable yet.
    const bool is_kept =
        world_.node_count() > 2 && (keeps(other, Promise::Acknowledged) || another_has_answered(other));
    if (known(other).may_lack && !is_kept && (target.gone || target.replaced)) give_up_what_is_lost(other);
    // The Primary's disk is no more, and of two that were restarted nobody knows which held more: this one did.
    bool third_has = false;
    for (int third = 0; third < world_.node_count(); ++third) {
      third_has = third_has || (third != id && third != other && has_answered(third));
    }
    if (world_.node_count() > 2 && known(other).may_lack && !keeps(other, Promise::Acknowledged) && !target.steady &&
        last_primary_replaced_ && !third_has) {
      give_up_what_is_lost(other);
    }
    if (world_.waits_for_some()) check_source_has_more(other, id);
    // It may be gone since it said so, itself or its disk: as if that had come a moment later.
    const bool has_source = world_.node(other).alive() && !world_.node(other).lacks_disk();
    // Given up, durably, before anything was answered without it: what nobody had flushed may go with the source's
    // power.
    const bool given_up = world_.node(id).peer(other).decision.rule == Rule::SelfIsBehind;
    const bool called_up_to_date = world_.node(id).peer(other).own_report.disk_state == DiskState::UpToDate;
    if (!world_.uses_weak_protocols() && target.has_acknowledged && target.steady && !target.behind && !given_up &&
        called_up_to_date && has_source && !keeps(other, Promise::Acknowledged) && keeps(id, Promise::Acknowledged)) {
      world_.fail("node " + std::to_string(id) + " has every acknowledged write and is target of node " +
                  std::to_string(other) + ", which lacks some");
    }
  } else if (note.kind == NoteKind::DataLost || note.kind == NoteKind::Promoted) {
    known(id).data_lost = note.kind == NoteKind::DataLost;
    if (world_.node_count() > 2 && note.kind == NoteKind::Promoted) known(id).steady = true;
  } else if (note.kind == NoteKind::Resumed && known(id).opened_suspended) {
    export_opened(id);
  } else if (note.kind == NoteKind::DiskFailed || note.kind == NoteKind::DiskDetached) {
    stream_order.forget(id);  // what a failed flush has lost stood anywhere
    known(id).steady = false;
    known(id).metadata_gone = known(id).metadata_gone || world_.node(id).metadata_failed();
    // What was received and not written is lost with the disk, though B has answered it.
    if (world_.node(id).status().role != Role::Primary && world_.uses_weak_protocols()) {
      known(id).has_acknowledged = false;
    }
  } else if (note.kind == NoteKind::GenerationMade) {
    // Protocol A: the peer is on its own with what it had received.
    for (int each = 0; each < world_.node_count(); ++each) {
      if (each == id || world_.node(id).peer(each).replication != ReplicationState::Off) continue;
      note_complete(each);
      if (!known(each).may_lack || known(each).behind) continue;
      known(each).behind = known(each).left_lacking = true;
    }
  } else if (note.kind == NoteKind::Demoted && holds_answered(id, id) &&
             world_.node(id).status().disk_state == DiskState::UpToDate) {
    for (int each = 0; each < world_.node_count(); ++each) {
      if (each != id && world_.node(id).peer(each).replication == ReplicationState::Established) caught_up(each, id);
    }
  } else if (note.kind == NoteKind::ResyncFinished && text == "target") {
    stream_order.resync_finished(id);
    // It served a Primary without a disk, and has got since what it lacked.
    note_complete(other);
    // The source's last word came after its disk was replaced.
    const bool was_replaced_since = known(other).replaced && !world_.node(other).alive();
    const Held source = was_replaced_since ? known(other).before_replacement : held_by(other);
    // The disk that had more is no copy any more, or not the one that is there now.
    const bool is_kept = world_.node_count() > 2 && another_has_answered(other);
    if (source.may_lack && !is_kept && (known(id).gone || known(id).replaced)) give_up_what_is_lost(other);
    // Of several peers one that is behind loses nothing by it, and one that was restarted does not know how far it was,
    // unless it was the Primary, or waited for.
    const bool was_primary = id == last_primary_ && !last_primary_replaced_;
    const bool knows =
        known(id).steady || was_primary || world_.node(id).peer(other).own_report.waited_for == WaitedFor::Yes;
    const bool was_no_copy = known(id).mixed || known(id).given_up || known(id).gone || known(id).replaced;
    const bool was_whole =
        world_.node_count() == 2 || (!known(id).behind && known(id).has_acknowledged && !was_no_copy && knows);
    if (source.may_lack && !known(id).may_lack && was_whole && !world_.waits_for_some()) {
      world_.fail("node " + std::to_string(other) + " lacks what was answered and was the source of node " +
                  std::to_string(id));
    }
    // Protocol A: the source has lived on, and is one of several that never got it.
    const bool got_less = world_.node_count() > 2 && world_.uses_weak_protocols() && known(other).steady &&
                          !keeps(other, Promise::Acknowledged);
    // The source has crashed since it sent its last word, and may have answered ahead of this node until then.
    const bool was_left = !world_.node(other).alive() && other == last_primary_ &&
                          (world_.may_answer_under_a() || world_.waits_for_some());
    known(id).may_lack = source.may_lack || got_less || was_left;
    // What came during the resync was not waited for, and may be on its way.
    const bool was_served =
        world_.node(other).alive() && answers_ahead(other, id) && world_.node(other).status().role == Role::Primary;
    if (was_served) known(id).may_lack = true;
    known(id).steady = is_steady_source(other);
    known(id).from_crashed = source.from_crashed || world_.node(id).peer(other).peer_report.crashed_primary;
    known(id).replaced = known(id).gone = known(id).unrecorded = known(id).metadata_gone = known(id).mixed = false;
    known(id).given_up = known(id).forced = known(id).abandoned = false;
    // What is there now is a survivor's copy.
    if (world_.node_count() > 2 && world_.node(id).status().role != Role::Primary && id == last_primary_) {
      last_primary_replaced_ = true;
    }
    // It holds what the source holds.
    known(id).has_acknowledged = source.has_acknowledged;
    known(id).behind = source.behind;
    known(id).left_lacking = source.behind && known(other).left_lacking;
    ++resyncs;
  } else if (note.kind == NoteKind::HandshakeDecided && (text == "equal-clean" || text == "both-just-created")) {
    if (!world_.node(other).alive())
      return;  // decided from its last word: it may have lost what it held with its power
    Knowledge& self = known(id);
    Knowledge& peer = known(other);
    self.has_acknowledged = peer.has_acknowledged = self.has_acknowledged || peer.has_acknowledged;
    self.behind = peer.behind = self.behind && peer.behind;
    self.left_lacking = peer.left_lacking = self.left_lacking && peer.left_lacking;
    self.may_lack = peer.may_lack = self.may_lack && peer.may_lack;
    self.steady = peer.steady = text == "both-just-created" || is_steady_source(id) || is_steady_source(other);
    self.replaced = peer.replaced = self.replaced && peer.replaced;
    self.gone = peer.gone = self.gone && peer.gone;
    self.mixed = peer.mixed = false;
  } else if (note.kind == NoteKind::VerifyDiffers && !looks_away_) {
    world_.fail("a verify found a difference that is not one, near block " + std::to_string(note.number));
  } else if (note.kind == NoteKind::ServedByPeer) {
    if (world_.node_count() > 2) to_serve_in_.push_back(world_.node(id).status().generation);
  } else if (note.kind == NoteKind::SplitBrain) {
    if (is_split_by_losses(id, other)) return world_.give_up();
    world_.fail("a split brain, though no operator lied: " + text);
  } else if (note.kind == NoteKind::RuleBroken) {
    world_.fail("node " + std::to_string(other) + " broke a rule: " + text);
  }
}

// A copy that was left behind while others went on, and the peer's history, which keeps so many names and had its
// generation once, does not go back to that any more: docs/states.md.
bool Checker::is_forgotten_copy(int id, int at) const {
  if (world_.node_count() < 3) return false;
  SuperblockImage copy = world_.node(id).durable().superblock;
  undo_unanswered(copy);
  const SuperblockImage& theirs = world_.node(at).durable().superblock;
  const bool is_full = !theirs.history.back().is_zero();
  return is_full && world_.node(at).once_knew(copy.current) && !copy.current.is_zero() &&
         std::find(theirs.history.begin(), theirs.history.end(), copy.current) == theirs.history.end();
}

// For an operator to settle, who is simulated nowhere: a copy that is forgotten; one that a failed flush spoilt, beside
// another that was promoted all the same; one of which a Primary without a disk had everything, when it was demoted
// because nobody else had it; or one that was to serve a Primary which has answered nothing since.
bool Checker::is_split_by_losses(int a, int b) const {
  const auto is_spoilt_beside = [this](int id, int other) {
    return world_.node_count() > 2 && nodes_[static_cast<size_t>(id)].gone && nodes_[static_cast<size_t>(other)].forced;
  };
  const bool was_given_up = nodes_[static_cast<size_t>(a)].abandoned || nodes_[static_cast<size_t>(b)].abandoned;
  return was_given_up || serves_for_nothing(a) || serves_for_nothing(b) || holds_unanswered(a) || holds_unanswered(b) ||
         is_forgotten_copy(a, b) || is_forgotten_copy(b, a) || is_spoilt_beside(a, b) || is_spoilt_beside(b, a);
}

void Checker::trace_contents() {
  look_at_changes();
  for (int id = 0; id < world_.node_count(); ++id) {
    const Knowledge& node = known(id);
    const Disk& disk = world_.node(id).disk();
    std::string lacks;
    size_t count = 0;
    for (size_t unit = 0; unit < world_.layout.unit_count(); ++unit) {
      if (world_.ledger.allows(unit, disk.read(unit), Promise::Acknowledged)) continue;
      if (count++ < 4) {
        lacks += "; " + world_.ledger.objection(unit, disk.read(unit), Promise::Acknowledged) + " (block " +
                 std::to_string(world_.layout.block_of(unit)) + ")";
      }
    }
    world_.trace(
        "  node %d: has acknowledged %d, behind %d, may lack %d, steady %d, gone %d, replaced %d; %zu units wrong on "
        "stable storage, %zu units lack what was acknowledged%s",
        id, node.has_acknowledged, node.behind, node.may_lack, node.steady, node.gone, node.replaced, node.wrong_count,
        count, lacks.c_str());
  }
}

// Invariants 6 and 16.
void Checker::check_converged() {
  const Node& first = world_.node(0);
  for (int id = 0; id < world_.node_count(); ++id) {
    const Node& node = world_.node(id);
    for (size_t unit = 0; unit < world_.layout.unit_count(); ++unit) {
      if (first.disk().read(unit) == node.disk().read(unit)) continue;
      return world_.fail("unit " + std::to_string(unit) + " differs at the end: " +
                         std::to_string(first.disk().read(unit)) + " and " + std::to_string(node.disk().read(unit)));
    }
    for (int other = 0; other < world_.node_count(); ++other) {
      if (other != id && node.peer(other).out_of_sync_blocks != 0) return world_.fail("bits are left at the end");
    }
    if (first.replica().superblock().current != node.replica().superblock().current) {
      return world_.fail("the generations differ at the end");
    }
  }
}

}  // namespace lockstep::sim
