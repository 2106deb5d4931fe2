#include "tools/lockstep_common.h"

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/node_choice.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

std::string absolute(const std::string& path) {
  std::error_code code;
  const std::filesystem::path full = std::filesystem::absolute(path, code);
  return code ? path : full.lexically_normal().string();
}

Place bare_place(const Arguments& arguments) {
  Place place;
  place.resource = arguments.resource;
  place.run_dir = absolute(choose_run_dir(arguments.value("run-dir")));
  place.configuration_path =
      absolute(arguments.has("config") ? arguments.value("config") : default_configuration_path(place.resource));
  for (const char* option : {"config", "node", "run-dir"}) {
    if (arguments.has(option)) place.options += std::string(" --") + option + " " + arguments.value(option);
  }
  return place;
}

void settle_on(Place& place, const std::string& node) {
  place.node = node;
  place.socket_path = control_socket_path(place.run_dir, place.resource, node);
}

// The node of the only control socket that can be one of this resource's.
std::string only_running_node(const Place& place) {
  const std::string prefix = place.run_dir + "/" + place.resource + ".";
  const std::string suffix = ".sock";
  std::string found;
  for (const std::string& path : list_control_sockets(place.run_dir)) {
    if (!path.starts_with(prefix) || path.size() <= prefix.size() + suffix.size()) continue;
    if (!found.empty()) return {};
    found = path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
  }
  return found;
}

}  // namespace

ExitCode exit_code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Invalid:
      return ExitCode::Usage;
    case ErrorKind::Refused:
    case ErrorKind::Busy:
      return ExitCode::Refused;
    default:
      return ExitCode::Failed;
  }
}

void fail(const Error& error) {
  throw CommandError(exit_code_of(error.kind), error.message);
}

std::string Place::command(const std::string& verb) const {
  return "lockstep " + verb + " " + resource + options;
}

Place place_of_configuration(const Arguments& arguments) {
  Place place = bare_place(arguments);
  Result<ResourceConfiguration> configuration = load_configuration(place.configuration_path, place.resource);
  // Also a file that is missing or not readable is a matter of configuration.
  if (!configuration) throw CommandError(ExitCode::Usage, configuration.error().message);
  place.configuration = std::move(configuration).value();
  const NodeConfiguration* node =
      value_or_fail(choose_node(*place.configuration, arguments.value("node"), place.run_dir, this_host_name()));
  settle_on(place, node->name);
  return place;
}

Place place_of_daemon(const Arguments& arguments) {
  Place place = bare_place(arguments);
  Result<ResourceConfiguration> configuration = load_configuration(place.configuration_path, place.resource);
  if (configuration || arguments.has("config")) return place_of_configuration(arguments);
  const std::string node = arguments.has("node") ? arguments.value("node") : only_running_node(place);
  if (node.empty()) throw CommandError(ExitCode::Usage, configuration.error().message);
  if (!is_valid_name(node)) throw CommandError(ExitCode::Usage, "'" + node + "' cannot be the name of a node");
  settle_on(place, node);
  return place;
}

void fail_without_daemon(const Place& place, const Error& error) {
  if (error.kind == ErrorKind::NotFound) {
    throw CommandError(ExitCode::NoDaemon, place.resource + " is down on node " + place.node +
                                               ": start its daemon with '" + place.command("up") + "'");
  }
  if (error.kind == ErrorKind::TimedOut) {
    throw CommandError(ExitCode::NoDaemon, "the daemon of " + place.resource + " on node " + place.node +
                                               " is there and does not answer: see whether it is stopped or stuck, and "
                                               "its log");
  }
  if (error.kind == ErrorKind::Closed) {
    throw CommandError(ExitCode::NoDaemon, "the daemon of " + place.resource + " on node " + place.node +
                                               " ended meanwhile: start it with '" + place.command("up") + "'");
  }
  if (error.kind == ErrorKind::Io) {
    throw CommandError(ExitCode::NoDaemon, "cannot reach the daemon of " + place.resource + " on node " + place.node +
                                               ": " + error.message);
  }
  fail(error);
}

ControlConnection connect_to_daemon(const Place& place) {
  Result<ControlConnection> connection = ControlConnection::open(place.socket_path);
  if (!connection) fail_without_daemon(place, connection.error());
  return std::move(connection).value();
}

void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) throw CommandError(ExitCode::Failed, "cannot write to standard output");
}

void print_json(const json& document) {
  print_text(document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

uint64_t timeout_ms_of(const Arguments& arguments, uint64_t fallback_ms) {
  if (!arguments.has("timeout")) return fallback_ms;
  return value_or_fail(parse_seconds_ms(arguments.value("timeout")));
}

}  // namespace lockstep::tools
