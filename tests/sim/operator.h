// The operator. One who never lies calls a peer fenced only when it is down, and asks no node to be Primary that is
// known to lack acknowledged writes.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "replicator/core/replica.h"

namespace lockstep::sim {

class World;

class Operator {
 public:
  explicit Operator(World& world);
  void start();
  bool is_pending() const { return pending_; }
  void stand_back(bool wanted) { stands_back_ = wanted; }

  void answered(int node, uint64_t ticket, repl::Outcome outcome);
  void node_crashed(int node);

 private:
  void turn();
  bool demote_who_lost_data();
  bool vouch_for_the_newest();
  bool calls_itself_whole_besides(int than, std::initializer_list<repl::DiskState> states) const;
  bool newer_is_left(int than) const;
  bool repair();
  void put_disk_right(int node);
  void put_disks_right();
  void recreate_what_is_too_small();
  void promote_somebody();
  bool another_is_counted(int than) const;
  bool is_left_behind(int node) const;
  bool fail_over();
  bool resume_alone();
  void disturb();
  void change_protocol();
  void give(int node, repl::OrderGiven order);

  World& world_;
  bool disturbs_;
  uint64_t ticket_ = 0;
  bool pending_ = false;
  bool stands_back_ = false;
  bool changes_protocol_ = false;  // the pending order does
  int pending_node_ = 0;
};

}  // namespace lockstep::sim
