// Two nodes of the shipped code, joined by a real link, with real disks and metadata: a random life, recorded.
#pragma once

#include <cstdint>
#include <string>

#include "tests/crash/trace.h"

namespace lockstep::crash {

struct WorkloadOptions {
  uint64_t seed = 1;
  int sessions = 3;      // from one crash of both processes to the next
  int operations = 120;  // of each session
  std::string folder;    // empty, and removed by whoever made it
};

// Throws std::runtime_error when the nodes do not do what they should.
Trace record_workload(const WorkloadOptions& options);

}  // namespace lockstep::crash
