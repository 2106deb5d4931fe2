// What an operator is told: for each order and outcome one sentence that says what was refused, why, and what to
// type, and the exit code.
#pragma once

#include <string>

#include "replicator/control_socket.h"
#include "replicator/core/action.h"
#include "replicator/core/event.h"

namespace lockstep::tools {

struct OutcomeContext {
  std::string resource;
  std::string node;
  std::string peer;        // whom the outcome is about
  std::string generation;  // this node's current one
  std::string disk_state;
};

struct OutcomeAnswer {
  repl::ControlExit exit = repl::ControlExit::Done;
  std::string message;
};

OutcomeAnswer answer_for(repl::OrderKind order, repl::Outcome outcome, const OutcomeContext& context);

}  // namespace lockstep::tools
