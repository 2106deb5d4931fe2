#include "tools/reload.h"

#include <algorithm>
#include <array>
#include <utility>

namespace lockstep::tools {
namespace {

ResourceConfiguration without_places(ResourceConfiguration configuration) {
  configuration.path.clear();
  configuration.name_line = configuration.sync_line = 0;
  for (NodeConfiguration& node : configuration.nodes) node.line = 0;
  return configuration;
}

}  // namespace

std::string refusal_to_reload(const ResourceConfiguration& running, const ResourceConfiguration& wanted) {
  ResourceConfiguration old = without_places(running);
  const ResourceConfiguration now = without_places(wanted);
  old.protocol = now.protocol;
  for (size_t place = 0; place < std::min(old.nodes.size(), now.nodes.size()); ++place) {
    old.nodes[place].protocol = now.nodes[place].protocol;
  }
  if (old == now) return {};
  const std::array<std::pair<bool, const char*>, 12> differences{{
      {old.name != now.name, "name"},
      {old.size_bytes != now.size_bytes, "size"},
      {old.sync != now.sync, "sync"},
      {old.on_peer_loss != now.on_peer_loss, "on-peer-loss"},
      {old.peer_timeout_ms != now.peer_timeout_ms, "peer-timeout"},
      {old.secret_file != now.secret_file || old.insecure != now.insecure, "secret-file or insecure"},
      {old.activity_log_extents != now.activity_log_extents, "activity-log-extents"},
      {old.poll_us != now.poll_us, "poll-us"},
      {old.fence_command != now.fence_command, "fence-command"},
      {old.handlers != now.handlers, "the section [handlers]"},
      {old.nbd_export != now.nbd_export, "the export's keys"},
      {old.nodes != now.nodes, "a [node.NAME] section"},
  }};
  std::string what = "another key";
  for (const auto& [differs, name] : differences) {
    if (!differs) continue;
    what = name;
    break;
  }
  return "reload refused: " + wanted.path + " changes " + what +
         ", and a running node takes over nothing but protocol: restart its daemon for that, or undo it in the file";
}

Result<ResourceConfiguration> reread_configuration(const ResourceConfiguration& running) {
  auto wanted = load_configuration(running.path, running.name);
  if (!wanted) return std::move(wanted).error();
  if (std::string refusal = refusal_to_reload(running, *wanted); !refusal.empty()) {
    return Error{ErrorKind::Refused, 0, std::move(refusal)};
  }
  return wanted;
}

}  // namespace lockstep::tools
