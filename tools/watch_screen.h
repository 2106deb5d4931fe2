// What `lockstep status --watch` shows on a terminal. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace lockstep::tools {

// A node's answers to "status" and "latencies", at one time.
struct WatchSample {
  uint64_t at_ms = 0;
  nlohmann::json status;
  nlohmann::json latencies;  // null where it was not told
};

// The last samples of each node, by resource and node: rates and percentiles are over the time that they span.
using WatchHistory = std::map<std::pair<std::string, std::string>, std::deque<WatchSample>>;
inline constexpr size_t kWatchedSamples = 6;

struct WatchView {
  std::string title;                 // of the first line
  std::vector<std::string> notices;  // nodes that are down, and the like
  size_t columns = 80;
  size_t rows = 24;
  bool colours = false;
};

// Lines, each ended by "\r\n", none wider than the screen and no more than it has.
std::string render_watch(const WatchHistory& history, const WatchView& view);

// The bound of the bucket in which the `part`-th of what was counted between two samples lies, such as 0.99, in
// microseconds: no less than what was measured. 0: nothing was counted; UINT64_MAX: beyond the last bound.
uint64_t percentile_us(const nlohmann::json& bounds, const nlohmann::json& before, const nlohmann::json& now,
                       double part);

}  // namespace lockstep::tools
