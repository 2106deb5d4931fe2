// What an answer to a client promises, and who must hold it then: invariants 1, 10 and 15. The rest of the checker is
// in checker.cpp; what a loss of power would leave, in power_loss_check.cpp.
#include <algorithm>
#include <cerrno>

#include "tests/sim/checker.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

void Checker::check_units_stable(int id, const Layout::Units& units, bool peers_as_well, const char* promise,
                                 bool had_disk) {
  for (int each = 0; each < world_.node_count(); ++each) {
    if (!holds_answered(each, id)) continue;
    if (each != id) {
      if (!peers_as_well && !world_.node(id).is_served()) continue;
      if (answers_ahead(id, each, had_disk)) continue;
      if (known(each).behind) continue;  // its disk was replaced, and nobody has noticed yet
    }
    const Disk& disk = world_.node(each).disk();
    for (size_t unit = units.first; unit < units.end; ++unit) {
      if (world_.ledger.allows(unit, disk.stable(unit), Promise::Flushed)) continue;
      return world_.fail(std::string(promise) + " was answered, and on node " + std::to_string(each) +
                         "'s stable storage " + world_.ledger.objection(unit, disk.stable(unit), Promise::Flushed));
    }
  }
}

bool Checker::holds_answered(int id, int answered_by) const {
  const Node& node = world_.node(answered_by);
  if (id == answered_by) return !node.is_served() && !node.lacks_disk();
  const PeerStatus peer = node.peer(id);
  if (peer.replication == ReplicationState::Established) return is_disk(peer.disk_state);
  // It serves a Primary whose disk is lost or not up to date, though the link may end in the step that answers.
  return node.is_served() && world_.node(id).durable().superblock.current == node.status().generation;
}

bool Checker::answers_ahead(int id, int other, bool had_disk) const {
  if (world_.node(id).is_served() && !had_disk) return false;  // whoever serves has the only copy
  if (world_.waits_for_some()) return true;
  return world_.promised(world_.node(id).peer(other).protocol) == Protocol::A;
}

// Under which something was answered that is not stable everywhere.
Protocol Checker::weakest_protocol(int id) const {
  Protocol weakest = Protocol::C;
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other != id) weakest = std::min(weakest, world_.node(id).peer(other).protocol);
  }
  return weakest;
}

bool Checker::has(int id, const Layout::Units& units, bool stable) const {
  const Disk& disk = world_.node(id).disk();
  const Promise promise = stable ? Promise::Flushed : Promise::Acknowledged;
  for (size_t unit = units.first; unit < units.end; ++unit) {
    if (!world_.ledger.allows(unit, stable ? disk.stable(unit) : disk.read(unit), promise)) return false;
  }
  return true;
}

bool Checker::got(int id, uint32_t write, bool stable) const {
  const Disk& disk = world_.node(id).disk();
  const Layout::Units& units = world_.ledger.units_of(write);
  for (size_t unit = units.first; unit < units.end; ++unit) {
    if (!world_.ledger.is_of_or_after(write, unit, stable ? disk.stable(unit) : disk.read(unit))) return false;
  }
  return true;
}

// Invariant 1, where first or any K are waited for. One that has crashed since it was in sync had it.
void Checker::check_sync_set(int id, std::span<const uint32_t> writes, bool stable, uint8_t kept_by, bool was_held) {
  if (!world_.waits_for_some() || !holds_answered(id, id) || world_.node(id).is_served()) return;
  int in_sync = 0;
  int kept = 0;
  bool first_kept = true;
  for (int place = 0; place < world_.node_count(); ++place) {
    const int other = world_.prefers_last ? world_.node_count() - 1 - place : place;
    if (other == id) continue;
    const bool linked = holds_answered(other, id);
    if (kept_by != 0 ? (kept_by >> world_.node(id).peer_index(other) & 1) == 0 : !linked) continue;
    bool has_all = true;  // also what was answered since by others alone, before this one was in sync
    bool has_these = true;
    for (const uint32_t write : writes) {
      if (has(other, world_.ledger.units_of(write), stable)) continue;
      has_all = false;
      has_these = has_these && got(other, write, stable);
    }
    if (!has_all) {
      known(other).has_acknowledged = false;
      known(other).may_lack = true;
    }
    const bool counts = has_these || !linked || !known(other).steady || known(other).behind;
    if (!counts && was_held && (known(id).joined >> other & 1) != 0) continue;
    if (in_sync < world_.sync.count) first_kept = first_kept && counts;
    ++in_sync;
    if (counts) ++kept;
  }
  const bool any_kept = kept >= std::min<int>(world_.sync.count, in_sync);
  if (world_.sync.kind == SyncChoice::First ? first_kept : any_kept) return;
  world_.fail("node " + std::to_string(id) + " answered a " + (stable ? "flush" : "write") + ", and of " +
              std::to_string(in_sync) + " peers in sync only " + std::to_string(kept) + " have what it promises");
}

