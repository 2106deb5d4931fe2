// After everything came together, in some runs with two nodes: the link is cut, and an operator says that the peer is
// fenced while it lives and is Primary. Whoever wrote then decides what the nodes must say when they meet. Invariant
// 11: both call it a split brain exactly when both wrote; nothing is given up by itself; and the data of the one that
// is told to give way is replaced by the other's, which is left as it was.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "replicator/core/event.h"
#include "tests/sim/ledger.h"

namespace lockstep::sim {

class World;

class Lie {
 public:
  explicit Lie(World& world) : world_(world) {}
  // From then on the other checks look away, and the operator does nothing but this.
  bool begin();
  bool is_over() const { return stage_ == Stage::Over; }
  void check() const;

  void split_brain_noted(int node) { noted_[static_cast<size_t>(node)] = true; }

 private:
  enum class Stage : uint8_t { Parting, Promoting, Writing, Demoting, Meeting, Settling, Over };

  void step();
  void order(int node, repl::OrderGiven given);
  void write();
  void meet();
  bool both(bool (*holds)(World& world, int node)) const;
  bool both_wrote() const { return wrote_[0] && wrote_[1]; }
  std::vector<Value> content(int node) const;

  World& world_;
  Stage stage_ = Stage::Over;
  std::array<bool, 2> wrote_{}, noted_{};
  std::array<std::vector<Value>, 2> images_;
  int loser_ = 0;
  uint64_t since_us_ = 0;
};

}  // namespace lockstep::sim
