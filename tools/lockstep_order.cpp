// Orders: the daemon decides, and its answer is ours.
#include <nlohmann/json.hpp>

#include "io/base/units.h"
#include "tools/lockstep_common.h"
#include "tools/lockstep_confirm.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

// Some orders drain, flush, or take a peer along. An order that lasts longer is not taken back by giving up here.
constexpr uint64_t kOrderTimeoutMs = 120'000;
// It writes zeroes to disks first: as long as that takes.
constexpr uint64_t kResizeTimeoutMs = uint64_t{24} * 3600 * 1000;

void check_peer(const Place& place, const json& order, const char* key) {
  if (!order.contains(key) || !place.configuration) return;
  const std::string peer = order[key].get<std::string>();
  if (place.configuration->find_node(peer) == nullptr) {
    throw CommandError(ExitCode::Usage, place.configuration_path + ": no node '" + peer + "': the nodes of " +
                                            place.resource + " are " + place.configuration->node_names());
  }
}

ControlReply ask_or_fail(ControlConnection& connection, const Place& place, const std::string& verb, const json& order,
                         uint64_t timeout_ms) {
  Result<ControlReply> reply = connection.ask(verb, order, deadline_after_ms(timeout_ms));
  if (!reply) {
    if (reply.error().kind == ErrorKind::TimedOut) {
      throw CommandError(ExitCode::Failed, "the daemon has not carried the order out in " +
                                               std::to_string(timeout_ms / 1000) + " s, and may still do so: see '" +
                                               place.command("status") + "'");
    }
    fail_without_daemon(place, reply.error());
  }
  if (reply->exit != 0) {
    const bool known = reply->exit > 0 && reply->exit <= static_cast<int>(ExitCode::NotInTime);
    throw CommandError(known ? static_cast<ExitCode>(reply->exit) : ExitCode::Failed, reply->message);
  }
  return std::move(reply).value();
}

// Says what would be lost, and has it confirmed. What was typed goes with the order: the daemon compares it once more.
void confirm_order(ControlConnection& connection, const Place& place, const Arguments& arguments, json& order) {
  json dry_run = order;
  dry_run["dry-run"] = dry_run["order-follows"] = true;
  const ControlReply plan =
      ask_or_fail(connection, place, std::string(arguments.verb->name), dry_run, kStatusTimeoutMs);
  if (!plan.data->is_object() || !plan.data->contains("lost") || (*plan.data)["lost"].is_null()) return;
  const std::string generation = plan.data->value("generation", std::string());
  confirm_loss(arguments, plan.message, generation);
  order["generation"] = generation;
}

}  // namespace

json order_arguments(const Arguments& arguments) {
  json order = json::object();
  for (const OptionSpec& option : arguments.verb->options) {
    const std::string name(option.name);
    if (!arguments.has(name)) continue;
    if (option.value.empty()) {
      order[name] = true;
    } else {
      order[name] = arguments.value(name);
    }
  }
  const Operator who = this_operator();
  order["user"] = who.user;
  if (!who.sudo_user.empty()) order["sudo-user"] = who.sudo_user;
  if (arguments.operands.empty()) return order;
  if (arguments.verb->operands.front() == "SIZE") {
    const uint64_t size_bytes = value_or_fail(parse_size(arguments.operands.front()));
    if (size_bytes == 0 || size_bytes % kSizeUnitBytes != 0) {
      throw CommandError(ExitCode::Usage, "the size must be a multiple of 4096 bytes and more than 0");
    }
    order["size-bytes"] = size_bytes;
  } else {
    order["peer"] = arguments.operands.front();
  }
  return order;
}

ExitCode run_order(const Arguments& arguments) {
  json order = order_arguments(arguments);
  const Place place = place_of_daemon(arguments);
  check_peer(place, order, "peer");
  check_peer(place, order, "to");
  if (order.contains("peer") && order["peer"] == place.node) {
    throw CommandError(ExitCode::Usage, "'" + place.node + "' is this node, not a peer of it");
  }
  ControlConnection connection = connect_to_daemon(place);
  const uint64_t timeout_ms = arguments.verb->name == "resize" ? kResizeTimeoutMs : kOrderTimeoutMs;
  if (!arguments.has("dry-run") && may_lose(arguments)) confirm_order(connection, place, arguments, order);
  const ControlReply reply = ask_or_fail(connection, place, std::string(arguments.verb->name), order, timeout_ms);
  if (arguments.has("json")) {
    print_json(reply.data->is_null() ? json{{"message", reply.message}} : *reply.data);
  } else if (!reply.message.empty()) {
    print_text(reply.message + (reply.message.ends_with('\n') ? "" : "\n"));
  } else if (!reply.data->is_null()) {
    print_json(*reply.data);
  }
  return ExitCode::Done;
}

}  // namespace lockstep::tools
