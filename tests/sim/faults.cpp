#include "tests/sim/faults.h"

#include "tests/sim/world.h"

namespace lockstep::sim {

Faults::Faults(World& world)
    : world_(world),
      crashes_(world.random.chance(0.5)),
      power_losses_(world.random.chance(0.5)),
      cuts_(world.random.chance(0.5)),
      silences_(world.random.chance(0.4)),
      stalls_(world.random.chance(0.4)),
      freezes_(world.random.chance(0.3)),
      partitions_(world.random.chance(0.4)) {}

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
  switch (random.below(8)) {
    case 0:
    case 1:
      return crash(id);
    case 2:
      if (!cuts_) return;
      world_.trace("the link between %d and %d is cut", id, other);
      return world_.network.cut(id, other);
    case 3:
      if (!silences_) return;
      world_.trace("the link from node %d to %d falls silent", id, other);
      return world_.network.fall_silent(id, other);
    case 4:
      if (!stalls_) return;
      world_.trace("the link between %d and %d stalls", id, other);
      return world_.network.stall(id, other, world_.now_us + random.between(1'000, 400'000));
    case 5: {
      Node& victim = world_.node(id);
      if (!freezes_ || !victim.responds()) return;
      const uint64_t until = world_.now_us + random.between(1'000, 600'000);
      world_.trace("node %d freezes until %llu", id, static_cast<unsigned long long>(until));
      return victim.freeze(until);
    }
    case 6:
      if (!partitions_ || world_.network.is_partitioned(id, other)) return;
      world_.trace("partition between %d and %d", id, other);
      world_.network.partition(id, other);
      return world_.at(world_.now_us + random.between(10'000, 900'000),
                       [this, id, other] { world_.network.heal(id, other); });
    default:
      return;
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
    world_.at(world_.now_us + random.between(10'000, 800'000), [this, each] {
      if (!world_.node(each).alive()) world_.node(each).boot();
    });
  }
}

}  // namespace lockstep::sim
