#include "tools/daemon_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lockstep::tools {
namespace {

using nlohmann::json;
using repl::PeerIndex;
using repl::PeerStatus;

json progress_of(uint64_t total_blocks, uint64_t left_blocks, uint64_t blocks_per_second) {
  const uint64_t done_blocks = total_blocks - std::min(left_blocks, total_blocks);
  const double percent =
      100.0 * static_cast<double>(done_blocks) / static_cast<double>(std::max<uint64_t>(total_blocks, 1));
  return {{"done-percent", percent},
          {"bytes-left", left_blocks * repl::kBlockBytes},
          {"bytes-per-second", blocks_per_second * repl::kBlockBytes},
          {"eta-seconds", blocks_per_second > 0 ? left_blocks / blocks_per_second : 0}};
}

json last_verify_of(const PeerStatus& peer) {
  json ranges = json::array();
  uint64_t listed = 0;
  for (const repl::BlockRun& run : peer.verify.found) {
    listed += run.block_count;
    ranges.push_back(
        {{"offset-bytes", run.first_block * repl::kBlockBytes}, {"length-bytes", run.block_count * repl::kBlockBytes}});
  }
  return {{"number", peer.verify.ended},
          {"complete", peer.verify.complete},
          {"differing-bytes", peer.verify.differing_blocks * repl::kBlockBytes},
          {"out-of-sync-bytes", peer.verify.left_blocks * repl::kBlockBytes},
          {"ranges", std::move(ranges)},
          {"more-ranges", listed != peer.verify.differing_blocks}};
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

json peer_of(const repl::Driver& driver, PeerIndex index) {
  const PeerStatus peer = driver.peer_status(index);
  json object = {{"node", driver.links()[index]->peer_name()},
                 {"connection-state", to_string(peer.connection)},
                 {"role", to_string(peer.role)},
                 {"replication-state", replication_of(peer)},
                 {"disk-state", to_string(peer.disk_state)},
                 {"split-brain", kept_apart_by(peer, repl::SyncKind::SplitBrain)},
                 {"unrelated", kept_apart_by(peer, repl::SyncKind::Unrelated)},
                 {"refused", handshake_is_refused(driver, index) ? to_string(peer.decision.rule) : "no"},
                 {"protocol", to_string(peer.protocol)},
                 {"out-of-sync-bytes", peer.out_of_sync_blocks * repl::kBlockBytes},
                 {"sent-sequence", peer.sent},
                 {"received-sequence", peer.received},
                 {"written-sequence", peer.written},
                 {"flushed-sequence", peer.flushed},
                 {"lag-bytes", peer.lag_bytes},
                 {"lag-ms", peer.lag_us / 1000},
                 {"round-trip-us", peer.round_trip_us}};
  if (resync_runs(peer)) {
    object["resync"] = progress_of(peer.resync_total_blocks, peer.resync_left_blocks, peer.blocks_per_second);
  }
  object["verified"] = !peer.verify.runs && peer.verify.complete;
  if (peer.verify.runs) {
    object["verify"] = progress_of(peer.verify.blocks_total, peer.verify.blocks_left, peer.blocks_per_second);
    object["verify"]["differing-bytes"] = peer.verify.differing_blocks * repl::kBlockBytes;
  } else if (peer.verify.ended > 0) {
    object["last-verify"] = last_verify_of(peer);
  }
  return object;
}

}  // namespace

bool serves_locally(const repl::ReplicaStatus& status) {
  return is_disk(status.disk_state) && !status.served_by_peer;
}

bool requests_fail(const repl::ReplicaStatus& status) {
  return status.role == repl::Role::Primary && status.suspension == repl::Suspension::No && !serves_locally(status) &&
         (status.data_lost || !status.served_by_peer);
}

bool kept_apart_by(const PeerStatus& peer, repl::SyncKind kind) {
  return peer.connection == repl::ConnectionState::StandAlone && peer.decided && peer.decision.kind == kind;
}

bool handshake_is_refused(const repl::Driver& driver, PeerIndex index) {
  const PeerStatus peer = driver.peer_status(index);
  return peer.connection == repl::ConnectionState::Connecting && peer.decided &&
         peer.decision.kind == repl::SyncKind::Refuse && driver.links()[index]->problem().empty();
}

std::string_view replication_of(const PeerStatus& peer) {
  if (!peer.verify.runs) return to_string(peer.replication);
  return to_string(peer.verify.is_source ? repl::ReplicationState::VerifyS : repl::ReplicationState::VerifyT);
}

std::optional<repl::Protocol> protocol_towards(const NodeConfiguration& node) {
  if (!node.protocol) return std::nullopt;
  return core_protocol(*node.protocol);
}

repl::Protocol core_protocol(Protocol protocol) {
  switch (protocol) {
    case Protocol::A:
      return repl::Protocol::A;
    case Protocol::B:
      return repl::Protocol::B;
    case Protocol::C:
      break;
  }
  return repl::Protocol::C;
}

json status_of(const DaemonView& view) {
  const repl::ReplicaStatus status = view.driver.status();
  json nbd = json::array();
  for (const std::string& uri : view.nbd_uris) {
    nbd.push_back({{"uri", uri}, {"clients", view.nbd_export.client_count()}});
  }
  json peers = json::array();
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    peers.push_back(peer_of(view.driver, index));
  }
  return {{"resource", view.driver.identity().resource_name},
          {"node", view.driver.identity().node_name},
          {"role", to_string(status.role)},
          {"disk-state", to_string(status.disk_state)},
          {"generation", to_string(status.generation)},
          {"size-bytes", view.driver.identity().size_bytes},
          {"protocol", to_string(view.protocol)},
          {"sync", view.sync},
          {"suspended", to_string(status.suspension)},
          {"failing", requests_fail(status)},
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

json latencies_of(const DaemonView& view) {
  const repl::DriverLatencies& latencies = view.driver.latencies();
  json bounds = json::array();
  for (const uint64_t bound : repl::LatencyHistogram::kBoundsUs) bounds.push_back(bound);
  const auto of = [&](io::BlockOperation operation) {
    return latencies.requests[static_cast<size_t>(operation)].counts();
  };
  json peers = json::object();
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    peers[view.driver.links()[index]->peer_name()] = latencies.peers[index].written().counts();
  }
  return {{"bounds-us", std::move(bounds)},
          {"read", of(io::BlockOperation::Read)},
          {"write", of(io::BlockOperation::Write)},
          {"flush", of(io::BlockOperation::Flush)},
          {"local-write", latencies.local_write.counts()},
          {"local-flush", latencies.local_flush.counts()},
          {"peer-write", std::move(peers)}};
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

std::string nbd_uri(const io::Address& address, const std::string& export_name, bool tls_required) {
  if (address.family == io::AddressFamily::Unix) return "nbd+unix:///" + export_name + "?socket=" + address.path;
  const bool any = address.host.empty() || address.host == "*";
  const std::string host = any ? "localhost" : address.host;
  const bool v6 = host.find(':') != std::string::npos;
  return (tls_required ? "nbds://" : "nbd://") + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(address.port) +
         "/" + export_name;
}

}  // namespace lockstep::tools
