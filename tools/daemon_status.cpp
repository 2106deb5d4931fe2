#include "tools/daemon_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lockstep::tools {
namespace {

using nlohmann::json;
using repl::PeerIndex;
using repl::PeerStatus;

json resync_of(const PeerStatus& peer, uint64_t now_us) {
  const uint64_t done_blocks = peer.resync_total_blocks - std::min(peer.resync_left_blocks, peer.resync_total_blocks);
  const uint64_t elapsed_us = now_us > peer.resync_started_us ? now_us - peer.resync_started_us : 0;
  const uint64_t left_bytes = peer.resync_left_blocks * repl::kBlockBytes;
  const double seconds = static_cast<double>(elapsed_us) / 1e6;
  const auto bytes_per_second =
      seconds > 0 ? static_cast<uint64_t>(static_cast<double>(done_blocks * repl::kBlockBytes) / seconds) : 0;
  const double percent =
      100.0 * static_cast<double>(done_blocks) / static_cast<double>(std::max<uint64_t>(peer.resync_total_blocks, 1));
  json resync = {{"done-percent", percent}, {"bytes-left", left_bytes}, {"bytes-per-second", bytes_per_second}};
  resync["eta-seconds"] = bytes_per_second > 0 ? left_bytes / bytes_per_second : 0;
  return resync;
}

bool resync_runs(const PeerStatus& peer) {
  switch (peer.replication) {
    case repl::ReplicationState::SyncSource:
    case repl::ReplicationState::SyncTarget:
    case repl::ReplicationState::PausedSyncS:
    case repl::ReplicationState::PausedSyncT:
      return peer.resync_total_blocks > 0;
    default:
      return false;
  }
}

json peer_of(const repl::Driver& driver, PeerIndex index, uint64_t now_us) {
  const PeerStatus peer = driver.peer_status(index);
  json object = {{"node", driver.links()[index]->peer_name()},
                 {"connection-state", to_string(peer.connection)},
                 {"role", to_string(peer.role)},
                 {"replication-state", to_string(peer.replication)},
                 {"disk-state", to_string(peer.disk_state)},
                 {"out-of-sync-bytes", peer.out_of_sync_blocks * repl::kBlockBytes},
                 {"sent-sequence", peer.sent},
                 {"received-sequence", peer.received},
                 {"written-sequence", peer.written},
                 {"flushed-sequence", peer.flushed},
                 {"lag-bytes", peer.lag_bytes},
                 {"lag-ms", peer.lag_us / 1000},
                 {"round-trip-us", peer.round_trip_us}};
  if (resync_runs(peer)) object["resync"] = resync_of(peer, now_us);
  return object;
}

}  // namespace

json status_of(const DaemonView& view) {
  const repl::ReplicaStatus status = view.driver.status();
  json nbd = json::array();
  for (const std::string& uri : view.nbd_uris) {
    nbd.push_back({{"uri", uri}, {"clients", view.nbd_export.client_count()}});
  }
  json peers = json::array();
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    peers.push_back(peer_of(view.driver, index, view.now_us));
  }
  return {{"resource", view.driver.identity().resource_name},
          {"node", view.driver.identity().node_name},
          {"role", to_string(status.role)},
          {"disk-state", to_string(status.disk_state)},
          {"generation", to_string(status.generation)},
          {"size-bytes", view.driver.identity().size_bytes},
          {"protocol", to_string(view.protocol)},
          {"suspended", to_string(status.suspension)},
          {"degraded", status.degraded},
          {"promotable", status.promotable == repl::Outcome::Done},
          {"nbd", std::move(nbd)},
          {"reads", status.reads},
          {"writes", status.writes},
          {"flushes", status.flushes},
          {"read-bytes", status.read_bytes},
          {"written-bytes", status.written_bytes},
          {"al-transactions", status.activity_log_transactions},
          {"in-flight", status.in_flight},
          {"peers", std::move(peers)}};
}

std::string refusal_of(const repl::Driver& driver) {
  const std::string& node = driver.identity().node_name;
  for (PeerIndex index = 0; index < driver.links().size(); ++index) {
    const PeerStatus peer = driver.peer_status(index);
    if (peer.role == repl::Role::Primary) {
      return node + " is Secondary: the Primary is " + driver.links()[index]->peer_name() + ", connect there";
    }
  }
  return node + " is Secondary, and no Primary is known: promote a node first";
}

std::string nbd_uri(const io::Address& address, const std::string& export_name) {
  if (address.family == io::AddressFamily::Unix) return "nbd+unix:///" + export_name + "?socket=" + address.path;
  const bool any = address.host.empty() || address.host == "*";
  const std::string host = any ? "localhost" : address.host;
  const bool v6 = host.find(':') != std::string::npos;
  return "nbd://" + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(address.port) + "/" + export_name;
}

}  // namespace lockstep::tools
