// One run: a few nodes, their links, a clock, an application with its ledger, an operator, and the faults that the
// seed drew. First faults happen; then they stop, and everything must come together again.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/application.h"
#include "tests/sim/arbiter.h"
#include "tests/sim/checker.h"
#include "tests/sim/faults.h"
#include "tests/sim/growth.h"
#include "tests/sim/layout.h"
#include "tests/sim/ledger.h"
#include "tests/sim/lie.h"
#include "tests/sim/network.h"
#include "tests/sim/node.h"
#include "tests/sim/operator.h"
#include "tests/sim/random.h"
#include "tests/sim/rot.h"
#include "tests/sim/timeline.h"

namespace lockstep::sim {

struct RunOptions {
  uint64_t seed = 1;
  int nodes = 0;  // 0: drawn
  bool trace = false;
  std::optional<repl::Protocol> protocol;  // else drawn
  std::optional<repl::LossPolicy> policy;  // else drawn
  std::optional<repl::Protocol> promise;   // what the run is held to, whatever it uses: a control of the checks
  bool disk_errors = false;                // disks may fail with more than two nodes, too
  bool lost_disks = false;                 // … with two or four nodes, too, be replaced by empty ones or older copies
  std::optional<repl::SyncChoice> sync;    // with three nodes and more, else drawn
  bool ignore_flushes = false;             // a control: the disks lie, and that must be found
};

struct RunResult {
  bool ok = true;
  std::string violation;  // what went wrong, in one line
  uint64_t losses = 0;
  uint64_t given_up = 0;
  uint64_t writes = 0, promotions = 0, crashes = 0, resyncs = 0, checks = 0;
  uint64_t simulated_us = 0;
};

inline constexpr uint64_t kDeviceBytes = 40 * repl::kExtentBytes;  // two bitmap pages; more extents than log slots

class World {
 public:
  explicit World(const RunOptions& options);
  RunResult run();

  int node_count() const { return node_count_; }
  Node& node(int id) { return *nodes_[static_cast<size_t>(id)]; }
  const Node& node(int id) const { return *nodes_[static_cast<size_t>(id)]; }

  void at(uint64_t time_us, Task what) { timeline_.add(std::max(time_us, now_us), std::move(what)); }
  template <typename F>
  void every(uint64_t period_us, F what) {  // until it returns false
    at(now_us + period_us, [this, period_us, what]() mutable {
      if (what()) every(period_us, what);
    });
  }
  // At once, or when the node is not frozen any more; never after it crashed.
  void thawed(int id, uint64_t boot, Task what);

  void fail(const std::string& violation);
  // What has happened is documented, and mended by nobody here: the run ends, and counts as such.
  void give_up() { result_.given_up = 1; }
  bool ok() const { return result_.ok; }
  void trace(const char* format, ...) __attribute__((format(printf, 2, 3)));
  // Faults are over: everything comes back, nobody disturbs any more.
  bool is_healing() const { return healing_; }
  // Everything came together, and nothing is under way.
  bool is_quiet() const;
  bool knows_lost_disks() const { return options_.lost_disks || network.node_count() == 3; }
  bool knows_disk_errors() const { return options_.disk_errors || network.node_count() <= 3; }
  bool disks_ignore_flushes() const { return options_.ignore_flushes; }
  // A write that is alone, with everything before it stable, is stable when it ends; and its end says so.
  bool makes_lone_writes_durable() const { return makes_lone_writes_durable_; }

  bool uses_weak_protocols() const {
    return changes_protocols_ || has_node_protocols_ || protocol != repl::Protocol::C || waits_for_some();
  }
  bool may_answer_under_a() const {
    return changes_protocols_ || protocol == repl::Protocol::A ||
           std::find(node_protocols.begin(), node_protocols.end(), repl::Protocol::A) != node_protocols.end();
  }
  bool has_node_protocols() const { return has_node_protocols_; }
  bool waits_for_some() const { return sync.kind != repl::SyncChoice::All && sync.count < node_count_ - 1; }
  bool changes_protocols() const { return changes_protocols_; }
  repl::Protocol promised(repl::Protocol used) const { return options_.promise.value_or(used); }

 private:
  RunOptions options_;

 public:
  uint64_t now_us = 0;
  Random random;
  // As the configuration file says now: for all, and towards single nodes.
  repl::Protocol protocol = repl::Protocol::C;
  std::array<std::optional<repl::Protocol>, 4> node_protocols{};
  void draw_node_protocols(Random& dice);
  const Layout layout;
  Ledger ledger;
  Network network;
  const repl::LossPolicy policy;
  const repl::SyncSet sync;
  const bool prefers_last;  // of the nodes, when the first so many are waited for
  Arbiter arbiter;
  Checker checker;
  Operator orders;
  Application application;
  Growth growth;
  Faults faults;
  Rot rot;
  Lie lie;

 private:
  static Layout draw_layout(Random& random);
  repl::ReplicaOptions replica_options();
  void heal();
  bool is_going() const { return result_.ok && result_.given_up == 0; }
  template <typename F>
  void run_until(F reached, uint64_t deadline_us, const char* late);
  std::string describe() const;
  void trace_choices();

  const bool makes_lone_writes_durable_;
  int node_count_;
  RunResult result_;
  Timeline timeline_;
  std::vector<std::unique_ptr<Node>> nodes_;
  bool healing_ = false;
  bool changes_protocols_ = false;
  bool has_node_protocols_ = false;
  void draw_protocols();
};

}  // namespace lockstep::sim
