#include "tools/render.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "io/base/units.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

std::string text_of(const json& object, const char* key, const char* missing) {
  return object.value(key, std::string(missing));
}

uint64_t number_of(const json& object, const char* key) {
  return object.value(key, uint64_t{0});
}

std::string with_one_decimal(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}

// The generation is long; it is there when it has to be typed: to force a promotion, or to end a split brain.
bool needs_generation(const json& status) {
  if (text_of(status, "disk-state", "") != "UpToDate") return true;
  for (const json& peer : status.value("peers", json::array())) {
    if (text_of(peer, "connection-state", "") == "StandAlone") return true;
  }
  return false;
}

std::string peer_state(const json& peer) {
  std::string text = "connection:" + text_of(peer, "connection-state", "StandAlone") +
                     " role:" + text_of(peer, "role", "Unknown") + " disk:" + text_of(peer, "disk-state", "DUnknown") +
                     " replication:" + text_of(peer, "replication-state", "Off");
  if (peer.value("split-brain", false)) text += " split-brain:yes";
  if (peer.value("unrelated", false)) text += " unrelated:yes";
  const std::string refused = text_of(peer, "refused", "no");
  if (refused != "no") text += " refused:" + refused;
  return text;
}

// Lines below the one that says what is wrong: where to read what ends it.
std::string way_out(const std::string& words, const std::string& order) {
  return "    " + words + ": '" + order + "'\n";
}

std::string way_out_of_no_service(const json& status) {
  const std::string suspended = text_of(status, "suspended", "no");
  const std::string resource = text_of(status, "resource", "RES");
  if (status.value("failing", false)) {
    return way_out("requests of clients fail; what ends it", "lockstep explain " + resource);
  }
  if (suspended == "no") return {};
  if (suspended == "operator")
    return way_out("clients wait, as an operator said; to go on", "lockstep resume " + resource);
  return way_out(suspended == "no-data" ? "clients wait for a peer that has the data; what ends it"
                                        : "clients wait for a peer that is lost; what ends it",
                 "lockstep explain " + resource);
}

std::string way_out_of_standing_apart(const json& peer, const std::string& resource) {
  if (peer.value("split-brain", false)) {
    return way_out("both wrote apart from each other, and neither gives way by itself; how to end it",
                   "lockstep explain " + resource);
  }
  if (peer.value("unrelated", false)) {
    return way_out("the two have no data in common, and neither gives way by itself; how to end it",
                   "lockstep explain " + resource);
  }
  if (text_of(peer, "refused", "no") != "no") {
    return way_out("the two meet, and do not go together as they are; how to end it", "lockstep explain " + resource);
  }
  return {};
}

const json* find_peer(const json& status, const std::string& node) {
  const auto peers = status.find("peers");
  if (peers == status.end()) return nullptr;
  for (const json& peer : *peers) {
    if (text_of(peer, "node", "") == node) return &peer;
  }
  return nullptr;
}

}  // namespace

std::string render_progress(const json& peer, const char* what) {
  const auto found = peer.find(what);
  if (found == peer.end() || !found->is_object()) return {};
  const json& progress = *found;
  const uint64_t bytes_per_second = number_of(progress, "bytes-per-second");
  std::string text = " " + std::string(what) + ":" + with_one_decimal(progress.value("done-percent", 0.0)) + "%";
  text += " left:" + format_size(number_of(progress, "bytes-left"));
  text += " rate:" + format_size(bytes_per_second) + "/s";
  const bool known = bytes_per_second != 0 && progress.contains("eta-seconds") && progress["eta-seconds"].is_number();
  return text + " eta:" + (known ? format_seconds(static_cast<uint64_t>(progress["eta-seconds"].get<double>())) : "?");
}

// A status has what is left and the part that is done; the whole follows.
Progress progress_of(const json& resync_or_verify) {
  const double percent = resync_or_verify.value("done-percent", 0.0);
  const uint64_t left_bytes = number_of(resync_or_verify, "bytes-left");
  const double left = static_cast<double>(left_bytes);
  const auto total_bytes = static_cast<uint64_t>(percent < 100 ? left * 100 / (100 - percent) : left);
  return {total_bytes - std::min(left_bytes, total_bytes), total_bytes,
          number_of(resync_or_verify, "bytes-per-second")};
}

std::string format_seconds(uint64_t seconds) {
  if (seconds < 60) return std::to_string(seconds) + "s";
  std::array<char, 48> text{};
  const auto first = static_cast<unsigned long long>(seconds < 3600 ? seconds / 60 : seconds / 3600);
  const auto second = static_cast<unsigned long long>(seconds < 3600 ? seconds % 60 : seconds / 60 % 60);
  std::snprintf(text.data(), text.size(), seconds < 3600 ? "%llum%02llus" : "%lluh%02llum", first, second);
  return text.data();
}

std::string render_resource(const json& status) {
  std::string text =
      "role:" + text_of(status, "role", "Unknown") + " disk:" + text_of(status, "disk-state", "DUnknown");
  const std::string suspended = text_of(status, "suspended", "no");
  if (suspended != "no") text += " suspended:" + suspended;
  if (status.value("failing", false)) text += " failing:yes";
  if (status.value("degraded", false)) text += " degraded:yes";
  const std::string protocol = text_of(status, "protocol", "C");
  if (protocol != "C") text += " protocol:" + protocol;
  std::string sync = text_of(status, "sync", "all");
  std::replace(sync.begin(), sync.end(), ' ', '-');
  if (sync != "all") text += " sync:" + sync;
  const std::string generation = text_of(status, "generation", "");
  if (!generation.empty() && needs_generation(status)) text += " generation:" + generation;
  return text;
}

std::string render_peer(const json& peer) {
  std::string text = peer_state(peer);
  const std::string protocol = text_of(peer, "protocol", "C");
  if (protocol != "C") text += " protocol:" + protocol;
  if (text_of(peer, "connection-state", "") == "Connected") {
    text +=
        " lag:" + format_size(number_of(peer, "lag-bytes")) + "/" + std::to_string(number_of(peer, "lag-ms")) + "ms";
  }
  const uint64_t out_of_sync_bytes = number_of(peer, "out-of-sync-bytes");
  if (out_of_sync_bytes != 0) text += " out-of-sync:" + format_size(out_of_sync_bytes);
  return text + render_progress(peer, "resync") + render_progress(peer, "verify");
}

std::string render_status(const json& status, bool with_node) {
  std::string text = text_of(status, "resource", "?");
  if (with_node) text += " node:" + text_of(status, "node", "?");
  text += " " + render_resource(status) + "\n" + way_out_of_no_service(status);
  for (const json& peer : status.value("peers", json::array())) {
    text += "  " + text_of(peer, "node", "?") + " " + render_peer(peer) + "\n";
    text += way_out_of_standing_apart(peer, text_of(status, "resource", "RES"));
  }
  return text;
}

std::string render_event(const json& status, const json& previous) {
  const std::string resource = text_of(status, "resource", "?");
  const std::string event = previous.is_null() ? "exists" : "change";
  std::string text;
  const std::string state = render_resource(status);
  if (previous.is_null() || render_resource(previous) != state)
    text += event + " resource " + resource + " " + state + "\n";
  for (const json& peer : status.value("peers", json::array())) {
    const std::string node = text_of(peer, "node", "?");
    const json* before = previous.is_null() ? nullptr : find_peer(previous, node);
    if (before != nullptr && peer_state(*before) == peer_state(peer)) continue;
    text += (before == nullptr ? "exists" : event) + " peer " + resource + " " + node + " " + peer_state(peer) + "\n";
  }
  return text;
}

}  // namespace lockstep::tools
