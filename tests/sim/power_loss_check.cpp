// Invariants 4, 5, 9, 10, 11 and 3: if the power of all nodes failed at this moment, any two of them would find the
// right source, somebody would hold everything that was flushed, and every block that may differ would be copied.
#include <algorithm>

#include "tests/sim/checker.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {

bool bit(const Node& node, PeerIndex peer, uint64_t block) {
  const auto& page = node.durable().bitmaps[peer][block / kBlocksPerBitmapPage];
  const uint64_t at = block % kBlocksPerBitmapPage;
  return (page[at / 64] >> (at % 64) & 1) != 0;
}

bool is_hot(const Node& node, uint64_t block) {
  const auto& log = node.durable().activity_log;
  return std::find(log.begin(), log.end(), block / kBlocksPerExtent) != log.end();
}

bool has_bits(const Node& node, PeerIndex peer) {
  const auto& log = node.durable().activity_log;
  if (std::any_of(log.begin(), log.end(), [](uint32_t extent) { return extent != kNoExtent; })) return true;
  return std::any_of(node.durable().bitmaps[peer].begin(), node.durable().bitmaps[peer].end(), [](const auto& page) {
    return std::any_of(page.begin(), page.end(), [](uint64_t word) { return word != 0; });
  });
}

}  // namespace

// As replicator/core/startup.cpp makes it.
Checker::Restarted Checker::restarted(int id, int peer_id) const {
  const Node& node = world_.node(id);
  SuperblockImage superblock = node.durable().superblock;
  undo_unanswered(superblock);
  Restarted result{&node, node.peer_index(peer_id), {}};
  const PeerRecord& record = superblock.peers[result.peer];
  StateReport& report = result.report;
  report.current = superblock.current;
  report.bitmap_generation = record.bitmap_generation;
  report.previous_bitmap_generation = record.previous_bitmap_generation;
  report.history = superblock.history;
  report.out_of_sync_blocks =
      has_bits(node, result.peer) || record.bitmap_in_memory ? 1 : 0;  // the rules ask whether there are any
  report.role = Role::Secondary;
  report.disk_state = superblock.disk_state;
  const bool all_behind = all_known_behind(superblock, static_cast<uint8_t>(node.peer_count()));
  if (report.disk_state == DiskState::UpToDate && !all_behind) report.disk_state = DiskState::Consistent;
  report.crashed_primary = superblock.primary || record.crashed_primary;
  report.answered_ahead = report.crashed_primary && record.answered_ahead;
  report.node_order = static_cast<uint8_t>(id);
  report.remembered = superblock.peer_lives[result.peer];
  // An older copy is known as one by its age. With two nodes nobody would be its source after this.
  report.life = superblock.life;
  const bool is_replaced = nodes_[static_cast<size_t>(id)].replaced;
  if (world_.node_count() == 2 && is_replaced && !superblock.current.is_zero()) report.life.age = UINT64_MAX;
  if (superblock.unanswered_since == kHeldByNobody) report.unanswered_since = kHeldByNobody;
  if (node.peer_count() > 1) {
    report.sync_toward = superblock.sync_toward;
    report.unanswered_since = superblock.unanswered_since;
    report.undone = superblock.undone;
    report.waited_for = superblock.waited_for;
    report.may_hold = 1;  // of several nodes, as the rules ask
    if ((superblock.sync_sources >> result.peer & 1) == 0) report.sync_base = superblock.sync_base;
  }
  return result;
}

void Checker::check_stable_storage() {
  if (!world_.ok()) return;
  ++checks;
  stream_order.check_all();
  look_at_changes();
  const bool somebody_complete =
      std::any_of(nodes_.begin(), nodes_.end(), [](const Knowledge& each) { return each.wrong_count == 0; });
  if (!somebody_complete) {
    return world_.fail("after a loss of power no node would hold all that was flushed: on node 0 " + first_wrong(0));
  }
  for (Difference& difference : differences_) {
    if (!check_pair(difference)) return;
  }
}

void Checker::look_at_changes() {
  for (const uint32_t unit : world_.ledger.changed.list()) {
    for (int id = 0; id < world_.node_count(); ++id) look_at(id, unit);
  }
  world_.ledger.changed.clear();
  for (int id = 0; id < world_.node_count(); ++id) {
    ChangedUnits& changed = world_.node(id).disk().changed;
    for (const uint32_t unit : changed.list()) {
      look_at(id, unit);
      for (Difference& difference : differences_) {
        if (difference.a == id || difference.b == id) look_at_difference(difference, unit);
      }
    }
    changed.clear();
  }
}

