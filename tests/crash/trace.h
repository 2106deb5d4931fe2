// What happened on the disks of two nodes, in order, and what clients were promised.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/disk_observer.h"

namespace lockstep::crash {

// By sector: the number of the write that was answered last.
using Acknowledged = std::unordered_map<uint64_t, uint64_t>;

struct TraceEvent {
  enum class Kind : uint8_t { Started, Ended, FlushAnswered, Session };
  Kind kind = Kind::Started;
  int node = 0;
  bool metadata = false;  // else the disk with the data
  const void* operation = nullptr;
  io::DiskRequest request;  // of Started; its bytes are those of `bytes`
  std::vector<uint8_t> bytes;
  int error_errno = 0;        // of Ended
  Acknowledged acknowledged;  // of FlushAnswered: all that was answered before the flush was asked for
  bool everywhere = false;    // … and both nodes were Established from then on
};

struct Trace {
  std::vector<std::vector<uint8_t>> first_metadata;  // of each node, before anything happened
  std::vector<TraceEvent> events;
  std::vector<std::string> story;  // what the workload did, for a failure's report
  uint64_t writes = 0, flushes = 0, sessions = 0, resyncs = 0;
};

}  // namespace lockstep::crash
