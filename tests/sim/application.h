// The application: reads, writes, trims and flushes on whichever node's export is open.
#pragma once

#include <cstdint>

#include "io/base/units.h"
#include "replicator/core/event.h"

namespace lockstep::sim {

class Node;
class World;

class Application {
 public:
  explicit Application(World& world);
  void start(uint64_t ends_us);

 private:
  void turn();
  void one_request(int node);
  void write(Node& node, repl::ClientOperation operation);
  ByteRange draw_range(uint64_t size_bytes);  // empty if nothing of it lies inside the device

  World& world_;
  uint64_t ends_us_ = 0;
  double small_write_chance_;
  double large_write_chance_;
  uint64_t interval_us_;
};

}  // namespace lockstep::sim
