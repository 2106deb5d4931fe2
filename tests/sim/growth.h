// In some runs the device is smaller at first, and an operator has it grow while faults happen; in the end it has its
// full size everywhere.
#pragma once

#include <cstdint>

#include "tests/sim/random.h"

namespace lockstep::sim {

class World;

class Growth {
 public:
  Growth(World& world, uint64_t seed);
  uint64_t first_size_bytes() const { return first_size_bytes_; }
  void start();
  bool is_over() const;
  // Every node has the same size on stable storage.
  bool sizes_agree() const;
  uint64_t largest_size_bytes() const;
  // Room was made somewhere, and is not used yet: a disk that is created now has the size of before.
  bool is_under_way() const;
  // A node's size is durable: no other node may be left that can neither follow it nor has it.
  void grew(int id) const;
  // How long a disk takes to be prepared, and whether it has the room.
  uint64_t preparation_us() { return dice_.between(100, 50'000); }
  bool has_room() { return dice_.chance(0.9); }

 private:
  void turn();

  World& world_;
  Random dice_;  // a run is the same until the first order as one that does not grow
  uint64_t first_size_bytes_;
};

}  // namespace lockstep::sim
