// What `lockstep metrics` prints: the text format of Prometheus, version 0.0.4. docs/monitoring.md lists the names.
#pragma once

#include <string>

#include "tools/daemon_status.h"

namespace lockstep::tools {

std::string metrics_text(const DaemonView& view);

}  // namespace lockstep::tools
