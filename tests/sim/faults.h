// The faults that a seed drew: each run knows some kinds and not others.
#pragma once

namespace lockstep::sim {

class World;

class Faults {
 public:
  explicit Faults(World& world);
  void start();
  bool has_disk_errors() const { return disk_errors_; }

 private:
  void one_fault();
  void fault_of_link(int a, int b);
  void fault_of_node(int id);
  void crash(int id);
  void lose_disk(int id);

  World& world_;
  bool crashes_, power_losses_, long_absences_, freezes_, clock_jumps_;
  bool cuts_, silences_, stalls_, partitions_, flaps_;
  bool disk_errors_, slow_disks_, replacements_, rollbacks_;
};

}  // namespace lockstep::sim
