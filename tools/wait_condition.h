// What `lockstep wait --for` can wait for.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "io/base/result.h"

namespace lockstep::tools {

enum class WaitKind : unsigned char { Up, Connected, Synced, Role, Promotable, Verified };

struct WaitCondition {
  WaitKind kind = WaitKind::Up;
  std::string role;  // of WaitKind::Role: "Primary" or "Secondary"
};

Result<WaitCondition> parse_wait_condition(const std::string& text);

// Whether the status of a daemon that answers fulfils the condition.
bool is_fulfilled(const WaitCondition& condition, const nlohmann::json& status);
// Whether the daemon tells of verification at all.
bool tells_verified(const nlohmann::json& status);

}  // namespace lockstep::tools
