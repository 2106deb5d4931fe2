// verify: ordered, watched to its end, and told.
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/base/units.h"
#include "tools/lockstep_common.h"
#include "tools/lockstep_progress.h"
#include "tools/render.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr auto kLookPeriod = std::chrono::milliseconds(100);
constexpr uint64_t kTellEveryMs = 1000;

struct PeerToWatch {
  uint64_t ended_before = 0;
  json result;  // null until its verify has ended
};

json status_now(ControlConnection& connection, const Place& place) {
  const Result<ControlReply> reply = connection.ask("status", json::object(), deadline_after_ms(kStatusTimeoutMs));
  if (!reply) fail_without_daemon(place, reply.error());
  if (reply->exit != 0) throw CommandError(ExitCode::Failed, reply->message);
  return *reply->data;
}

uint64_t ended_of(const json& peer) {
  const json last = peer.value("last-verify", json::object());
  return last.value("number", uint64_t{0});
}

std::string ranges_text(const json& result, const std::string& node) {
  std::string text;
  const json ranges = result.value("ranges", json::array());
  for (const json& range : ranges) {
    const uint64_t offset = range.value("offset-bytes", uint64_t{0});
    const uint64_t length = range.value("length-bytes", uint64_t{0});
    text += node + " differs from " + std::to_string(offset) + " to " + std::to_string(offset + length) + " (" +
            format_size(length) + ")\n";
  }
  if (result.value("more-ranges", false)) text += node + " differs in more ranges: see the daemon's log\n";
  return text;
}

// One line for one peer.
std::string summary(const json& result, const std::string& node) {
  const uint64_t differing = result.value("differing-bytes", uint64_t{0});
  const uint64_t left = result.value("out-of-sync-bytes", uint64_t{0});
  if (!result.value("complete", false)) {
    return node + ": the verify did not reach its end (the link was lost, or a role changed); " +
           format_size(differing) + " were found to differ\n";
  }
  if (differing == 0 && left == 0) return node + ": verified, no difference\n";
  if (left == 0) return node + ": verified, " + format_size(differing) + " differed and were repaired\n";
  return node + ": verified, " + format_size(differing) + " differ, " + format_size(left) + " are out of sync\n";
}

}  // namespace

ExitCode run_verify(const Arguments& arguments) {
  if (arguments.has("dry-run")) return run_order(arguments);
  const Place place = place_of_daemon(arguments);
  const json order = order_arguments(arguments);
  ControlConnection connection = connect_to_daemon(place);

  std::map<std::string, PeerToWatch> peers;
  for (const json& peer : status_now(connection, place).value("peers", json::array())) {
    const std::string node = peer.value("node", std::string());
    if (order.contains("peer") && order["peer"] != node) continue;
    peers[node].ended_before = ended_of(peer);
  }
  const Result<ControlReply> reply = connection.ask("verify", order, deadline_after_ms(kStatusTimeoutMs));
  if (!reply) fail_without_daemon(place, reply.error());
  if (reply->exit != 0) {
    const bool known = reply->exit > 0 && reply->exit <= static_cast<int>(ExitCode::NotInTime);
    throw CommandError(known ? static_cast<ExitCode>(reply->exit) : ExitCode::Failed, reply->message);
  }

  const bool text = !arguments.has("json");
  ProgressShow show(false);
  const bool bars = show.on_terminal();
  uint64_t told_ms = 0;
  for (;;) {
    const json status = status_now(connection, place);
    bool all_ended = true;
    std::string progress;
    for (const json& peer : status.value("peers", json::array())) {
      const std::string node = peer.value("node", std::string());
      const auto found = peers.find(node);
      if (found == peers.end()) continue;
      if (!found->second.result.is_null()) continue;
      if (ended_of(peer) > found->second.ended_before) {
        found->second.result = peer["last-verify"];
        continue;
      }
      if (all_ended && peer.contains("verify")) show.update("verify " + node, progress_of(peer["verify"]));
      all_ended = false;
      progress += node + render_progress(peer, "verify") + "\n";
    }
    if (all_ended) break;
    if (text && !bars && monotonic_ms() - told_ms >= kTellEveryMs) {
      if (told_ms != 0) print_text(progress);
      told_ms = monotonic_ms();
    }
    std::this_thread::sleep_for(kLookPeriod);
  }

  show.clear();
  bool good = true;
  json all = json::array();
  for (const auto& [node, peer] : peers) {
    good = good && peer.result.value("complete", false) && peer.result.value("out-of-sync-bytes", uint64_t{0}) == 0;
    json one = peer.result;
    one["node"] = node;
    all.push_back(std::move(one));
    if (text) print_text(ranges_text(peer.result, node) + summary(peer.result, node));
  }
  if (!text) print_json(all);
  return good ? ExitCode::Done : ExitCode::Failed;
}

}  // namespace lockstep::tools
