// The arbiter of a run under on-peer-loss = arbiter: a record that is changed by compare-and-swap, as docs/arbiter.md
// asks, by programs that take their time, fail, lose their answers, and outlive the node that started them.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "replicator/core/action.h"
#include "replicator/core/metadata_image.h"

namespace lockstep::sim {

class World;

class Arbiter {
 public:
  explicit Arbiter(World& world) : world_(world) {}
  void ask(int node, const repl::AskArbiter& question);
  // By the operator, who replaces a disk, and has waited for the programs of the daemon that ran: docs/arbiter.md. Not
  // the only one that has everything.
  void forget(int node);
  bool counts(int node) const { return exists_ && in_sync_.count(node) != 0; }

 private:
  struct Asked {
    int node = 0;
    uint64_t boot = 0;
    repl::AskArbiter question;
    repl::SuperblockImage known;  // by the node when it asked
    bool dropped = false;         // another took its place before it had an effect
  };
  void decide(size_t asked);
  repl::ArbiterVerdict judge(const Asked& asked);

  World& world_;
  std::vector<Asked> asked_;
  bool exists_ = false;
  std::set<int> in_sync_;
  repl::Generation generation_;
};

}  // namespace lockstep::sim
