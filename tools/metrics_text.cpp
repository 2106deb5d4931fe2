#include "tools/metrics_text.h"

#include <fmt/format.h>

#include <array>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

namespace lockstep::tools {
namespace {

using repl::LatencyHistogram;
using repl::PeerIndex;
using repl::PeerStatus;

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

class MetricsText {
 public:
  MetricsText(std::string_view resource, std::string_view node) : resource_(resource), node_(node) {}

  // What follows are samples of it. `name` without "lockstep_".
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    append("# HELP lockstep_{} {}\n# TYPE lockstep_{} {}\n", name, help, name, type);
  }
  void sample(const Labels& labels, uint64_t value) { line("", labels, fmt::format("{}", value)); }
  void seconds(const Labels& labels, uint64_t value_us) { line("", labels, in_seconds(value_us)); }
  // One of `states` is 1, the others are 0.
  void state(const Labels& labels, std::string_view label, std::string_view now,
             const std::vector<std::string_view>& states) {
    for (const std::string_view each : states) {
      Labels with = labels;
      with.emplace_back(label, each);
      sample(with, each == now ? 1 : 0);
    }
  }
  void histogram(const Labels& labels, const LatencyHistogram& histogram) {
    uint64_t up_to_here = 0;
    for (size_t i = 0; i < histogram.counts().size(); ++i) {
      up_to_here += histogram.counts()[i];
      const bool last = i == LatencyHistogram::kBoundsUs.size();
      const std::string bound = last ? "+Inf" : in_seconds(LatencyHistogram::kBoundsUs[i]);
      Labels with = labels;
      with.emplace_back("le", bound);
      line("_bucket", with, fmt::format("{}", up_to_here));
    }
    line("_sum", labels, in_seconds(histogram.sum_us()));
    line("_count", labels, fmt::format("{}", histogram.count()));
  }

  std::string take() { return std::move(text_); }

 private:
  static std::string in_seconds(uint64_t us) { return fmt::format("{}", static_cast<double>(us) / 1e6); }

  template <typename... Values>
  void append(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
  }
  // Names of resources and nodes have no character that would have to be escaped.
  void line(std::string_view suffix, const Labels& labels, std::string_view value) {
    append("lockstep_{}{}{{resource=\"{}\",node=\"{}\"", name_, suffix, resource_, node_);
    for (const auto& [name, label] : labels) append(",{}=\"{}\"", name, label);
    append("}} {}\n", value);
  }

