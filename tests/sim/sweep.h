// Runs many seeds and adds up what they did.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace lockstep::sim {

struct SweepOptions {
  uint64_t from = 1;
  uint64_t count = 0;
  uint64_t jobs = 1;
  uint64_t seconds = 0;  // no seed begins later than so; 0: no bound
  bool goes_on = false;  // after a seed that fails; each is printed
  RunOptions run;        // without its seed
};

struct SweepResult {
  bool ok = true;
  uint64_t failed_seed = 0;
  RunResult failed;
  uint64_t seeds = 0;
  double seconds = 0;
  RunResult total;              // the sums
  std::vector<uint64_t> marks;  // by mark: how many seeds reached it
};

SweepResult sweep(const SweepOptions& options);

}  // namespace lockstep::sim