void Checker::look_at(int id, size_t unit) {
  Knowledge& node = known(id);
  const bool wrong = !world_.ledger.allows(unit, world_.node(id).disk().stable(unit), Promise::Flushed);
  if (wrong == (node.wrong[unit] != 0)) return;
  node.wrong[unit] = wrong ? 1 : 0;
  node.wrong_count = wrong ? node.wrong_count + 1 : node.wrong_count - 1;
}

void Checker::look_at_difference(Difference& difference, size_t unit) {
  const Disk& a = world_.node(difference.a).disk();
  const Disk& b = world_.node(difference.b).disk();
  const bool differs = a.read(unit) != b.read(unit) || a.is_volatile(unit) || b.is_volatile(unit);
  if (differs && difference.differs[unit] == 0) difference.units.push_back(static_cast<uint32_t>(unit));
  if (differs) difference.differs[unit] = 1;
  if (!differs && difference.differs[unit] != 0) {
    difference.differs[unit] = 0;
    std::erase(difference.units, static_cast<uint32_t>(unit));
  }
}

// A bit or a hot extent of either says so, or one of a third node, who will bring both of them its own content.
bool Checker::is_covered(const Difference& difference, uint64_t block) const {
  for (int id = 0; id < world_.node_count(); ++id) {
    const Node& node = world_.node(id);
    if (is_hot(node, block)) return true;
    for (PeerIndex peer = 0; peer < node.peer_count(); ++peer) {
      if (node.durable().superblock.peers[peer].bitmap_in_memory) return true;
    }
    if (id != difference.a && bit(node, node.peer_index(difference.a), block)) return true;
    if (id != difference.b && bit(node, node.peer_index(difference.b), block)) return true;
  }
  return false;
}

// Its disk failed as it was Primary, its metadata with it, and it is there again: the arbiter counts it still, whether
// or not anything was answered through another node's disk since. docs/arbiter.md.
bool Checker::is_promoted_unrecorded(int id) const {
  return world_.policy == LossPolicy::Arbiter && nodes_[static_cast<size_t>(id)].unrecorded &&
         world_.node(id).durable().superblock.primary;
}

