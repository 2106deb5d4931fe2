// What the operator's command ends with: fixed, scripts rely on it.
#pragma once

namespace lockstep::tools {

enum class ExitCode : int {
  Done = 0,
  Failed = 1,
  Usage = 2,      // wrong usage or configuration
  Refused = 3,    // by a safety rule
  NoDaemon = 4,   // no daemon answers
  NotInTime = 5,  // the awaited condition did not come in time
};

}  // namespace lockstep::tools
