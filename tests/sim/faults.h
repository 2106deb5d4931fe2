// The faults that a seed drew: each run knows some kinds and not others.
#pragma once

namespace lockstep::sim {

class World;

class Faults {
 public:
  explicit Faults(World& world);
  void start();

 private:
  void one_fault();
  void crash(int id);

  World& world_;
  bool crashes_, power_losses_, cuts_, silences_, stalls_, freezes_, partitions_;
};

}  // namespace lockstep::sim
