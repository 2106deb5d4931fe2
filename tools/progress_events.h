// When `lockstep events` tells how far a resync or verify is. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lockstep::tools {

class ProgressEvents {
 public:
  static constexpr double kTellEveryPercent = 10;
  static constexpr uint64_t kTellEveryMs = 5000;

  // True while a resync or verify runs with a peer of this status: then it is worth looking again.
  static bool runs(const nlohmann::json& status);
  // The lines to print, one for each peer with whom another 10 % were done, or 5 s have passed, since the last line.
  // The first look at a resync prints nothing: that it runs is an event of its own. One that is paused stands still,
  // and is not told of by time.
  std::string due(const nlohmann::json& status, uint64_t now_ms);

 private:
  struct Told {
    double percent = 0;
    uint64_t at_ms = 0;
  };
  std::map<std::string, Told> told_;  // by "resync NODE" or "verify NODE"
};

}  // namespace lockstep::tools
