// The configuration file of a resource: the same bytes on every node. lockstep.conf(5) describes it for operators.
//
// INI text, read with Boost.Program_options. Every error is one line "FILE:LINE: what, why, what to do" of kind
// Invalid (NotFound or Io where the file itself cannot be read).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/base/result.h"
#include "io/base/units.h"
#include "tools/handler_events.h"

namespace lockstep::tools {

enum class Protocol : uint8_t { A, B, C };
enum class TlsPolicy : uint8_t { Off, On, Require };
enum class PeerLossPolicy : uint8_t { Continue, Suspend, Arbiter };
enum class SyncPeers : uint8_t { All, First, Any };

inline constexpr size_t kMaximumNodes = 8;
inline constexpr uint64_t kSizeUnitBytes = 4096;  // a resource's size is a multiple of it
inline constexpr uint32_t kMinimumPeerTimeoutMs = 200;
inline constexpr uint32_t kMaximumPeerTimeoutMs = 60'000;
inline constexpr uint32_t kMaximumPollUs = 1000;

struct NodeConfiguration {
  std::string name;
  std::string address;               // of the replication link, HOST:PORT as written; a form that io::Address reads
  std::optional<Protocol> protocol;  // towards this node, by whoever is Primary; the resource's unless given
  std::string disk;                  // absolute path of a file or block device
  std::string metadata;              // absolute path; "DISK.meta" unless given
  std::string audit;                 // absolute path; beside the metadata unless given
  std::vector<std::string> nbd;      // "unix:/PATH" or "tcp:HOST:PORT"; at least one
  std::string metrics;               // HOST:PORT of the HTTP server for Prometheus; empty: none
  std::string link_certificates;     // absolute path of a folder; the resource's unless given; empty: none
  std::string tls_certificates;      // absolute path of a folder; the resource's unless given; empty: none
  std::string tls_psk_file;          // absolute path; the resource's unless given; empty: none
  int line = 0;                      // of the section in the file

  friend bool operator==(const NodeConfiguration&, const NodeConfiguration&) = default;
};

// Who may use the export, and how.
struct ExportConfiguration {
  bool read_only = false;
  bool shared = false;
  TlsPolicy tls = TlsPolicy::Off;  // of TCP addresses; unix sockets offer TLS unless it is off, and never require it
  bool tls_verify_peer = false;
  std::vector<std::string> tls_allow;  // empty: everybody

  friend bool operator==(const ExportConfiguration&, const ExportConfiguration&) = default;
};

inline constexpr uint32_t kMinimumHandlerTimeoutMs = 1000;
inline constexpr uint32_t kMaximumHandlerTimeoutMs = 3'600'000;

// Commands that are run when something happens: words between spaces, the program's absolute path first.
struct HandlersConfiguration {
  std::array<std::string, kHandlerEventCount> commands;  // empty: none
  uint32_t timeout_ms = 60'000;
  bool resync_needs_handler = false;  // no resync to this node before before-resync-target has ended well

  const std::string& command_of(HandlerEvent event) const { return commands[static_cast<size_t>(event)]; }
  friend bool operator==(const HandlersConfiguration&, const HandlersConfiguration&) = default;
};

// Which peers' promises a write or a flush waits for: of all, of the first so many in the file's order, of any so many.
struct SyncConfiguration {
  SyncPeers choice = SyncPeers::All;
  uint8_t count = 0;

  friend bool operator==(const SyncConfiguration&, const SyncConfiguration&) = default;
};

struct ResourceConfiguration {
  std::string path;  // of the file, for messages
  std::string name;
  uint64_t size_bytes = 0;
  Protocol protocol = Protocol::C;
  SyncConfiguration sync;
  PeerLossPolicy on_peer_loss = PeerLossPolicy::Continue;
  uint32_t peer_timeout_ms = 3000;
  std::string secret_file;  // with link_certificates of the nodes empty, too, replication is not encrypted
  bool insecure = false;    // plain TCP may leave this host
  uint32_t activity_log_extents = 1237;
  uint32_t poll_us = 100;        // io::LoopOptions::poll_us
  uint64_t resync_rate_max = 0;  // bytes a second; 0: no limit
  uint64_t resync_rate_min = 4 * kMiB;
  std::string fence_command;
  ExportConfiguration nbd_export;
  HandlersConfiguration handlers;
  std::vector<NodeConfiguration> nodes;  // in the file's order, 1 .. kMaximumNodes, names and addresses distinct

  int name_line = 0;  // of the key, for messages
  int sync_line = 0;

  friend bool operator==(const ResourceConfiguration&, const ResourceConfiguration&) = default;

  // The node of that name, or null.
  const NodeConfiguration* find_node(std::string_view node_name) const;
  // "alpha, beta"
  std::string node_names() const;
};

// Reads text as if it stood in the file `path`.
Result<ResourceConfiguration> parse_configuration(std::string_view text, const std::string& path);
// Reads the file, and checks that it configures `resource`.
Result<ResourceConfiguration> load_configuration(const std::string& path, const std::string& resource);

// 1 to 64 of A-Z a-z 0-9 _ . - and neither "." nor "..": what resources and nodes may be called.
bool is_valid_name(std::string_view name);
// "1500ms", "3s", "500": milliseconds.
Result<uint32_t> parse_duration_ms(std::string_view text);
// The candidate with the smallest edit distance to `word`, or empty when none is near.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);
// "10.0.0.1" of "10.0.0.1:7789", "::1" of "[::1]:7789". The address must be of such a form.
std::string host_of(std::string_view address);
// 127.0.0.0/8, ::1 and "localhost". Names are not looked up.
bool is_loopback_host(std::string_view host);

}  // namespace lockstep::tools
