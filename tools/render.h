// What people read of a daemon's status.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tools/progress_line.h"

namespace lockstep::tools {

// The resource's line without its name: "role:Primary disk:UpToDate", then what is out of the ordinary.
std::string render_resource(const nlohmann::json& status);
// A peer's line without its name: "connection:Connected role:Secondary disk:UpToDate replication:Established …".
std::string render_peer(const nlohmann::json& peer);
// " resync:12.5% left:1.2G rate:100.0M/s eta:12s" of a peer's "resync" or "verify", or nothing when none runs.
std::string render_progress(const nlohmann::json& peer, const char* what);
// The same as numbers.
Progress progress_of(const nlohmann::json& resync_or_verify);
// All of it, each line ended. `with_node`: also name the node, where several of one resource are listed.
std::string render_status(const nlohmann::json& status, bool with_node);

// The lines that `lockstep events` prints for a status when `previous` (null for none) was the last one: "exists …" for
// everything without a previous one, else "change …" for the resource and the peers whose state is another.
std::string render_event(const nlohmann::json& status, const nlohmann::json& previous);

// "12s", "5m10s", "2h03m"
std::string format_seconds(uint64_t seconds);

}  // namespace lockstep::tools