// Protocol A: a peer that had everything that was answered may not have it on its stable storage.
void Checker::note_who_lacks_flushed(int id, std::span<const uint32_t> writes, bool had_disk) {
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id || !answers_ahead(id, other, had_disk)) continue;
    // Where only some are waited for, one whose resync has ended, which the Primary has not heard yet, is no better
    // off.
    const bool is_target = world_.node(id).peer(other).replication == ReplicationState::SyncSource;
    if (!holds_answered(other, id) && !(is_target && world_.waits_for_some())) continue;
    const bool lacks = std::any_of(writes.begin(), writes.end(),
                                   [&](uint32_t write) { return !has(other, world_.ledger.units_of(write), true); });
    if (lacks) known(other).may_lack = true;
  }
}

void Checker::note_promise(int id) {
  served_generation_ = world_.node(id).is_served() ? world_.node(id).status().generation : Generation{};
  if (world_.node_count() < 3) return;
  const Generation in =
      served_generation_.is_zero() ? world_.node(id).durable().superblock.current : served_generation_;
  if (answered_in_.empty() || answered_in_.back() != in) answered_in_.push_back(in);
}

// Protocol A: another peer in that generation gets what is answered as late as it may be.
bool Checker::is_beside_one_ahead(int id, int other, const Generation& generation) const {
  for (int third = 0; third < world_.node_count(); ++third) {
    if (third == id || third == other) continue;
    if (world_.node(id).peer(third).replication == ReplicationState::Established &&
        world_.promised(world_.node(id).peer(third).protocol) == Protocol::A &&
        world_.node(third).durable().superblock.current == generation) {
      return true;
    }
  }
  return false;
}

// Invariant 10: whoever is left out must not be able to take itself for a copy of the same generation.
void Checker::write_answered(int id, uint32_t write, bool fua, uint8_t kept_by, bool had_disk) {
  if (lied_) return;
  const auto is_ahead = [&](int other) {
    return had_disk ? world_.promised(world_.node(id).peer(other).protocol) == Protocol::A : answers_ahead(id, other);
  };
  world_.ledger.acknowledge(write, fua);
  note_promise(id);
  if (!holds_answered(id, id)) {
    known(id).has_acknowledged = false;
    // Complete before a flush failed: it is one that nobody promised to be durable.
    const bool is_alone = !world_.node(id).is_served();
    const bool is_here = had_disk && has(id, world_.ledger.units_of(write), fua);  // and was when it was decided
    known(id).behind = known(id).behind || (!is_alone && !is_here);
    bool is_held = is_alone && world_.node(id).met_disk_fault();
    for (int other = 0; other < world_.node_count(); ++other) is_held = is_held || holds_answered(other, id);
    if (!is_held)
      return world_.fail("node " + std::to_string(id) + " has no disk, and answered write " + std::to_string(write) +
                         " alone");
  }
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id) continue;
    const ReplicationState state = world_.node(id).peer(other).replication;
    if (holds_answered(other, id) && !is_ahead(other)) {
      // Who is left out is this node itself, unless its disk had the write before it failed.
      if (!holds_answered(id, id) && !had_disk && !has(id, world_.ledger.units_of(write), fua) &&
          world_.node(other).durable().superblock.current == world_.node(id).durable().superblock.current) {
        return world_.fail("node " + std::to_string(id) + " has no disk, and a write was answered in its generation");
      }
      continue;
    }
    // Decided while the peer was there, and said only now, when what the answer needed is durable.
    const bool was_waited_for =
        state == ReplicationState::Off && (kept_by >> world_.node(id).peer_index(other) & 1) != 0;
    if (was_waited_for && !is_ahead(other)) continue;
    if (world_.waits_for_some() && (state == ReplicationState::Established || was_waited_for) &&
        has(other, world_.ledger.units_of(write), fua)) {
      continue;
    }
    known(other).has_acknowledged = false;
    if (state == ReplicationState::Established || was_waited_for) {
      known(other).may_lack = true;
      continue;
    }
    if (state == ReplicationState::SyncSource || state == ReplicationState::PausedSyncS ||
        state == ReplicationState::WFBitMapS) {
      // Its resync is over, and its word of that has not come: what is answered under A it may lack as one in sync may.
      const SuperblockImage& of_target = world_.node(other).durable().superblock;
      const bool is_done = of_target.disk_state == DiskState::UpToDate &&
                           of_target.current == world_.node(id).durable().superblock.current;
      if (is_done && is_ahead(other)) known(other).may_lack = true;
      continue;
    }
    const Generation answered_in = world_.node(id).is_served() ? world_.node(id).status().generation
                                                               : world_.node(id).durable().superblock.current;
    const SuperblockImage& of_other = world_.node(other).durable().superblock;
    const bool holds_generation = of_other.current == answered_in;
    const bool went_on_from_it =
        std::find(of_other.history.begin(), of_other.history.end(), answered_in) != of_other.history.end();
    if ((holds_generation || went_on_from_it) && world_.node_count() > 2) {
      // It may have got both the generation and the write from a third node.
      const Layout::Units units = world_.ledger.units_of(write);
      const Disk& disk = world_.node(other).disk();
      bool has_it = true;
      for (size_t unit = units.first; unit < units.end; ++unit) {
        has_it = has_it && world_.ledger.allows(unit, disk.read(unit), Promise::Acknowledged);
      }
      if (has_it) continue;
      // … from one that is not waited for, and is no further.
      if (is_beside_one_ahead(id, other, answered_in)) {
        known(other).may_lack = true;
        continue;
      }
    }
    known(other).behind = true;
    known(other).left_lacking = false;
    world_.trace("node %d answers write %u, and node %d is behind", id, write, other);
    if (holds_generation) {
      world_.fail("write " + std::to_string(write) + " was acknowledged without node " + std::to_string(other) +
                  " in a generation that it holds, too");
    }
  }
  // Protocol C: the write is on the disk of everybody who is in sync. A node that lost power has it no more.
  for (int each = 0; each < world_.node_count(); ++each) {
    if (!holds_answered(each, id) || !known(each).has_acknowledged) continue;
    if (each != id && world_.uses_weak_protocols() && (had_disk || !world_.node(id).is_served())) continue;
    const Layout::Units& units = world_.ledger.units_of(write);
    const Disk& disk = world_.node(each).disk();
    for (size_t unit = units.first; unit < units.end; ++unit) {
      if (world_.ledger.allows(unit, disk.read(unit), Promise::Acknowledged)) continue;
      return world_.fail("a write was answered, and on node " + std::to_string(each) + "'s disk " +
                         world_.ledger.objection(unit, disk.read(unit), Promise::Acknowledged));
    }
  }
  if (weakest_protocol(id) == Protocol::C)
    check_sync_set(id, std::span(&write, 1), fua, kept_by, write <= known(id).held_write);
  // Invariant 1, for this write alone.
  if (fua) check_units_stable(id, world_.ledger.units_of(write), true, "FUA", had_disk);
}

