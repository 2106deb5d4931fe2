// The invariants. Numbers are those of docs/testing.md.
#include <algorithm>
#include <string>

#include "replicator/core/generation_rules.h"
#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {

// What a node would say of itself if it started now from stable storage, and which blocks it would call dirty.
struct Restarted {
  StateReport report;
  std::vector<bool> dirty;
};

Restarted restarted(const Node& node, int id, uint64_t blocks) {
  const DurableMetadata& durable = node.durable();
  Restarted result;
  result.dirty.assign(blocks, false);
  for (uint64_t block = 0; block < blocks; ++block) {
    const auto& page = durable.bitmap_pages[block / kBlocksPerBitmapPage];
    const uint64_t bit = block % kBlocksPerBitmapPage;
    result.dirty[block] = (page[bit / 64] >> (bit % 64) & 1) != 0;
  }
  for (const uint32_t extent : durable.activity_log) {
    if (extent == kNoExtent) continue;
    const uint64_t first = extent * kBlocksPerExtent;
    std::fill(result.dirty.begin() + static_cast<std::ptrdiff_t>(first),
              result.dirty.begin() + static_cast<std::ptrdiff_t>(std::min(first + kBlocksPerExtent, blocks)), true);
  }
  const SuperblockImage& superblock = durable.superblock;
  StateReport& report = result.report;
  report.current = superblock.current;
  report.bitmap_generation = superblock.peers[0].bitmap_generation;
  report.previous_bitmap_generation = superblock.peers[0].previous_bitmap_generation;
  report.history = superblock.history;
  report.out_of_sync_blocks = static_cast<uint64_t>(std::count(result.dirty.begin(), result.dirty.end(), true));
  report.role = Role::Secondary;
  report.disk_state = superblock.disk_state;
  if (report.disk_state == DiskState::UpToDate && report.bitmap_generation.is_zero()) {
    report.disk_state = DiskState::Consistent;
  }
  report.crashed_primary = superblock.primary || superblock.peers[0].crashed_primary;
  report.node_order = static_cast<uint8_t>(id);
  return result;
}

}  // namespace

// Invariants 4, 5, 9, 10, 11 and 3: if the power of both nodes failed at this moment, the two would find the right
// source, that source would hold everything that was flushed, and every block that may differ would be copied.
void World::check_everything_lost_power() {
  if (!result_.ok) return;
  ++result_.checks;
  const uint64_t blocks = node(0).disk().unit_count() * kUnitBytes / kBlockBytes;
  const Restarted first = restarted(node(0), 0, blocks);
  const Restarted second = restarted(node(1), 1, blocks);
  const Decision decision = decide(first.report, second.report);
  switch (decision.kind) {
    case SyncKind::SplitBrain:
    case SyncKind::Unrelated:
    case SyncKind::Refuse:
      return fail("after a loss of power on both nodes the handshake would say " +
                  std::string(to_string(decision.rule)));
    default:
      break;
  }
  if (decision.rule == Rule::BothJustCreated) return;
  const bool bitmap_only = decision.extent != SyncExtent::Full;
  const Disk& a = node(0).disk();
  const Disk& b = node(1).disk();
  constexpr uint64_t kUnitsPerBlock = kBlockBytes / kUnitBytes;
  for (size_t unit = 0; unit < a.unit_count() && bitmap_only; ++unit) {
    const bool may_differ = a.read(unit) != b.read(unit) || a.is_volatile(unit) || b.is_volatile(unit);
    const size_t block = unit / kUnitsPerBlock;
    if (may_differ && !first.dirty[block] && !second.dirty[block]) {
      return fail("block " + std::to_string(block) + " may differ and nothing on stable storage says so (rule " +
                  std::string(to_string(decision.rule)) + ", " + std::to_string(a.read(unit)) +
                  (a.is_volatile(unit) ? "v" : "") + " and " + std::to_string(b.read(unit)) +
                  (b.is_volatile(unit) ? "v)" : ")"));
    }
  }
  const int source = decision.kind == SyncKind::Target ? 1 : 0;
  const Disk& disk = node(source).disk();
  for (size_t unit = 0; unit < disk.unit_count(); ++unit) {
    if (!ledger.watches(unit)) continue;
    const std::string objection = ledger.objection(unit, disk.stable(unit), Promise::Flushed);
    if (!objection.empty()) {
      return fail("after a loss of power on both nodes, node " + std::to_string(source) + " would be source by " +
                  std::string(to_string(decision.rule)) + ", and " + objection);
    }
  }
}

void World::before_crash(int) {
  check_everything_lost_power();
}

void World::superblock_written(int) {}

