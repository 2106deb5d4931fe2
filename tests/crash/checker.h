// Goes through a trace and, after each operation, through what a loss of power could leave at that moment.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/disk_model.h"
#include "tests/crash/recovery.h"
#include "tests/crash/trace.h"

namespace lockstep::crash {

struct CheckOptions {
  size_t states_of_a_write = 256;    // of the metadata, at most
  uint64_t recovery_cut_every = 64;  // of so many recoveries one is cut at each of its own operations
  std::string folder;                // for the files that are recovered
  uint64_t seed = 1;
};

struct CheckResult {
  std::string violation;  // empty: none
  uint64_t crash_points = 0;
  uint64_t states = 0;          // recovered, of different content each
  uint64_t cut_recoveries = 0;  // of them: left by a crash in the middle of a recovery
  uint64_t flushes = 0;
};

class Checker {
 public:
  Checker(const Trace& trace, const CheckOptions& options);
  CheckResult run();

 private:
  struct NodeState {
    NodeState(std::vector<uint8_t> first_metadata, std::string path, const std::string& name, const std::string& peer)
        : metadata(std::move(first_metadata)), recoverer(std::move(path), name, peer) {}
    MetadataModel metadata;
    DataModel data;
    Recoverer recoverer;
    uint64_t checked_version = 0;
    std::vector<uint64_t> covered;  // blocks that are out of sync after recovery from every state of the metadata
  };
  void fail(const std::string& what);
  void update(const TraceEvent& event);
  void recover_every_state(int node);
  void check_recovered(int node, const Recovered& recovered, const Recovered& oldest, const Recovered& newest);
  void cut_recovery(int node, const std::vector<uint8_t>& image, const Recovered& whole);
  void update_differences();
  void check_coverage();
  void check_flush(const TraceEvent& event);

  const Trace& trace_;
  const CheckOptions options_;
  CheckResult result_;
  std::mt19937_64 random_;
  size_t event_ = 0;
  std::array<std::unique_ptr<NodeState>, 2> nodes_;
  std::vector<uint64_t> may_differ_;  // a bit for each block
  uint64_t recoveries_ = 0;
};

}  // namespace lockstep::crash
