#include "tools/wait_condition.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/configuration.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

bool has_state(const json& object, const char* key, const char* state) {
  return object.value(key, std::string()) == state;
}

template <typename Predicate>
bool all_peers(const json& status, Predicate predicate) {
  const auto peers = status.find("peers");
  return peers == status.end() || std::all_of(peers->begin(), peers->end(), predicate);
}

bool is_connected(const json& peer) {
  return has_state(peer, "connection-state", "Connected");
}

bool is_synced(const json& peer) {
  // A verify runs between copies that are in sync.
  const bool established = has_state(peer, "replication-state", "Established") ||
                           has_state(peer, "replication-state", "VerifyS") ||
                           has_state(peer, "replication-state", "VerifyT");
  return is_connected(peer) && established && has_state(peer, "disk-state", "UpToDate");
}

}  // namespace

Result<WaitCondition> parse_wait_condition(const std::string& text) {
  if (text == "up") return WaitCondition{WaitKind::Up, ""};
  if (text == "connected") return WaitCondition{WaitKind::Connected, ""};
  if (text == "synced") return WaitCondition{WaitKind::Synced, ""};
  if (text == "promotable") return WaitCondition{WaitKind::Promotable, ""};
  if (text == "verified") return WaitCondition{WaitKind::Verified, ""};
  if (text == "role=Primary") return WaitCondition{WaitKind::Role, "Primary"};
  if (text == "role=Secondary") return WaitCondition{WaitKind::Role, "Secondary"};
  const std::string nearest =
      nearest_word(text, {"up", "connected", "synced", "promotable", "verified", "role=Primary", "role=Secondary"});
  return Error{ErrorKind::Invalid, 0,
               "unknown condition '" + text + "': " +
                   (nearest.empty() ? "use up, connected, synced, role=Primary, role=Secondary, promotable or verified"
                                    : "did you mean '" + nearest + "'?")};
}

bool is_fulfilled(const WaitCondition& condition, const json& status) {
  switch (condition.kind) {
    case WaitKind::Up:
      return true;
    case WaitKind::Connected:
      return all_peers(status, is_connected);
    case WaitKind::Synced:
      return has_state(status, "disk-state", "UpToDate") && all_peers(status, is_synced);
    case WaitKind::Role:
      return has_state(status, "role", condition.role.c_str());
    case WaitKind::Promotable:
      return status.value("promotable", false);
    case WaitKind::Verified:
      return all_peers(status, [](const json& peer) { return peer.value("verified", false); });
  }
  return false;
}

bool tells_verified(const json& status) {
  return all_peers(status, [](const json& peer) { return peer.contains("verified"); });
}

}  // namespace lockstep::tools