// Invariant 10: whoever is left out must not be able to take itself for a copy of the same generation.
void World::write_answered(int id, uint32_t write, bool fua) {
  ledger.acknowledge(write, fua);
  const PeerStatus peer = node(id).peer();
  const bool replicated =
      peer.replication == ReplicationState::Established || peer.replication == ReplicationState::SyncSource ||
      peer.replication == ReplicationState::PausedSyncS || peer.replication == ReplicationState::WFBitMapS;
  const auto other = static_cast<size_t>(1 - id);
  if (!replicated) {
    behind_[other] = true;
    has_acknowledged_[other] = false;
    if (node(1 - id).durable().superblock.current == node(id).durable().superblock.current) {
      fail("write " + std::to_string(write) + " was acknowledged alone in a generation that the peer holds, too");
    }
  } else if (peer.replication != ReplicationState::Established) {
    has_acknowledged_[other] = false;
  }
  if (fua) {
    // Invariant 1, for this write alone.
    const ByteRange range = ledger.range_of(write);
    for (uint64_t unit = range.offset_bytes / kUnitBytes; unit < range.end_bytes() / kUnitBytes; ++unit) {
      for (int each = 0; each < 2; ++each) {
        if (each != id && !replicated) continue;
        const std::string objection = ledger.objection(unit, node(each).disk().stable(unit), Promise::Flushed);
        if (!objection.empty() && (each == id || peer.replication == ReplicationState::Established)) {
          return fail("FUA was answered, and on node " + std::to_string(each) + " " + objection);
        }
      }
    }
  }
}

// Invariant 1.
void World::flush_answered(int id, uint64_t issued) {
  const std::vector<uint32_t> covered = ledger.flushed(issued);
  const bool established = node(id).peer().replication == ReplicationState::Established;
  for (const uint32_t write : covered) {
    const ByteRange range = ledger.range_of(write);
    for (uint64_t unit = range.offset_bytes / kUnitBytes; unit < range.end_bytes() / kUnitBytes; ++unit) {
      for (int each = 0; each < 2; ++each) {
        if (each != id && !established) continue;
        const std::string objection = ledger.objection(unit, node(each).disk().stable(unit), Promise::Flushed);
        if (!objection.empty()) {
          return fail("a flush was answered, and on node " + std::to_string(each) + "'s stable storage " + objection);
        }
      }
    }
  }
}

// Invariant 15.
void World::read_answered(int, const ByteRange& range, const std::vector<Value>& seen, uint64_t issued) {
  const uint64_t first = range.offset_bytes / kUnitBytes;
  for (size_t i = 0; i < seen.size(); ++i) {
    const std::string objection = ledger.objection(first + i, seen[i], Promise::Acknowledged, issued);
    if (!objection.empty()) return fail("a read saw the wrong data: " + objection);
  }
}

void World::request_failed(int id, int error_errno) {
  // Requests of a node that is being demoted are refused; nothing else fails while disks are whole.
  if (error_errno != ESHUTDOWN)
    fail("node " + std::to_string(id) + " failed a request with errno " + std::to_string(error_errno));
}

void World::export_opened(int id) {
  ++result_.promotions;
  check_promoted(id);
}

// Invariants 2, 3 and 7.
void World::check_promoted(int id) {
  const auto self = static_cast<size_t>(id);
  if (node(1 - id).alive() && node(1 - id).export_open()) return fail("both exports are open");
  if (node(id).replica().status().disk_state != DiskState::UpToDate)
    return fail("a disk that is not UpToDate was promoted");
  if (behind_[self]) return fail("node " + std::to_string(id) + " was promoted and lacks acknowledged writes");
  const Promise promise = has_acknowledged_[self] ? Promise::Acknowledged : Promise::Flushed;
  const Disk& disk = node(id).disk();
  for (size_t unit = 0; unit < disk.unit_count(); ++unit) {
    if (!ledger.watches(unit)) continue;
    const std::string objection = ledger.objection(unit, disk.read(unit), promise);
    if (!objection.empty()) return fail("node " + std::to_string(id) + " was promoted, and " + objection);
  }
  if (promise == Promise::Flushed) {
    // What survived is what the application starts from; it is made stable, so that it is one state and not several.
    node(id).disk().end_flush(node(id).disk().begin_flush());
    ledger.rebase(disk.content());
    has_acknowledged_[self] = true;
    // A peer that is in sync holds the same, and gets every write from here on.
    if (node(id).peer().replication == ReplicationState::Established) has_acknowledged_[1 - self] = true;
  }
}

// Invariants 6 and 16.
void World::check_converged() {
  const Disk& a = node(0).disk();
  const Disk& b = node(1).disk();
  for (size_t unit = 0; unit < a.unit_count(); ++unit) {
    if (a.read(unit) != b.read(unit)) {
      return fail("unit " + std::to_string(unit) + " differs at the end: " + std::to_string(a.read(unit)) + " and " +
                  std::to_string(b.read(unit)));
    }
  }
  for (int id = 0; id < 2; ++id) {
    if (node(id).peer().out_of_sync_blocks != 0) return fail("bits are left at the end");
  }
  if (node(0).replica().superblock().current != node(1).replica().superblock().current) {
    fail("the generations differ at the end");
  }
}

}  // namespace lockstep::sim
