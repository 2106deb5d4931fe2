#include "tools/lockstep_host.h"

#include <filesystem>
#include <set>

#include "tools/lockstep_common.h"
#include "tools/node_choice.h"

namespace lockstep::tools {

using nlohmann::json;

Result<json> ask_status(const std::string& socket_path, uint64_t deadline_ms) {
  Result<ControlConnection> connection = ControlConnection::open(socket_path);
  if (!connection) return connection.error();
  const Result<ControlReply> reply = connection->ask("status", json::object(), deadline_ms);
  if (!reply) return reply.error();
  if (reply->exit != 0) return Error{ErrorKind::Io, 0, reply->message};
  return *reply->data;
}

namespace {

void add_sockets(const std::string& run_dir, HostStatus& host) {
  for (const std::string& path : list_control_sockets(run_dir)) {
    Result<json> status = ask_status(path, deadline_after_ms(kStatusTimeoutMs));
    if (status) {
      host.running.push_back(std::move(status).value());
      continue;
    }
    // Node names rarely have a dot; resource names may.
    const std::string name = std::filesystem::path(path).stem().string();
    const size_t dot = name.rfind('.');
    const std::string resource = name.substr(0, dot);
    const std::string node = dot == std::string::npos ? "?" : name.substr(dot + 1);
    const bool absent = status.error().kind == ErrorKind::NotFound;
    host.stopped.push_back({resource, node,
                            absent ? "down: start it with 'lockstep up " + resource + " --node " + node + "'"
                                   : "does not answer: " + status.error().message});
  }
}

void add_configured(const std::string& run_dir, HostStatus& host) {
  std::set<std::pair<std::string, std::string>> known;
  for (const json& status : host.running) {
    known.emplace(status.value("resource", std::string()), status.value("node", std::string()));
  }
  for (const auto& stopped : host.stopped) known.emplace(stopped.resource, stopped.node);
  std::error_code code;
  std::set<std::string> paths;
  for (auto entry = std::filesystem::directory_iterator("/etc/lockstep", code);
       !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    if (entry->path().extension() == ".conf") paths.insert(entry->path().string());
  }
  for (const std::string& path : paths) {
    const Result<ResourceConfiguration> configuration =
        load_configuration(path, std::filesystem::path(path).stem().string());
    if (!configuration) {
      host.errors.push_back(configuration.error().message);
      continue;
    }
    // A resource that is configured for other hosts only is none of ours.
    const Result<const NodeConfiguration*> node = choose_node(*configuration, "", run_dir, this_host_name());
    if (!node || known.count({configuration->name, (*node)->name}) != 0) continue;
    host.stopped.push_back(
        {configuration->name, (*node)->name, "down: start it with 'lockstep up " + configuration->name + "'"});
  }
}

}  // namespace

HostStatus host_status(const std::string& run_dir, bool with_configured) {
  HostStatus host;
  add_sockets(run_dir, host);
  if (with_configured) add_configured(run_dir, host);
  return host;
}

}  // namespace lockstep::tools
