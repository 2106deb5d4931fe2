// What a running daemon may take over from its configuration file: lockstep reload, SIGHUP.
#pragma once

#include <string>

#include "io/base/result.h"
#include "tools/configuration.h"

namespace lockstep::tools {

// The one-line reason why a daemon that runs by `running` cannot go on by `wanted`, naming the first key that may not
// change; empty when they differ in nothing but `protocol`. Where something stands in the file does not matter.
std::string refusal_to_reload(const ResourceConfiguration& running, const ResourceConfiguration& wanted);

// Reads the file that `running` came from. Refused when more changed than may.
Result<ResourceConfiguration> reread_configuration(const ResourceConfiguration& running);

}  // namespace lockstep::tools