// Invariant 1.
void Checker::flush_answered(int id, uint64_t issued, bool had_disk) {
  if (lied_) return;
  const std::vector<uint32_t>& writes = world_.ledger.flushed(issued);
  note_promise(id);
  note_who_lacks_flushed(id, writes, had_disk);
  if (weakest_protocol(id) != Protocol::A) check_sync_set(id, writes, true, 0, issued <= known(id).held_moment);
  for (const uint32_t write : writes) {
    check_units_stable(id, world_.ledger.units_of(write), true, "a flush", had_disk);
  }
}

// Invariant 15.
void Checker::read_answered(const ByteRange& range, std::span<const Value> seen, uint64_t issued) {
  if (lied_) return;
  const size_t first = world_.layout.units(range).first;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (world_.ledger.allows(first + i, seen[i], Promise::Acknowledged, issued)) continue;
    return world_.fail("a read of blocks " + std::to_string(range.offset_bytes / kBlockBytes) + " to " +
                       std::to_string((range.end_bytes() - 1) / kBlockBytes) + " saw the wrong data: " +
                       world_.ledger.objection(first + i, seen[i], Promise::Acknowledged, issued));
  }
}

void Checker::request_failed(int id, int error_errno) {
  // Requests of a node that is being demoted are refused; else only a disk's fault is a reason.
  if (error_errno == ESHUTDOWN) return;
  if (error_errno == EIO) {
    // A peer that has everything would have served.
    bool is_excused = false;
    bool has_server = false;
    for (int each = 0; each < world_.node_count(); ++each) {
      is_excused = is_excused || world_.node(each).met_disk_fault();
      if (each == id || world_.node(each).met_disk_fault()) continue;
      has_server = has_server || (world_.node(id).peer(each).disk_state == DiskState::UpToDate &&
                                  world_.node(id).peer(each).replication == ReplicationState::Established);
    }
    // What was to be said once a record is durable, and that record failed in this moment.
    const bool was_recording = world_.node(id).metadata_failed() && is_disk(world_.node(id).status().disk_state);
    if (known(id).data_lost || (is_excused && (!has_server || was_recording))) return;
  }
  world_.fail("node " + std::to_string(id) + " failed a request with errno " + std::to_string(error_errno));
}

}  // namespace lockstep::sim
