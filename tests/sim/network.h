// The link between two nodes: keeps its order, may lose a suffix, may fall silent in one or both directions, may
// stall. What a closed end had sent before still arrives, then the other end hears of the close.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "replicator/core/message.h"
#include "tests/sim/disk.h"

namespace lockstep::sim {

class World;

struct Frame {
  bool closes = false;
  repl::Message message;
  std::vector<repl::BitmapRun> runs;  // what BitmapRuns points to
  std::vector<Value> values;          // the payload of a Write: one for each unit, or one for all
  uint64_t arrives_us = 0;
};

struct Link {
  std::array<repl::Incarnation, 2> incarnation{};  // as each end counts
  std::array<bool, 2> open{true, true};
  std::array<bool, 2> known{};          // this end has heard that the link is up
  std::array<bool, 2> silent{};         // what this end sends is lost
  std::array<std::deque<Frame>, 2> to;  // by receiver
  std::array<bool, 2> delivering{};
};

class Network {
 public:
  explicit Network(World& world) : world_(world) {}

  void send(int from, repl::Incarnation incarnation, Frame frame);
  void close(int from, repl::Incarnation incarnation);
  // The node's process is gone: its kernel says so to the other side, or nobody does.
  void node_gone(int node, bool silently);
  void try_connect();

  // Faults.
  void cut();                     // loses a suffix in both directions, both ends are told
  void fall_silent(int from);     // from now on nothing of `from` arrives on this link
  void stall(uint64_t until_us);  // what is under way arrives later
  bool partitioned = false;

  bool is_up(int node) const { return link_[node] != nullptr; }

 private:
  void deliver_next(const std::shared_ptr<Link>& link, int to);
  void schedule(const std::shared_ptr<Link>& link, int to);
  void lost(const std::shared_ptr<Link>& link, int node, uint64_t delay_us);

  World& world_;
  std::array<std::shared_ptr<Link>, 2> link_;  // by end
  uint64_t incarnations_ = 0;
  bool connecting_ = false;
};

}  // namespace lockstep::sim
