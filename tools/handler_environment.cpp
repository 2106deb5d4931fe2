#include "tools/handler_environment.h"

#include <filesystem>
#include <string_view>

namespace lockstep::tools {

std::vector<std::string> handler_environment(const HandlerContext& context, const Happening& happening,
                                             const std::string& reason) {
  std::vector<std::string> list{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  const auto add = [&list](std::string_view name, std::string_view value) {
    list.push_back("LOCKSTEP_" + std::string(name) + "=" + std::string(value));
  };
  // The handler runs in another folder.
  const auto add_path = [&add](std::string_view name, const std::string& path) {
    std::error_code ignored;
    add(name, std::filesystem::absolute(path, ignored).string());
  };
  add("EVENT", name_of(happening.event));
  add("RESOURCE", context.configuration.name);
  add("NODE", context.node.name);
  add("GENERATION", to_string(context.generation));
  add("ROLE", to_string(context.now.role));
  add("OLD_ROLE", to_string(context.before.role));
  add("DISK_STATE", to_string(context.now.disk_state));
  add("OLD_DISK_STATE", to_string(context.before.disk_state));
  add("SUSPENDED", to_string(context.now.suspension));
  add("OLD_SUSPENDED", to_string(context.before.suspension));
  add_path("DISK", context.node.disk);
  add_path("METADATA", context.node.metadata);
  add_path("CONFIG", context.configuration.path);
  add_path("RUN_DIR", context.run_dir);
  if (!reason.empty()) add("REASON", reason);
  // Of two nodes everything is about the other one.
  if (!happening.peer && context.peer_names.size() != 1) return list;
  const repl::PeerIndex peer = happening.peer.value_or(0);
  const WatchedPeer& now = context.now.peers[peer];
  const WatchedPeer& before = context.before.peers[peer];
  add("PEER", context.peer_names[peer]);
  add("CONNECTION_STATE", to_string(now.connection));
  add("OLD_CONNECTION_STATE", to_string(before.connection));
  add("REPLICATION_STATE", to_string(now.replication));
  add("OLD_REPLICATION_STATE", to_string(before.replication));
  add("PEER_ROLE", to_string(now.role));
  add("OLD_PEER_ROLE", to_string(before.role));
  add("PEER_DISK_STATE", to_string(now.disk_state));
  add("OLD_PEER_DISK_STATE", to_string(before.disk_state));
  add("OUT_OF_SYNC_BYTES", std::to_string(context.out_of_sync_bytes[peer]));
  return list;
}

}  // namespace lockstep::tools
