#include "tools/daemon_losses.h"

#include <algorithm>
#include <vector>

#include "io/base/units.h"
#include "tools/render.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;
using repl::OrderGiven;
using repl::OrderKind;
using repl::PeerIndex;
using repl::PeerStatus;

struct Absent {
  std::string node;
  std::string since;  // "for 3m12s, since 2026-…"; empty: since before this daemon was started
  std::string stamp;
};

std::vector<Absent> absent_peers(const DaemonView& view) {
  std::vector<Absent> absent;
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    const PeerStatus peer = view.driver.peer_status(index);
    if (peer.connection == repl::ConnectionState::Connected) continue;
    Absent one{view.driver.links()[index]->peer_name(), {}, {}};
    if (peer.absent_since_us != 0 && view.now_us >= peer.absent_since_us) {
      const uint64_t ago_us = view.now_us - peer.absent_since_us;
      one.stamp = wall_time_of(peer.absent_since_us, view.now_us);
      one.since = " for " + format_seconds(ago_us / 1'000'000) + " (since " + one.stamp + ")";
    }
    absent.push_back(std::move(one));
  }
  return absent;
}

json absent_json(const std::vector<Absent>& absent) {
  json list = json::array();
  for (const Absent& one : absent) {
    list.push_back({{"node", one.node}, {"absent-since", one.stamp.empty() ? json() : json(one.stamp)}});
  }
  return list;
}

uint64_t out_of_sync_bytes(const DaemonView& view, PeerIndex peer) {
  return view.driver.peer_status(peer).out_of_sync_blocks * repl::kBlockBytes;
}

std::string own_copy(const DaemonView& view) {
  const repl::ReplicaStatus status = view.driver.status();
  return "generation " + to_string(status.generation) + " on " + view.driver.identity().node_name + ", " +
         std::string(to_string(status.disk_state));
}

std::string lines_about(const std::vector<Absent>& absent, const std::string& what) {
  std::string text;
  for (const Absent& one : absent) text += "  " + one.node + " is absent" + one.since + ": " + what + "\n";
  return text;
}

Loss force_data_loss(const DaemonView& view) {
  const std::vector<Absent> absent = absent_peers(view);
  uint64_t unfinished_bytes = 0;
  for (PeerIndex index = 0; index < view.driver.links().size(); ++index) {
    unfinished_bytes = std::max(unfinished_bytes, out_of_sync_bytes(view, index));
  }
  const bool whole = view.driver.status().disk_state != repl::DiskState::Inconsistent;
  std::string text = "this serves " + own_copy(view) + ":\n" +
                     lines_about(absent, "what it has answered since is lost; how much that is, is not known here");
  if (!whole) {
    text += "  the copy is not whole: of " + format_size(view.driver.identity().size_bytes) + " " +
            format_size(unfinished_bytes) + " are a mixture of old and new\n";
  }
  return {text, {{"bytes", whole ? json() : json(unfinished_bytes)}, {"whole", whole}, {"peers", absent_json(absent)}}};
}

std::optional<Loss> word_of_honour(const DaemonView& view) {
  const std::vector<Absent> absent = absent_peers(view);
  if (absent.empty()) return std::nullopt;
  return Loss{"this is your word that what is absent serves nobody, and goes on with " + own_copy(view) + ":\n" +
                  lines_about(absent,
                              "if it does serve, both sides write apart, and one side's writes will be lost; "
                              "how much that is, is not known here"),
              {{"bytes", json()}, {"peers", absent_json(absent)}}};
}

Loss discard(const DaemonView& view, PeerIndex index) {
  const PeerStatus peer = view.driver.peer_status(index);
  const std::string& name = view.driver.links()[index]->peer_name();
  const uint64_t size_bytes = view.driver.identity().size_bytes;
  const bool unrelated = peer.decided && peer.decision.kind == repl::SyncKind::Unrelated;
  const uint64_t bytes = unrelated ? size_bytes : out_of_sync_bytes(view, index);
  std::string text = "this gives up " + own_copy(view) + ":\n";
  if (unrelated) {
    text += "  it has nothing in common with " + name + ": all " + format_size(size_bytes) +
            " are overwritten from there\n";
  } else {
    text += "  " + format_size(bytes) + " that were written here and that " + name +
            " lacks are lost, and overwritten from there\n";
  }
  if (peer.decided)
    text += "  what counts then is generation " + to_string(peer.peer_report.current) + " of " + name + "\n";
  return {text, {{"bytes", bytes}, {"source", name}}};
}

Loss forget(const DaemonView& view, const std::string& whose, const std::string& source) {
  const std::string size = format_size(view.driver.identity().size_bytes);
  return {"this forgets the copy of " + whose + ", " + size + " of generation " +
              to_string(view.driver.status().generation) + ":\n  all " + size + " are copied from " + source +
              "; until then " + source + " has the only copy that is known to be whole\n",
          {{"bytes", view.driver.identity().size_bytes}, {"source", source}}};
}

std::string source_of_invalidation(const DaemonView& view, const OrderGiven& order) {
  if (!order.every_peer) return view.driver.links()[order.peer]->peer_name();
  return view.driver.links().size() == 1 ? view.driver.links().front()->peer_name() : "a peer that is UpToDate";
}

std::optional<Loss> any_loss(const DaemonView& view, const OrderGiven& order) {
  switch (order.kind) {
    case OrderKind::Promote:
      if (order.give_generation) return force_data_loss(view);
      return order.peer_fenced ? word_of_honour(view) : std::nullopt;
    case OrderKind::Resume:
      return order.alone ? word_of_honour(view) : std::nullopt;
    case OrderKind::Resync:
      return order.give_generation ? std::optional(discard(view, order.peer)) : std::nullopt;
    case OrderKind::Invalidate:
      return forget(view, view.driver.identity().node_name, source_of_invalidation(view, order));
    case OrderKind::InvalidatePeer:
      return forget(view, view.driver.links()[order.peer]->peer_name(), view.driver.identity().node_name);
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<Loss> loss_of(const DaemonView& view, const OrderGiven& order) {
  std::optional<Loss> loss = any_loss(view, order);
  if (loss) loss->data["generation"] = to_string(view.driver.status().generation);
  return loss;
}

std::string plan_text(const DaemonView& view, const OrderGiven& order, const std::optional<Loss>& loss) {
  if (loss) return loss->text;
  const bool asks = order.kind == OrderKind::Promote || order.kind == OrderKind::Switchover ||
                    order.kind == OrderKind::Resize || order.kind == OrderKind::Verify;
  return "it would be done" + std::string(asks && !view.driver.links().empty() ? ", unless another node objects" : "") +
         "; no data is lost by it";
}

json plan_data(const DaemonView& view, const std::optional<Loss>& loss) {
  return {{"dry-run", true},
          {"lost", loss ? loss->data : json()},
          {"generation", to_string(view.driver.status().generation)}};
}

}  // namespace lockstep::tools
