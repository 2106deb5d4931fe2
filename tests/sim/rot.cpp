#include "tests/sim/rot.h"

#include <algorithm>
#include <string>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

bool Rot::begin() {
  Random& random = world_.random;
  if (!random.chance(0.25)) return false;
  primary_ = -1;
  for (int id = 0; id < world_.node_count(); ++id) {
    if (world_.node(id).status().role == Role::Primary) primary_ = id;
  }
  if (primary_ < 0) return false;
  if (world_.node(primary_).status().data_lost) return false;  // the operator takes the role from it soon
  if (!world_.node(primary_).export_open()) return false;      // it is being demoted, which ends a verify
  rotten_ = static_cast<int>(random.below(static_cast<uint64_t>(world_.node_count() - 1)));
  if (rotten_ >= primary_) ++rotten_;
  // Who is Primary is news that may not have come everywhere.
  if (world_.node(rotten_).peer(primary_).role != Role::Primary) return false;
  // One that an operator ordered before runs still, and has passed who knows what.
  if (world_.node(primary_).peer(rotten_).verify.runs || world_.node(rotten_).peer(primary_).verify.runs) return false;
  // A handler that ends makes its node's links anew.
  for (int id = 0; id < world_.node_count(); ++id) {
    if (world_.node(id).handlers_end_us() >= world_.now_us) return false;
  }
  // The Primary's copy counts, also when it is the rotten one: a third node, which nobody asks here, keeps the old
  // data.
  on_primary_ = random.chance(0.2) && world_.node_count() == 2;
  world_.checker.look_away();
  Disk& disk = world_.node(on_primary_ ? primary_ : rotten_).disk();
  for (uint64_t i = random.below(4); i > 0; --i) {
    const auto unit = static_cast<size_t>(random.below(world_.layout.unit_count()));
    disk.rot(unit);
    world_.trace("unit %zu rots on node %d", unit, on_primary_ ? primary_ : rotten_);
    blocks_.push_back(world_.layout.block_of(unit));
  }
  std::sort(blocks_.begin(), blocks_.end());
  blocks_.erase(std::unique(blocks_.begin(), blocks_.end()), blocks_.end());

  const int from = random.chance(0.3) ? rotten_ : primary_;
  OrderGiven order;
  order.kind = OrderKind::Verify;
  order.repair = true;
  order.every_peer = false;
  order.peer = world_.node(from).peer_index(from == primary_ ? rotten_ : primary_);
  ended_before_ = world_.node(primary_).peer(rotten_).verify.ended;
  world_.node(from).order(order);
  return true;
}

bool Rot::is_over() const {
  const auto state = world_.node(primary_).peer(rotten_).verify;
  if (state.ended <= ended_before_ || world_.node(rotten_).peer(primary_).verify.runs) return false;
  // What was repaired counts as missing at a third node until the Primary has said again who is in sync.
  for (int id = 0; id < world_.node_count(); ++id) {
    for (int other = 0; other < world_.node_count(); ++other) {
      if (id != other && world_.node(id).peer(other).out_of_sync_blocks != 0) return false;
    }
  }
  return true;
}

void Rot::check() const {
  for (const int id : {primary_, rotten_}) {
    const auto verify = world_.node(id).peer(id == primary_ ? rotten_ : primary_).verify;
    if (!verify.complete) return world_.fail("a verify that nothing disturbs did not reach its end");
    std::vector<uint64_t> found;
    for (const BlockRun& run : verify.found) {
      for (uint64_t i = 0; i < run.block_count; ++i) found.push_back(run.first_block + i);
    }
    std::sort(found.begin(), found.end());
    if (found != blocks_ || verify.differing_blocks != blocks_.size()) {
      return world_.fail("verify found " + std::to_string(verify.differing_blocks) + " blocks, " +
                         std::to_string(blocks_.size()) + " are rotten");
    }
  }
}

}  // namespace lockstep::sim
