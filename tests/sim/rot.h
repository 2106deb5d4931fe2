// After everything came together: some units of a disk rot, unseen, and an online verify must find the blocks that they
// lie in and no others, and repair them.
#pragma once

#include <cstdint>
#include <vector>

#include "replicator/core/replica.h"

namespace lockstep::sim {

class World;

class Rot {
 public:
  explicit Rot(World& world) : world_(world) {}
  // In some runs, once; needs a Primary. From then on the checker of stable storage looks away.
  bool begin();
  // Until both ends have heard of the end.
  bool is_over() const;
  void check() const;

 private:
  World& world_;
  int primary_ = 0;
  int rotten_ = 0;
  bool on_primary_ = false;
  std::vector<uint64_t> blocks_;
  uint64_t ended_before_ = 0;
};

}  // namespace lockstep::sim
