// The application: reads, writes, trims and flushes on whichever node's export is open.
#pragma once

#include <cstdint>

#include "io/base/units.h"

namespace lockstep::sim {

class World;

class Application {
 public:
  explicit Application(World& world);
  void start(uint64_t ends_us);

 private:
  void turn();
  void one_request(int node);
  ByteRange draw_range();

  World& world_;
  uint64_t ends_us_ = 0;
  double small_write_chance_;
  double large_write_chance_;
  uint64_t interval_us_;
};

}  // namespace lockstep::sim
