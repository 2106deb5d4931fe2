#include "tools/node_choice.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

namespace lockstep::tools {

std::string default_configuration_path(const std::string& resource) {
  return "/etc/lockstep/" + resource + ".conf";
}

std::string choose_run_dir(const std::string& given) {
  if (!given.empty()) return given;
  const char* from_environment = std::getenv("LOCKSTEP_RUN_DIR");
  if (from_environment != nullptr && *from_environment != '\0') return from_environment;
  return "/run/lockstep";
}

std::string this_host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  return name.data();
}

std::string control_socket_path(const std::string& run_dir, const std::string& resource, const std::string& node) {
  return run_dir + "/" + resource + "." + node + ".sock";
}

std::string daemon_log_path(const std::string& run_dir, const std::string& resource, const std::string& node) {
  return run_dir + "/" + resource + "." + node + ".log";
}

std::vector<std::string> list_control_sockets(const std::string& run_dir) {
  std::vector<std::string> paths;
  std::error_code code;
  for (auto entry = std::filesystem::directory_iterator(run_dir, code);
       !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    std::error_code ignored;
    if (entry->path().extension() == ".sock" && entry->is_socket(ignored)) paths.push_back(entry->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

Result<const NodeConfiguration*> choose_node(const ResourceConfiguration& configuration, const std::string& given,
                                             const std::string& run_dir, const std::string& host_name) {
  if (!given.empty()) {
    const NodeConfiguration* node = configuration.find_node(given);
    if (node != nullptr) return node;
    return Error{ErrorKind::Invalid, 0,
                 configuration.path + ": no node '" + given + "': the nodes of " + configuration.name + " are " +
                     configuration.node_names()};
  }
  for (const std::string& name : {host_name, host_name.substr(0, host_name.find('.'))}) {
    const NodeConfiguration* node = configuration.find_node(name);
    if (node != nullptr) return node;
  }
  const NodeConfiguration* found = nullptr;
  int running = 0;
  for (const NodeConfiguration& node : configuration.nodes) {
    std::error_code ignored;
    if (!std::filesystem::exists(control_socket_path(run_dir, configuration.name, node.name), ignored)) continue;
    found = &node;
    ++running;
  }
  if (running == 1) return found;
  return Error{ErrorKind::Invalid, 0,
               configuration.path + ": no node is named like this host, '" + host_name +
                   "': add --node NAME; the nodes of " + configuration.name + " are " + configuration.node_names()};
}

}  // namespace lockstep::tools
