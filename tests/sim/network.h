// The links between nodes, one for each pair: a link keeps its order, may lose a suffix, may fall silent in one or
// both directions, may stall. What a closed end had sent before still arrives, then the other end hears of the close.
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
  std::vector<repl::BitmapRun> runs;       // what BitmapRuns points to
  std::vector<repl::BlockDigest> digests;  // what RangeDigests points to
  std::vector<Value> values;               // the payload of a Write: one for each unit, or one for all
  uint64_t arrives_us = 0;
};

// An established link; ends are 0, the node with the lower number, and 1.
struct Link {
  std::array<int, 2> nodes{};
  std::array<repl::Incarnation, 2> incarnation{};  // as each end counts
  std::array<bool, 2> open{true, true};
  std::array<bool, 2> known{};          // this end has heard that the link is up
  std::array<bool, 2> silent{};         // what this end sends is lost
  std::array<std::deque<Frame>, 2> to;  // by receiving end
  std::array<bool, 2> delivering{};
};

class Network {
 public:
  Network(World& world, int node_count);
  int node_count() const { return node_count_; }

  void send(int from, int to, repl::Incarnation incarnation, Frame frame);
  void close(int from, int to, repl::Incarnation incarnation);
  // The node's process is gone: its kernel says so to the other sides, or nobody does.
  void node_gone(int node, bool silently);
  void try_connect();

  // Faults, of the link between two nodes.
  void cut(int a, int b);              // loses a suffix in both directions, both ends are told
  void fall_silent(int from, int to);  // from now on nothing of `from` arrives on this link
  void stall(int a, int b, uint64_t until_us);
  void partition(int a, int b);  // nothing arrives and nothing connects until it is healed
  void heal(int a, int b) { pair(a, b).partitioned = false; }
  void heal_all();
  bool is_partitioned(int a, int b) { return pair(a, b).partitioned; }

 private:
  using LinkPointer = std::shared_ptr<Link>;
  struct Pair {
    std::array<int, 2> nodes{};
    std::array<LinkPointer, 2> link;  // as each end has it
    bool connecting = false;
    bool partitioned = false;
  };
  Pair& pair(int a, int b);
  bool wants_link(const Pair& pair) const;
  bool takes_its_time(const Pair& pair) const;
  void establish(Pair& pair);
  void put(const LinkPointer& link, int from_end, Frame frame);
  void deliver_next(const LinkPointer& link, int to_end);
  void schedule(const LinkPointer& link, int to_end);
  void lost(const LinkPointer& link, int end, uint64_t delay_us);

  World& world_;
  int node_count_;
  std::vector<Pair> pairs_;
  uint64_t incarnations_ = 0;
};

}  // namespace lockstep::sim
