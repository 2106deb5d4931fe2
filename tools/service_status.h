// One line for the service manager, of what `status` tells: "Primary, UpToDate; beta: Connected, UpToDate,
// Established".
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace lockstep::tools {

// `status` is one element of `status --json`. Pure.
std::string service_status(const nlohmann::json& status);

}  // namespace lockstep::tools
