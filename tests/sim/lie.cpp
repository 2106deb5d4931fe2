#include "tests/sim/lie.h"

#include <string>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

namespace {
constexpr uint64_t kStepUs = 20'000;
constexpr uint64_t kLeftAloneUs = 400'000;  // so long a split brain is left as it is
}  // namespace

bool Lie::begin() {
  Random& random = world_.random;
  if (!random.chance(0.15) || world_.node_count() != 2 || world_.policy != LossPolicy::Continue) return false;
  int primary = -1;
  for (int id = 0; id < 2; ++id) {
    if (world_.node(id).status().role == Role::Primary) primary = id;
  }
  if (primary < 0 || world_.orders.is_pending() || world_.node(1 - primary).peer(primary).role != Role::Primary) {
    return false;
  }
  if (world_.node(primary).status().data_lost) return false;  // its clients' writes fail until it gives up the role
  world_.checker.look_away();
  world_.checker.operator_lied();
  world_.orders.stand_back(true);
  world_.network.partition(0, 1);
  loser_ = static_cast<int>(random.below(2));
  stage_ = Stage::Parting;
  world_.every(kStepUs, [this] {
    step();
    return world_.ok() && stage_ != Stage::Over;
  });
  return true;
}

bool Lie::both(bool (*holds)(World& world, int node)) const {
  return holds(world_, 0) && holds(world_, 1);
}

void Lie::order(int id, OrderGiven given) {
  given.ticket = UINT64_MAX;  // nobody waits for it
  world_.node(id).order(given);
}

std::vector<Value> Lie::content(int id) const {
  const auto now = world_.node(id).disk().content();
  return {now.begin(), now.end()};
}

void Lie::write() {
  Random& random = world_.random;
  for (int id = 0; id < 2; ++id) {
    for (uint64_t i = random.below(3); i > 0; --i) {
      const uint64_t arena = random.below(world_.layout.arena_count());
      const uint64_t offset = world_.layout.arena_offset_bytes(arena) + random.below(kArenaBlocks) * kBlockBytes;
      world_.node(id).application_write({offset, kBlockBytes}, ClientOperation::Write, random.chance(0.3));
      wrote_[static_cast<size_t>(id)] = true;
    }
  }
}

void Lie::step() {
  const auto parted = [](World& world, int id) {
    return world.node(id).peer(1 - id).connection != ConnectionState::Connected;
  };
  const auto exports = [](World& world, int id) { return world.node(id).export_open(); };
  const auto idle = [](World& world, int id) { return world.node(id).application_in_flight() == 0; };
  const auto secondary = [](World& world, int id) { return world.node(id).status().role == Role::Secondary; };
  switch (stage_) {
    case Stage::Parting:
      if (!both(parted)) return world_.network.partition(0, 1);  // the end of the faults has healed it
      for (int id = 0; id < 2; ++id) {
        OrderGiven promote;
        promote.kind = OrderKind::Promote;
        promote.peer_fenced = true;
        if (world_.node(id).status().role != Role::Primary) order(id, promote);
      }
      stage_ = Stage::Promoting;
      return;
    case Stage::Promoting:
      if (!both(exports)) return;
      write();
      stage_ = Stage::Writing;
      return;
    case Stage::Writing:
      if (!both(idle)) return;
      for (int id = 0; id < 2; ++id) {
        OrderGiven demote;
        demote.kind = OrderKind::Demote;
        order(id, demote);
      }
      stage_ = Stage::Demoting;
      return;
    case Stage::Demoting:
      if (!both(secondary)) return;
      for (int id = 0; id < 2; ++id) images_[static_cast<size_t>(id)] = content(id);
      world_.network.heal(0, 1);
      world_.orders.stand_back(both_wrote());
      stage_ = Stage::Meeting;
      return;
    case Stage::Meeting:
      return meet();
    case Stage::Settling:
      if (world_.is_quiet()) stage_ = Stage::Over;
      return;
    case Stage::Over:
      return;
  }
}

void Lie::meet() {
  if (!both_wrote()) {
    if (noted_[0] || noted_[1]) return world_.fail("a split brain, though only one node wrote");
    if (world_.is_quiet()) stage_ = Stage::Over;
    return;
  }
  if (world_.is_quiet()) return world_.fail("both nodes wrote, and they came together by themselves");
  if (!noted_[0] || !noted_[1]) return;
  if (since_us_ == 0) since_us_ = world_.now_us;
  if (world_.now_us - since_us_ < kLeftAloneUs) return;
  for (int id = 0; id < 2; ++id) {
    if (content(id) != images_[static_cast<size_t>(id)]) {
      return world_.fail("a split brain, and node " + std::to_string(id) + " gave up data by itself");
    }
  }
  OrderGiven give_way;
  give_way.kind = OrderKind::Resync;
  give_way.every_peer = false;
  give_way.give_generation = true;
  give_way.generation = world_.node(loser_).status().generation;
  order(loser_, give_way);
  world_.orders.stand_back(false);
  stage_ = Stage::Settling;
}

void Lie::check() const {
  for (int winner = 0; winner < 2; ++winner) {
    const bool counts = both_wrote() ? winner != loser_ : wrote_[static_cast<size_t>(winner)];
    if (!counts) continue;
    for (int id = 0; id < 2; ++id) {
      if (content(id) == images_[static_cast<size_t>(winner)]) continue;
      return world_.fail("node " + std::to_string(id) + " does not hold what node " + std::to_string(winner) +
                         " wrote, whose data counts");
    }
  }
}

}  // namespace lockstep::sim
