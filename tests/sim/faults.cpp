#include "tests/sim/faults.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

Faults::Faults(World& world)
    : world_(world),
      crashes_(world.random.chance(0.5)),
      power_losses_(world.random.chance(0.5)),
      long_absences_(world.random.chance(0.2)),
      freezes_(world.random.chance(0.3)),
      clock_jumps_(world.random.chance(0.2)),
      cuts_(world.random.chance(0.5)),
      silences_(world.random.chance(0.4)),
      stalls_(world.random.chance(0.4)),
      partitions_(world.random.chance(0.4)),
      flaps_(world.random.chance(0.2)),
      disk_errors_(world.random.chance(0.3) && world.knows_disk_errors()),
      slow_disks_(world.random.chance(0.3)),
      replacements_(world.random.chance(0.2) && world.knows_lost_disks()),
      rollbacks_(world.random.chance(0.2) && world.knows_lost_disks()) {}

void Faults::start() {
  world_.every(world_.random.between(50'000, 500'000), [this] {
    if (!world_.is_healing()) one_fault();
    return !world_.is_healing();
  });
}

void Faults::one_fault() {
  Random& random = world_.random;
  const int id = static_cast<int>(random.below(static_cast<uint64_t>(world_.node_count())));
  int other = static_cast<int>(random.below(static_cast<uint64_t>(world_.node_count() - 1)));
  if (other >= id) ++other;
  if (random.chance(0.5)) {
    fault_of_node(id);
  } else {
    fault_of_link(id, other);
  }
}

void Faults::fault_of_link(int a, int b) {
  Random& random = world_.random;
  Network& network = world_.network;
  switch (random.below(5)) {
    case 0:
      if (!cuts_) return;
      world_.trace("the link between %d and %d is cut", a, b);
      return network.cut(a, b);
    case 1:
      if (!silences_) return;
      world_.trace("the link from node %d to %d falls silent", a, b);
      return network.fall_silent(a, b);
    case 2:
      if (!stalls_) return;
      world_.trace("the link between %d and %d stalls", a, b);
      return network.stall(a, b, world_.now_us + random.between(1'000, 400'000));
    case 3:
      if (!partitions_ || network.is_partitioned(a, b)) return;
      world_.trace("partition between %d and %d", a, b);
      network.partition(a, b);
      return world_.at(world_.now_us + random.between(10'000, 900'000), [this, a, b] { world_.network.heal(a, b); });
    default:
      if (!flaps_) return;
      for (uint64_t flap = random.between(3, 12); flap > 0; --flap) {
        world_.at(world_.now_us + random.below(300'000), [this, a, b] {
          world_.trace("the link between %d and %d flaps", a, b);
          world_.network.cut(a, b);
        });
      }
      return;
  }
}

void Faults::fault_of_node(int id) {
  Random& random = world_.random;
  Node& node = world_.node(id);
  switch (random.below(8)) {
    case 0:
    case 1:
      return crash(id);
    case 2: {
      if (!freezes_ || !node.responds()) return;
      const uint64_t until = world_.now_us + random.between(1'000, 600'000);
      world_.trace("node %d freezes until %llu", id, static_cast<unsigned long long>(until));
      return node.freeze(until);
    }
    case 3:
      if (!clock_jumps_) return;
      world_.trace("the clock of node %d jumps", id);
      return node.jump_clock(random.between(1'000, 10'000'000));
    case 4:
      if (!disk_errors_ || !node.alive()) return;
      return node.break_disk(static_cast<DiskFault>(random.between(1, 5)), random.chance(0.5));
    case 5:
      if (!slow_disks_ || !node.alive()) return;
      world_.trace("the disk of node %d is slow", id);
      return node.slow_down(world_.now_us + random.between(10'000, 300'000));
    default:
      return lose_disk(id);
  }
}

void Faults::crash(int id) {
  Random& random = world_.random;
  if (!world_.node(id).alive() || !(crashes_ || power_losses_)) return;
  const bool power = power_losses_ && (!crashes_ || random.chance(0.5));
  world_.node(id).crash(power);
  for (int other = 0; other < world_.node_count(); ++other) {
    if (power && world_.node(other).alive() && random.chance(0.4)) world_.node(other).crash(true);
  }
  for (int each = 0; each < world_.node_count(); ++each) {
    if (world_.node(each).alive()) continue;
    if (rollbacks_ && random.chance(0.3)) world_.node(each).take_snapshot();
    const uint64_t absence_us = random.between(10'000, long_absences_ && random.chance(0.3) ? 2'900'000 : 800'000);
    world_.at(world_.now_us + absence_us, [this, each] {
      if (!world_.node(each).alive()) world_.node(each).boot();
    });
  }
}

// A disk is replaced by an empty one, or by an older copy, where another node has everything. A copy of a generation
// from which others count their bits is left out: nothing tells it from the disk that they knew.
void Faults::lose_disk(int id) {
  Node& node = world_.node(id);
  // An arbiter promotes whom it has recorded as in sync: it does not know the disk, and nobody else is there to ask.
  const bool rolls_back = rollbacks_ && node.has_snapshot() && world_.policy != repl::LossPolicy::Arbiter;
  if (!rolls_back && !replacements_) return;
  if (world_.growth.is_under_way()) return;
  bool somebody_suffices = false;
  for (int other = 0; other < world_.node_count(); ++other) {
    if (other == id) continue;
    somebody_suffices = somebody_suffices || world_.checker.suffices_alone(other);
    if (!rolls_back) continue;
    const repl::SuperblockImage& superblock = world_.node(other).durable().superblock;
    const repl::PeerRecord& record = superblock.peers[world_.node(other).peer_index(id)];
    const repl::Generation& generation = node.generation_of_snapshot();
    const auto& history = superblock.history;
    if (superblock.current == generation || record.bitmap_generation == generation ||
        record.previous_bitmap_generation == generation ||
        std::find(history.begin(), history.end(), generation) == history.end()) {
      return;
    }
  }
  if (!somebody_suffices) return;
  if (node.alive()) node.crash(true);
  if (rolls_back) {
    node.roll_back();
  } else {
    node.replace_disk();
  }
  world_.checker.disk_replaced(id);
  world_.at(world_.now_us + world_.random.between(10'000, 500'000), [this, id] {
    if (!world_.node(id).alive()) world_.node(id).boot();
  });
}

}  // namespace lockstep::sim
