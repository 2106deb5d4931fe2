// What `lockstep status` and `lockstep explain` show of a running node.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "nbd-server/export_table.h"
#include "replicator/driver.h"
#include "tools/configuration.h"

namespace lockstep::tools {

struct DaemonView {
  const repl::Driver& driver;
  const nbd::Export& nbd_export;
  const std::vector<std::string>& nbd_uris;
  repl::Protocol protocol;
  uint64_t now_us = 0;       // of the loop
  std::string sync = "all";  // whose promises a write waits for: "all", "first K" or "any K"
};

repl::Protocol core_protocol(Protocol protocol);
// Towards that node, where its section has one of its own.
std::optional<repl::Protocol> protocol_towards(const NodeConfiguration& node);

// What operators are told of a peer: also a verify counts as a state.
std::string_view replication_of(const repl::PeerStatus& peer);
// Of a Primary: whether its own disk serves its clients.
bool serves_locally(const repl::ReplicaStatus& status);
// A Primary whose clients get errors.
bool requests_fail(const repl::ReplicaStatus& status);
// What the last handshake found keeps the two apart, until somebody ends it: SplitBrain or Unrelated.
bool kept_apart_by(const repl::PeerStatus& peer, repl::SyncKind kind);
// They meet again and again, and the handshake refuses each time.
bool handshake_is_refused(const repl::Driver& driver, repl::PeerIndex index);
// One object of `lockstep status --json`.
nlohmann::json status_of(const DaemonView& view);
// How long things took since the start, as counts in buckets.
nlohmann::json latencies_of(const DaemonView& view);
// Several lines for people, and what of it programs may want.
std::string explanation_of(const DaemonView& view);
nlohmann::json explanation_data(const DaemonView& view);
// "2026-11-26T03:20:11Z", for a time of the loop's clock.
std::string wall_time_of(uint64_t then_us, uint64_t now_us);
// Why NBD clients are refused, in one line that names the Primary where it is known.
std::string refusal_of(const repl::Driver& driver);

// "nbd+unix:///NAME?socket=PATH" or "nbd://HOST:PORT/NAME".
std::string nbd_uri(const io::Address& address, const std::string& export_name, bool tls_required);

}  // namespace lockstep::tools