bool Checker::check_pair(Difference& difference) {
  const Restarted first = restarted(difference.a, difference.b);
  const Restarted second = restarted(difference.b, difference.a);
  const Decision decision = decide(first.report, second.report);
  const auto failed = [&](const std::string& what) {
    trace_report(first.report);
    trace_report(second.report);
    world_.fail("after a loss of power on nodes " + std::to_string(difference.a) + " and " +
                std::to_string(difference.b) + " " + what + " (rule " + std::string(to_string(decision.rule)) + ")");
    return false;
  };
  switch (decision.kind) {
    case SyncKind::Refuse:
      if (world_.node_count() > 2) return true;  // both wait for a third, who is source to both
      // The one lost its disk, and the other was to serve and got an empty one: two losses at once, for an operator.
      if ((known(difference.a).gone && known(difference.b).replaced) ||
          (known(difference.b).gone && known(difference.a).replaced)) {
        return true;
      }
      // A flush failed on either disk before one could hear of the other: no whole copy is left.
      if (decision.rule == Rule::BothInconsistent && no_whole_copy_is_left()) return true;
      // Nobody who is left can say that nothing is missing.
      if ((decision.rule == Rule::SelfMayBeStale && known(difference.b).replaced) ||
          (decision.rule == Rule::PeerMayBeStale && known(difference.a).replaced)) {
        return true;
      }
      return failed("the handshake would be refused");
    case SyncKind::SplitBrain:
      // The one made a generation, was told that it could not be written, and let the other take over: docs/states.md.
      if (world_.node(difference.a).holds_unannounced() || world_.node(difference.b).holds_unannounced()) {
        world_.give_up();
        return false;
      }
      if (is_split_by_losses(difference.a, difference.b)) {
        world_.give_up();
        return false;
      }
      if (is_promoted_unrecorded(difference.a) || is_promoted_unrecorded(difference.b)) {
        world_.give_up();
        return false;
      }
      return failed("the handshake would not settle it");
    case SyncKind::Unrelated:
      // As noted: an operator's word for one of two that were lost parts it from the other.
      if (is_split_by_losses(difference.a, difference.b)) {
        world_.give_up();
        return false;
      }
      return failed("the handshake would not settle it");
    default:
      break;
  }
  if (decision.rule == Rule::BothJustCreated) return true;
  if (decision.extent != SyncExtent::Full) {
    for (const uint32_t unit : difference.units) {
      const uint64_t block = world_.layout.block_of(unit);
      if (!is_covered(difference, block)) {
        const auto held = [this, unit](int id) {
          const Disk& disk = world_.node(id).disk();
          return std::to_string(disk.read(unit)) + (disk.is_volatile(unit) ? " not flushed" : "");
        };
        return failed("block " + std::to_string(block) + " may differ (" + held(difference.a) + "; " +
                      held(difference.b) + ") and nothing on stable storage says so");
      }
    }
  }
  const int source = decision.kind == SyncKind::Target ? difference.b : difference.a;
  const int target = source == difference.a ? difference.b : difference.a;
  // A third node may be the one that has everything: it is where the promises were made in a generation that neither
  // of the two holds, or while the target's resync had not ended durably.
  const SuperblockImage& of_target = world_.node(target).durable().superblock;
  const bool target_has = known(target).wrong_count == 0 && of_target.disk_state != DiskState::Inconsistent &&
                          of_target.current == promised_in();
  // Its disk has just lost what was flushed, and cannot have said so durably; the Primary, who is not of these two, has
  // seen that it is gone.
  const bool is_just_lost = world_.node_count() > 2 && known(source).gone && world_.node(source).lacks_disk();
  if (is_just_lost && target != last_primary_) return true;
  // Protocol A, and its Primary's disk is gone; or of several peers not all were waited for, and of two that were
  // restarted nobody knows who held more. The Primary is source to both if it comes back with the disk that it had.
  const bool is_primarys = target == last_primary_ && !last_primary_replaced_;
  const bool was_lost =
      known(source).may_lack && (known(target).gone || is_opening(source) || (world_.node_count() > 2 && !is_primarys));
  if (known(source).wrong_count > 0 && !was_lost && (world_.node_count() == 2 || target_has)) {
    return failed("node " + std::to_string(source) + " would be source, and " + first_wrong(source));
  }
  return true;
}

void Checker::trace_report(const StateReport& report) const {
  const auto name = [](const Generation& generation) { return to_string(generation).substr(0, 6); };
  std::string history;
  for (const Generation& each : report.history) history += each.is_zero() ? "" : " " + name(each);
  world_.trace(
      "  reports %s %s, slots %s %s, history%s; %llu blocks, crashed %d ahead %d of term %u; sync from %s to %s, "
      "unanswered since %s, "
      "undone %s, may "
      "hold %x, sees primary %d, waited for %d, term %u, position %llx %llu of %u, stable %llx %llu of %u, "
      "life %llx %llu, remembers %llx %llu",
      std::string(to_string(report.disk_state)).c_str(), name(report.current).c_str(),
      name(report.bitmap_generation).c_str(), name(report.previous_bitmap_generation).c_str(), history.c_str(),
      static_cast<unsigned long long>(report.out_of_sync_blocks), report.crashed_primary ? 1 : 0,
      report.answered_ahead ? 1 : 0, report.ahead_term, name(report.sync_base).c_str(),
      name(report.sync_toward).c_str(), name(report.unanswered_since).c_str(), name(report.undone).c_str(),
      report.may_hold, report.sees_primary ? 1 : 0, static_cast<int>(report.waited_for), report.term,
      static_cast<unsigned long long>(report.position.stream), static_cast<unsigned long long>(report.position.through),
      report.position.term, static_cast<unsigned long long>(report.stable_position.stream),
      static_cast<unsigned long long>(report.stable_position.through), report.stable_position.term,
      static_cast<unsigned long long>(report.life.birth), static_cast<unsigned long long>(report.life.age),
      static_cast<unsigned long long>(report.remembered.birth), static_cast<unsigned long long>(report.remembered.age));
}

std::string Checker::first_wrong(int id) const {
  const auto& wrong = nodes_[static_cast<size_t>(id)].wrong;
  const auto unit = static_cast<size_t>(std::find(wrong.begin(), wrong.end(), 1) - wrong.begin());
  if (unit == wrong.size()) return "nothing is wrong";
  return world_.ledger.objection(unit, world_.node(id).disk().stable(unit), Promise::Flushed);
}

}  // namespace lockstep::sim