  std::string_view resource_;
  std::string_view node_;
  std::string_view name_;
  std::string text_;
};

using Words = std::vector<std::string_view>;

const Words kDiskStates{"Diskless", "Attaching",  "Failed",   "Inconsistent",
                        "Outdated", "Consistent", "UpToDate", "DUnknown"};
constexpr std::array<std::string_view, 5> kOperations{"read", "write", "flush", "trim", "write-zeroes"};

void write_node(MetricsText& text, const DaemonView& view) {
  const repl::ReplicaStatus status = view.driver.status();
  const auto one = [&text](std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    text.family(name, type, help);
    text.sample({}, value);
  };
  text.family("role", "gauge", "The node's role: 1 for the one that it has.");
  text.state({}, "role", to_string(status.role), {"Primary", "Secondary"});
  text.family("disk_state", "gauge", "The local disk's state: 1 for the one that it is in.");
  text.state({}, "state", to_string(status.disk_state), kDiskStates);
  text.family("suspended", "gauge", "Why clients are not answered: 1 for what holds, 'no' while they are.");
  text.state({}, "reason", to_string(status.suspension), {"no", "peer-loss", "no-data", "operator"});
  one("failing", "gauge", "1 while requests of this Primary's clients fail, until an operator acts.",
      requests_fail(status) ? 1 : 0);
  one("degraded", "gauge", "1 while this Primary's writes are not stored on every node.", status.degraded ? 1 : 0);
  one("promotable", "gauge", "1 while 'promote' without options would succeed.",
      status.promotable == repl::Outcome::Done ? 1 : 0);
  one("size_bytes", "gauge", "Size of the device.", view.driver.identity().size_bytes);
  one("clients", "gauge", "NBD clients of the export.", view.nbd_export.client_count());
  one("in_flight_requests", "gauge", "Client requests that are not answered yet.", status.in_flight);
  one("reads_total", "counter", "Reads of clients that were answered.", status.reads);
  one("writes_total", "counter", "Writes, trims and zeroings of clients that were answered.", status.writes);
  one("flushes_total", "counter", "Flushes of clients that were answered.", status.flushes);
  one("read_bytes_total", "counter", "Bytes read by clients.", status.read_bytes);
  one("written_bytes_total", "counter", "Bytes written by clients.", status.written_bytes);
  one("activity_log_transactions_total", "counter", "Writes to the activity log.", status.activity_log_transactions);
}

void write_latencies(MetricsText& text, const DaemonView& view) {
  const repl::DriverLatencies& latencies = view.driver.latencies();
  text.family("request_duration_seconds", "histogram", "Client requests, from their arrival to the answer.");
  for (size_t i = 0; i < kOperations.size(); ++i) {
    text.histogram({{"operation", kOperations[i]}}, latencies.requests[i]);
  }
  text.family("local_write_duration_seconds", "histogram", "Clients' writes on the local disk alone.");
  text.histogram({}, latencies.local_write);
  text.family("local_flush_duration_seconds", "histogram", "Flushes of the local disk alone.");
  text.histogram({}, latencies.local_flush);
  text.family("peer_write_duration_seconds", "histogram",
              "Writes from their sending to the peer's word that they are on its disk; a sample of them.");
  for (PeerIndex peer = 0; peer < view.driver.links().size(); ++peer) {
    text.histogram({{"peer", view.driver.links()[peer]->peer_name()}}, latencies.peers[peer].written());
  }
}

void write_peers(MetricsText& text, const DaemonView& view) {
  std::vector<PeerStatus> peers;
  for (PeerIndex peer = 0; peer < view.driver.links().size(); ++peer) peers.push_back(view.driver.peer_status(peer));
  const auto label = [&view](size_t peer) { return Labels{{"peer", view.driver.links()[peer]->peer_name()}}; };
  const auto states = [&](std::string_view name, std::string_view help, std::string_view key, auto&& of,
                          const Words& all) {
    text.family(name, "gauge", help);
    for (size_t i = 0; i < peers.size(); ++i) text.state(label(i), key, of(peers[i]), all);
  };
  const auto numbers = [&](std::string_view name, std::string_view help, auto&& of) {
    text.family(name, "gauge", help);
    for (size_t i = 0; i < peers.size(); ++i) text.sample(label(i), of(peers[i]));
  };
  const auto durations = [&](std::string_view name, std::string_view help, auto&& of_us) {
    text.family(name, "gauge", help);
    for (size_t i = 0; i < peers.size(); ++i) text.seconds(label(i), of_us(peers[i]));
  };
  states("peer_connection_state", "The link's state: 1 for the one that it is in.", "state",
         [](const PeerStatus& peer) { return to_string(peer.connection); },
         {"StandAlone", "Disconnecting", "Connecting", "Connected"});
  states("peer_role", "The peer's role, as far as it is known.", "role",
         [](const PeerStatus& peer) { return to_string(peer.role); }, {"Primary", "Secondary", "Unknown"});
  states(
      "peer_disk_state", "The peer's disk, as far as it is known.", "state",
      [](const PeerStatus& peer) { return to_string(peer.disk_state); }, kDiskStates);
  states("peer_replication_state", "What goes on with the peer: 1 for the one that holds.", "state",
         [](const PeerStatus& peer) { return replication_of(peer); },
         {"Off", "Established", "WFBitMapS", "WFBitMapT", "SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT",
          "VerifyS", "VerifyT"});
  numbers("peer_split_brain", "1 while a split brain with the peer waits for an operator.", [](const PeerStatus& peer) {
    return kept_apart_by(peer, repl::SyncKind::SplitBrain) ? uint64_t{1} : uint64_t{0};
  });
  numbers("peer_out_of_sync_bytes", "What the peer and this node may hold differently.",
          [](const PeerStatus& peer) { return peer.out_of_sync_blocks * repl::kBlockBytes; });
  numbers("peer_sent_sequence", "Number of the last write that was sent.",
          [](const PeerStatus& peer) { return peer.sent; });
  numbers("peer_received_sequence", "Number of the last write that the peer has in its memory.",
          [](const PeerStatus& peer) { return peer.received; });
  numbers("peer_written_sequence", "Number of the last write that the peer has on its disk.",
          [](const PeerStatus& peer) { return peer.written; });
  numbers("peer_flushed_sequence", "Number of the last write that is on the peer's stable storage.",
          [](const PeerStatus& peer) { return peer.flushed; });
  numbers("peer_lag_bytes", "Bytes of writes that the peer has not confirmed yet.",
          [](const PeerStatus& peer) { return peer.lag_bytes; });
  durations("peer_lag_seconds", "Age of the oldest write that the peer has not confirmed yet.",
            [](const PeerStatus& peer) { return peer.lag_us; });
  durations("peer_round_trip_seconds", "The last heartbeat, there and back.",
            [](const PeerStatus& peer) { return peer.round_trip_us; });
  numbers("peer_resync_total_bytes", "Of the resync that runs; 0 while none does.",
          [](const PeerStatus& peer) { return peer.resync_total_blocks * repl::kBlockBytes; });
  numbers("peer_resync_left_bytes", "What the resync that runs has still to do.",
          [](const PeerStatus& peer) { return peer.resync_left_blocks * repl::kBlockBytes; });
  numbers("peer_resync_bytes_per_second", "Rate of the resync or verify that runs.",
          [](const PeerStatus& peer) { return peer.blocks_per_second * repl::kBlockBytes; });
}

}  // namespace

std::string metrics_text(const DaemonView& view) {
  MetricsText text(view.driver.identity().resource_name, view.driver.identity().node_name);
  write_node(text, view);
  write_latencies(text, view);
  write_peers(text, view);
  return text.take();
}

}  // namespace lockstep::tools
