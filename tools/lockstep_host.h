// What of this host's nodes answers, and what does not.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/base/result.h"

namespace lockstep::tools {

// The answer of the daemon behind the socket.
Result<nlohmann::json> ask_status(const std::string& socket_path, uint64_t deadline_ms);

// Everything that runs on this host or is configured for it.
struct HostStatus {
  std::vector<nlohmann::json> running;
  struct Stopped {
    std::string resource;
    std::string node;
    std::string line;
  };
  std::vector<Stopped> stopped;
  std::vector<std::string> errors;  // files that could not be read
};

// `with_configured`: also what /etc/lockstep configures for this host.
HostStatus host_status(const std::string& run_dir, bool with_configured);

}  // namespace lockstep::tools
