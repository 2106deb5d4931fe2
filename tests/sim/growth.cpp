#include "tests/sim/growth.h"

#include <algorithm>

#include "tests/sim/world.h"

namespace lockstep::sim {

using namespace repl;  // NOLINT(google-build-using-namespace): the simulator speaks the core's language throughout

Growth::Growth(World& world, uint64_t seed)
    : world_(world), dice_(seed * 0xD1B54A32D192ED03 + 23), first_size_bytes_(kDeviceBytes) {
  if (dice_.chance(0.15))
    first_size_bytes_ = dice_.between(kDeviceBytes / kBlockBytes / 4, kDeviceBytes / kBlockBytes) * kBlockBytes;
}

void Growth::start() {
  if (first_size_bytes_ == kDeviceBytes) return;
  world_.every(50'000, [this] {
    turn();
    return !is_over();
  });
}

bool Growth::sizes_agree() const {
  for (int id = 1; id < world_.node_count(); ++id) {
    if (world_.node(id).durable().size_bytes != world_.node(0).durable().size_bytes) return false;
  }
  return true;
}

bool Growth::is_over() const {
  return sizes_agree() && world_.node(0).durable().size_bytes == kDeviceBytes;
}

uint64_t Growth::largest_size_bytes() const {
  uint64_t largest = 0;
  for (int id = 0; id < world_.node_count(); ++id) largest = std::max(largest, world_.node(id).durable().size_bytes);
  return largest;
}

bool Growth::is_under_way() const {
  for (int id = 0; id < world_.node_count(); ++id) {
    const DurableMetadata& metadata = world_.node(id).durable();
    if (metadata.superblock.prepared_size_bytes > metadata.size_bytes) return true;
  }
  return false;
}

// By a few steps, or all at once; in the end all that is left. What the order comes to is no matter: one that is
// refused or broken off is given again.
void Growth::turn() {
  if (!dice_.chance(0.2)) return;
  const int id = static_cast<int>(dice_.below(static_cast<uint64_t>(world_.node_count())));
  Node& node = world_.node(id);
  if (!node.responds() || node.replica().size_bytes() == kDeviceBytes) return;
  OrderGiven order;
  order.ticket = UINT64_MAX - 1;
  order.kind = OrderKind::Resize;
  order.size_bytes = kDeviceBytes;
  if (!world_.is_healing() && dice_.chance(0.7)) {
    order.size_bytes =
        dice_.between(node.replica().size_bytes() / kBlockBytes + 1, kDeviceBytes / kBlockBytes) * kBlockBytes;
  }
  world_.trace("operator: grows node %d to %llu blocks", id,
               static_cast<unsigned long long>(order.size_bytes / kBlockBytes));
  node.order(order);
}

void Growth::grew(int id) const {
  const uint64_t size_bytes = world_.node(id).durable().size_bytes;
  for (int other = 0; other < world_.node_count(); ++other) {
    const DurableMetadata& theirs = world_.node(other).durable();
    if (world_.checker.is_replaced(other)) continue;  // the one that had room is gone
    if (theirs.size_bytes >= size_bytes || theirs.superblock.prepared_size_bytes == size_bytes) continue;
    return world_.fail("node " + std::to_string(id) + " has grown to a size that node " + std::to_string(other) +
                       " can not follow");
  }
}

}  // namespace lockstep::sim
