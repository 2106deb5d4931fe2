// What is lost, or may be, when an order is carried out that accepts a loss or destroys a copy: said before it is done.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/daemon_status.h"

namespace lockstep::tools {

struct Loss {
  std::string text;     // lines for people
  nlohmann::json data;  // "bytes" (null: not known here), "generation", and "peers" with "node", "absent-since"
};

// Nothing for an order that loses nothing. Whether the order would be refused is not looked at.
std::optional<Loss> loss_of(const DaemonView& view, const repl::OrderGiven& order);

// The answer to a dry run of an order that nothing refuses.
std::string plan_text(const DaemonView& view, const repl::OrderGiven& order, const std::optional<Loss>& loss);
nlohmann::json plan_data(const DaemonView& view, const std::optional<Loss>& loss);

}  // namespace lockstep::tools
