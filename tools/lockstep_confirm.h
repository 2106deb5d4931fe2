// What stands between an operator and a loss: it is said first, and the generation that is given up is typed out.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tools/arguments.h"
#include "tools/audit_record.h"
#include "tools/lockstep_common.h"

namespace lockstep::tools {

// Whether the order, as it was typed, can destroy a copy or accept a loss.
bool may_lose(const Arguments& arguments);

// Prints `lost` on standard error. On a terminal, unless it stands in the command already, `word` (a generation; for
// what has none, a path) must be typed: else the command ends as refused, and nothing was changed. A script says what
// it gives up by its options.
void confirm_loss(const Arguments& arguments, const std::string& lost, const std::string& word);

// The typed-out generation, of whichever option has it; empty where none has.
std::string typed_generation(const Arguments& arguments);

struct Operator {
  std::string user;
  std::string sudo_user;
};
// Of this process.
Operator this_operator();

// A record of what this command does by itself, without a daemon.
AuditRecord own_record(const Place& place, const Arguments& arguments, bool accepts_loss);
// Appends it to this node's audit log; says so when that cannot be done.
void record_now(const Place& place, AuditRecord record);

}  // namespace lockstep::tools
