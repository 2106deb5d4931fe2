#include "tests/sim/application.h"

#include "tests/sim/world.h"

namespace lockstep::sim {

using repl::ClientOperation;

Application::Application(World& world)
    : world_(world),
      small_write_chance_(world.random.chance(0.3) ? 0.9 : 0.4),
      large_write_chance_(world.random.chance(0.3) ? 0.02 : 0),
      interval_us_(world.random.between(1'000, 16'000)) {}

void Application::start(uint64_t ends_us) {
  ends_us_ = ends_us;
  world_.at(1'000, [this] { turn(); });
}

void Application::turn() {
  if (world_.now_us >= ends_us_) return;
  world_.at(world_.now_us + world_.random.between(1, interval_us_ * 2), [this] { turn(); });
  for (int id = 0; id < world_.node_count(); ++id) {
    if (!world_.node(id).export_open() || world_.node(id).is_frozen()) continue;
    const uint64_t burst = world_.random.chance(0.2) ? world_.random.between(1, 12) : 1;
    for (uint64_t i = 0; i < burst; ++i) one_request(id);
  }
}

void Application::one_request(int id) {
  Random& random = world_.random;
  Node& node = world_.node(id);
  const uint64_t dice = random.below(100);
  if (dice < 60) {
    write(node, ClientOperation::Write);
  } else if (dice < 66) {
    write(node, random.chance(0.5) ? ClientOperation::Trim : ClientOperation::WriteZeroes);
  } else if (dice < 85) {
    const ByteRange range = draw_range(node.replica().size_bytes());
    if (!range.empty()) node.application_read(range);
  } else {
    node.application_flush();
  }
}

void Application::write(Node& node, ClientOperation operation) {
  const bool fua = world_.random.chance(0.1);
  const ByteRange range = draw_range(node.replica().size_bytes());
  if (!range.empty()) node.application_write(range, operation, fua);
}

ByteRange Application::draw_range(uint64_t size_bytes) {
  Random& random = world_.random;
  const uint64_t skipped = random.below(8);
  const uint64_t offset =
      world_.layout.arena_offset_bytes(random.below(world_.layout.arena_count())) + skipped * kUnitBytes;
  uint64_t length =
      kUnitBytes * (random.chance(small_write_chance_) ? random.between(1, 4) : random.between(1, kUnitsPerArena));
  // Over several extents, and over what lies between arenas.
  if (large_write_chance_ > 0 && random.chance(large_write_chance_)) {
    length = random.chance(0.2) ? repl::kMaximumRequestBytes : repl::kExtentBytes + kUnitBytes * random.below(512);
  }
  return {offset, offset < size_bytes ? std::min(length, size_bytes - offset) : 0};
}

}  // namespace lockstep::sim
