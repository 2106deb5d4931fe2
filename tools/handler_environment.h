// What a handler finds in its environment: lockstep.conf(5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/configuration.h"
#include "tools/state_watch.h"

namespace lockstep::tools {

struct HandlerContext {
  const ResourceConfiguration& configuration;
  const NodeConfiguration& node;
  const std::string& run_dir;
  const std::vector<std::string>& peer_names;  // by index
  const WatchedState& now;
  const WatchedState& before;
  const repl::Generation& generation;
  std::vector<uint64_t> out_of_sync_bytes;  // by peer
};

// "NAME=VALUE", all of it. `reason` may be empty.
std::vector<std::string> handler_environment(const HandlerContext& context, const Happening& happening,
                                             const std::string& reason);

}  // namespace lockstep::tools
