#include "tools/service_status.h"

namespace lockstep::tools {

std::string service_status(const nlohmann::json& status) {
  const auto word = [](const nlohmann::json& object, const char* key) { return object.value(key, std::string()); };
  std::string line = word(status, "role") + ", " + word(status, "disk-state");
  if (const std::string suspended = word(status, "suspended"); suspended != "no") line += ", suspended: " + suspended;
  if (status.value("failing", false)) line += ", requests fail";
  if (status.value("degraded", false)) line += ", degraded";
  for (const nlohmann::json& peer : status.value("peers", nlohmann::json::array())) {
    line += "; " + word(peer, "node") + ": " + word(peer, "connection-state");
    if (peer.value("split-brain", false)) line += ", split brain";
    if (word(peer, "connection-state") != "Connected") continue;
    line += ", " + word(peer, "disk-state") + ", " + word(peer, "replication-state");
  }
  return line;
}

}  // namespace lockstep::tools
