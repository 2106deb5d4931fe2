// One run: two nodes, their link, a clock, an application with its ledger, an operator, and the faults that the seed
// drew. First faults happen; then they stop, and everything must come together again.
#pragma once

#include <array>
#include <cstdarg>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "tests/sim/ledger.h"
#include "tests/sim/network.h"
#include "tests/sim/node.h"
#include "tests/sim/random.h"

namespace lockstep::sim {

struct RunOptions {
  uint64_t seed = 1;
  bool trace = false;
};

struct RunResult {
  bool ok = true;
  std::string violation;  // what went wrong, in one line
  uint64_t writes = 0, promotions = 0, crashes = 0, resyncs = 0, checks = 0;
  uint64_t simulated_us = 0;
};

// Which faults this seed draws.
struct Faults {
  bool crashes = false, power_losses = false, cuts = false, silences = false, stalls = false, freezes = false,
       partitions = false, orders = false;
};

class World {
 public:
  explicit World(const RunOptions& options);
  RunResult run();

  // For the parts of the world.
  void at(uint64_t time_us, std::function<void()> what);
  void every(uint64_t period_us, std::function<bool()> what);  // until it returns false
  void node_event(int node, uint64_t delay_us, repl::EventBody body);
  void thawed(int node, std::function<void()> what);  // at once, or when the node is not frozen any more
  Node& node(int id) { return *nodes_[static_cast<size_t>(id)]; }
  const Node& node(int id) const { return *nodes_[static_cast<size_t>(id)]; }
  void fail(const std::string& violation);
  void trace(const char* format, ...) __attribute__((format(printf, 2, 3)));

  uint64_t now_us = 0;
  Random random;
  Ledger ledger;
  Network network;

  // What the nodes report.
  void before_crash(int node);
  void node_crashed(int node, bool power_lost);
  void write_answered(int node, uint32_t write, bool fua);
  void read_answered(int node, const ByteRange& range, const std::vector<Value>& seen, uint64_t issued);
  void flush_answered(int node, uint64_t issued);
  void request_failed(int node, int error_errno);
  void export_opened(int node);
  void order_answered(int node, uint64_t ticket, repl::Outcome outcome);
  void noted(int node, const repl::Note& note);
  void superblock_written(int node);
  void sent(int node, const repl::Message& message);

 private:
  static repl::ReplicaOptions replica_options();
  void draw_faults();
  void one_fault();
  void operator_turn();
  void application_turn();
  ByteRange draw_range();
  bool quiet() const;
  std::string describe() const;

  // checks.cpp
  void check_everything_lost_power();
  void check_promoted(int node);
  void check_converged();

  RunOptions options_;
  RunResult result_;
  Faults faults_;
  std::array<std::unique_ptr<Node>, 2> nodes_;
  struct Timed {
    uint64_t time_us;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Timed& other) const {
      return time_us != other.time_us ? time_us > other.time_us : order > other.order;
    }
  };
  std::priority_queue<Timed> queue_;
  uint64_t scheduled_ = 0;
  bool healing_ = false;
  bool application_runs_ = true;
  std::vector<uint64_t> hot_spots_;
  double small_write_chance_ = 0.5;
  uint64_t application_interval_us_ = 2000;
  uint64_t order_ticket_ = 0;
  bool order_pending_ = false;
  uint64_t primary_missing_since_us_ = 0;

  // What each node's disk is known to hold.
  std::array<bool, 2> has_acknowledged_{true, true};  // every answered write
  std::array<bool, 2> behind_{false, false};          // the other answered writes that it lacks
};

}  // namespace lockstep::sim
