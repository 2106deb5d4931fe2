// What a program that the daemon ran has printed, in the daemon's log.
#pragma once

#include <string>

namespace lockstep::tools {

// At most 20 lines of at most 500 characters, without control characters.
void log_child_output(const std::string& resource, const std::string& who, const std::string& output);

}  // namespace lockstep::tools
