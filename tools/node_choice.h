// Which node of a resource this host is, and where its control socket stands.
#pragma once

#include <string>
#include <vector>

#include "io/base/result.h"
#include "tools/configuration.h"

namespace lockstep::tools {

// "/etc/lockstep/RESOURCE.conf"
std::string default_configuration_path(const std::string& resource);
// `given` unless empty, else $LOCKSTEP_RUN_DIR, else "/run/lockstep".
std::string choose_run_dir(const std::string& given);
std::string this_host_name();

// RUN_DIR/RESOURCE.NODE.sock, and the log of a daemon that `lockstep up` started.
std::string control_socket_path(const std::string& run_dir, const std::string& resource, const std::string& node);
std::string daemon_log_path(const std::string& run_dir, const std::string& resource, const std::string& node);
// The full paths of all "*.sock" in the folder, sorted. Empty when there is no such folder.
std::vector<std::string> list_control_sockets(const std::string& run_dir);

// By precedence: `given` unless empty; the node named like `host_name` or like its part before the first dot; the
// one node whose control socket exists in `run_dir`. The pointer is into `configuration`.
Result<const NodeConfiguration*> choose_node(const ResourceConfiguration& configuration, const std::string& given,
                                             const std::string& run_dir, const std::string& host_name);

}  // namespace lockstep::tools
